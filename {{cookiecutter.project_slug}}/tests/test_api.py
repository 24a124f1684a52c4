"""What front ends rely on: JSON in, JSON out, and an answer for everything that is none."""

from datetime import UTC, datetime, timedelta

import pytest
from flask.testing import FlaskClient

from app.problem import Refusal
from tests.conftest import MakeApp, api_token
from tests.production import HOST


def test_the_token_is_for_this_answer_alone(client: FlaskClient) -> None:
    answer = client.get("/api/csrf")
    assert set(answer.get_json()) == {"csrf_token"}
    assert "no-store" in answer.headers["Cache-Control"]


def test_ping(client: FlaskClient) -> None:
    assert client.get("/api/ping").get_json() == {"message": "pong"}


@pytest.mark.parametrize(
    ("body", "message"),
    [({}, "pong"), ({"message": "☃"}, "☃"), ({"message": ""}, ""), ({"other": 1}, "pong")],
)
def test_echo(client: FlaskClient, body: dict[str, object], message: str) -> None:
    answer = client.post("/api/ping", json=body, headers=api_token(client))
    assert answer.get_json() == {"message": message}


@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [
        ("{}", "text/plain", 415),
        ("{}", "", 415),
        ("<a/>", "application/xml", 415),
        ("", "application/json", 400),
        ("{", "application/json", 400),
        ("[" * 100_000, "application/json", 400),
        ("9" * 10_000, "application/json", 400),
        ("\ud800".encode("utf-8", "surrogatepass"), "application/json", 400),
        ("[]", "application/json", 422),
        ("null", "application/json", 422),
        ('"text"', "application/json", 422),
        ('{"message": 1}', "application/json", 422),
        ('{"message": null}', "application/json", 422),
        ('{"message": "%s"}' % ("x" * 201), "application/json", 422),
    ],
)
def test_what_is_no_message_is_refused(
    client: FlaskClient, data: str | bytes, content_type: str, status: int
) -> None:
    answer = client.post(
        "/api/ping", data=data, content_type=content_type, headers=api_token(client)
    )
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    assert answer.get_json()["status"] == status


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ({"csp-report": {"effective-directive": "script-src"}}, "application/csp-report"),
        ([{"type": "csp-violation", "body": {}}], "application/reports+json"),
        ([{"body": {}}] * 50, "application/reports+json"),
    ],
)
def test_a_report_is_taken(client: FlaskClient, body: object, content_type: str) -> None:
    answer = client.post("/csp-report", json=body, content_type=content_type, origin="null")
    assert answer.status_code == 204
    assert answer.data == b""


@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [
        ("{}", "application/json", 415),
        ("{}", "", 415),
        ("{", "application/csp-report", 400),
        ("[" * 10_000, "application/csp-report", 400),
        ("{}", "application/csp-report", 422),
        ("[]", "application/reports+json", 422),
        ("1", "application/reports+json", 422),
        ('{"csp-report": 1}', "application/csp-report", 422),
        ('[{"body": null}]', "application/reports+json", 422),
    ],
)
def test_what_is_no_report_is_refused(
    client: FlaskClient, data: str, content_type: str, status: int
) -> None:
    answer = client.post("/csp-report", data=data, content_type=content_type)
    assert answer.status_code == status


def test_security_txt_says_where_to_report(make_app: MakeApp) -> None:
    expires = datetime.now(UTC).date() + timedelta(days=30)
    client = make_app(SECURITY_TXT_EXPIRES=f"{expires}").test_client()
    answer = client.get("/.well-known/security.txt")
    assert answer.content_type == "text/plain; charset=utf-8"
    assert answer.text == (
        "Contact: mailto:security@example.com\n"
        f"Expires: {expires}T00:00:00Z\n"
        f"Canonical: https://{HOST}/.well-known/security.txt\n"
        "Preferred-Languages: en\n"
    )


def test_security_txt_is_gone_once_it_has_expired(make_app: MakeApp) -> None:
    client = make_app(SECURITY_TXT_EXPIRES="2020-01-01").test_client()
    assert client.get("/.well-known/security.txt").status_code == 404


@pytest.mark.parametrize("contact", ["", "security@example.com", "mailto:", "https://a b"])
def test_a_contact_that_nobody_can_use_is_refused(make_app: MakeApp, contact: str) -> None:
    with pytest.raises(Refusal, match="security-contact"):
        make_app(SECURITY_CONTACT=contact)


@pytest.mark.parametrize("day", ["", "soon", "2027-02-30", "31.12.2027", "20990131"])
def test_a_day_that_is_none_is_refused(make_app: MakeApp, day: str) -> None:
    with pytest.raises(Refusal, match="security-txt-expires"):
        make_app(SECURITY_TXT_EXPIRES=day)
