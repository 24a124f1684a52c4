"""Every refusal leaves one line, and nothing a client sends makes another."""

import json
import logging
from collections.abc import Callable
from datetime import UTC, date, datetime

import pytest
from flask import Flask, abort
from flask.testing import FlaskClient
from werkzeug.exceptions import Forbidden, TooManyRequests
from werkzeug.test import TestResponse

from app.errors import SENTENCES
from app.security import events
from tests.conftest import MakeApp, api_token, csrf_token
from tests.production import HOST

REFUSALS: dict[str, Callable[[FlaskClient], TestResponse]] = {
    "host-refused": lambda client: client.get("/", headers={"Host": "evil.example"}),
    "http-refused": lambda client: client.post("/contact", base_url=f"http://{HOST}"),
    "origin-refused": lambda client: client.post("/contact", origin="https://evil.example"),
    "csrf-refused": lambda client: client.post("/contact"),
    "size-refused": lambda client: client.post("/contact", data=b"x" * 1_000_001),
    "limit-exceeded": lambda client: [client.get("/") for _ in range(121)][-1],
}

RULES = {
    "host-refused": "hosts",
    "http-refused": "https",
    "origin-refused": "csrf:origin",
    "csrf-refused": "csrf:token",
    "size-refused": "request_size",
    "limit-exceeded": "rate_limits:default",
}

# What the statuses that errors.py has a sentence for are called, and the rule of each; the rest
# refuse nobody.
STATUSES = {
    400: ("input-refused", "syntax"),
    401: ("access-refused", "sign-in"),
    403: ("access-refused", "access"),
    413: ("size-refused", "request_size"),
    415: ("input-refused", "media-type"),
    422: ("input-refused", "shape"),
    429: ("limit-exceeded", f"rate_limits:{TooManyRequests.description}"),
}
NO_REFUSALS = {404, 405, 500, 503}


def lines(capfd: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    """Return the security log so far."""
    return [json.loads(line) for line in capfd.readouterr().err.splitlines() if line[0] == "{"]


@pytest.mark.parametrize("event", REFUSALS)
def test_a_refusal_leaves_one_line(
    client: FlaskClient, capfd: pytest.CaptureFixture[str], event: str
) -> None:
    answer = REFUSALS[event](client)
    assert answer.status_code >= 400
    (line,) = lines(capfd)
    assert (line["event"], line["rule"]) == (event, RULES[event])
    assert line["method"] == answer.request.method
    assert line["request_id"] == answer.headers["X-Request-ID"]
    assert line["client"] == "127.0.0.1"
    written = datetime.fromisoformat(str(line["time"]))
    assert written.utcoffset() == UTC.utcoffset(None)


@pytest.mark.parametrize("status", sorted(SENTENCES))
def test_every_refusal_has_its_event(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str], status: int
) -> None:
    app = make_app()
    app.add_url_rule("/refuses", view_func=lambda: abort(status))
    assert app.test_client().get("/refuses").status_code == status
    found = lines(capfd)
    if status in NO_REFUSALS:
        assert found == []
    else:
        (line,) = found
        assert (line["event"], line["rule"]) == STATUSES[status]


def test_what_is_recorded_already_is_not_recorded_again(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str]
) -> None:
    class Recorded(Forbidden):
        recorded = True

    def refuses() -> str:
        raise Recorded

    app = make_app()
    app.add_url_rule("/refuses", view_func=refuses)
    assert app.test_client().get("/refuses").status_code == 403
    assert lines(capfd) == []


def test_a_log_that_is_quiet_keeps_every_refusal(
    client: FlaskClient, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    client.post("/contact")
    assert len(lines(capfd)) == 1


def test_a_command_is_nobodys_request(app: Flask, capfd: pytest.CaptureFixture[str]) -> None:
    with app.app_context():
        events.record("user-added", account=1, day=date(2026, 1, 31))
    (line,) = lines(capfd)
    assert datetime.fromisoformat(str(line.pop("time"))).utcoffset() == UTC.utcoffset(None)
    assert line == {
        "event": "user-added",
        "request_id": "-",
        "client": "command line",
        "method": None,
        "endpoint": None,
        "rule": "user-added",
        "account": 1,
        "day": "2026-01-31",
    }


def test_a_limit_is_named(make_app: MakeApp, capfd: pytest.CaptureFixture[str]) -> None:
    client = make_app(RATELIMIT_STRICT="1 per minute", RATELIMIT_DEFAULT="4 per minute")
    browser = client.test_client()
    for path in ("/contact", "/contact", "/csp-report", "/csp-report", "/contact"):
        browser.post(path)
    rules = [line["rule"] for line in lines(capfd) if line["event"] == "limit-exceeded"]
    assert rules == ["rate_limits:contact", "rate_limits:reports", "rate_limits:contact"]
    browser.get("/")
    assert lines(capfd)[-1]["rule"] == "rate_limits:default"


@pytest.mark.parametrize("path", ["/", "/nowhere", "/healthz", "/api/ping"])
def test_what_is_no_refusal_leaves_none(
    client: FlaskClient, capfd: pytest.CaptureFixture[str], path: str
) -> None:
    client.get(path)
    assert lines(capfd) == []


def test_no_input_forges_a_line_or_leaks_a_secret(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str]
) -> None:
    client = make_app().test_client()
    token = csrf_token(client.get("/contact"))
    forged = '\n{"event": "forged"}\n\u2028\x1b[2K'
    client.post(
        "/contact?" + forged,
        data={"csrf_token": f"{token}x", "name": forged},
        headers={"X-Forwarded-For": "192.0.2.1 {}", "User-Agent": "{}"},
    )
    report = {"csp-report": {"blocked-uri": forged, "effective-directive": f"x?{token}"}}
    client.post("/csp-report", json=report, content_type="application/csp-report")
    output = capfd.readouterr().err
    found = [json.loads(line) for line in output.splitlines()]
    assert [(line["event"], line["rule"]) for line in found] == [
        ("csrf-refused", "csrf:token"),
        ("csp-violation", "csp-violation"),
    ]
    assert output.isascii()
    assert "\x1b" not in output
    assert token not in output


def test_the_api_leaves_the_same_line(
    client: FlaskClient, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    client.post("/api/ping", headers=api_token(client), origin="null")
    (line,) = lines(capfd)
    assert (line["event"], line["endpoint"]) == ("origin-refused", "api.echo")
    assert [record.name for record in caplog.records] == ["security"]
