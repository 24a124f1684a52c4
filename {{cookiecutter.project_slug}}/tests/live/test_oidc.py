"""People sign in with Chromium at a certified provider on another site; processes share it all."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import pytest

from app import config, env_file
from tests.live import stack as production
from tests.live.certified import MFA, Account, Certified, Client, Tls
from tests.live.conftest import APART, Gunicorn
from tests.live.sites import ask
from tests.live.store import Store
from tests.login.by_oidc import provider, subject_of
from tests.production import FRONT_END, GIVEN, HOST, ISSUER, ORIGIN, VARIABLES
from tests.servers import ask as ask_port
from tests.servers import copy, free_port, run, served

if TYPE_CHECKING:
    from collections.abc import Mapping

    from playwright.sync_api import Browser, BrowserContext, Page

if sys.platform == "win32":
    pytest.skip("gunicorn does not exist on Windows", allow_module_level=True)

ADA = Account("ada", "ada@example.com", "eleven patient lighthouses")
CALLBACK, LOGGED_OUT, TOLD = "/auth/callback", "/logged-out", "/auth/backchannel-logout"
ACCOUNT, SESSION = f"{ORIGIN}/api/account", f"{ORIGIN}/api/auth/session"
FRESH_S = 4
BOUND_S = 15  # until a page says that the provider does not answer

# `variables` name the provider to the application; called with the application's origin, the port
# that it answers on and its CA, it is there for as long as the block lasts.
Registered = Callable[..., AbstractContextManager[Certified]]


class Registration:
    """A certified provider that is not there yet; what the application has to know of it."""

    def __init__(self, directory: Path, tls: tuple[str, str]) -> None:
        self._directory, self._port = directory, free_port()
        cert, key = map(Path, tls)
        self._tls = Tls(cert, key, cert.with_name("ca.pem"))
        self.variables: dict[str, Any] = {
            "APP_OIDC_ISSUER": f"https://127.0.0.1:{self._port}",
            "APP_OIDC_CLIENT_ID": "the-application",
            "OIDC_CLIENT_SECRET": "secret-of-the-application-" + "0123456789abcdef" * 2,
            "REQUESTS_CA_BUNDLE": str(self._tls.ca),
            "APP_RATELIMIT_STRICT": "100 per minute",
        }

    @contextmanager
    def running(self, origin: str, port: int, ca: str | None = None) -> Iterator[Certified]:
        """Run it until the block ends, for an application on a port of loopback."""
        client = Client(
            self.variables["APP_OIDC_CLIENT_ID"],
            self.variables["OIDC_CLIENT_SECRET"],
            [f"{origin}{CALLBACK}"],
            [f"{origin}{LOGGED_OUT}"],
            f"{origin}{TOLD}",
        )
        tls = self._tls._replace(ca=Path(ca)) if ca else self._tls
        there = Certified(self._directory, self._port, tls, client, [ADA], port)
        try:
            there.start()
        except production.Missing as missing:
            pytest.skip(str(missing))
        try:
            yield there
        finally:
            there.stop()


@pytest.fixture(scope="module")
def there(
    gunicorn: Gunicorn,
    ports: "Mapping[str, int]",
    tls: tuple[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Certified]:
    """Yield the provider of the application, which is served for browsers."""
    registration = Registration(tmp_path_factory.mktemp("provider"), tls)
    variables = {**registration.variables, "APP_LOGIN_FRESH_S": str(FRESH_S)}
    with registration.running(ORIGIN, ports[HOST]) as there, gunicorn(HOST, **variables):
        yield there


@pytest.fixture
def another(chromium: "Browser") -> Iterator["Page"]:
    """Yield a page of another browser."""
    context = chromium.new_context(user_agent="The other browser")
    yield context.new_page()
    context.close()


def enter(page: "Page", issuer: str, password: str = ADA.password, *, factor: bool = False) -> None:
    """Fill in the form of the provider, who has to have asked for it."""
    assert page.url.startswith(f"{issuer}/interaction/")
    page.get_by_label("Email").fill(ADA.email)
    page.get_by_label("Password").fill(password)
    if factor:
        page.get_by_label("Second factor").check()
    page.get_by_role("button", name="Sign in").click()


def sign_in(page: "Page", issuer: str, origin: str = ORIGIN) -> None:
    """Open a page that needs it, prove who it is, and be back."""
    page.goto(f"{origin}/account")
    enter(page, issuer)
    assert page.url == f"{origin}/account"


def answered(page: "Page", path: str, do: Callable[[], object]) -> int:
    """Do something that ends at a path of ours; return the status of the answer."""
    with page.expect_response(lambda answer: urlsplit(answer.url).path == path) as seen:
        do()
    page.wait_for_load_state()
    return int(seen.value.status)


def kept(cookie: str) -> dict[str, Any]:
    """Return what a session cookie holds, as whoever has it can read it."""
    head, _, rest = cookie.partition(".")
    text = head or rest.partition(".")[0]
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    found = json.loads(data if head else zlib.decompress(data))
    assert isinstance(found, dict)
    return found


def leave(page: "Page", issuer: str, origin: str) -> None:
    """Agree to signing out at the provider, and be back."""
    assert page.url.startswith(f"{issuer}/session/end")
    page.get_by_role("button", name="Sign out").click()
    assert page.url.partition("?")[0] == f"{origin}{LOGGED_OUT}"


def go_in_and_out(page: "Page", context: "BrowserContext", issuer: str, origin: str) -> None:
    """Sign in from the home page; sign out here and at the provider."""
    page.goto(f"{origin}/")
    page.get_by_role("link", name="Sign in").click()
    assert page.title() == "Sign in at the provider"
    enter(page, issuer)
    assert page.url == f"{origin}/account"
    assert ADA.email in page.locator("main").inner_text()
    (cookie,) = context.cookies(origin)
    assert (cookie["name"], cookie["httpOnly"], cookie["secure"]) == ("__Host-session", True, True)
    assert set(kept(cookie["value"])) <= {"_permanent", "account", "csrf_token", "token"}
    assert page.evaluate("localStorage.length + sessionStorage.length") == 0

    page.get_by_role("button", name="Sign out").click()
    assert page.url == f"{origin}{LOGGED_OUT}"
    assert {cookie["name"] for cookie in context.cookies(origin)} == {"__Host-signed-out"}
    page.get_by_role("link", name="Sign out at the provider too").click()
    leave(page, issuer, origin)
    assert page.get_by_role("heading", name="You are signed out").is_visible()
    assert page.get_by_role("link", name="Sign out at the provider").count() == 0
    assert context.cookies(origin) == []
    page.goto(f"{origin}/account")
    assert page.title() == "Sign in at the provider"  # who has forgotten them as well


def test_a_person_signs_in_and_out(
    page: "Page", context: "BrowserContext", there: Certified
) -> None:
    go_in_and_out(page, context, there.issuer, ORIGIN)


def test_a_person_signs_in_and_out_through_what_stands_in_front(
    page: "Page", context: "BrowserContext", tls: tuple[str, str], tmp_path: Path
) -> None:
    registration = Registration(tmp_path, tls)
    try:
        with production.running(**registration.variables) as stack:
            port = urlsplit(stack.deployment.https).port or 0
            origin = f"https://{stack.deployment.host}:{port}"
            with registration.running(origin, port, stack.deployment.ca) as there:
                go_in_and_out(page, context, there.issuer, origin)
                sign_in(page, there.issuer, origin)
                end_at_the_provider(page, there.issuer, origin)
    except production.Missing as missing:
        pytest.skip(str(missing))


def test_who_cancels_reads_a_plain_page(page: "Page", there: Certified) -> None:
    page.goto(f"{ORIGIN}/account")
    cancel = page.get_by_role("button", name="Cancel")
    assert answered(page, CALLBACK, cancel.click) == 400
    assert "Signing in was not completed." in page.locator("main").inner_text()
    page.get_by_role("link", name="Back to the start").click()
    page.get_by_role("link", name="Sign in").click()
    enter(page, there.issuer)
    assert page.url == f"{ORIGIN}/account"


def test_a_wrong_password_is_the_providers_matter(page: "Page", there: Certified) -> None:
    page.goto(f"{ORIGIN}/account")
    enter(page, there.issuer, "a wrong password")
    assert page.get_by_role("alert").inner_text() == "Wrong address or password."
    enter(page, there.issuer)
    assert page.url == f"{ORIGIN}/account"


def end_at_the_provider(page: "Page", issuer: str, origin: str) -> None:
    """Sign out at the provider alone, and find that it has told us."""
    elsewhere = page.context.new_page()
    elsewhere.goto(f"{issuer}/session/end")
    elsewhere.get_by_role("button", name="Sign out").click()
    assert elsewhere.title() == "Signed out at the provider"
    elsewhere.close()
    page.goto(f"{origin}/account")
    assert page.title() == "Sign in at the provider"


def test_signing_out_at_the_provider_ends_that_session_here(
    page: "Page", another: "Page", there: Certified
) -> None:
    for browser in (page, another):
        sign_in(browser, there.issuer)
    end_at_the_provider(page, there.issuer, ORIGIN)
    assert ask(another, ACCOUNT)["status"] == 200


def test_who_signed_in_long_ago_proves_it_again(
    page: "Page", another: "Page", there: Certified
) -> None:
    for browser in (page, another):
        sign_in(browser, there.issuer)
    time.sleep(FRESH_S + 1)
    page.reload()
    end = page.get_by_role("button", name="End all other sessions")
    end.click()
    page.get_by_role("link", name="Sign in again").click()
    enter(page, there.issuer)  # although the provider knows this browser
    assert page.url == f"{ORIGIN}/account"
    end.click()
    assert "has ended" in page.get_by_role("status").inner_text()
    # The other browser has to ask the provider, who may still know it.
    assert ask(another, ACCOUNT)["status"] == 401


def test_a_second_factor_is_asked_for_and_proved(
    page: "Page",
    gunicorn: Gunicorn,
    ports: "Mapping[str, int]",
    tls: tuple[str, str],
    tmp_path: Path,
) -> None:
    registration, origin = Registration(tmp_path, tls), f"https://{APART}"
    variables = {**registration.variables, "APP_OIDC_REQUIRED_ACR": MFA}
    with registration.running(origin, ports[APART]) as there, gunicorn(APART, **variables):
        page.goto(f"{origin}/account")
        assert answered(page, CALLBACK, lambda: enter(page, there.issuer)) == 403
        assert "not as somebody who may come in here" in page.locator("main").inner_text()
        page.get_by_role("link", name="Back to the start").click()
        page.get_by_role("link", name="Sign in").click()
        enter(page, there.issuer, factor=True)
        assert page.url == f"{origin}/account"


def test_a_provider_that_does_not_answer_is_not_waited_for(
    page: "Page",
    context: "BrowserContext",
    gunicorn: Gunicorn,
    ports: "Mapping[str, int]",
    tls: tuple[str, str],
    tmp_path: Path,
) -> None:
    def refused() -> None:
        since = time.monotonic()
        answer = page.goto(f"{origin}/account")
        assert answer
        assert answer.status == 502
        assert "could not tell us who you are" in page.locator("main").inner_text()
        assert time.monotonic() - since < BOUND_S

    registration, origin = Registration(tmp_path, tls), f"https://{APART}"
    with (
        registration.running(origin, ports[APART]) as there,
        gunicorn(APART, **registration.variables),
    ):
        there.stop()
        refused()
        there.start()
        there.send(signal.SIGSTOP)
        refused()
        there.send(signal.SIGCONT)
        sign_in(page, there.issuer, origin)
        there.stop()
        there.start()  # with another key than the one that we know
        context.clear_cookies()
        sign_in(page, there.issuer, origin)


def test_an_allowed_front_end_signs_in_reads_and_signs_out(page: "Page", there: Certified) -> None:
    page.goto(FRONT_END)
    assert ask(page, ACCOUNT)["status"] == 401
    home = f"{FRONT_END}/dashboard?tab=1"
    page.evaluate("(url) => { location.href = url }", f"{ORIGIN}/login?next={quote(home)}")
    page.wait_for_url(f"{there.issuer}/**")
    enter(page, there.issuer)
    assert page.url == home
    assert ask(page, ACCOUNT)["body"] == {"email": ADA.email}
    opened = ask(page, SESSION)["body"]
    assert opened["user"] == {"email": ADA.email}
    headers = {"X-CSRFToken": opened["csrf_token"]}
    ended = ask(page, SESSION, method="DELETE", headers=headers)
    assert (ended["status"], ended["body"]["user"]) == (200, None)
    assert ask(page, ACCOUNT)["status"] == 401
    page.evaluate("(url) => { location.href = url }", ended["body"]["location"])
    page.wait_for_url(f"{there.issuer}/**")
    leave(page, there.issuer, ORIGIN)


# -- Without a browser


class Person:
    """Somebody's browser behind the proxy, at an address of their own."""

    def __init__(self, port: int, number: int) -> None:
        self._port = port
        self.headers = {
            "Host": HOST,
            "X-Forwarded-Proto": "https",
            "X-Forwarded-For": f"198.51.100.{number}",
        }

    def get(self, path: str) -> tuple[int, str]:
        """Ask for a path; keep the cookie; return the status and where it leads."""
        status, headers, _ = ask_port(self._port, "GET", path, self.headers)
        if cookie := headers.get("Set-Cookie"):
            self.headers["Cookie"] = cookie.partition(";")[0]
        return status, headers.get("Location", "")

    def tell(self, token: str) -> int:
        """Be the provider who sends a logout token; return the status."""
        form = {**self.headers, "Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode({"logout_token": token})
        return ask_port(self._port, "POST", TOLD, form, body)[0]


def test_two_processes_share_sign_ins_sessions_and_logout_tokens(store: Store) -> None:
    pytest.importorskip("redis", reason="needs the library: uv run --group live pytest")
    shared = {
        **VARIABLES,
        "APP_OIDC_ISSUER": ISSUER,
        "APP_RATELIMIT_STORAGE_URI": store.patient_uri,
        "WEB_CONCURRENCY": "2",
    }
    there, port, people = provider(), free_port(), range(1, 9)
    there.behave()
    with served(port, "gunicorn", "--bind", f"127.0.0.1:{port}", variables=shared):
        tokens = {}
        for number in people:
            person = Person(port, number)
            there.subject, there.sid = subject_of(f"two-{number}@example.com"), f"session-{number}"
            status, location = person.get("/login")
            assert (status, location.startswith(f"{ISSUER}/authorize?")) == (303, True)
            # One of the two has sent them there, and either may be asked when they come back.
            assert person.get(there.follow(location)) == (303, "/account")
            assert {person.get("/api/account")[0] for _ in range(6)} == {200}
            tokens[person] = there.logout_token()
        for person, token in tokens.items():
            with ThreadPoolExecutor(4) as pool:
                told = sorted(pool.map(Person(port, 100).tell, [token] * 4))
            assert told == [200, 400, 400, 400]  # it counts once, whoever is told
            assert {person.get("/api/account")[0] for _ in range(6)} == {401}

        # Somebody who has no account yet comes back in eight browsers at once.
        there.subject, there.sid = subject_of("new@example.com"), "session-of-somebody-new"
        browsers = [Person(port, number) for number in people]
        paths = [there.follow(person.get("/login")[1]) for person in browsers]
        with ThreadPoolExecutor(8) as pool:
            entered = list(pool.map(Person.get, browsers, paths))
        assert entered == [(303, "/account")] * 8
        assert [person.get("/api/account")[0] for person in browsers] == [200] * 8


# -- As a developer


def test_a_developer_signs_in_at_the_provider_of_the_tests(page: "Page", tmp_path: Path) -> None:
    root = copy(tmp_path / "clone")
    env_file.create(str(root / ".env"))
    port, at = free_port(), free_port()
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "tests.provider", "--port", str(at)],
        cwd=config.ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout
            said = [process.stdout.readline().strip().split("=", 1) for _ in range(3)]
            database = {"DATABASE_URL": f"sqlite:///{tmp_path}/app.sqlite3"}
            variables = {**VARIABLES, **database, **dict(said)}
            status, upgraded = run("flask", "db", "upgrade", variables=variables, root=root)
            assert status == 0, upgraded
            command = ("flask", "run", "--debug", "--port", str(port))
            with served(port, *command, variables=variables, root=root):
                page.goto(f"http://localhost:{port}/")
                page.get_by_role("link", name="Sign in").click()
                assert page.url == f"http://localhost:{port}/account"
                assert ADA.email in page.locator("main").inner_text()
                cookies = page.context.cookies()
                assert [cookie["name"] for cookie in cookies] == ["session"]
                page.get_by_role("button", name="Sign out").click()
                page.get_by_role("link", name="Sign out at the provider too").click()
                assert page.url.partition("?")[0] == f"http://localhost:{port}{LOGGED_OUT}"
                assert page.context.cookies() == []
        finally:
            process.terminate()


def test_the_stack_brings_a_provider_where_none_is_named(page: "Page") -> None:
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", production.__name__],
        cwd=config.ROOT,
        env={name: value for name, value in os.environ.items() if name not in GIVEN},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout
            said = json.loads(process.stdout.readline())
            origin = f"https://{said['host']}:{said['https'].rpartition(':')[2]}"
            page.goto(f"{origin}/account")
            assert page.url == f"{origin}/account"
            assert ADA.email in page.locator("main").inner_text()
        finally:
            process.terminate()
    with pytest.raises(ConnectionRefusedError):
        ask_port(int(said["issuer"].rpartition(":")[2]), "GET", "/keys")
