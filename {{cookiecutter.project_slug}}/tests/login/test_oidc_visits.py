"""A visit counts once, in the browser that began it, for whom the provider has proved."""

import json
import random
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import pytest
from flask import Config, Flask
from flask.testing import FlaskClient
from sqlalchemy import event, select
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

from app import config, env_file
from app.db import db
from app.login import by_oidc
from app.login.models import LoginSession, User
from app.login.oidc import NotAllowed, NotCompleted, NotProved
from app.problem import Refusal
from tests.conftest import MakeApp
from tests.login.by_oidc import come_back
from tests.login.conftest import COOKIE, Change, is_signed_in, press, stolen
from tests.login.refusals import (
    EVIL,
    assert_nobody,
    assert_refused,
    attempt,
    begun_anew,
    count,
    now,
    page_of,
)
from tests.production import HOST, ORIGIN, PROVIDER, VARIABLES
from tests.provider import REMOVED, Provider
from tests.servers import ask, copy, free_port, served

Log = pytest.CaptureFixture[str]
BITS = 5.9  # of a letter or digit that is drawn


@pytest.fixture
def there(app: Flask) -> Iterator[Provider]:
    """Return the provider, to be given its fault."""
    yield from begun_anew(app)


def sent_with(sent: TestResponse) -> dict[str, str]:
    """Return what an answer of /login sends a browser to the provider with."""
    return dict(parse_qsl(urlsplit(sent.headers["Location"]).query, strict_parsing=True))


def held(app: Flask, client: FlaskClient) -> dict[str, object]:
    """Return what the session cookie of a browser holds: whoever has it can read that."""
    signer = app.session_interface.get_signing_serializer(app)  # type: ignore[attr-defined]
    content: dict[str, object] = signer.loads(stolen(client))
    return content


def users(app: Flask) -> list[User]:
    """Return the accounts, the first one first."""
    with app.app_context():
        return list(db.session.scalars(select(User).order_by(User.id)))


# -- The way there


def test_what_is_asked_of_the_provider(app: Flask, there: Provider) -> None:
    client = app.test_client()
    sent = client.get("/login?next=/contact")
    assert sent.headers["Location"].startswith(f"{there.issuer}/authorize?")
    query = parse_qs(urlsplit(sent.headers["Location"]).query, keep_blank_values=True)
    assert all(len(values) == 1 for values in query.values())
    asked = {name: value for name, (value,) in query.items()}
    for name, bits in (("state", 128), ("nonce", 128), ("code_challenge", 256)):
        drawn = asked.pop(name)
        assert re.fullmatch(r"[\w-]+", drawn)
        assert len(drawn) * BITS >= bits - 4, name
    assert asked == {
        "response_type": "code",
        "client_id": PROVIDER["APP_OIDC_CLIENT_ID"],
        "redirect_uri": f"{ORIGIN}/auth/callback",
        "scope": "openid email",
        "code_challenge_method": "S256",
    }
    assert come_back(client, sent).headers["Location"] == "/contact"
    (exchanged,) = there.requests("token")
    assert exchanged.method == "POST"
    assert set(exchanged.form) == {"grant_type", "code", "redirect_uri", "code_verifier"}
    assert exchanged.form["redirect_uri"] == asked["redirect_uri"]
    assert len(exchanged.form["code_verifier"]) >= 43  # RFC 7636 4.1
    assert there.client_secret not in str(exchanged.form)


def test_nothing_is_drawn_twice(app: Flask, there: Provider) -> None:
    client = app.test_client()
    drawn = [sent_with(client.get("/login")) for _ in range(3)]
    for name in ("state", "nonce", "code_challenge"):
        assert len({asked[name] for asked in drawn}) == 3


def test_what_the_settings_demand_is_asked(there: Provider, make_app: MakeApp) -> None:
    app = make_app(
        OIDC_REQUIRED_ACR="urn:two-factors",
        OIDC_MAX_AGE_S=3600,
        OIDC_SCOPES=["openid", "profile email"],
    )
    asked = sent_with(app.test_client().get("/login"))
    assert (asked["acr_values"], asked["max_age"]) == ("urn:two-factors", "3600")
    assert asked["scope"] == "openid profile email"


