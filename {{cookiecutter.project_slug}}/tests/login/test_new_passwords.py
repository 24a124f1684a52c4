"""A password is changed by whoever knows it; a front end signs in with JSON."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.login.by_password import (
    EMAIL,
    NEW_PASSWORD,
    PASSWORD,
    change_password,
    sign_in,
    sign_in_by_api,
    signed_in,
)
from tests.login.conftest import Change, is_signed_in, press, stolen, with_cookie

pytestmark = pytest.mark.usefixtures("ada")


def test_a_front_end_signs_in_reads_and_signs_out(client: FlaskClient) -> None:
    before = client.get("/api/auth/session").get_json()
    assert before["user"] is None
    signed = sign_in_by_api(client, EMAIL, PASSWORD)
    assert (signed.status_code, signed.get_json()["user"]) == (200, {"email": EMAIL})
    assert client.get("/api/account").get_json() == {"email": EMAIL}
    old = {"X-CSRFToken": before["csrf_token"]}
    assert client.delete("/api/auth/session", headers=old).status_code == 400
    token = {"X-CSRFToken": signed.get_json()["csrf_token"]}
    ended = client.delete("/api/auth/session", headers=token)
    assert (ended.status_code, ended.get_json()["user"]) == (200, None)
    assert not is_signed_in(client)


def test_a_new_password_ends_every_other_session(app: Flask) -> None:
    here, there = signed_in(app), signed_in(app)
    copy = with_cookie(app, stolen(here))
    assert change_password(here).status_code == 303
    assert [is_signed_in(client) for client in (here, there, copy)] == [True, False, False]
    assert sign_in(there).status_code == 401
    assert sign_in(there, password=NEW_PASSWORD).status_code == 303


@pytest.mark.parametrize(
    "wrong",
    [
        {"current_password": NEW_PASSWORD},
        {"current_password": ""},
        {"confirm_password": PASSWORD},
        {"confirm_password": ""},
        {"new_password": "short", "confirm_password": "short"},
        {"new_password": "qwertyqwerty", "confirm_password": "qwertyqwerty"},
    ],
    ids=lambda fields: "-".join(fields),
)
def test_a_password_is_not_changed_by_mistake(app: Flask, wrong: dict[str, str]) -> None:
    here, there = signed_in(app), signed_in(app)
    assert change_password(here, **wrong).status_code == 422
    assert is_signed_in(there)
    assert sign_in(there).status_code == 303


def test_what_needs_a_fresh_sign_in_asks_for_the_password_again(app: Flask, change: Change) -> None:
    client, _ = signed_in(app), signed_in(app)
    change(created_at=-900)
    assert press(client, "/account/sessions/end").headers["Location"] == "/login"
    assert "your password once more" in client.get("/login").text
