"""A database that every test finds empty, and what the tests of every way to sign in share."""

import re
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete, update
from werkzeug.test import TestResponse

from app.db import db
from app.login.models import LoginSession, User
from app.login.sessions import written
from tests.conftest import csrf_token
from tests.login import EMAIL, add
from tests.production import HOST

COOKIE = "__Host-session"
Change = Callable[..., int]


@pytest.fixture(autouse=True)
def _nobody(app: Flask) -> None:
    app.extensions["rate_limits"].reset()
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


def is_signed_in(client: FlaskClient) -> bool:
    """Return whether the API knows who asks."""
    return client.get("/api/account").status_code == 200


def stolen(client: FlaskClient) -> str:
    """Return a copy of the cookie."""
    cookie = client.get_cookie(COOKIE, domain=HOST)
    assert cookie
    return cookie.value


def with_cookie(app: Flask, value: str) -> FlaskClient:
    """Return a browser that somebody has put a cookie into."""
    client = app.test_client()
    client.set_cookie(COOKIE, value, domain=HOST, secure=True)
    return client


def press(client: FlaskClient, path: str, page: str = "/account") -> TestResponse:
    """Send the form of a page that goes to a path."""
    assert f'action="{path}"' in client.get(page).text
    return client.post(path, data={"csrf_token": csrf_token(client.get(page))})


def without_ids(page: TestResponse) -> str:
    """Return a page without what differs in each: tokens and ids."""
    return re.sub(r'value="[^"]*"|[0-9a-f]{32}', "", page.text)