def test_no_query_of_a_visitors_reaches_the_provider(app: Flask, there: Provider) -> None:
    names = ("scope", "redirect_uri", "prompt", "max_age", "client_id", "x")
    forged = urlencode(dict.fromkeys(names, "evil"))
    sent = app.test_client().get(f"/login?{forged}")
    assert "evil" not in sent.headers["Location"]


def test_whoever_has_sent_a_form_is_asked_to_go_by_a_link(
    app: Flask, there: Provider, change: Change
) -> None:
    client = app.test_client()
    for browser in (client, app.test_client()):
        attempt(browser)
    change(proved_at=-900)
    sent = press(client, "/account/sessions/end")
    assert sent.headers["Location"] == "/login?again=yes"
    there.asked.clear()
    page = client.get(sent.headers["Location"])
    assert page.status_code == 200
    assert re.search(r'<a [^>]*href="/login"', page.text)
    assert there.asked == []


@pytest.mark.parametrize(("length", "is_kept"), [(300, True), (301, False)])
def test_a_long_way_to_go_afterwards_is_forgotten(
    app: Flask, there: Provider, length: int, is_kept: bool
) -> None:
    target = f"/{'x' * (length - 1)}"
    back = attempt(app.test_client(), f"/login?next={target}")
    assert back.headers["Location"] == (target if is_kept else "/account")


def test_whoever_comes_in_is_in_the_log(app: Flask, there: Provider, capfd: Log) -> None:
    client = app.test_client()
    sent = client.get("/login")
    capfd.readouterr()
    assert come_back(client, sent).status_code == 303
    created, entered = map(json.loads, capfd.readouterr().err.splitlines())
    (ada,) = users(app)
    assert (created["event"], created["user"]) == ("account-created", ada.id)
    assert (entered["event"], entered["user"]) == ("login", ada.id)


# -- The way back


CALLBACKS: Mapping[str, tuple[Mapping[str, object], str, str]] = {
    "no state": ({"state": REMOVED}, "state", "not of this browser"),
    "another state": ({"state": "evil"}, "state", "not of this browser"),
    "an empty state": ({"state": ""}, "state", "not of this browser"),
    "state and another": (
        {"state": lambda state: [state, "evil"]},
        "state",
        "not of this browser",
    ),
    "state twice": ({"state": lambda state: [state, state]}, "state", "not of this browser"),
    "another issuer": ({"iss": "https://evil.example"}, "iss", "another issuer"),
    "issuer with a slash": ({"iss": lambda iss: f"{iss}/"}, "iss", "another issuer"),
    "an empty issuer": ({"iss": ""}, "iss", "another issuer"),
    "no issuer": ({"iss": REMOVED}, "iss", "missing"),
    "issuer twice": ({"iss": lambda iss: [iss, "https://evil.example"]}, "callback", "twice"),
    "no code": ({"code": REMOVED}, "callback", "no code"),
    "an empty code": ({"code": ""}, "callback", "no code"),
    "code twice": ({"code": lambda code: [code, "evil"]}, "callback", "twice"),
    "denied": (
        {"code": REMOVED, "error": "access_denied", "error_description": EVIL, "error_uri": EVIL},
        "callback",
        "access_denied",
    ),
    "denied, with a code": ({"error": "access_denied"}, "callback", "access_denied"),
    "an unknown error": ({"error": "evil\r\n{}"}, "callback", "an error"),
    "an error that is markup": ({"error": EVIL}, "callback", "an error"),
    "an empty error": ({"error": ""}, "callback", "an error"),
    "an error twice": ({"error": ["login_required", EVIL]}, "callback", "twice"),
    "another code": ({"code": "evil"}, "token", "invalid_grant"),
    "a code of odd letters": ({"code": "\x00\r\n\ud7ff&grant_type=evil"}, "token", "invalid_grant"),
}


