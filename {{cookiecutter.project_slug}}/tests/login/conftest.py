"""One account, in a database that every test finds empty."""

import re
from collections.abc import Callable
from functools import cache

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete, update
from werkzeug.test import TestResponse

from app.db import db
from app.login import passwords
from app.login.accounts import key_of
from app.login.models import LoginSession, User
from app.login.sessions import written
from tests.conftest import api_token, csrf_token

EMAIL, PASSWORD = "ada@example.com", "seven quiet lanterns"
NEW_PASSWORD = "eleven loud umbrellas"  # noqa: S105

hash_of = cache(passwords.make_hash)  # the work is done once, not for each test
Change = Callable[..., int]


@pytest.fixture(autouse=True)
def _nobody(app: Flask) -> None:
    with app.app_context():
        db.session.execute(delete(User))
        db.session.commit()


@pytest.fixture
def ada(app: Flask) -> int:
    """Return the id of an account that may sign in."""
    return add(app, EMAIL)


@pytest.fixture
def change(app: Flask) -> Change:
    """Return a function that moves times of every session by so many seconds."""

    def move(**seconds: int) -> int:
        values = {name: getattr(LoginSession, name) + by for name, by in seconds.items()}
        with app.app_context():
            changed = written(update(LoginSession).values(values))
            db.session.commit()
        return changed

    return move


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


def is_signed_in(client: FlaskClient) -> bool:
    """Return whether the API knows who asks."""
    return client.get("/api/account").status_code == 200


def press(client: FlaskClient, path: str, page: str = "/account") -> TestResponse:
    """Send the form of a page that goes to a path."""
    assert f'action="{path}"' in client.get(page).text
    return client.post(path, data={"csrf_token": csrf_token(client.get(page))})


def without_ids(page: TestResponse) -> str:
    """Return a page without what differs in each: tokens and ids."""
    return re.sub(r'value="[^"]*"|[0-9a-f]{32}', "", page.text)
