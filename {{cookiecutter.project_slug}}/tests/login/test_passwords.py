"""A password that is easy to guess is refused, any other is taken as it is."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from argon2 import PasswordHasher, extract_parameters
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from app.db import db
from app.login import accounts, passwords
from app.login.models import User
from tests.conftest import MakeApp
from tests.login.by_password import EMAIL, PASSWORD, hash_of, sign_in

LIST = Path(passwords.__file__).with_name("common_passwords.txt")


def weakness(password: str, email: str = EMAIL, site: str = "My Secure App") -> str | None:
    """Return why a password is refused."""
    return passwords.weakness(password, [site, "app.example.com", email])


@pytest.mark.parametrize(
    "password",
    [
        "seven quiet lanterns",
        "correct horse battery staple",
        "пароль из слов",
        "🦊🦊🦊🦊🦊🦊🦊🦊🦊🦊🦊🦊",
        "            ",
        "a" * 256,
        "lovelace likes engines",
        "my secure app qrtvwz",
        "secure app my my xyz",
    ],
)
def test_what_nobody_guesses_is_taken_whatever_it_is_made_of(password: str) -> None:
    assert weakness(password) is None


LENGTH = "Please use 12 to 256 characters."
COMMON = "This is one of the passwords that are tried first. Please use another."
OURS = "This is made of your name or ours. Please use another."


@pytest.mark.parametrize(
    ("password", "says"),
    [
        ("eleven char", LENGTH),
        ("", LENGTH),
        ("a" * 257, LENGTH),
        ("ﬃ" * 100, LENGTH),  # three letters each
        ("1qaz2wsx3edc", COMMON),
        ("1QAZ2wsx3edc", COMMON),
        ("\uff11qaz2wsx3edc", COMMON),
        ("my-secure-app-2026", OURS),
        ("MySecureApp!!!!", OURS),
        ("ada@example.com", OURS),
        ("example.com2026", OURS),
        ("Ada.Ada.Ada.Ada", OURS),
        ("appexampleapp12", OURS),
        ("my secure app qrtvw", OURS),
    ],
)
def test_what_is_tried_first_is_refused(password: str, says: str) -> None:
    assert weakness(password) == says


def test_the_common_passwords_would_pass_every_other_rule() -> None:
    lines = LIST.read_text().splitlines()
    common = [line for line in lines if not line.startswith("#")]
    assert len(common) >= 3_000
    assert len(set(common)) == len(common)
    passwords._common_passwords.cache_clear()
    assert passwords._common_passwords() == set(common)
    assert [line for line in common if not 12 <= len(line) <= 256 or line != line.casefold()] == []
    header = "\n".join(lines[: len(lines) - len(common)])
    assert "SPDX-License-Identifier: MPL-2.0" in header
    assert re.search(r"Made by: npm pack \S+@[\d.]+", header)


def test_the_hash_is_argon2id_at_owasps_parameters() -> None:
    parameters = extract_parameters(passwords.make_hash(PASSWORD))
    assert parameters.type.name == "ID"
    assert (parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (19_456, 2, 1)
    assert (parameters.salt_len, parameters.hash_len) == (16, 32)


def test_two_keyboards_write_one_password() -> None:
    stored = passwords.make_hash("caf\u00e9 caf\u00e9 caf\u00e9")
    assert passwords.is_right(stored, "cafe\u0301 cafe\u0301 cafe\u0301")
    assert not passwords.is_right(stored, "cafe cafe cafe")
    assert not passwords.is_right(stored, "Caf\u00e9 caf\u00e9 caf\u00e9")


def test_nobody_has_a_password() -> None:
    assert not passwords.is_right(None, "nobody has this password")


def test_nothing_is_cut_off() -> None:
    stored = passwords.make_hash("a" * 255 + "b")
    assert not passwords.is_right(stored, "a" * 255 + "c")
    assert not passwords.is_right(stored, "a" * 255 + "bb")
    assert not passwords.is_right(passwords.make_hash(""), "a" * 257)
    assert passwords.is_right(passwords.make_hash("a" * 256), "a" * 256)
    assert not passwords.is_right(passwords.make_hash("a" * 257), "a" * 257)


def test_whatever_is_too_long_is_not_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[bytes] = []

    def verify(_stored: str, password: bytes) -> bool:
        hashed.append(password)
        return True

    monkeypatch.setattr(passwords, "HASHER", SimpleNamespace(verify=verify))
    assert not passwords.is_right("stored", "a" * 1_000_000)
    assert hashed == [b""]


def test_a_password_is_verified_as_it_is_sent(client: FlaskClient, ada: int) -> None:
    for almost in (f"{PASSWORD} ", f" {PASSWORD}", PASSWORD.upper(), PASSWORD[:-1]):
        assert sign_in(client, password=almost).status_code == 401, almost
    assert sign_in(client).status_code == 303


def test_no_password_grows_too_old(app: Flask, client: FlaskClient, ada: int) -> None:
    with app.app_context():
        db.session.execute(update(User).values(created_at=0, signed_in_at=0))
        db.session.commit()
    assert sign_in(client).headers["Location"] == "/account"
    assert client.get("/account").status_code == 200


def test_an_account_holds_no_hint_and_no_age_of_its_password() -> None:
    columns = "id email email_key password_hash disabled created_at signed_in_at".split()
    assert [column.name for column in User.__table__.columns] == columns


def test_a_hash_is_made_anew_when_the_parameters_change(
    app: Flask, client: FlaskClient, ada: int
) -> None:
    old = PasswordHasher(time_cost=1, memory_cost=8_192, parallelism=1).hash(PASSWORD)
    with app.app_context():
        db.session.execute(update(User).values(password_hash=old))
        db.session.commit()
    assert sign_in(client, password="wrong" * 4).status_code == 401
    assert sign_in(client).status_code == 303
    with app.app_context():
        stored = db.session.scalars(select(User.password_hash)).one()
    assert extract_parameters(stored).memory_cost == 19_456
    assert passwords.is_right(stored, PASSWORD)


def test_a_check_of_ones_own_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaked(password: str, _names: object) -> str | None:
        return "leaked" if "lanterns" in password else None

    monkeypatch.setattr(passwords, "CHECKS", (*passwords.CHECKS, leaked))
    assert weakness(PASSWORD) == "leaked"


@pytest.mark.parametrize("email", [" ADA@Example.COM ", "ＡDA@example.com"])  # noqa: RUF001
def test_an_address_is_one_however_it_is_written(
    app: Flask, client: FlaskClient, ada: int, email: str
) -> None:
    assert sign_in(client, email).status_code == 303
    with app.app_context():
        assert accounts.create(email, PASSWORD) is None


def test_a_password_is_masked_wherever_it_is_typed(make_app: MakeApp, ada: int) -> None:
    client = make_app(LOGIN_REGISTER=True).test_client()
    sign_in(client)
    masked = {}
    for path in ("/login", "/register", "/account/password"):
        inputs = re.findall(r"<input[^>]*>", client.get(path).text)
        fields = [field for field in inputs if "password" in field]
        assert [field for field in fields if 'type="password"' not in field] == []
        masked[path] = len(fields)
    assert masked == {"/login": 1, "/register": 2, "/account/password": 3}


@pytest.mark.parametrize("path", ["/login", "/account/password"])
def test_a_password_manager_finds_its_fields(
    app: Flask, client: FlaskClient, ada: int, path: str
) -> None:
    if path != "/login":
        sign_in(client)
    page = client.get(path).text
    assert 'autocomplete="username"' in page
    assert 'autocomplete="current-password"' in page
    assert page.count('autocomplete="new-password"') == (0 if path == "/login" else 2)
    assert "onpaste" not in page
    assert "maxlength" not in page
    assert PASSWORD not in page
    assert hash_of(PASSWORD) not in page