@pytest.mark.parametrize(("changes", "rule", "why"), CALLBACKS.values(), ids=CALLBACKS)
def test_a_wrong_way_back_signs_nobody_in(
    app: Flask, there: Provider, capfd: Log, changes: Mapping[str, object], rule: str, why: str
) -> None:
    there.callback.update(changes)
    client = app.test_client()
    assert assert_refused(app, capfd, attempt(client), NotCompleted, rule) == why
    assert bool(there.requests("token")) == (rule == "token")
    assert_nobody(app, client)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (NotCompleted, "Signing in was not completed. Please begin again."),
        (NotProved, "The provider could not tell us who you are. Please try again later."),
        (
            NotAllowed,
            "You are signed in at the provider, but not as somebody who may come in here.",
        ),
    ],
)
def test_whoever_is_refused_is_told_what_to_do(
    app: Flask, kind: type[HTTPException], says: str
) -> None:
    page = page_of(app, kind)
    assert "</span> You are not signed in</h1>" in page
    assert f'<p class="lead">{says}</p>' in page
    assert '<a href="/login">Sign in again</a>' in page


def test_a_provider_that_does_not_name_itself_need_not(app: Flask, there: Provider) -> None:
    there.discovery["authorization_response_iss_parameter_supported"] = "true"
    there.callback["iss"] = REMOVED
    assert attempt(app.test_client()).status_code == 303


def test_a_provider_that_cannot_be_asked_whether_it_names_itself(
    app: Flask, there: Provider, capfd: Log
) -> None:
    there.callback["iss"] = REMOVED
    client = app.test_client()
    sent = client.get("/login")
    app.extensions["oidc"].forget()
    there.discovery["issuer"] = "https://evil.example"
    capfd.readouterr()
    answer = come_back(client, sent)
    assert assert_refused(app, capfd, answer, NotProved, "discovery") == "another issuer"
    assert_nobody(app, client)


def test_a_way_back_counts_once(app: Flask, there: Provider, capfd: Log) -> None:
    client = app.test_client()
    back = there.follow(client.get("/login").headers["Location"])
    assert client.get(back).status_code == 303
    for answer in (client.get(back), app.test_client().get(back)):
        capfd.readouterr()
        assert answer.status_code == 400
    assert len(there.requests("token")) == 1
    assert is_signed_in(client)


def test_a_code_counts_once(app: Flask, there: Provider, capfd: Log) -> None:
    victim, thief = app.test_client(), app.test_client()
    back = there.follow(victim.get("/login").headers["Location"])
    code = parse_qs(urlsplit(back).query)["code"]
    there.callback["code"] = code
    sent = thief.get("/login")
    capfd.readouterr()
    # Before it is used: the verifier is another's. The provider then forgets the code.
    assert_refused(app, capfd, come_back(thief, sent), NotCompleted, "token")
    assert_refused(app, capfd, victim.get(back), NotCompleted, "token")
    assert_nobody(app, victim)


def test_a_nonce_is_of_one_visit(app: Flask, there: Provider, capfd: Log) -> None:
    nonces: list[str] = []

    def keep(nonce: str) -> str:
        nonces.append(nonce)
        return nonces[0]

    there.claims["nonce"] = keep
    client = app.test_client()
    assert attempt(app.test_client()).status_code == 303
    capfd.readouterr()
    why = assert_refused(app, capfd, attempt(client), NotProved, "id-token")
    assert why == "InvalidClaimError: nonce"
    assert len(set(nonces)) == 2
    assert not is_signed_in(client)


def test_another_browser_comes_back(app: Flask, there: Provider, capfd: Log) -> None:
    attacker, victim = app.test_client(), app.test_client()
    back = there.follow(attacker.get("/login").headers["Location"])
    for begins in (False, True):
        if begins:
            victim.get("/login")
        capfd.readouterr()
        assert_refused(app, capfd, victim.get(back), NotCompleted, "state")
    assert there.requests("token") == []
    assert not is_signed_in(victim)


@pytest.mark.parametrize("late_s", [599, 600])
def test_a_visit_that_began_long_ago_is_over(
    app: Flask, there: Provider, capfd: Log, monkeypatch: pytest.MonkeyPatch, late_s: int
) -> None:
    client = app.test_client()
    began = now()
    monkeypatch.setattr(by_oidc, "now", lambda: began)
    sent = client.get("/login")
    monkeypatch.setattr(by_oidc, "now", lambda: began + late_s)
    answer = come_back(client, sent)
    if late_s < 600:
        assert answer.status_code == 303
    else:
        assert assert_refused(app, capfd, answer, NotCompleted, "state") == "too old"
        monkeypatch.undo()
        assert_nobody(app, client)


