"""How the tests sign somebody in: an account with a password, by the page or by the API."""

from functools import cache

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.db import db
from app.login import passwords
from app.login.models import User, key_of
from tests.conftest import api_token, csrf_token

EMAIL, PASSWORD = "ada@example.com", "seven quiet lanterns"
NEW_PASSWORD = "eleven loud umbrellas"  # noqa: S105

PUBLIC = {"login.register", "login_api.start"}
PROVED_AT = "created_at"  # the column of a session that says when its user proved who they are

hash_of = cache(passwords.make_hash)  # the work is done once, not for each test


def add(app: Flask, email: str) -> int:
    """Open an account; return its id."""
    with app.app_context():
        user = User(email=email, email_key=key_of(email), password_hash=hash_of(PASSWORD))
        db.session.add(user)
        db.session.commit()
        return user.id


def sign_in(
    client: FlaskClient,
    email: str = EMAIL,
    password: str = PASSWORD,
    path: str = "/login",
    **kwargs: object,
) -> TestResponse:
    """Fill in the form of the page and send it."""
    data = {"email": email, "password": password, "csrf_token": csrf_token(client.get(path))}
    return client.post(path, data=data, **kwargs)


def sign_in_by_api(client: FlaskClient, email: object, password: object) -> TestResponse:
    """Sign in as a front end does."""
    body = {"email": email, "password": password}
    return client.post("/api/auth/session", json=body, headers=api_token(client))


def signed_in(app: Flask, email: str = EMAIL, agent: str = "Firefox") -> FlaskClient:
    """Return a browser in which somebody has signed in."""
    client = app.test_client()
    assert sign_in(client, email, headers={"User-Agent": agent}).status_code == 303
    return client


def change_password(client: FlaskClient, **fields: str) -> TestResponse:
    """Fill in the form of the page, with other fields where some are given, and send it."""
    data = {
        "current_password": PASSWORD,
        "new_password": NEW_PASSWORD,
        "confirm_password": NEW_PASSWORD,
        "csrf_token": csrf_token(client.get("/account/password")),
    }
    return client.post("/account/password", data={**data, **fields})
