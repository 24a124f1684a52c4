"""Production settings, every protection on; what the developer's shell holds changes nothing."""

import os
import re
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.datastructures import Headers
from werkzeug.test import TestResponse

from app import config, create_app

HOST = "app.example.com"
ORIGIN = f"https://{HOST}"
UNSAFE_METHODS = ("POST", "PUT", "PATCH", "DELETE")
INHERITED = re.compile(r"APP_|FLASK_|SECRET_KEY|WEB_CONCURRENCY$|PORT$")

# The defaults of app/config.py and these, whatever settings.toml says today.
PRODUCTION = {
    **config.SETTINGS,
    "TRUSTED_HOSTS": [HOST],
    "PROXY_HOPS": 1,
}


class Browser(FlaskClient):
    """A browser on a page of ours: https, our host, and an Origin with every unsafe request."""

    def open(self, *args: Any, origin: str | None = ORIGIN, **kwargs: Any) -> TestResponse:  # noqa: ANN401
        """Send a request; `origin` None leaves the header out."""
        kwargs.setdefault("base_url", ORIGIN)
        kwargs.setdefault("buffered", True)
        headers = Headers(kwargs.pop("headers", None))
        if origin and kwargs.get("method") in UNSAFE_METHODS:
            headers.setdefault("Origin", origin)
        return super().open(*args, headers=headers, **kwargs)


@pytest.fixture(autouse=True)
def _no_inherited_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if INHERITED.match(name):
            monkeypatch.delenv(name)


@pytest.fixture
def key() -> str:
    """Return a key as the hook makes it."""
    return secrets.token_urlsafe(48)


@pytest.fixture
def make_app(key: str) -> Callable[..., Flask]:
    """Return a function that builds an application with the given settings."""

    def make(**settings: object) -> Flask:
        app = create_app(**{**PRODUCTION, "SECRET_KEY": key, **settings})
        app.test_client_class = Browser
        return app

    return make


@pytest.fixture
def client(make_app: Callable[..., Flask]) -> Iterator[FlaskClient]:
    """Yield a browser on an application in production."""
    with make_app().test_client() as client:
        yield client


def csrf_token(page: TestResponse) -> str:
    """Return the token in the form of a page."""
    found = re.search(r'name="csrf_token"[^>]* value="([^"]+)"', page.text)
    assert found, page.text
    return found[1]


def set_cookie(response: TestResponse) -> str:
    """Return the one Set-Cookie header of an answer."""
    (cookie,) = response.headers.getlist("Set-Cookie")
    return cookie