def test_two_tabs_sign_in_and_a_third_ends_the_first(app: Flask, there: Provider) -> None:
    client = app.test_client()
    first, second = client.get("/login?next=/contact"), client.get("/login?next=/account?x")
    assert come_back(client, second).headers["Location"] == "/account?x"
    assert come_back(client, first).headers["Location"] == "/contact"
    assert is_signed_in(client)
    assert count(app) == 1
    client = app.test_client()
    tabs = [client.get("/login") for _ in range(3)]
    assert [come_back(client, sent).status_code for sent in tabs] == [400, 303, 303]


@pytest.mark.parametrize("letters", [(33, 126), (0x4E00, 0x9FFF), (0x20000, 0x2A6DF)])
def test_the_cookie_stays_within_what_browsers_keep(
    app: Flask, there: Provider, letters: tuple[int, int]
) -> None:
    drawn, client = random.Random(0), app.test_client()  # noqa: S311  any letters will do
    assert attempt(client).status_code == 303
    client.get("/contact")
    for length in (299, 299, 10_000):
        target = "/" + "".join(chr(drawn.randint(*letters)) for _ in range(length))
        target = target.replace("\\", "x").replace("//", "/x")
        sent = client.get(f"/login?{urlencode({'next': target})}")
        assert sent.status_code == 303
        assert len(f"{COOKIE}={stolen(client)}; Secure; HttpOnly; Path=/; SameSite=Lax") < 4_093


def test_nobody_is_asked_for_while_no_visit_began(app: Flask, there: Provider, capfd: Log) -> None:
    client = app.test_client()
    for path in ("", "?", "?code=x", "?state=x&code=x", "?error=x", "?state[]=x", "?id_token=x"):
        capfd.readouterr()
        answer = client.get(f"/auth/callback{path}")
        assert_refused(app, capfd, answer, NotCompleted, "state")
        assert client.post(f"/auth/callback{path}").status_code in (400, 405)
    assert there.asked == []


# -- Who comes in


def test_a_required_acr_is_given(
    there: Provider, make_app: MakeApp, app: Flask, capfd: Log
) -> None:
    before = app.test_client()
    assert attempt(before).status_code == 303  # before the setting
    strict = make_app(OIDC_REQUIRED_ACR="2", SECRET_KEY=app.config["SECRET_KEY"])
    client = strict.test_client()
    for acr in (None, "1", "22", "2 ", " 2", "two"):
        there.acr = acr
        capfd.readouterr()
        answer = attempt(client)
        assert answer.status_code in ((502, 403) if " " in str(acr) else (403,))
        assert not is_signed_in(client)
    there.acr = "1"
    capfd.readouterr()
    why = assert_refused(strict, capfd, attempt(client), NotAllowed, "acr")
    assert why == "not the required one"
    assert count(app) == 1
    there.acr = "2"
    assert attempt(client).status_code == 303
    assert is_signed_in(client)
    old = strict.test_client()
    old.set_cookie(COOKIE, stolen(before), domain=HOST, secure=True)
    assert is_signed_in(before)
    assert old.get("/api/account").status_code == 401
    sent = old.get("/account")
    assert sent.headers["Location"] == "/login?next=/account"
    assert attempt(old, sent.headers["Location"]).headers["Location"] == "/account"
    assert is_signed_in(old)


@pytest.mark.parametrize("age_s", [None, 3_600 + 120])
def test_a_proof_that_is_too_old_is_none(
    there: Provider, make_app: MakeApp, capfd: Log, age_s: int | None
) -> None:
    app = make_app(OIDC_MAX_AGE_S=3_600)
    there.auth_time = None if age_s is None else now() - age_s
    client = app.test_client()
    why = assert_refused(app, capfd, attempt(client), NotProved, "auth_time")
    assert why == "missing or too old"
    assert count(app, User) == 0
    assert_nobody(app, client)
    there.auth_time = now() - 3_600
    assert attempt(app.test_client()).status_code == 303


@pytest.mark.parametrize(("age_s", "comes_in"), [(3_600 + 60, True), (3_600 + 61, False)])
def test_a_proof_may_be_so_old(
    there: Provider,
    make_app: MakeApp,
    monkeypatch: pytest.MonkeyPatch,
    age_s: int,
    comes_in: bool,
) -> None:
    client, moment = make_app(OIDC_MAX_AGE_S=3_600).test_client(), now()
    monkeypatch.setattr(by_oidc, "now", lambda: moment)
    there.auth_time = moment - age_s
    assert attempt(client).status_code == (303 if comes_in else 502)


