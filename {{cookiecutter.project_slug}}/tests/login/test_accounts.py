"""Whoever guesses learns nothing, is slow, and is seen."""

import json
import re
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Config, Flask
from flask.testing import FlaskClient
from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from app.db import db
from app.login import accounts, by_password, passwords
from app.login.models import LoginSession, User, key_of
from app.problem import Refusal
from tests.conftest import MakeApp, api_token, csrf_token
from tests.login.by_password import (
    EMAIL,
    NEW_PASSWORD,
    PASSWORD,
    add,
    change_password,
    hash_of,
    sign_in,
    sign_in_by_api,
    signed_in,
)
from tests.login.conftest import Change, is_signed_in, press, without_ids

SignIn = Callable[[FlaskClient, str, str], TestResponse]
WRONG = "eight quiet lanterns"
CHANGED = {"password_hash": "changed"}


class Counted:
    """argon2, counting how often it works."""

    def __init__(self) -> None:
        self.count = 0

    def hash(self, password: bytes) -> str:
        """Make a hash."""
        self.count += 1
        return self.real.hash(password)

    def verify(self, stored: str, password: bytes) -> bool:
        """Compute a hash and compare it."""
        self.count += 1
        return self.real.verify(stored, password)

    real = passwords.HASHER
    check_needs_rehash = real.check_needs_rehash


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Return what counts the hashes."""
    passwords.is_right(None, WRONG)  # nobody's hash is made once in a process
    counted = Counted()
    monkeypatch.setattr(passwords, "HASHER", counted)
    return counted


def disable(app: Flask) -> str:
    """Disable the account; return what was said."""
    done = app.test_cli_runner().invoke(args=["user", "disable", EMAIL])
    assert done.exit_code == 0
    return done.stderr


@pytest.mark.parametrize("how", [sign_in, sign_in_by_api], ids=["page", "api"])
def test_every_failure_says_the_same_after_the_same_work(
    make_app: MakeApp, ada: int, hashes: Counted, how: Callable[..., TestResponse]
) -> None:
    app = make_app(RATELIMIT_STRICT="100 per minute")
    attempts = [
        ("nobody@example.com", PASSWORD),
        (EMAIL, WRONG),
        (EMAIL, "x" * 1_000),
        (EMAIL, ""),
        ("", ""),
        ("no address \x00", WRONG),
        ("a" * 5_000, WRONG),
        ("DISABLED", PASSWORD),
    ]
    said = set()
    for email, password in attempts:
        if email == "DISABLED":
            disable(app)
            email = EMAIL
        hashes.count = 0
        answer = how(app.test_client(), email, password)
        assert hashes.count == 1, (email, password)
        assert answer.status_code == 401
        said.add(without_ids(answer))
    assert len(said) == 1
    assert accounts.Unauthenticated.description in said.pop()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": EMAIL},
        {"email": EMAIL, "password": None},
        {"email": EMAIL, "password": [PASSWORD]},
        {"email": {"$ne": ""}, "password": PASSWORD},
        {"email": 1, "password": 2},
    ],
)
def test_what_is_no_text_is_no_password(
    client: FlaskClient, ada: int, hashes: Counted, body: dict[str, object]
) -> None:
    answer = client.post("/api/auth/session", json=body, headers=api_token(client))
    assert (answer.status_code, hashes.count) == (422, 0)
    assert answer.get_json()["detail"] == "Give email and password, both as text."


def test_nothing_else_signs_anybody_in(make_app: MakeApp, ada: int) -> None:
    app = make_app(LOGIN_REGISTER=True)
    data = {"email": EMAIL, "password": PASSWORD, "username": EMAIL, "current_password": PASSWORD}
    data |= {"new_password": PASSWORD, "confirm_password": PASSWORD}
    ways_in = set()
    for rule in app.url_map.iter_rules():
        path = rule.rule.replace("<path:filename>", "style.css").replace("<int:number>", "1")
        for method in sorted((rule.methods or set()) - {"OPTIONS", "HEAD"}):
            for how in ("query_string", "data", "json")[: 1 if method == "GET" else 3]:
                app.extensions["rate_limits"].reset()
                client = app.test_client()
                sent: dict[str, Any] = {how: data, "headers": api_token(client)}
                client.open(path, method=method, **sent)
                if is_signed_in(client):
                    ways_in.add((method, path, how))
    assert ways_in == {("POST", "/login", "data"), ("POST", "/api/auth/session", "json")}


@pytest.mark.parametrize("text", ["\\ud800", "\\u0000", "'; DROP TABLE user_account; --"])
def test_odd_text_is_a_wrong_password(client: FlaskClient, ada: int, text: str) -> None:
    for email in (text, EMAIL):
        body = '{"email": "' + email + '", "password": "' + text + '"}'
        headers = {**api_token(client), "Content-Type": "application/json"}
        answer = client.post("/api/auth/session", data=body, headers=headers)
        assert answer.status_code == 401


def test_a_disabled_account_is_out_at_once(app: Flask, ada: int) -> None:
    client, other = signed_in(app), signed_in(app)
    disable(app)
    assert not is_signed_in(client)
    assert sign_in(client).status_code == 401
    app.test_cli_runner().invoke(args=["user", "disable", "--undo", EMAIL])
    assert not is_signed_in(other)
    assert sign_in(client).status_code == 303


def test_an_account_that_another_program_disables_is_out_as_well(app: Flask, ada: int) -> None:
    client = signed_in(app)
    with app.app_context():
        db.session.execute(update(User).values(disabled=True))
        db.session.commit()
    assert not is_signed_in(client)


@pytest.mark.parametrize("email", ["\x00@example.com", "\ud800", "a" * 255, "\ufdfa" * 15])
def test_what_can_be_nobodys_address_is_looked_for_as_none(email: str) -> None:
    assert key_of(email) == ""


def test_the_longest_address_has_a_key() -> None:
    assert key_of("X" * 250 + "@x.y") == "x" * 250 + "@x.y"
    assert key_of("X" * 251 + "@x.y") == ""


def test_page_and_api_share_the_limit_of_a_client(client: FlaskClient, ada: int) -> None:
    tried = [sign_in(client, password=WRONG) for _ in range(3)]
    tried += [sign_in_by_api(client, EMAIL, WRONG) for _ in range(3)]
    assert [answer.status_code for answer in tried] == [401] * 5 + [429]
    assert sign_in(client).status_code == 429
    assert client.get("/login").status_code == 200


def test_a_right_password_spends_no_limit(make_app: MakeApp, ada: int) -> None:
    app = make_app(RATELIMIT_STRICT="3 per minute", LOGIN_ACCOUNT_LIMIT="3 per hour")
    client = app.test_client()
    weak = {"new_password": "short"}
    for _ in range(2):
        assert sign_in(client, password=WRONG).status_code == 401
    for _ in range(4):
        assert sign_in(client).status_code == 303
        assert change_password(client, **weak).status_code == 422
    stranger = app.test_client()
    assert sign_in(stranger, password=WRONG).status_code == 401
    assert sign_in(stranger).status_code == 429


def test_a_right_password_is_a_request_like_any_other(make_app: MakeApp, ada: int) -> None:
    app = make_app(RATELIMIT_DEFAULT="6 per minute")
    assert [sign_in(app.test_client()).status_code for _ in range(3)] == [303] * 3
    assert app.test_client().get("/login").status_code == 429


def test_a_right_password_brings_no_wrong_one_back(make_app: MakeApp, ada: int) -> None:
    app = make_app(RATELIMIT_STRICT="100 per minute", LOGIN_ACCOUNT_LIMIT="4 per hour")
    add(app, "eve@example.com")
    tried = []
    for _ in range(6):
        client = app.test_client()
        sign_in(client, "eve@example.com")
        tried.append(sign_in(client, password=WRONG).status_code)
        sign_in(app.test_client())  # the owner, as long as there is room
    assert tried == [401] * 4 + [429] * 2


@pytest.mark.parametrize("place", ["find", "_is_proved"])
def test_what_the_database_has_not_compared_is_no_guess(
    make_app: MakeApp, ada: int, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def gone(*_: object) -> None:
        raise OperationalError("SELECT", None, ConnectionError())

    app = make_app(RATELIMIT_STRICT="1 per minute", LOGIN_ACCOUNT_LIMIT="1 per hour")
    with monkeypatch.context() as away:
        away.setattr(accounts, place, gone)
        assert [sign_in(app.test_client()).status_code for _ in range(3)] == [503] * 3
    assert sign_in(app.test_client()).status_code == 303


def test_whoever_could_not_be_signed_in_keeps_the_session_and_the_form(
    app: Flask, ada: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(session: Session) -> None:
        session.rollback()
        raise OperationalError("COMMIT", None, ConnectionError())

    client = signed_in(app)
    token = csrf_token(client.get("/login"))
    data = {"email": EMAIL, "password": PASSWORD, "csrf_token": token}
    with monkeypatch.context() as away:
        away.setattr(Session, "commit", gone)
        assert client.post("/login", data=data).status_code == 503
    assert is_signed_in(client)
    assert client.post("/login", data=data).status_code == 303


def test_an_account_is_guessed_at_from_everywhere_together(
    make_app: MakeApp, ada: int, capfd: pytest.CaptureFixture[str]
) -> None:
    app = make_app(LOGIN_ACCOUNT_LIMIT="4 per hour")

    def guess(number: int, email: str) -> int:
        headers = {"X-Forwarded-For": f"198.51.100.{number}"}
        return sign_in(app.test_client(), email, WRONG, headers=headers).status_code

    spellings = [EMAIL, "ADA@example.com", " ada@EXAMPLE.com", EMAIL, EMAIL, "Ada@example.com"]
    tried = [guess(number, email) for number, email in enumerate(spellings)]
    assert tried == [401] * 4 + [429] * 2
    assert guess(9, "nobody@example.com") == 401
    capfd.readouterr()
    answer = sign_in(app.test_client())
    assert answer.status_code == 429
    assert json.loads(capfd.readouterr().err)["rule"] == "rate_limits:account"
    assert 3_500 < int(answer.headers["Retry-After"]) <= 3_600


def test_parallel_guesses_race_no_limit(make_app: MakeApp, ada: int, hashes: Counted) -> None:
    app = make_app(RATELIMIT_STRICT="100 per minute", LOGIN_ACCOUNT_LIMIT="5 per hour")
    forms = []
    for number in range(20):
        client = app.test_client()
        headers = {"X-Forwarded-For": f"198.51.100.{number}"}
        token = csrf_token(client.get("/login", headers=headers))
        forms.append((client, headers, token))
    barrier, statuses = threading.Barrier(20), []

    def guess(client: FlaskClient, headers: dict[str, str], token: str) -> None:
        data = {"email": EMAIL, "password": WRONG, "csrf_token": token}
        barrier.wait(10)
        statuses.append(client.post("/login", data=data, headers=headers).status_code)

    threads = [threading.Thread(target=guess, args=form) for form in forms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(statuses) == [401] * 5 + [429] * 15
    assert hashes.count == 5


@pytest.mark.parametrize("how", [sign_in, sign_in_by_api], ids=["page", "api"])
def test_an_account_of_ones_own_brings_no_more_guesses(
    make_app: MakeApp, ada: int, how: Callable[..., TestResponse]
) -> None:
    app = make_app(RATELIMIT_STRICT="3 per minute")
    add(app, "eve@example.com")
    eve, nobody = signed_in(app, "eve@example.com"), app.test_client()
    tried = [how(client, EMAIL, WRONG).status_code for client in (eve, nobody, eve, nobody)]
    assert tried == [401, 401, 401, 429]


@pytest.mark.parametrize("limit", ["LOGIN_ACCOUNT_LIMIT", "RATELIMIT_STRICT"])
def test_guesses_at_the_current_password_are_guesses(
    make_app: MakeApp, ada: int, limit: str
) -> None:
    client = signed_in(make_app(**{limit: "2 per hour"}))
    data = {
        "current_password": WRONG,
        "new_password": NEW_PASSWORD,
        "confirm_password": NEW_PASSWORD,
        "csrf_token": csrf_token(client.get("/account/password")),
    }
    tried = [client.post("/account/password", data=data).status_code for _ in range(3)]
    assert tried == [422, 422, 429]


@pytest.mark.parametrize("values", [CHANGED, {"disabled": True}], ids=["password", "disabled"])
def test_what_changes_while_a_password_is_verified_counts(
    make_app: MakeApp, ada: int, monkeypatch: pytest.MonkeyPatch, values: dict[str, object]
) -> None:
    app = make_app()

    def slowly(stored: str | None, password: str) -> bool:
        with app.app_context():
            db.session.execute(update(User).values(values))
            db.session.commit()
        return right(stored, password)

    right, client, other = passwords.is_right, app.test_client(), signed_in(app)
    page = other.get("/account/password")
    monkeypatch.setattr(passwords, "is_right", slowly)
    assert sign_in(client).status_code == 401
    assert not is_signed_in(client)
    with app.app_context():
        db.session.execute(update(User).values(password_hash=hash_of(PASSWORD), disabled=False))
        db.session.commit()
    sign_back_in = {"current_password": PASSWORD, "csrf_token": csrf_token(page)}
    new = {"new_password": NEW_PASSWORD, "confirm_password": NEW_PASSWORD}
    answer = other.post("/account/password", data={**sign_back_in, **new})
    assert answer.status_code == 303
    assert "Your password has changed" not in other.get("/login").text
    with app.app_context():
        stored = db.session.scalars(select(User.password_hash)).one()
    assert not right(stored, NEW_PASSWORD)


def test_what_changes_before_a_new_password_signs_in_counts(
    app: Flask, ada: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def then(user: User, password: str, *still: ColumnElement[bool]) -> int | None:
        ended = stored(user, password, *still)
        with app.app_context():
            db.session.execute(update(User).values(CHANGED))
            db.session.commit()
        return ended

    stored, client = accounts.set_password, signed_in(app)
    monkeypatch.setattr(accounts, "set_password", then)
    change_password(client)
    assert not is_signed_in(client)


@pytest.mark.parametrize("how", ["page", "command"])
def test_a_new_password_is_of_one_account(app: Flask, ada: int, how: str) -> None:
    add(app, "eve@example.com")  # of the same hash, as it happens
    client, eve = signed_in(app), signed_in(app, "eve@example.com")
    if how == "page":
        assert change_password(client).headers["Location"] == "/account"
        assert "Your password has changed" in client.get("/account").text
    else:
        words = ["user", "password", EMAIL]
        done = app.test_cli_runner().invoke(args=words, input=f"{NEW_PASSWORD}\n")
        assert done.exit_code == 0
    assert is_signed_in(eve)
    assert sign_in(app.test_client(), "eve@example.com").status_code == 303
    assert sign_in(app.test_client(), password=NEW_PASSWORD).status_code == 303


def test_after_an_account_that_could_not_be_opened_the_next_can(app: Flask, ada: int) -> None:
    with app.app_context():
        assert accounts.create(EMAIL.upper(), PASSWORD) is None
        assert not db.session.in_transaction()
        assert accounts.create("", PASSWORD) is None
        assert accounts.create("eve@example.com", PASSWORD)


def test_a_password_that_is_not_stored_holds_nothing(app: Flask, ada: int) -> None:
    with app.app_context():
        user = db.session.get_one(User, ada)
        assert accounts.set_password(user, NEW_PASSWORD, User.disabled.is_(True)) is None
        assert not db.session.in_transaction()


def test_the_name_of_a_host_is_no_password(make_app: MakeApp) -> None:
    app = make_app(TRUSTED_HOSTS=["quietlanterns.example"])
    with app.app_context():
        assert accounts.weakness("quiet-lanterns-1", EMAIL)
        assert accounts.weakness("ada@example.com", EMAIL)
        assert accounts.weakness(NEW_PASSWORD, EMAIL) is None
    app.config["TRUSTED_HOSTS"] = None  # as in development
    with app.app_context():
        assert accounts.weakness("quiet-lanterns-1", EMAIL) is None


def test_an_account_that_goes_while_its_password_is_verified_is_none(
    app: Flask, client: FlaskClient, ada: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(stored: str | None, password: str) -> bool:
        with app.app_context():
            db.session.execute(delete(User))
            db.session.commit()
        return right(stored, password)

    right = passwords.is_right
    monkeypatch.setattr(passwords, "is_right", slowly)
    assert sign_in(client).status_code == 401


@pytest.mark.parametrize("email", ["", "\ufdfa" * 20 + "@example.com"])
def test_nobody_has_an_address_that_cannot_be_kept(make_app: MakeApp, ada: int, email: str) -> None:
    client = make_app(LOGIN_REGISTER=True).test_client()
    register(client, email)
    assert sign_in(client, "").status_code == 401
    assert sign_in(client, email).status_code == 401
    with client.application.app_context():
        assert db.session.scalars(select(User.email)).all() == [EMAIL]


def test_a_new_hash_does_not_undo_a_new_password(
    app: Flask, client: FlaskClient, ada: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outdated(_stored: str) -> bool:
        with app.app_context():
            db.session.execute(update(User).values(CHANGED))
            db.session.commit()
        return True

    monkeypatch.setattr(passwords, "is_outdated", outdated)
    sign_in(client)
    with app.app_context():
        assert db.session.scalars(select(User.password_hash)).one() == "changed"


def register(client: FlaskClient, email: str, password: str = PASSWORD) -> SimpleNamespace:
    """Fill in the form and send it."""
    data = {
        "email": email,
        "new_password": password,
        "confirm_password": password,
        "csrf_token": csrf_token(client.get("/contact")),
    }
    answer = client.post("/register", data=data, follow_redirects=True)
    return SimpleNamespace(status=answer.status_code, said=without_ids(answer), page=answer.text)


def test_nobody_registers_where_registration_is_off(client: FlaskClient) -> None:
    assert client.get("/register").status_code == 404
    assert register(client, "eve@example.com").status == 404
    assert "/register" not in client.get("/login").text


def test_registration_tells_nobody_who_has_an_account(
    make_app: MakeApp, ada: int, hashes: Counted
) -> None:
    app = make_app(LOGIN_REGISTER=True)
    client = app.test_client()
    assert 'href="/register"' in client.get("/login").text
    new, work = register(client, "eve@example.com"), hashes.count
    taken = register(client, " ADA@example.com")
    assert (work, hashes.count) == (1, 2)
    assert new.status == taken.status == 200
    assert new.said == taken.said
    assert sign_in(client, "eve@example.com").status_code == 303
    assert sign_in(client).status_code == 303  # as before


@pytest.mark.parametrize(
    ("email", "password", "says"),
    [
        ("no address", PASSWORD, "does not look like"),
        ("eve@example.com", "short", "12 to 256"),
        ("eve@example.com", "eve.eve.eve.eve", "your name or ours"),
    ],
)
def test_registration_takes_no_bad_answer(
    make_app: MakeApp, email: str, password: str, says: str
) -> None:
    answer = register(make_app(LOGIN_REGISTER=True).test_client(), email, password)
    assert answer.status == 422
    assert says in answer.page


def texts(page: TestResponse, tag: str) -> list[str]:
    """Return what a page says in the elements that begin so, one by one."""
    return re.findall(f"<{tag}[^>]*>([^<]*)<", page.text)


@pytest.mark.parametrize(
    ("path", "labels"),
    [
        ("/login", ["Email address", "Password"]),
        ("/register", ["Email address", "Password", "The password again"]),
        ("/account/password", ["Current password", "New password", "The new one again"]),
    ],
)
def test_a_form_says_what_it_asks_for_and_finds_no_fault_yet(
    make_app: MakeApp, ada: int, path: str, labels: list[str]
) -> None:
    page = signed_in(make_app(LOGIN_REGISTER=True)).get(path)
    assert page.status_code == 200
    assert texts(page, "label") == labels
    assert texts(page, 'p class="(error|notice)') == []
    assert "autofocus" not in page.text


NOTHING = {"email": "", "current_password": "", "new_password": "", "confirm_password": ""}


@pytest.mark.parametrize(
    ("path", "given", "says"),
    [
        ("/login", {}, []),
        ("/register", {}, ["Please give your address.", "Please choose one."]),
        ("/register", NOTHING, ["Please give your address.", "Please choose one."]),
        (
            "/register",
            {"email": "no address", "new_password": NEW_PASSWORD, "confirm_password": PASSWORD},
            ["This does not look like an email address.", "These two are not the same."],
        ),
        ("/account/password", {}, ["Please give it.", "Please choose one."]),
        ("/account/password", NOTHING, ["Please give it.", "Please choose one."]),
        (
            "/account/password",
            {"current_password": WRONG, "new_password": NEW_PASSWORD},
            ["This is not your current password.", "These two are not the same."],
        ),
        (
            "/account/password",
            {"current_password": PASSWORD, "new_password": "short", "confirm_password": "short"},
            ["Please use 12 to 256 characters."],
        ),
    ],
)
def test_a_form_says_what_is_wrong_with_it(
    make_app: MakeApp, ada: int, path: str, given: dict[str, str], says: list[str]
) -> None:
    client = signed_in(make_app(LOGIN_REGISTER=True))
    data = {**given, "csrf_token": csrf_token(client.get(path))}
    page = client.post(path, data=data)
    assert page.status_code == (401 if path == "/login" else 422)
    assert texts(page, 'p class="error"') == says
    assert "autofocus" in page.text


def test_what_was_done_is_said_on_the_next_page(make_app: MakeApp, ada: int) -> None:
    client = make_app(LOGIN_REGISTER=True).test_client()
    answer = register(client, "eve@example.com")
    assert "If this address had no account, it has one now. Please sign in.<" in answer.said
    sign_in(client)
    assert change_password(client).headers["Location"] == "/account"
    said = texts(client.get("/account"), 'p class="notice"')
    assert said == ["Your password has changed, and every other session has ended."]


def test_no_field_changes_what_it_is_not_for(make_app: MakeApp, ada: int) -> None:
    app = make_app(LOGIN_REGISTER=True)
    more = {"id": "1", "user": "1", "password_hash": "x", "disabled": "1", "email_key": "eve"}
    client = signed_in(app)
    data = {
        **more,
        "email": "mallory@example.com",
        "current_password": PASSWORD,
        "new_password": NEW_PASSWORD,
        "confirm_password": NEW_PASSWORD,
        "csrf_token": csrf_token(client.get("/account/password")),
    }
    assert client.post("/account/password", data=data).status_code == 303
    data |= {"email": "eve@example.com", "csrf_token": csrf_token(client.get("/register"))}
    assert client.post("/register", data=data).status_code == 303
    with app.app_context():
        users = db.session.scalars(select(User).order_by(User.id)).all()
        assert [(user.email, user.email_key) for user in users] == [
            (EMAIL, EMAIL),
            ("eve@example.com", "eve@example.com"),
        ]
        assert users[0].id == ada
        assert not any(user.disabled for user in users)
        assert all(passwords.is_right(user.password_hash, NEW_PASSWORD) for user in users)


def test_registration_is_strictly_limited(make_app: MakeApp) -> None:
    app = make_app(LOGIN_REGISTER=True, RATELIMIT_STRICT="2 per minute")
    add(app, EMAIL)
    somebody, nobody = signed_in(app), app.test_client()  # an account opens no more of them
    tried = [register(client, "x", "x").status for client in (somebody, nobody, somebody)]
    assert tried == [422, 422, 429]


@pytest.mark.parametrize("path", ["/account/password", "/register"])
def test_the_log_names_the_limit_that_is_spent(
    make_app: MakeApp, ada: int, capfd: pytest.CaptureFixture[str], path: str
) -> None:
    client = signed_in(make_app(LOGIN_REGISTER=True, RATELIMIT_STRICT="1 per minute"))
    data = {"csrf_token": csrf_token(client.get(path))}
    assert [client.post(path, data=data).status_code for _ in range(2)] == [422, 429]
    line = json.loads(capfd.readouterr().err.splitlines()[-1])
    assert line["rule"] == f"rate_limits:{path.rpartition('/')[2]}"


def types(app: Flask, *words: str, given: str = "") -> tuple[int, str]:
    """Type a command after `flask user`; return its status and what it says, but for the log."""
    result = app.test_cli_runner().invoke(args=["user", *words], input=given)
    lines = [line for line in result.output.splitlines() if not line.startswith("{")]
    return result.exit_code, "\n".join(lines)


def test_an_administrator_looks_after_the_accounts(app: Flask, client: FlaskClient) -> None:
    assert types(app, "create", EMAIL, given=f"{PASSWORD}\n") == (0, f"{EMAIL} can sign in.")
    assert types(app, "list") == (0, EMAIL)
    assert sign_in(client).status_code == 303
    assert types(app, "sessions", EMAIL)[1].startswith(f"{EMAIL}  20")
    assert types(app, "password", EMAIL, given=f"{NEW_PASSWORD}\n") == (
        0,
        f"{EMAIL} has a new password; 1 sessions have ended.",
    )
    assert not is_signed_in(client)
    assert sign_in(client, password=NEW_PASSWORD).status_code == 303
    assert types(app, "disable", EMAIL) == (0, f"{EMAIL} cannot sign in; 1 sessions have ended.")
    assert types(app, "list") == (0, f"{EMAIL}  (disabled)")
    assert types(app, "disable", EMAIL, "--undo") == (0, f"{EMAIL} can sign in again.")
    assert types(app, "list") == (0, EMAIL)
    assert sign_in(client, password=NEW_PASSWORD).status_code == 303


@pytest.mark.parametrize(
    ("words", "given", "says"),
    [
        (["create", "Ada@Example.com"], PASSWORD, "Ada@Example.com has an account already."),
        (["create", EMAIL], "short", f"{EMAIL} has an account already."),
        (["create", "no address"], PASSWORD, "'no address' is no email address: "),
        # Each of these counts for four letters.
        (["create", "\N{ROMAN NUMERAL EIGHT}" * 62 + "@example.com"], PASSWORD, "is too long."),
        (["create", "eve@example.com"], "short", "Please use 12 to 256 characters."),
        (["password", EMAIL], "short", "Please use 12 to 256 characters."),
        (["disable", "nobody@example.com"], "", "nobody@example.com has no account."),
    ],
)
def test_an_administrator_is_told_what_cannot_be_done(
    app: Flask, ada: int, words: list[str], given: str, says: str
) -> None:
    status, said = types(app, *words, given=f"{given}\n")
    assert status == 1
    assert said.startswith("Error: ")
    assert says in said
    assert types(app, "list") == (0, EMAIL)


def test_an_administrator_types_a_password_twice_and_unseen(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(by_password, "sys", terminal)
    status, said = types(app, "create", EMAIL, given=f"{PASSWORD}\n{PASSWORD}\n")
    assert status == 0
    assert said == f"Password: \nRepeat for confirmation: \n{EMAIL} can sign in."
    assert sign_in(client).status_code == 303


@pytest.mark.parametrize("password", [f"{PASSWORD} ", f"{PASSWORD}X"])
def test_a_password_from_a_pipe_ends_where_its_line_does(
    app: Flask, client: FlaskClient, password: str
) -> None:
    assert types(app, "create", EMAIL, given=f"{password}\r\nand more\n")[0] == 0
    assert sign_in(client, password=password).status_code == 303


def test_accounts_and_their_sessions_are_listed_in_order(
    app: Flask, ada: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = ("Carl@example.com", "bob@example.com")
    for email in others:
        add(app, email)
    assert types(app, "list") == (0, f"{EMAIL}\nbob@example.com\nCarl@example.com")
    moments = (3_000_000_060, 3_000_000_120, 3_000_000_000)
    for moment, email in zip(moments, (others[0], EMAIL, EMAIL), strict=True):
        monkeypatch.setattr("app.login.models.time.time", lambda moment=moment: float(moment))
        signed_in(app, email, agent=f"Firefox {moment % 1_000}")
    listed = [line.split("  ") for line in types(app, "sessions")[1].splitlines()]
    assert [(row[0], row[1], row[3]) for row in listed] == [
        (EMAIL, "2065-01-24 05:20 UTC", "Firefox 0"),
        (EMAIL, "2065-01-24 05:22 UTC", "Firefox 120"),
        (others[0], "2065-01-24 05:21 UTC", "Firefox 60"),
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "Look after the accounts."),
        (["disable"], "--undo Let it sign in again."),
        (["sessions"], "--forget-expired Delete those that are over; from cron."),
        (["sessions"], "--end End those that are listed."),
    ],
)
def test_every_command_says_what_it_does(app: Flask, words: list[str], says: str) -> None:
    status, said = types(app, *words, "--help")
    assert status == 0
    assert says in [" ".join(line.split()) for line in said.splitlines()]


def test_an_administrator_ends_the_sessions_of_one_or_of_all(app: Flask, ada: int) -> None:
    others = add(app, "eve@example.com")
    first, second, eve = signed_in(app), signed_in(app), signed_in(app, "eve@example.com")
    for words, alive, ended in (
        ([EMAIL], [False, False, True], [(ada, 2)]),
        ([], [False, False, False], [(others, 1)]),
    ):
        said = app.test_cli_runner().invoke(args=["user", "sessions", *words, "--end"])
        assert said.exit_code == 0
        assert [is_signed_in(client) for client in (first, second, eve)] == alive
        lines = [json.loads(line) for line in said.output.splitlines() if line.startswith("{")]
        assert [line["event"] for line in lines] == ["sessions-ended"]
        assert [(line["user"], line["sessions_ended"]) for line in lines] == ended
    assert "1 sessions have ended." in said.output
    assert sign_in(first).status_code == 303  # and the account is as it was


def test_every_event_is_one_line_and_tells_no_secret(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str]
) -> None:
    app = make_app(LOGIN_REGISTER=True, RATELIMIT_STRICT="100 per minute")

    client = app.test_client()
    register(client, EMAIL)
    sign_in(client, password=WRONG)
    sign_in(client, "nobody@example.com")
    for browser in (client, app.test_client(), app.test_client()):
        sign_in(browser)
    with app.app_context():
        last = db.session.scalar(select(func.max(LoginSession.id)))
    press(client, f"/account/sessions/{last}/end")
    press(client, "/account/sessions/end")
    token = csrf_token(client.get("/account/password"))
    fields = {"new_password": NEW_PASSWORD, "confirm_password": NEW_PASSWORD, "csrf_token": token}
    client.post("/account/password", data={**fields, "current_password": WRONG})
    client.post("/account/password", data={**fields, "current_password": PASSWORD})
    press(client, "/logout", "/")
    said = capfd.readouterr().err + disable(app)
    events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert [event["event"] for event in events] == [
        "account-created",
        "login-failed",
        "login-failed",
        "login",
        "login",
        "login",
        "session-ended",
        "sessions-ended",
        "password-refused",
        "password-changed",
        "logout",
        "account-disabled",
    ]
    with app.app_context():
        ada = db.session.scalars(select(User.id)).one()
    assert [event.get("user") for event in events] == [ada, ada, None, *[ada] * 9]
    assert events[9]["sessions_ended"] == 1
    assert events[-1]["client"] == "command line"
    text = json.dumps(events)
    for secret in (PASSWORD, NEW_PASSWORD, WRONG, token, EMAIL, hash_of(PASSWORD)):
        assert secret not in text


@pytest.mark.parametrize("way", [sign_in, sign_in_by_api])
def test_a_wrong_password_is_one_line_of_the_log(
    client: FlaskClient, ada: int, capfd: pytest.CaptureFixture[str], way: SignIn
) -> None:
    assert way(client, EMAIL, WRONG).status_code == 401
    (line,) = map(json.loads, capfd.readouterr().err.splitlines())
    assert (line["event"], line["user"]) == ("login-failed", ada)


@pytest.mark.parametrize(("moved", "why"), [("seen_at", "unused"), ("created_at", "lifetime")])
def test_the_end_of_a_session_is_an_event(
    app: Flask, ada: int, capfd: pytest.CaptureFixture[str], change: Change, moved: str, why: str
) -> None:
    client = signed_in(app)
    change(**{moved: -1_209_600})
    capfd.readouterr()
    assert not is_signed_in(client)
    line, refused = map(json.loads, capfd.readouterr().err.splitlines())
    assert refused["event"] == "access-refused"
    assert (line["event"], line["user"], line["why"]) == ("session-over", ada, why)


def test_development_signs_in_and_changes_a_password(
    make_app: MakeApp, ada: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.development.running", lambda: True)
    monkeypatch.setattr("app.development.problems", lambda: iter(()))
    client, here = make_app().test_client(), {"base_url": "http://localhost:5000"}

    def send(path: str, **fields: str) -> int:
        data = {**fields, "csrf_token": csrf_token(client.get(path, **here))}
        return client.post(path, data=data, origin=here["base_url"], **here).status_code

    assert send("/login", email=EMAIL, password=PASSWORD) == 303
    changed = {"new_password": NEW_PASSWORD, "confirm_password": NEW_PASSWORD}
    assert send("/account/password", current_password=PASSWORD, **changed) == 303
    assert client.get("/api/account", **here).get_json() == {"email": EMAIL}


@pytest.mark.parametrize(
    ("limit", "problems"),
    [
        ("20 per hour", []),
        ("1 per hour", []),
        ("100 per hour", []),
        ("1000 per minute; 100 per hour", []),
        ("101 per hour", ["login-account-limit-high"]),
        ("72001 per month", ["login-account-limit-high"]),
        ("often", ["login-account-limit"]),
        ("", ["login-account-limit"]),
        ("0 per hour", ["login-account-limit"]),
        ("5 per hour; 0 per day", ["login-account-limit"]),
    ],
)
def test_a_limit_of_guesses_is_one_and_low(app: Flask, limit: str, problems: list[str]) -> None:
    found = by_password.problems(Config("", {**app.config, "LOGIN_ACCOUNT_LIMIT": limit}))
    assert [problem.id for problem in found] == problems


def test_nobody_registers_and_guesses_often_unless_a_setting_says_so() -> None:
    defaults = {"LOGIN_ACCOUNT_LIMIT": "20 per hour", "LOGIN_REGISTER": False}
    assert defaults == by_password.SETTINGS


@pytest.mark.parametrize("limit", ["often", "0 per hour"])
def test_a_limit_of_guesses_that_is_none_is_refused(make_app: MakeApp, limit: str) -> None:
    with pytest.raises(Refusal, match="login-account-limit"):
        make_app(LOGIN_ACCOUNT_LIMIT=limit)


def test_next_is_kept_while_the_password_is_wrong(client: FlaskClient, ada: int) -> None:
    page = sign_in(client, password=WRONG, path="/login?next=/contact")
    assert 'action="/login?next=%2Fcontact"' in page.text
    assert sign_in(client, path="/login?next=/contact").headers["Location"] == "/contact"
