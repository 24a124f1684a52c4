"""Another site cannot send our forms in a visitor's name."""

import time

import pytest
from flask import Blueprint
from flask.testing import FlaskClient

from app import config
from app.security import csrf
from tests.conftest import UNSAFE_METHODS, MakeApp, api_token, changed, csrf_token
from tests.production import HOST, ORIGIN

GOOD = {"name": "Ada", "email": "ada@example.com", "message": "Hello"}
MIXED = "request.values"
FOREIGN = [
    "https://evil.example",
    "null",
    f"http://{HOST}",
    f"https://{HOST}:8443",
    f"https://{HOST}.evil.example",
    f"https://sibling.{HOST}",
    f"https://evil{HOST}",
    f"{ORIGIN}/",
    f"{ORIGIN}@evil.example",
]


def test_our_own_form_works(client: FlaskClient) -> None:
    token = csrf_token(client.get("/contact"))
    answer = client.post("/contact", data={**GOOD, "csrf_token": token})
    assert (answer.status_code, answer.location) == (303, "/contact")


def test_a_form_without_a_token_is_refused(client: FlaskClient) -> None:
    client.get("/contact")
    assert client.post("/contact", data=GOOD).status_code == 400


def test_whoever_comes_from_another_site_is_told_so(client: FlaskClient) -> None:
    answer = client.post("/contact", data=GOOD, origin="https://evil.example")
    assert answer.status_code == 403
    assert ">This request came from another site.</p>" in answer.text


def test_a_form_without_a_session_is_refused(client: FlaskClient) -> None:
    token = csrf_token(client.get("/contact"))
    client.delete_cookie("__Host-session", domain=HOST, path="/")
    assert client.post("/contact", data={**GOOD, "csrf_token": token}).status_code == 400


def test_the_token_of_another_session_is_refused(make_app: MakeApp) -> None:
    app = make_app()
    attacker, visitor = app.test_client(), app.test_client()
    token = csrf_token(attacker.get("/contact"))
    visitor.get("/contact")
    assert visitor.post("/contact", data={**GOOD, "csrf_token": token}).status_code == 400


def test_no_character_of_a_token_can_be_changed(make_app: MakeApp) -> None:
    client = make_app(RATELIMIT_DEFAULT="1000 per minute").test_client()
    said = set()
    for token in changed(api_token(client)["X-CSRFToken"]):
        answer = client.post("/api/ping", json={}, headers={"X-CSRFToken": token})
        said.add((answer.status_code, answer.get_json()["detail"]))
    assert said == {(400, "The CSRF token is invalid.")}


def test_a_token_in_the_address_is_none(client: FlaskClient) -> None:
    token = csrf_token(client.get("/contact"))
    answer = client.post("/contact", query_string={"csrf_token": token}, data=GOOD)
    assert answer.status_code == 400


def test_a_field_is_read_from_where_it_belongs(client: FlaskClient) -> None:
    token = csrf_token(client.get("/contact"))
    data = {"csrf_token": token}
    assert client.post("/contact", query_string=GOOD, data=data).status_code == 422
    # request.values mixes the address and the body: what one check reads another does not.
    mixed = [
        path.name
        for path in (config.ROOT / "app").rglob("*.py")
        if MIXED in path.read_text("utf-8")
    ]
    assert mixed == []


