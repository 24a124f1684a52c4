"""What a visitor sees: pages, the form, and errors that tell an attacker nothing."""

import json
import re
from datetime import datetime, timedelta
from typing import NoReturn

import pytest
from flask import Response, abort, get_flashed_messages, render_template, request
from flask.logging import default_handler
from flask.testing import FlaskClient

from app.config import ROOT
from tests.conftest import MakeApp, csrf_token
from tests.production import HOST

# Addresses of other sites that pages load or link to; CSP_EXTRA has to name what they load.
ELSEWHERE: set[str] = set()
GOOD = {"name": "<b>Ada</b>", "email": "ada@example.com", "message": "Hello"}


def test_home_leads_to_the_form(client: FlaskClient) -> None:
    assert 'href="/contact"' in client.get("/").text


def test_a_good_message_is_thanked_for(client: FlaskClient) -> None:
    token = csrf_token(client.get("/contact"))
    answer = client.post("/contact", data={**GOOD, "csrf_token": token}, follow_redirects=True)
    assert answer.status_code == 200
    assert "Thank you, &lt;b&gt;Ada&lt;/b&gt;." in answer.text


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("name", "", "Please tell us your name."),
        ("name", "x" * 101, "Field cannot be longer than 100 characters."),
        ("email", "nobody", "This does not look like an email address."),
        ("message", "", "Please write a message."),
    ],
)
def test_a_bad_message_says_why_beside_the_field(
    client: FlaskClient, field: str, value: str, error: str
) -> None:
    token = csrf_token(client.get("/contact"))
    answer = client.post("/contact", data={**GOOD, field: value, "csrf_token": token})
    assert answer.status_code == 422
    assert re.search(rf'aria-describedby="{field}-error"', answer.text)
    assert re.search(rf'id="{field}-error">{error}<', answer.text)
    assert not get_flashed_messages()


@pytest.mark.parametrize("body", ['{"name": 1, "email": {}, "message": [1]}', "[]", "1", "null"])
def test_a_form_takes_fields_and_no_json(client: FlaskClient, body: str) -> None:
    token = {"X-CSRFToken": csrf_token(client.get("/contact"))}
    for content_type in ("application/json", "application/x+json"):
        answer = client.post("/contact", data=body, content_type=content_type, headers=token)
        assert answer.status_code == 415


