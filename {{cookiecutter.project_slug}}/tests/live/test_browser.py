"""What the visitor's own browser does with our headers.

The attacks: a page of another site, of a sibling subdomain or of no origin reads an answer, or
makes the browser send something in the visitor's name; a script that somebody wrote into a page of
ours runs; a page of ours is shown in a frame of another site. And what has to go on working.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.live.conftest import APART, Gunicorn
from tests.live.sites import EVIL, SANDBOXED, SIBLING, ask
from tests.production import FRONT_END, HOST, ORIGIN

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytest.importorskip("gunicorn", reason="gunicorn does not exist on Windows")

CSRF, PING = f"{ORIGIN}/api/csrf", f"{ORIGIN}/api/ping"
WAIT_S = 10

JSON = {"Content-Type": "application/json"}
UNREADABLE = "TypeError: Failed to fetch"

SEND_FORM = """(url) => {
    document.body.innerHTML = `
        <iframe name="hidden"></iframe>
        <form method="post" action="${url}" target="hidden" enctype="text/plain">
          <input name='{"message": "' value='"}'>
        </form>`;
    document.forms[0].submit();
}"""

ADD_FRAME = """(url) => {
    document.body.innerHTML = `<iframe src="${url}"></iframe>`;
}"""

SET_COOKIE = """(name) => {
    document.cookie = `${name}=theirs; Domain=example.com; Path=/; Secure`;
}"""

Recorded = Callable[[str, int], list[dict[str, str]]]


@pytest.fixture(scope="module", autouse=True)
def log(gunicorn: Gunicorn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield the log of our application, served with an injected script in one of its pages."""
    log = tmp_path_factory.mktemp("log") / "gunicorn.log"
    with gunicorn(HOST, "--error-logfile", str(log), "tests.live.injected:create_app()"):
        yield log


@pytest.fixture
def recorded(log: Path) -> Recorded:
    """Return a function that waits for so many lines about an event since the test began."""
    start = log.stat().st_size

    def wait(event: str, count: int) -> list[dict[str, str]]:
        deadline = time.monotonic() + WAIT_S
        while True:
            lines = log.read_bytes()[start:].splitlines()
            records = [json.loads(line) for line in lines if line.startswith(b"{")]
            found = [record for record in records if record["event"] == event]
            if len(found) >= count or time.monotonic() > deadline:
                return found
            time.sleep(0.05)

    return wait


@pytest.fixture
def visitor(context: "BrowserContext") -> "Page":
    """Return a page of somebody who has a session with us."""
    page = context.new_page()
    page.goto(f"{ORIGIN}/contact")
    return page


@pytest.fixture(
    params=[(EVIL, EVIL), (SIBLING, SIBLING), (SANDBOXED, "null")],
    ids=["another site", "a sibling subdomain", "no origin"],
)
def attacker(request: pytest.FixtureRequest, visitor: "Page") -> "Page":
    """Return the page after the visitor has gone to one of another origin."""
    url, origin = request.param
    visitor.goto(url)
    assert visitor.evaluate("self.origin") == origin
    return visitor


def test_an_allowed_site_calls_the_api(page: "Page") -> None:
    page.goto(FRONT_END)
    token = ask(page, CSRF)["body"]["csrf_token"]
    headers = {**JSON, "X-CSRFToken": token}
    answer = ask(page, PING, method="POST", headers=headers, body='{"message": "hello"}')
    assert answer["status"] == 200
    assert answer["body"] == {"message": "hello"}
    assert re.fullmatch(r'"default-60s";q=\d+;w=60', answer["headers"]["ratelimit-policy"])
    assert re.fullmatch(r'"default-60s";r=\d+;t=\d+', answer["headers"]["ratelimit"])
    assert re.fullmatch(r"[0-9a-f]{32}", answer["headers"]["x-request-id"])


def test_an_allowed_site_reads_why_it_was_refused(page: "Page") -> None:
    page.goto(FRONT_END)
    answer = ask(page, PING, method="POST", headers=JSON, body="{}")
    assert answer["status"] == answer["body"]["status"] == 400
    assert answer["headers"]["content-type"] == "application/problem+json"
    assert answer["headers"]["x-request-id"] == answer["body"]["request_id"]
    assert {"ratelimit", "ratelimit-policy"} <= answer["headers"].keys()


def test_an_allowed_site_reads_when_to_come_back(page: "Page", gunicorn: Gunicorn) -> None:
    page.goto(FRONT_END)
    with gunicorn(APART, APP_RATELIMIT_DEFAULT="2 per minute"):
        *answers, refused = [ask(page, f"https://{APART}/api/ping") for _ in range(3)]
    assert [answer["status"] for answer in answers] == [200, 200]
    assert refused["status"] == refused["body"]["status"] == 429
    assert refused["headers"]["content-type"] == "application/problem+json"
    assert refused["headers"]["ratelimit-policy"] == '"default-60s";q=2;w=60'
    assert refused["headers"]["ratelimit"].startswith('"default-60s";r=0;')
    assert f"in {refused['headers']['retry-after']} seconds" in refused["body"]["detail"]


def test_another_site_can_neither_read_nor_change_anything(
    attacker: "Page", recorded: Recorded
) -> None:
    cookies = attacker.context.cookies()
    forged = {**JSON, "X-CSRFToken": "forged"}
    assert ask(attacker, CSRF) == UNREADABLE
    assert ask(attacker, PING, method="POST", headers=forged, body="{}") == UNREADABLE
    assert ask(attacker, PING, method="POST", mode="no-cors", body="{}") == UNREADABLE
    attacker.evaluate(SEND_FORM, PING)
    # The browser itself keeps the one with JSON back: its preflight was not answered as it needs.
    refusals = recorded("origin-refused", 2)
    assert [refusal["endpoint"] for refusal in refusals] == ["api.echo", "api.echo"]
    assert attacker.context.cookies() == cookies


def test_an_injected_script_does_not_run_and_is_reported(
    context: "BrowserContext", recorded: Recorded
) -> None:
    page = context.new_page()
    page.goto(f"{ORIGIN}/injected")
    assert page.title() == "ours"
    reports = recorded("csp-violation", 2)
    assert {report["directive"] for report in reports} == {"script-src-elem", "script-src-attr"}
    assert {report["document"] for report in reports} == {f"{ORIGIN}/injected"}


def test_a_script_of_ours_runs(page: "Page") -> None:
    page.goto(f"{ORIGIN}/ours")
    assert page.title() == "ours"


def test_a_person_sends_the_form(page: "Page") -> None:
    page.goto(f"{ORIGIN}/contact")
    page.get_by_label("Your name").fill("Ada")
    page.get_by_label("Your email address").fill("ada@example.com")
    page.get_by_label("Your message").fill("Hello")
    page.get_by_role("button", name="Send").click()
    assert page.get_by_role("status").inner_text().startswith("Thank you, Ada.")


def test_a_sibling_subdomain_cannot_set_the_cookie(visitor: "Page") -> None:
    (cookie,) = visitor.context.cookies()
    assert cookie["name"] == "__Host-session"
    assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Lax")
    visitor.goto(SIBLING)
    visitor.evaluate(SET_COOKIE, cookie["name"])
    assert visitor.context.cookies() == [cookie]


def test_another_site_cannot_frame_a_page(visitor: "Page") -> None:
    visitor.goto(EVIL)
    with visitor.expect_event("requestfailed", timeout=WAIT_S * 1000) as refused:
        visitor.evaluate(ADD_FRAME, ORIGIN)
    assert refused.value.failure == "net::ERR_BLOCKED_BY_RESPONSE"
