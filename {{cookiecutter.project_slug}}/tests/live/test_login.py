"""People and programs sign in over real sockets: two browsers, a front end, two processes."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TYPE_CHECKING

import pytest
from flask import Flask

from app import create_app
from app.outside.deployment import read
from tests.live.conftest import Gunicorn
from tests.live.sites import ask
from tests.live.stack import Stack
from tests.live.store import Store
from tests.login.by_password import NEW_PASSWORD, PASSWORD, add
from tests.production import FRONT_END, HOST, KEY, ORIGIN, SETTINGS, VARIABLES
from tests.servers import ask as ask_port
from tests.servers import free_port, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytest.importorskip("gunicorn", reason="gunicorn does not exist on Windows")

ACCOUNT, SESSION = f"{ORIGIN}/api/account", f"{ORIGIN}/api/auth/session"
PEOPLE = count(1)


@pytest.fixture(scope="module")
def accounts() -> Flask:
    """Return an application that shares its database with what is served."""
    return create_app(**{**SETTINGS, "SECRET_KEY": KEY})


@pytest.fixture
def email(accounts: Flask) -> str:
    """Return the address of somebody who has an account, and whom no other test knows."""
    address = f"somebody-{next(PEOPLE)}@example.com"
    add(accounts, address)
    return address


@pytest.fixture(scope="module")
def site(gunicorn: Gunicorn) -> Iterator[None]:
    """Serve the application for browsers."""
    with gunicorn(HOST, APP_RATELIMIT_STRICT="100 per minute"):
        yield


def sign_in(page: "Page", email: str, password: str = PASSWORD, path: str = "/account") -> None:
    """Open a page that needs it, fill in the form that appears, and be back."""
    page.goto(f"{ORIGIN}{path}")
    assert page.url.startswith(f"{ORIGIN}/login?next=")
    page.get_by_label("Email address").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


@pytest.fixture
def another(chromium: "Browser") -> Iterator["Page"]:
    """Yield a page of another browser."""
    context = chromium.new_context(user_agent="The other browser")
    yield context.new_page()
    context.close()


@pytest.mark.usefixtures("site")
def test_a_person_signs_in_and_out(page: "Page", context: "BrowserContext", email: str) -> None:
    sign_in(page, email, "a wrong password")
    assert "do not go together" in page.get_by_role("alert").inner_text()
    sign_in(page, email)
    assert page.url == f"{ORIGIN}/account"
    assert email in page.locator("main").inner_text()
    (cookie,) = context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["secure"]) == ("__Host-session", True, True)
    page.get_by_role("button", name="Sign out").click()
    assert page.url == f"{ORIGIN}/logged-out"
    assert context.cookies() == []
    page.goto(f"{ORIGIN}/account")
    assert page.url == f"{ORIGIN}/login?next=/account"


@pytest.mark.usefixtures("site")
def test_a_new_password_signs_the_other_browser_out(
    page: "Page", another: "Page", email: str
) -> None:
    for browser in (page, another):
        sign_in(browser, email)
        assert browser.url == f"{ORIGIN}/account"
    page.get_by_role("link", name="Change your password").click()
    page.get_by_label("Current password").fill(PASSWORD)
    page.get_by_label("New password").fill(NEW_PASSWORD)
    page.get_by_label("The new one again").fill(NEW_PASSWORD)
    page.get_by_role("button", name="Change it").click()
    assert "has changed" in page.get_by_role("status").inner_text()
    another.reload()
    assert another.url == f"{ORIGIN}/login?next=/account"
    page.reload()
    assert page.url == f"{ORIGIN}/account"


@pytest.mark.usefixtures("site")
def test_a_person_ends_a_session_from_the_list(page: "Page", another: "Page", email: str) -> None:
    for browser in (page, another):
        sign_in(browser, email)
    page.reload()
    listed = page.get_by_role("listitem").filter(has_text="The other browser")
    listed.get_by_role("button").click()
    assert "has ended" in page.get_by_role("status").inner_text()
    assert listed.count() == 0
    another.reload()
    assert another.url == f"{ORIGIN}/login?next=/account"


@pytest.mark.usefixtures("site")
def test_an_allowed_front_end_signs_in_reads_and_signs_out(page: "Page", email: str) -> None:
    page.goto(FRONT_END)
    assert ask(page, ACCOUNT)["status"] == 401
    headers = {
        "Content-Type": "application/json",
        "X-CSRFToken": ask(page, SESSION)["body"]["csrf_token"],
    }
    body = json.dumps({"email": email, "password": PASSWORD})
    signed = ask(page, SESSION, method="POST", headers=headers, body=body)
    assert (signed["status"], signed["body"]["user"]) == (200, {"email": email})
    assert ask(page, ACCOUNT)["body"] == {"email": email}
    headers["X-CSRFToken"] = signed["body"]["csrf_token"]
    assert ask(page, SESSION, method="DELETE", headers=headers)["body"]["user"] is None
    assert ask(page, ACCOUNT)["status"] == 401


class Client:
    """A program behind the proxy, from an address of its own."""

    def __init__(self, ports: list[int], number: int = 1) -> None:
        self._ports = ports
        self.headers = {
            "Host": HOST,
            "X-Forwarded-Proto": "https",
            "X-Forwarded-For": f"198.51.100.{number}",
            "Origin": ORIGIN,
            "Content-Type": "application/json",
        }

    def send(self, method: str, body: object = None, path: str = "/api/auth/session") -> int:
        """Send a request to the next process; keep cookie and token; return the status."""
        port = self._ports.pop(0)
        self._ports.append(port)
        text = json.dumps(body) if body else None
        status, headers, said = ask_port(port, method, path, self.headers, text)
        if cookie := headers.get("Set-Cookie"):
            self.headers["Cookie"] = cookie.partition(";")[0]
        if status == 200 and "csrf_token" in said:
            self.headers["X-CSRFToken"] = json.loads(said)["csrf_token"]
        return status


def test_two_processes_share_sessions_and_guesses(
    store: Store, email: str, accounts: Flask
) -> None:
    pytest.importorskip("redis", reason="needs the library: uv run --group live pytest")
    shared = {
        **VARIABLES,
        "APP_RATELIMIT_STORAGE_URI": store.patient_uri,
        "APP_LOGIN_ACCOUNT_LIMIT": "5 per hour",
        "WEB_CONCURRENCY": "2",
    }
    port = free_port()
    with served(port, "gunicorn", "--bind", f"127.0.0.1:{port}", variables=shared):
        client = Client([port])
        right = {"email": email, "password": PASSWORD}
        assert [client.send("GET"), client.send("POST", right)] == [200, 200]
        for _ in range(8):
            assert client.send("GET", path="/api/account") == 200
        copied = Client([port])
        copied.headers["Cookie"] = client.headers["Cookie"]
        assert client.send("DELETE") == 200
        assert {copied.send("GET", path="/api/account") for _ in range(8)} == {401}

        parallel = threading.Barrier(16)

        def guess(number: int) -> int:
            guesser = Client([port], number)
            guesser.send("GET")
            parallel.wait(20)
            return guesser.send("POST", {"email": email, "password": "a wrong password"})

        with ThreadPoolExecutor(16) as guessers:
            statuses = sorted(guessers.map(guess, range(2, 18)))
        assert statuses == [401] * 5 + [429] * 11

        # Somebody signs in eight times at once, and everywhere.
        other = "parallel@example.com"
        add(accounts, other)

        def enter(number: int) -> int:
            entering = Client([port], number)
            entering.send("GET")
            return entering.send("POST", {"email": other, "password": PASSWORD})

        with ThreadPoolExecutor(8) as people:
            entered = list(people.map(enter, range(20, 28)))
        assert sorted(entered)[:5] == [200] * 5
        assert set(entered) <= {200, 429}  # more at once than the limit has room for


def test_guesses_through_the_proxy_are_one_clients(stack: Stack, email: str) -> None:
    deployment = stack.deployment
    opened = deployment.ask("GET", "/api/auth/session")
    token = json.loads(opened.text)["csrf_token"]
    body = json.dumps({"email": email, "password": "a wrong password"}).encode()
    statuses = []
    for number in range(8):
        headers = [
            ("Cookie", opened.cookies()),
            ("X-CSRFToken", token),
            ("Origin", f"https://{deployment.host}"),
            ("Content-Type", "application/json"),
            ("X-Forwarded-For", f"198.51.100.{number}"),
        ]
        with deployment.connected() as connection:
            request = deployment.request("POST", "/api/auth/session", headers, body)
            connection.sendall(request)
            statuses.append(read(connection).status)
    assert set(statuses[:3]) == {401}
    assert statuses[-1] == 429
    failed = stack.lines("login-failed")
    assert failed
    assert not {line["client"] for line in failed} & {f"198.51.100.{n}" for n in range(8)}
