"""The session cookie cannot be set from next door, read by a script, sent over http or forged."""

import hashlib
import pickle
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask, session
from flask.sessions import SecureCookieSessionInterface
from flask.testing import FlaskClient
from itsdangerous import URLSafeTimedSerializer

from app.problem import Refusal
from tests.conftest import MakeApp, api_token, changed, csrf_token, set_cookie
from tests.production import HOST


def test_the_first_cookie_has_every_attribute(client: FlaskClient) -> None:
    name_and_value, *attributes = set_cookie(client.get("/contact")).split("; ")
    assert name_and_value.startswith("__Host-session=")
    assert set(attributes) == {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"}


def test_the_attributes_are_set_before_the_first_request(make_app: MakeApp) -> None:
    config = make_app().config
    assert config["SESSION_COOKIE_SECURE"] is True
    assert config["SESSION_COOKIE_HTTPONLY"] is True
    assert config["SESSION_COOKIE_SAMESITE"] == "Lax"


def test_a_page_without_a_form_sets_no_cookie(client: FlaskClient) -> None:
    assert "Set-Cookie" not in client.get("/").headers


def visits(app: Flask) -> FlaskClient:
    """Return a client of an application that tells what it believes of the session."""
    app.add_url_rule("/who", view_func=lambda: session.get("user", "nobody"))
    return app.test_client()


def forged(key: str, digest: Callable[..., object]) -> str:
    """Return a session cookie signed with a key and a digest, as Flask would sign it."""
    interface = SecureCookieSessionInterface()
    interface.digest_method = staticmethod(digest)
    signer = Flask("forger")
    signer.secret_key = key
    serializer = interface.get_signing_serializer(signer)
    assert serializer is not None
    return str(serializer.dumps({"user": "admin"}))


@pytest.mark.parametrize(
    ("digest", "believed"), [(hashlib.sha256, "admin"), (hashlib.sha1, "nobody")]
)
def test_only_sha_256_signs(
    make_app: MakeApp, key: str, digest: Callable[..., object], believed: str
) -> None:
    client = visits(make_app())
    client.set_cookie("__Host-session", forged(key, digest), domain=HOST)
    assert client.get("/who").text == believed


def test_no_character_of_the_cookie_can_be_changed(make_app: MakeApp, key: str) -> None:
    client = visits(make_app(RATELIMIT_DEFAULT="1000 per minute"))
    said = set()
    for cookie in changed(forged(key, hashlib.sha256)):
        client.set_cookie("__Host-session", cookie, domain=HOST)
        answer = client.get("/who")
        said.add((answer.status_code, answer.text))
    assert said == {(200, "nobody")}


class Trap:
    """What runs code of its maker's when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (self.path, "w")


def test_a_session_is_never_unpickled(make_app: MakeApp, key: str, tmp_path: Path) -> None:
    interface = SecureCookieSessionInterface()
    options = {"key_derivation": interface.key_derivation, "digest_method": hashlib.sha256}
    cookie = URLSafeTimedSerializer(
        key, salt=interface.salt, serializer=pickle, signer_kwargs=options
    ).dumps({"user": Trap(str(tmp_path / "trap"))})
    assert isinstance(cookie, bytes)
    client = visits(make_app())
    client.set_cookie("__Host-session", cookie.decode(), domain=HOST)
    client.get("/who")
    assert not (tmp_path / "trap").exists()


def test_a_session_is_no_token_and_a_token_no_session(make_app: MakeApp) -> None:
    client = visits(make_app())
    token = api_token(client)["X-CSRFToken"]
    cookie = client.get_cookie("__Host-session", domain=HOST)
    assert cookie
    answer = client.post("/api/ping", json={}, headers={"X-CSRFToken": cookie.value})
    assert answer.status_code == 400
    client.set_cookie("__Host-session", token, domain=HOST)
    assert client.get("/who").text == "nobody"
    assert client.post("/api/ping", json={}, headers={"X-CSRFToken": token}).status_code == 400


def test_what_we_did_not_sign_is_nobodys(make_app: MakeApp, key: str) -> None:
    client = visits(make_app(RATELIMIT_DEFAULT="1000 per minute"))
    good = forged(key, hashlib.sha256)
    made_up = [forged("another" + key, hashlib.sha256), "", ".", "..", "x" * 4_000, good + "x"]
    for place in range(0, len(good), 7):
        changed = "A" if good[place] != "A" else "B"
        made_up.append(good[:place] + changed + good[place + 1 :])
    for cookie in made_up:
        client.set_cookie("__Host-session", cookie, domain=HOST)
        answer = client.get("/who")
        assert (answer.status_code, answer.text) == (200, "nobody"), cookie


def test_the_cookie_tells_nothing_of_its_owner(client: FlaskClient) -> None:
    csrf_token(client.get("/contact"))
    with client.session_transaction(base_url=f"https://{HOST}") as session:
        assert set(session) == {"csrf_token"}


def test_a_cookie_of_another_name_is_not_believed(make_app: MakeApp, key: str) -> None:
    client = visits(make_app())
    client.set_cookie("session", forged(key, hashlib.sha256), domain=HOST)
    assert client.get("/who").text == "nobody"


def test_an_old_session_is_forgotten(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    client = make_app(PERMANENT_SESSION_LIFETIME=3_600).test_client()
    token = csrf_token(client.get("/contact"))
    monkeypatch.setattr("itsdangerous.timed.time.time", lambda: 4_102_444_800)
    assert client.post("/contact", data={"csrf_token": token}).status_code == 400


@pytest.mark.parametrize("seconds", [1, 31 * 86_400])
def test_a_lifetime_between_is_accepted(make_app: MakeApp, seconds: int) -> None:
    assert make_app(PERMANENT_SESSION_LIFETIME=seconds).permanent_session_lifetime == timedelta(
        seconds=seconds
    )


@pytest.mark.parametrize("seconds", [0, -1, 31 * 86_400 + 1])
def test_a_lifetime_that_is_none_or_endless_is_refused(make_app: MakeApp, seconds: int) -> None:
    with pytest.raises(Refusal, match="session-lifetime"):
        make_app(PERMANENT_SESSION_LIFETIME=seconds)