def test_whoever_is_signed_in_proves_it_anew(app: Flask, there: Provider, capfd: Log) -> None:
    client = app.test_client()
    assert attempt(client).status_code == 303
    cookie = held(app, client)["token"]
    for auth_time in (now() - 61 - 60, None):
        there.auth_time = auth_time
        sent = client.get("/login")
        assert sent_with(sent)["max_age"] == "0"
        capfd.readouterr()
        assert_refused(app, capfd, come_back(client, sent), NotProved, "auth_time")
        assert is_signed_in(client)
        assert held(app, client)["token"] == cookie
    there.auth_time = now()
    assert attempt(client).status_code == 303
    assert held(app, client)["token"] != cookie
    assert count(app) == 1


def test_a_fresh_proof_is_as_old_as_the_provider_says(app: Flask, there: Provider) -> None:
    there.auth_time = now() - 901
    client = app.test_client()
    assert attempt(client).status_code == 303
    with app.app_context():
        row = db.session.scalars(select(LoginSession)).one()
        assert not row.suffices(app.config, fresh=True)
        assert row.suffices(app.config, fresh=False)
    there.auth_time = now() + 50  # two clocks may differ
    assert attempt(client).status_code == 303
    with app.app_context():
        assert db.session.scalars(select(LoginSession)).one().proved_at <= now()


@pytest.mark.parametrize("asked", ["id-token", "userinfo"])
@pytest.mark.parametrize("verified", ["true", "True", 1, 1.0, False, None, [True], {"x": True}, ""])
def test_an_address_counts_if_it_is_verified(
    app: Flask, there: Provider, verified: object, asked: str
) -> None:
    there.email_verified = verified
    if asked == "userinfo":
        there.claims.update(email=REMOVED, email_verified=True)
    client = app.test_client()
    assert attempt(client).status_code == 303
    assert [user.email for user in users(app)] == [None]
    assert there.email not in client.get("/account").text
    assert client.get("/api/account").get_json() == {"email": None}
    there.email_verified = True
    assert attempt(app.test_client()).status_code == 303
    assert [user.email for user in users(app)] == ["ada@example.com"]
    assert len(there.requests("userinfo")) == (2 if asked == "userinfo" else 0)


@pytest.mark.parametrize(
    "email",
    [
        *(5, True, None, "", "ada", ["ada@example.com"], {"x": 1}, "x" * 251 + "@x.y"),
        *("ada@example.com\n", "ada\x00@example.com", "ada\ud800@example.com", "\u202eada@x.y"),
    ],
)
def test_what_is_no_address_is_none(app: Flask, there: Provider, email: object) -> None:
    there.claims["email"] = email
    assert attempt(app.test_client()).status_code == 303
    assert [user.email for user in users(app)] == [None]


def test_the_longest_address_is_one(app: Flask, there: Provider) -> None:
    there.claims["email"] = email = "x" * 250 + "@x.y"
    assert attempt(app.test_client()).status_code == 303
    assert [user.email for user in users(app)] == [email]


def test_an_address_is_not_asked_for_in_vain(there: Provider, make_app: MakeApp) -> None:
    there.claims["email"] = REMOVED
    there.discovery["userinfo_endpoint"] = REMOVED
    begin_with = [make_app(), make_app(OIDC_SCOPES=["openid"])]
    for app in begin_with:
        assert attempt(app.test_client()).status_code == 303
        there.discovery.clear()
    assert there.requests("userinfo") == []
    assert [user.email for user in users(begin_with[0])] == [None]


@pytest.mark.parametrize("sub", ["mallory", REMOVED, None, ["ada"], "ADA"])
def test_userinfo_about_somebody_else_is_about_nobody(
    app: Flask, there: Provider, capfd: Log, sub: object
) -> None:
    there.claims["email"] = REMOVED
    there.userinfo["sub"] = sub
    client = app.test_client()
    assert_refused(app, capfd, attempt(client), NotProved, "userinfo")
    assert count(app, User) == 0
    assert_nobody(app, client)


