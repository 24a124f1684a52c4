"""What every refusal of a sign-in has in common, whoever is at fault, and what follows it."""

import json
import time
from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete, func, select
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

from app import errors
from app.db import Model, db
from app.login.models import EndedSession, LoginSession, LogoutToken, User
from app.login.oidc import NotProved
from tests.login.by_oidc import come_back, provider
from tests.login.conftest import is_signed_in, without_ids
from tests.production import ORIGIN
from tests.provider import AGAIN, Provider

EVIL = "<script>evil</script>"  # what a provider or an attacker would like to have in a page


def begun_anew(app: Flask) -> Iterator[Provider]:
    """Yield the provider, to be given its fault; before and after, it has none."""
    yield begin_anew(app)
    begin_anew(app)


def begin_anew(app: Flask) -> Provider:
    """Return the provider, honest again, of an application that has not asked it anything yet."""
    there = provider()
    there.behave()
    app.extensions["oidc"].forget()
    vars(app.extensions["oidc"]).pop("_reread_at", None)
    app.extensions["rate_limits"].reset()
    with app.app_context():
        for table in (EndedSession, LogoutToken):
            db.session.execute(delete(table))
        db.session.commit()
    return there


def now() -> int:
    """Return the time in whole seconds of the epoch."""
    return int(time.time())


def attempt(client: FlaskClient, path: str = "/login") -> TestResponse:
    """Sign in as whoever the provider knows; return the last answer, however far it went."""
    sent = client.get(path)
    return come_back(client, sent) if sent.status_code == 303 else sent


def count(app: Flask, table: type[Model] = LoginSession) -> int:
    """Return how many rows a table has."""
    with app.app_context():
        return int(db.session.scalar(select(func.count()).select_from(table)) or 0)


def page_of(app: Flask, kind: type[HTTPException]) -> str:
    """Return the ordinary page of an error, without ids."""
    with app.test_request_context(base_url=ORIGIN):
        page = errors.answer(kind()).get_data(as_text=True)
    return page.replace("<code>-</code>", "<code></code>")


def assert_refused(
    app: Flask,
    capfd: pytest.CaptureFixture[str],
    answer: TestResponse,
    kind: type[HTTPException],
    rule: str,
) -> str:
    """Look at a refusal: its plain page, and its one line of the log, whose reason is returned."""
    output = capfd.readouterr().err
    assert answer.status_code == kind.code, output
    assert answer.mimetype == "text/html"
    assert "no-store" in answer.headers["Cache-Control"]
    assert without_ids(answer) == page_of(app, kind)
    (line,) = map(json.loads, output.splitlines())  # whatever is no line of the security log fails
    assert line["rule"] == f"oidc:{rule}"
    assert line["event"] == ("logout-refused" if rule == "logout-token" else "login-failed")
    assert line["request_id"] == answer.headers["X-Request-ID"]
    assert "evil" not in output
    return str(line["why"])


def mend(there: Provider) -> None:
    """Have the provider be honest again, with the key that it has."""
    key, kid = there.key, there.kid
    there.behave()
    there.rotate(key, kid)


def assert_nobody(app: Flask, client: FlaskClient) -> None:
    """See that nobody is signed in, and that whoever means well is, at the first try."""
    assert not is_signed_in(client)
    assert count(app) == 0
    mend(provider())
    assert attempt(client).status_code == 303
    assert is_signed_in(client)
    assert count(app) == 1


def assert_signs_nobody_in(
    app: Flask, there: Provider, capfd: pytest.CaptureFixture[str], rule: str
) -> str:
    """Sign in at a provider that is at fault: see it refused, and work right after; return why."""
    client = app.test_client()
    why = assert_refused(app, capfd, attempt(client), NotProved, rule)
    assert not any(asked.path.startswith(AGAIN) for asked in there.asked)  # where redirects lead
    assert len(there.asked) <= 6  # nor is anything tried over and over
    assert count(app, User) == 0
    assert_nobody(app, client)
    return why


def enters(app: Flask) -> bool:
    """Return whether a sign-in in a new browser does work."""
    client = app.test_client()
    return attempt(client).status_code == 303 and is_signed_in(client)


def published(there: Provider) -> dict[str, object]:
    """Return the one key that the provider publishes, to be changed."""
    (key,) = there.keys
    assert isinstance(key, dict)
    return key
