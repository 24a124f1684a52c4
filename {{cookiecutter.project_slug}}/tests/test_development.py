"""Development is one command on loopback, and nothing else can be taken for it."""

from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from app import env_file
from tests.production import KEY, VARIABLES
from tests.servers import ask, copy, field, free_port, run, served


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Yield the port of `flask run --debug` in a clone of this project with a .env of its own."""
    root = copy(tmp_path_factory.mktemp("development") / "clone")
    env_file.create(str(root / ".env"))
    port = free_port()
    command = ("flask", "run", "--debug", "--no-reload", "--port", str(port))
    with served(
        port, *command, variables={**VARIABLES, "APP_RATELIMIT_STRICT": "100 per minute"}, root=root
    ):
        yield port


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "app.example.com"])
def test_the_form_works_over_http_on_loopback(port: int, host: str) -> None:
    own = {"Host": f"{host}:{port}"}
    status, headers, page = ask(port, "GET", "/contact", own)
    assert status == 200
    cookie, *attributes = headers["Set-Cookie"].split("; ")
    assert cookie.startswith("session=")
    assert set(attributes) == {"HttpOnly", "Path=/", "SameSite=Lax"}
    body = urlencode(
        {
            "name": "Ada",
            "email": "ada@example.com",
            "message": "Hello",
            "csrf_token": field(page, "csrf_token"),
        }
    )
    form = {**own, "Cookie": cookie, "Content-Type": "application/x-www-form-urlencoded"}
    origin = {"Origin": f"http://{host}:{port}"}
    assert ask(port, "POST", "/contact", {**form, **origin}, body)[0] == 303
    assert ask(port, "POST", "/contact", {**form, "Origin": "http://evil.example"}, body)[0] == 403


def test_a_strange_host_is_strange_here_too(port: int) -> None:
    assert ask(port, "GET", "/", {"Host": "evil.example"})[0] == 400


def test_only_what_needs_https_is_off(port: int) -> None:
    _, headers, _ = ask(port, "GET", "/")
    assert "Strict-Transport-Security" not in headers
    assert "upgrade-insecure-requests" not in headers["Content-Security-Policy"]
    assert "script-src 'strict-dynamic' 'nonce-" in headers["Content-Security-Policy"]
    assert headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize(
    ("command", "variables", "problem"),
    [
        (("flask", "run"), {}, "development-server-without-debug"),
        (("flask", "run", "--debug", "--no-reload", "--host", "0.0.0.0"), {}, "debug-on-a-network"),  # noqa: S104
        (
            ("flask", "run", "--debug", "--no-reload"),
            {"FLASK_RUN_HOST": "192.0.2.1"},
            "debug-on-a-network",
        ),
        (("flask", "routes"), {"FLASK_DEBUG": "1"}, "debug-outside-development"),
        (("gunicorn",), {"FLASK_DEBUG": "1"}, "debug-outside-development"),
    ],
)
def test_what_only_looks_like_development_is_refused(
    command: tuple[str, ...], variables: dict[str, str], problem: str
) -> None:
    if command == ("gunicorn",):
        pytest.importorskip("gunicorn", reason="gunicorn does not exist on Windows")
    status, output = run(*command, variables={**VARIABLES, **variables})
    assert status == 1
    assert f"[{problem}]" in output
    assert "uv run flask run --debug" in output
    assert "Traceback" not in output
    assert KEY not in output


def test_a_refusal_is_text_and_status_1() -> None:
    status, output = run("flask", "routes", variables={**VARIABLES, "SECRET_KEY": "dev"})
    assert status == 1
    assert "[secret-key-published]" in output
    assert "Traceback" not in output