def test_userinfo_decides_nothing_but_the_address(app: Flask, there: Provider) -> None:
    there.claims.update(email=REMOVED, acr="1", sid="one")
    there.userinfo.update(acr="2", sid="two", auth_time=1, iss="evil", aud="evil")
    assert attempt(app.test_client()).status_code == 303
    with app.app_context():
        row = db.session.scalars(select(LoginSession)).one()
    assert (row.acr, row.sid, row.user.email) == ("1", "one", "ada@example.com")
    assert row.proved_at > 1


@pytest.mark.parametrize(
    ("email", "verified", "comes_in"),
    [
        ("ada@example.com", True, True),
        ("ada@EXAMPLE.com", True, True),
        ('"eve@evil.example"@example.com', True, True),
        ("ada@example.com", False, False),
        ("ada@sub.example.com", True, False),
        ("ada@evilexample.com", True, False),
        ("ada@example.com.evil.example", True, False),
        ("ada@example.com@evil.example", True, False),
        ("ada@example.com ", True, False),
        ("ada@example.co\u043c", True, False),
        ("example.com", True, False),
        ("ada@", True, False),
        (None, True, False),
    ],
)
def test_only_allowed_domains_come_in(
    there: Provider,
    make_app: MakeApp,
    capfd: Log,
    email: str | None,
    verified: bool,
    comes_in: bool,
) -> None:
    app = make_app(OIDC_ALLOWED_DOMAINS=["example.org", "example.com"])
    there.email_verified = verified
    there.claims["email"] = there.userinfo["email"] = REMOVED if email is None else email
    client = app.test_client()
    answer = attempt(client)
    if comes_in:
        assert answer.status_code == 303
    else:
        why = assert_refused(app, capfd, answer, NotAllowed, "domain")
        assert why == "not an allowed one"
        assert count(app, User) == 0
        assert_nobody(app, client)


def test_an_account_is_a_subject_and_no_address(app: Flask, there: Provider) -> None:
    def sign_in(subject: str, email: str) -> str:
        there.subject, there.email = subject, email
        client = app.test_client()
        assert attempt(client).status_code == 303
        return str(client.get("/api/account").get_json()["email"])

    assert sign_in("one", "ada@example.com") == "ada@example.com"
    assert sign_in("one", "ada@new.example") == "ada@new.example"
    assert [(user.subject, user.email) for user in users(app)] == [("one", "ada@new.example")]
    assert sign_in("two", "ada@new.example") == "ada@new.example"
    assert sign_in("ONE", "ada@new.example") == "ada@new.example"
    assert [user.subject for user in users(app)] == ["one", "two", "ONE"]
    there.email_verified = False
    sign_in("one", "ada@new.example")
    assert [user.email for user in users(app)] == [None, "ada@new.example", "ada@new.example"]


def test_the_subject_of_another_provider_is_somebody_else(app: Flask, there: Provider) -> None:
    with app.app_context():
        db.session.add(User(issuer="https://other.example", subject=there.subject, email=None))
        db.session.commit()
    assert attempt(app.test_client()).status_code == 303
    assert [user.issuer for user in users(app)] == ["https://other.example", there.issuer]


def test_a_disabled_account_comes_in_nowhere(app: Flask, there: Provider, capfd: Log) -> None:
    client = app.test_client()
    assert attempt(client).status_code == 303
    assert app.test_cli_runner().invoke(args=["user", "disable", there.email]).exit_code == 0
    assert not is_signed_in(client)
    there.email = "new@example.com"
    (ada,) = users(app)
    capfd.readouterr()
    why = assert_refused(app, capfd, attempt(client), NotAllowed, "disabled")
    assert why == f"account {ada.id}"
    assert count(app) == 0
    assert [user.email for user in users(app)] == ["ada@example.com"]
    app.test_cli_runner().invoke(args=["user", "disable", "ada@example.com", "--undo"])
    assert_nobody(app, client)


