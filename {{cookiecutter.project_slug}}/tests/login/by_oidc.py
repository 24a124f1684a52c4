"""How the tests sign somebody in: at a provider of our own, which believes everybody."""

from functools import cache
from urllib.parse import urlsplit

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.db import db
from app.login.models import User
from tests.production import ISSUER, PROVIDER
from tests.provider import Provider

EMAIL = "ada@example.com"
PUBLIC = {"login.callback", "login.backchannel_logout", "login.provider_logout"}
PROVED_AT = "proved_at"  # the column of a session that says when its user proved who they are


@cache
def provider() -> Provider:
    """Return the provider that the settings of the tests name; it ends with the process."""
    port = urlsplit(ISSUER).port or 0
    started = Provider(port, PROVIDER["APP_OIDC_CLIENT_ID"], PROVIDER["OIDC_CLIENT_SECRET"])
    started.start()
    return started


def subject_of(email: str) -> str:
    """Return whom the provider means by an address."""
    return f"subject-of-{email.partition('@')[0]}"


def add(app: Flask, email: str) -> int:
    """Open an account; return its id."""
    with app.app_context():
        user = User(issuer=ISSUER, subject=subject_of(email), email=email)
        db.session.add(user)
        db.session.commit()
        return user.id


def sign_in(
    client: FlaskClient, email: str = EMAIL, path: str = "/login", **kwargs: object
) -> TestResponse:
    """Go to the provider, be somebody there, and come back."""
    there = provider()
    there.subject, there.email = subject_of(email), email
    return come_back(client, client.get(path, **kwargs), **kwargs)


def come_back(client: FlaskClient, sent: TestResponse, **kwargs: object) -> TestResponse:
    """Follow an answer of /login to the provider and back."""
    assert sent.status_code == 303, sent.text
    return client.get(provider().follow(sent.headers["Location"]), **kwargs)


def signed_in(app: Flask, email: str = EMAIL, agent: str = "Firefox") -> FlaskClient:
    """Return a browser in which somebody has signed in."""
    client = app.test_client()
    assert sign_in(client, email, headers={"User-Agent": agent}).status_code == 303
    return client