@pytest.mark.parametrize("method", UNSAFE_METHODS)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", ""])
def test_every_unsafe_method_needs_a_token(
    make_app: MakeApp, method: str, content_type: str
) -> None:
    app = make_app()
    app.add_url_rule("/change", view_func=lambda: "changed", methods=UNSAFE_METHODS)
    client = app.test_client()
    answer = client.open("/change", method=method, data="{}", content_type=content_type)
    assert answer.status_code == 400
    token = {"X-CSRFToken": csrf_token(client.get("/contact"))}
    answer = client.open("/change", method=method, content_type=content_type, headers=token)
    assert answer.text == "changed"


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_foreign_origin_is_refused_with_a_good_token(client: FlaskClient, origin: str) -> None:
    data = {**GOOD, "csrf_token": csrf_token(client.get("/contact"))}
    answer = client.post("/contact", data=data, origin=origin)
    assert answer.status_code == 403
    assert "This request came from another site." in answer.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Referer": f"{ORIGIN}/contact?a=b"}, 303),
        ({"Referer": "https://evil.example/contact"}, 403),
        ({"Referer": f"https://evil.example/{ORIGIN}/"}, 403),
        ({"Referer": f"http://{HOST}/contact"}, 403),
        ({"Referer": "https://["}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Origin": "https://evil.example", "Referer": f"{ORIGIN}/"}, 403),
        ({"Referer": "https://evil.example/", "Sec-Fetch-Site": "same-origin"}, 403),
        ({}, 403),
    ],
)
def test_without_an_origin_the_next_best_word_counts(
    client: FlaskClient, headers: dict[str, str], status: int
) -> None:
    data = {**GOOD, "csrf_token": csrf_token(client.get("/contact"))}
    answer = client.post("/contact", data=data, headers=headers, origin=None)
    assert answer.status_code == status


def test_a_missing_token_is_400_whatever_is_known_of_the_origin(client: FlaskClient) -> None:
    assert client.post("/contact", data=GOOD, origin=None).status_code == 400


def test_a_form_may_stay_open_as_long_as_its_session(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {**GOOD, "csrf_token": csrf_token(client.get("/contact"))}
    in_eleven_hours = time.time() + 11 * 3_600
    monkeypatch.setattr("itsdangerous.timed.time.time", lambda: in_eleven_hours)
    assert client.post("/contact", data=data).status_code == 303


def test_an_open_form_lives_through_a_change_of_key(make_app: MakeApp) -> None:
    old, new = "old-key-" + "0123456789abcdef" * 3, "new-key-" + "0123456789abcdef" * 3
    before = make_app(SECRET_KEY=old).test_client()
    page = before.get("/contact")
    cookie = before.get_cookie("__Host-session", domain=HOST)
    assert cookie is not None
    for fallbacks, status in ([old], 303), ([], 400):
        after = make_app(SECRET_KEY=new, SECRET_KEY_FALLBACKS=fallbacks).test_client()
        after.set_cookie("__Host-session", cookie.value, domain=HOST, secure=True, path="/")
        answer = after.post("/contact", data={**GOOD, "csrf_token": csrf_token(page)})
        assert answer.status_code == status


def test_what_is_exempt_past_us_is_told_and_still_asked_for_its_origin(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, webhooks = make_app(), Blueprint("webhooks", __name__)
    monkeypatch.setattr(csrf._protect, "_exempt_blueprints", {webhooks})
    webhooks.add_url_rule("/webhook", "webhook", lambda: "done", methods=["POST"])
    app.register_blueprint(webhooks)
    assert csrf.unexplained(app) == ["webhooks.*"]
    client = app.test_client()
    assert client.post("/webhook").status_code == 200
    assert client.post("/webhook", origin="https://evil.example").status_code == 403


def test_what_is_exempt_reads_no_session(make_app: MakeApp) -> None:
    app = make_app()
    csrf, exempt = app.extensions["csrf"], {"app.reports.csp_report": "/csp-report"}
    if "OIDC_ISSUER" in config.SETTINGS:
        exempt["app.login.by_oidc.backchannel_logout"] = "/auth/backchannel-logout"
    assert csrf._exempt_views | csrf._exempt_blueprints == set(exempt)
    reasons = [vars(view).get("csrf_exempt", "") for view in app.view_functions.values()]
    assert len(list(filter(None, reasons))) == len(exempt)
    for path in exempt.values():
        answer = app.test_client().post(path, json={}, origin="https://evil.example")
        assert "Vary" not in answer.headers