def test_two_first_visits_at_once_open_one_account(app: Flask, there: Provider, capfd: Log) -> None:
    both, found = threading.Barrier(2, timeout=20), list[int]()

    def wait(*_: object) -> None:
        both.wait()  # neither has found an account

    def enter(client: FlaskClient, back: str) -> None:
        found.append(client.get(back).status_code)

    clients = [app.test_client() for _ in range(2)]
    visits = [
        (client, there.follow(client.get("/login").headers["Location"])) for client in clients
    ]
    event.listen(User, "init", wait)
    try:
        threads = [threading.Thread(target=enter, args=visit) for visit in visits]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        event.remove(User, "init", wait)
    assert found == [303, 303]
    assert (count(app, User), count(app)) == (1, 2)
    assert capfd.readouterr().err.count('"event": "account-created"') == 1


# -- What stays here


def test_no_token_reaches_a_browser(app: Flask, there: Provider, capfd: Log) -> None:
    refresh_token = "the-refresh-token"  # noqa: S105
    secret: list[str] = [refresh_token]

    def keep(token: str) -> str:
        secret.append(token)
        return token

    there.token.update(refresh_token=refresh_token, access_token=keep, id_token=keep)
    there.claims["email"] = REMOVED  # so that the access token is used
    client, seen = app.test_client(), list[TestResponse]()
    sent = client.get("/login?next=/account")
    visited = there.follow(sent.headers["Location"])
    code = parse_qs(urlsplit(visited).query)["code"][0]
    cookies = [str(held(app, client))]
    for path in (visited, "/account", "/api/account", "/api/auth/session"):
        seen.append(client.get(path))
        cookies.append(str(held(app, client)))
    assert is_signed_in(client)
    token = seen[-1].get_json()["csrf_token"]
    seen.append(client.delete("/api/auth/session", headers={"X-CSRFToken": token}))
    seen.append(client.get("/logged-out"))
    cookies += [cookie for answer in seen for cookie in answer.headers.getlist("Set-Cookie")]
    verifier = there.requests("token")[0].form["code_verifier"]
    assert verifier in cookies.pop(0)  # until it is used
    _, access_token, id_token = secret
    secret += [*id_token.split("."), verifier, code, there.client_secret]
    everything = "\n".join([*cookies, *(f"{answer.headers}{answer.text}" for answer in seen)])
    log = capfd.readouterr().err
    for part in secret:
        assert part not in everything
        assert part not in log
    (asked,) = there.requests("userinfo")
    assert asked.headers["Authorization"] == f"Bearer {access_token}"


def test_nothing_of_a_visit_is_left(app: Flask, there: Provider) -> None:
    client = app.test_client()
    client.get("/contact")
    with client.session_transaction(base_url=ORIGIN) as session:
        session["cart"] = "of somebody else"
    assert attempt(client).status_code == 303
    assert set(held(app, client)) == {"token", "account"}


def test_another_tab_is_all_that_stays(app: Flask, there: Provider) -> None:
    client = app.test_client()
    other = client.get("/login")
    with client.session_transaction(base_url=ORIGIN) as session:
        session["cart"] = "of somebody else"
    assert attempt(client).status_code == 303
    kept = held(app, client)
    assert set(kept) == {"token", "account", by_oidc.PENDING}
    assert sent_with(other)["state"] in str(kept)
    assert come_back(client, other).status_code == 303
    assert set(held(app, client)) == {"token", "account"}


# -- What is wrong with a provider's settings


def found(app: Flask, **settings: object) -> list[tuple[str, str]]:
    """Return what is wrong with the settings, and how wrong."""
    problems = by_oidc.problems(Config("", {**app.config, **settings}))
    return [(problem.id, problem.level) for problem in problems]


GOOD = "https://login.example.com/realms/main"


@pytest.mark.parametrize("issuer", [GOOD, "https://login.example.com", f"{GOOD}/"])
def test_an_issuer_of_any_provider_is_one(app: Flask, issuer: str) -> None:
    assert found(app, OIDC_ISSUER=issuer) == []


@pytest.mark.parametrize(
    "issuer",
    [
        "login.example.com",
        "http://login.example.com",
        "ftp://login.example.com",
        f"{GOOD}?tenant=1",
        f"{GOOD}#here",
        "https://login.example.com/{tenant}/v2.0",
        f"{GOOD}/.well-known/openid-configuration",
        f"{GOOD} ",
        f"{GOOD}\N{NO-BREAK SPACE}",
    ],
)
def test_what_is_no_issuer_is_refused(app: Flask, issuer: str) -> None:
    assert found(app, OIDC_ISSUER=issuer) == [("oidc-issuer", "error")]


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(
    "issuer",
    [
        "https://accounts.google.com",
        "https://gitlab.com",
        "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0",
    ],
)
def test_a_provider_of_everybodys_is_told(app: Flask, issuer: str, slash: str) -> None:
    given = {"OIDC_ISSUER": f"{issuer}{slash}"}
    assert found(app, **given) == [("oidc-open", "warning")]
    assert found(app, **given, OIDC_ALLOWED_DOMAINS=["example.com"]) == []


