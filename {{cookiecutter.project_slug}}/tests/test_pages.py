"""What a visitor sees: pages, the form, and errors that tell an attacker nothing."""

import re

import pytest
from flask import abort, get_flashed_messages
from flask.testing import FlaskClient

from tests.conftest import MakeApp, csrf_token
from tests.production import HOST

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