def broken() -> str:
    raise RuntimeError("/etc/app.conf and a secret")


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_an_error_tells_nothing_but_its_id(
    make_app: MakeApp, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()
    app.add_url_rule(f"{prefix}/broken", view_func=broken)
    answer = app.test_client().get(f"{prefix}/broken")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert answer.headers["X-Request-ID"] in answer.text


def test_the_log_has_the_id_and_one_line_a_line(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()
    app.add_url_rule("/broken/<path:rest>", view_func=lambda rest: broken())
    answer = app.test_client().get("/broken/%0aFORGED")
    (record,) = caplog.records
    assert record.message == "Exception on /broken/\\nFORGED [GET]"
    assert vars(record)["request_id"] == answer.headers["X-Request-ID"]


def test_what_looks_like_a_format_is_text(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()
    app.add_url_rule("/broken/<path:rest>", view_func=lambda rest: broken())
    app.test_client().get("/broken/%25s%25n{0.__class__}%25(name)s")
    assert caplog.messages == ["Exception on /broken/%s%n{0.__class__}%(name)s [GET]"]


def test_what_a_traceback_quotes_forges_no_line(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    def quotes() -> str:
        raise RuntimeError('\n{"event": "login"}\x1b[2K\u2028')

    app = make_app()
    app.add_url_rule("/quotes", view_func=quotes)
    answer = app.test_client().get("/quotes")
    (record,) = caplog.records
    text = default_handler.format(record)
    assert (len(text.splitlines()), text.isascii(), "\x1b" in text) == (1, True, False)
    line = json.loads(text)
    assert line["event"] == "log"
    assert line["request_id"] == answer.headers["X-Request-ID"]
    assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)
    assert "RuntimeError" in line["traceback"]


def fails(*_args: object) -> NoReturn:
    raise RuntimeError("the attack")


@pytest.mark.parametrize("where", ["before_request", "view", "template", "after_request"])
def test_whatever_breaks_is_one_error_and_no_more(
    make_app: MakeApp, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()

    def breaks_here(answer: Response | None = None) -> Response | None:
        return fails() if request.path == "/breaks" else answer

    def view() -> str:
        return render_template("login/nowhere.html") if where == "template" else fails()

    app.add_url_rule("/breaks", view_func=view if where in ("view", "template") else str)
    if where.endswith("_request"):
        getattr(app, where)(breaks_here)
    client = app.test_client()
    assert client.get("/breaks").status_code == 500
    assert "RuntimeError" in caplog.text or "TemplateNotFound" in caplog.text
    assert client.get("/").status_code == 200


@pytest.mark.parametrize(
    "check",
    [
        "app.security.rate_limits.address_key",
        "app.security.csrf._comes_from_us",
        "flask_wtf.csrf.validate_csrf",
    ],
)
def test_a_protection_that_breaks_lets_nothing_through(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, check: str
) -> None:
    app, done = make_app(), []

    @app.post("/change")
    def change() -> str:
        done.append("changed")
        return "changed"

    client = app.test_client()
    data = {"csrf_token": csrf_token(client.get("/contact"))}
    assert client.post("/change", data=data).status_code == 200
    monkeypatch.setattr(check, fails)
    assert client.post("/change", data=data).status_code == 500
    assert done == ["changed"]


def test_no_form_writes_into_the_address_and_no_page_asks_another_site() -> None:
    for template in (ROOT / "app" / "templates").rglob("*.html"):
        text = template.read_text("utf-8")
        assert text.count("<form") == len(re.findall('<form [^>]*method="post"', text))
        asked = re.findall(r"""(?:src|href|action)=["']?(?!["']?[/#])([^\s"'>]*)""", text)
        assert set(asked) - ELSEWHERE == set(), template


def test_a_client_cannot_choose_the_id(client: FlaskClient) -> None:
    answer = client.get("/", headers={"X-Request-ID": "chosen"})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])


@pytest.mark.parametrize("accept", ["text/html", "application/json", "*/*"])
def test_an_error_under_api_is_a_problem_document(client: FlaskClient, accept: str) -> None:
    answer = client.get("/api/nowhere", headers={"Accept": accept})
    assert answer.content_type == "application/problem+json"
    assert answer.get_json() == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "There is nothing at this address.",
        "request_id": answer.headers["X-Request-ID"],
    }


def test_an_error_keeps_the_headers_it_brings(client: FlaskClient) -> None:
    assert set(client.delete("/contact").headers["Allow"].split(", ")) >= {"GET", "POST"}


def test_an_error_says_what_the_view_said_and_escapes_it(make_app: MakeApp) -> None:
    app = make_app()
    app.add_url_rule("/no", view_func=lambda: abort(422, "<script>"))
    answer = app.test_client().get("/no")
    assert "&lt;script&gt;" in answer.text
    assert "<script>" not in answer.text


@pytest.mark.parametrize("path", ["/", "/contact", "/nowhere"])
def test_no_page_needs_a_script_or_an_inline_style(client: FlaskClient, path: str) -> None:
    assert not re.search(r"<script|<style|style=|\son\w+=", client.get(path).text)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", [HOST, "10.0.0.7:8000", "evil.example", ""])
def test_monitors_are_answered_whatever_host_and_scheme(
    client: FlaskClient, path: str, scheme: str, host: str
) -> None:
    answer = client.get(path, base_url=f"{scheme}://{HOST}", headers={"Host": host})
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers
    assert answer.get_json(silent=True) == ({"status": "ok"} if path == "/healthz" else None)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_monitors_only_ask(client: FlaskClient, path: str) -> None:
    assert client.post(path).status_code == 405