@pytest.mark.parametrize(
    ("given", "problems"),
    [
        ({"OIDC_SCOPES": ["openid", "email", "profile"]}, []),
        ({"OIDC_SCOPES": ["email"]}, [("oidc-scopes", "error")]),
        ({"OIDC_SCOPES": ["openid offline_access"]}, [("oidc-offline", "warning")]),
        ({"OIDC_ALLOWED_DOMAINS": ["example.com", "sub.example.com"]}, []),
        ({"OIDC_ALLOWED_DOMAINS": ["example.com", "@example.org"]}, [("oidc-domains", "error")]),
        ({"OIDC_ALLOWED_DOMAINS": ["Example.com"]}, [("oidc-domains", "error")]),
        (
            {"OIDC_ALLOWED_DOMAINS": ["example.com"], "OIDC_SCOPES": ["openid"]},
            [("oidc-domains-email", "error")],
        ),
        ({"OIDC_MAX_AGE_S": 0}, []),
        ({"OIDC_MAX_AGE_S": -1}, [("oidc-max-age", "error")]),
    ],
)
def test_what_cannot_be_asked_of_a_provider_is_told(
    app: Flask, given: Mapping[str, object], problems: list[tuple[str, str]]
) -> None:
    assert found(app, OIDC_ISSUER=GOOD, **given) == problems


def test_a_provider_on_this_machine_is_for_development(app: Flask) -> None:
    given = {"OIDC_ISSUER": "http://127.0.0.1:9000"}
    assert found(app, **given) == [("oidc-loopback", "warning")]
    assert found(app, **given, DEBUG=True) == []


# -- Before there is a provider


def test_development_begins_without_a_provider(tmp_path: Path) -> None:
    root, port = copy(tmp_path / "clone"), free_port()
    env_file.create(str(root / ".env"))
    unset = {**dict.fromkeys(PROVIDER, ""), "DATABASE_URL": ""}
    command = ("flask", "run", "--debug", "--no-reload", "--port", str(port))
    with served(port, *command, variables={**VARIABLES, **unset}, root=root):
        assert ask(port, "GET", "/")[0] == 200
        status, _, page = ask(port, "GET", "/login")
        assert (status, "No provider is named yet: see docs/providers.md." in page) == (503, True)
        assert ask(port, "GET", "/auth/callback?state=x&code=x")[0] == 400
        assert ask(port, "GET", "/logged-out")[0] == 200
        assert ask(port, "GET", "/auth/provider-logout")[0] == 303


def test_production_refuses_without_a_provider(make_app: MakeApp) -> None:
    with pytest.raises(Refusal) as refusal:
        make_app(OIDC_ISSUER="", OIDC_CLIENT_ID="", OIDC_CLIENT_SECRET="")
    found = [(problem.id, problem.level) for problem in refusal.value.problems]
    assert found == [("oidc-incomplete", "error")] * 3
    named = {problem.sentence.partition(" ")[0] for problem in refusal.value.problems}
    assert named == {"OIDC_ISSUER", "OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET"}


def test_nothing_is_known_of_a_provider_that_nobody_names(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert [config.SETTINGS[name] for name in ("OIDC_ISSUER", "OIDC_CLIENT_ID")] == ["", ""]
    monkeypatch.setattr("app.development.running", lambda: True)
    monkeypatch.setattr("app.development.problems", lambda: iter(()))
    client = make_app(OIDC_ISSUER="", OIDC_CLIENT_ID="", OIDC_CLIENT_SECRET="").test_client()
    assert "nobody can sign in. See docs/providers.md" in caplog.text
    answer = client.get("/login", base_url="http://localhost:5000")
    assert answer.status_code == 503
    assert '<p class="lead">No provider is named yet: see docs/providers.md.</p>' in answer.text
