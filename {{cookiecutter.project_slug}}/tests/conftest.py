"""Production settings, every protection on; what the developer's shell holds changes nothing."""

import os
import re
import secrets
import string
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click import Context
from click.testing import CliRunner
from flask import Flask
from flask.cli import FlaskGroup, run_command
from flask.testing import FlaskClient
from werkzeug.datastructures import Headers
from werkzeug.test import TestResponse

from app import config, create_app
from tests.production import GIVEN, KEY, ORIGIN, SETTINGS, VARIABLES

MakeApp = Callable[..., Flask]
UNSAFE_METHODS = ("POST", "PUT", "PATCH", "DELETE")
BASE64 = f"{string.ascii_uppercase}{string.ascii_lowercase}{string.digits}-_"
INHERITED = re.compile(r"APP_|FLASK_|SECRET_KEY|OIDC_CLIENT_|DATABASE_URL$|WEB_CONCURRENCY$|PORT$")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `pytest tests/live --base-url https://staging.example.com` attack a deployment."""
    group = parser.getgroup("deployment")
    group.addoption("--base-url", help="a deployment to attack instead of a stack on this machine")
    group.addoption("--http-url", help="its http port, if that is not 80")
    group.addoption("--ca-file", help="PEM file of who issued its certificate, if nobody known")
    group = parser.getgroup("pictures")
    group.addoption("--pictures", metavar="DIR", help="where to leave pictures of every page")
    group.addoption("--pictured", metavar="NAMES", help="of these alone, with commas between")


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


@pytest.fixture(scope="session", autouse=True)
def _no_inherited_settings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if INHERITED.match(name):
                patch.delenv(name)
        for name, value in GIVEN.items():
            patch.setenv(name, value)
        if "DATABASE_URL" in config.SECRETS and not request.config.getoption("--base-url"):
            path = tmp_path_factory.mktemp("database") / "app.sqlite3"
            patch.setenv("DATABASE_URL", os.environ.get("TEST_DATABASE_URL") or f"sqlite:///{path}")
            # In this process: one of its own would import everything a second time.
            flask = FlaskGroup(create_app=create_app, load_dotenv=False)
            variables = {**VARIABLES, "FLASK_RUN_FROM_CLI": "true"}  # which it leaves behind
            upgraded = CliRunner().invoke(flask, ["db", "upgrade"], env=variables)
            assert upgraded.exit_code == 0, upgraded
        yield


@pytest.fixture
def key() -> str:
    """Return a key as the hook makes it."""
    return secrets.token_urlsafe(48)


@pytest.fixture
def make_app(key: str) -> MakeApp:
    """Return a function that builds an application with the given settings."""

    def make(**settings: object) -> Flask:
        app = create_app(**{**SETTINGS, "SECRET_KEY": key, **settings})
        app.test_client_class = Browser
        return app

    return make


@pytest.fixture
def development(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be what `flask run --debug` on loopback starts."""
    monkeypatch.setenv("FLASK_DEBUG", "1")
    with Context(run_command) as context:
        context.params["host"] = "localhost"
        yield


@pytest.fixture(scope="session")
def app() -> Flask:
    """Return an application in production; nobody changes it."""
    app = create_app(**{**SETTINGS, "SECRET_KEY": KEY})
    app.test_client_class = Browser
    return app


@pytest.fixture
def client(app: Flask) -> Iterator[FlaskClient]:
    """Yield a browser of a client that has not asked yet."""
    app.extensions["rate_limits"].reset()
    with app.test_client() as client:
        yield client


def api_token(client: FlaskClient, origin: str = ORIGIN) -> dict[str, str]:
    """Return the header that a front end on that origin sends with an unsafe request."""
    answer = client.get("/api/csrf", headers={"Origin": origin})
    return {"X-CSRFToken": answer.get_json()["csrf_token"]}


def csrf_token(page: TestResponse) -> str:
    """Return the token in the form of a page."""
    found = re.search(r'name="csrf_token"[^>]* value="([^"]+)"', page.text)
    assert found, page.text
    return found[1]


def changed(signed: str) -> Iterator[str]:
    """Yield what was signed with one character changed, for each of its characters."""
    for place, character in enumerate(signed):
        # In the highest bit: the lowest ones of the last character may mean nothing.
        other = BASE64[(BASE64.find(character) + 32) % 64]
        yield signed[:place] + other + signed[place + 1 :]


def set_cookie(response: TestResponse) -> str:
    """Return the one Set-Cookie header of an answer."""
    (cookie,) = response.headers.getlist("Set-Cookie")
    return cookie
