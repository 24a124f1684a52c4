"""A session is one browser's, ends when it should, and is worth nothing to whoever copies it."""

import hashlib
import secrets
from collections.abc import Mapping

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select

from app.db import db
from app.login.models import LoginSession, User
from tests.conftest import MakeApp, api_token, csrf_token
from tests.login.conftest import (
    EMAIL,
    NEW_PASSWORD,
    PASSWORD,
    Change,
    add,
    is_signed_in,
    press,
    sign_in,
    sign_in_by_api,
    signed_in,
)
from tests.production import HOST

pytestmark = pytest.mark.usefixtures("ada")
COOKIE = "__Host-session"


@pytest.fixture(autouse=True)
def _fresh_limits(app: Flask) -> None:
    app.extensions["rate_limits"].reset()


def count(app: Flask) -> int:
    """Return how many sessions there are."""
    with app.app_context():
        return int(db.session.scalar(select(func.count()).select_from(LoginSession)) or 0)


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


def test_a_stranger_is_sent_to_sign_in_and_back(app: Flask) -> None:
    client = app.test_client()
    sent = client.get("/account?page=2")
    assert (sent.status_code, sent.headers["Location"]) == (303, "/login?next=/account?page%3D2")
    back = sign_in(client, path=sent.headers["Location"])
    assert (back.status_code, back.headers["Location"]) == (303, "/account?page=2")
    assert EMAIL in client.get("/account").text


def test_the_api_sends_nobody_anywhere(client: FlaskClient) -> None:
    answer = client.get("/api/account")
    assert (answer.status_code, answer.mimetype) == (401, "application/problem+json")
    assert "Location" not in answer.headers


def test_a_front_end_signs_in_reads_and_signs_out(client: FlaskClient) -> None:
    before = client.get("/api/auth/session").get_json()
    assert before["user"] is None
    signed = sign_in_by_api(client, EMAIL, PASSWORD)
    assert (signed.status_code, signed.get_json()["user"]) == (200, {"email": EMAIL})
    assert client.get("/api/account").get_json() == {"email": EMAIL}
    old = {"X-CSRFToken": before["csrf_token"]}
    assert client.delete("/api/auth/session", headers=old).status_code == 400
    token = {"X-CSRFToken": signed.get_json()["csrf_token"]}
    ended = client.delete("/api/auth/session", headers=token)
    assert (ended.status_code, ended.get_json()["user"]) == (200, None)
    assert not is_signed_in(client)


def test_the_database_signs_nobody_in(app: Flask) -> None:
    client = signed_in(app)
    with client.session_transaction(base_url=f"https://{HOST}") as session:
        token = session["token"]
    with app.app_context():
        row = db.session.scalars(select(LoginSession)).one()
        assert row.token_hash == hashlib.sha256(token.encode()).hexdigest()
        assert (row.address, row.agent, row.user.email) == ("127.0.0.1", "Firefox", EMAIL)
        assert token not in {str(value) for value in vars(row).values()}
    assert len(token) == 43  # 32 bytes


def test_a_token_is_the_systems_randomness(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, real = [], secrets.token_urlsafe

    def draw(size: int) -> str:
        drawn.append(real(size))
        return drawn[-1]

    monkeypatch.setattr("app.login.sessions.secrets.token_urlsafe", draw)
    tokens = set()
    for _ in range(3):
        with signed_in(app).session_transaction(base_url=f"https://{HOST}") as session:
            tokens.add(session["token"])
    assert len(tokens) == 3
    assert tokens <= set(drawn)


def test_a_token_that_nobody_was_given_is_nobodys(app: Flask) -> None:
    client = app.test_client()
    for made_up in ("x" * 43, "", None, 1, ["x"], {"token": "x"}):
        with client.session_transaction(base_url=f"https://{HOST}") as session:
            session["token"] = made_up
        assert client.get("/api/account").status_code == 401


def test_nothing_from_before_survives_signing_in(app: Flask) -> None:
    client = app.test_client()
    token = csrf_token(client.get("/login"))
    planted = stolen(client)
    with client.session_transaction(base_url=f"https://{HOST}") as session:
        session["cart"] = "of somebody else"
    sign_in(client)
    with client.session_transaction(base_url=f"https://{HOST}") as session:
        assert set(session) == {"token", "account"}
    assert client.post("/contact", data={"csrf_token": token}).status_code == 400
    assert not is_signed_in(with_cookie(app, planted))


def test_signing_in_again_ends_what_was(app: Flask) -> None:
    client = signed_in(app)
    copy = with_cookie(app, stolen(client))
    sign_in(client)
    assert is_signed_in(client)
    assert not is_signed_in(copy)
    assert count(app) == 1


@pytest.mark.parametrize("how", ["page", "api"])
def test_a_copied_cookie_is_worth_nothing_after_signing_out(app: Flask, how: str) -> None:
    client = signed_in(app)
    copy = with_cookie(app, stolen(client))
    assert is_signed_in(copy)
    if how == "page":
        answer = press(client, "/logout", "/")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/logged-out")
        assert f"{COOKIE}=; Expires=Thu, 01 Jan 1970" in answer.headers["Set-Cookie"]
    else:
        answer = client.delete("/api/auth/session", headers=api_token(client))
    assert answer.headers["Clear-Site-Data"] == '"cache", "storage"'
    assert not is_signed_in(copy)
    assert count(app) == 0


def test_signing_out_is_on_every_page_that_needs_it(app: Flask) -> None:
    client, guarded = signed_in(app), set()
    for rule in app.url_map.iter_rules():
        if "GET" in (rule.methods or set()) and not rule.arguments:
            answer = app.test_client().get(rule.rule)
            if answer.status_code == 303 and answer.headers["Location"].startswith("/login"):
                guarded.add(rule.rule)
                assert '<form method="post" action="/logout">' in client.get(rule.rule).text
    assert guarded >= {"/account", "/account/password"}


def test_nobody_is_signed_out_by_a_link(app: Flask) -> None:
    client = signed_in(app)
    assert client.get("/logout").status_code == 405
    assert client.post("/logout").status_code == 400
    page = client.get("/logged-out")
    assert page.status_code == 200
    assert "Clear-Site-Data" not in page.headers
    assert is_signed_in(client)


@pytest.mark.parametrize("moved", [{"seen_at": -43_200}, {"created_at": -1_209_600}])
def test_a_session_ends_unused_and_ends_anyway(
    app: Flask, change: Change, moved: Mapping[str, int]
) -> None:
    client = signed_in(app)
    assert change(**{name: seconds + 10 for name, seconds in moved.items()}) == 1
    copy = with_cookie(app, stolen(client))
    assert is_signed_in(client)
    change(**moved)
    assert not is_signed_in(copy)


def test_using_a_session_keeps_it(app: Flask, change: Change) -> None:
    client = signed_in(app)
    assert "Set-Cookie" not in client.get("/api/account").headers
    change(seen_at=-43_100)
    # Signed anew: the cookie has a lifetime of its own.
    assert "Set-Cookie" in client.get("/api/account").headers
    change(seen_at=-43_100)
    assert is_signed_in(client)


def test_the_start_counts_for_the_longest_life(make_app: MakeApp, change: Change) -> None:
    client = signed_in(make_app(LOGIN_SESSION_MAX_S=100))
    change(created_at=-101)
    assert not is_signed_in(client)


def test_one_ends_a_session_from_the_list(app: Flask) -> None:
    here, there = signed_in(app, agent="Here"), signed_in(app, agent="There <b>")
    page = here.get("/account").text
    assert "This browser" in page
    assert "There &lt;b&gt;" in page
    with app.app_context():
        other = db.session.scalars(select(LoginSession.id).filter_by(agent="There <b>")).one()
    assert press(here, f"/account/sessions/{other}/end").status_code == 303
    assert (is_signed_in(here), is_signed_in(there)) == (True, False)
    assert "There" not in here.get("/account").text


def test_ending_this_session_is_signing_out(app: Flask) -> None:
    client = signed_in(app)
    with app.app_context():
        mine = db.session.scalars(select(LoginSession.id)).one()
    assert press(client, f"/account/sessions/{mine}/end").headers["Location"] == "/logged-out"
    assert not is_signed_in(client)


def test_one_ends_all_others(app: Flask) -> None:
    here, *others = (signed_in(app) for _ in range(3))
    assert press(here, "/account/sessions/end").status_code == 303
    assert [is_signed_in(client) for client in (here, *others)] == [True, False, False]


def test_nobody_ends_somebody_elses(app: Flask) -> None:
    add(app, "eve@example.com")
    victim, eve = signed_in(app), signed_in(app, "eve@example.com")
    with app.app_context():
        (target,) = db.session.scalars(
            select(LoginSession.id).join(User).where(User.email == EMAIL)
        ).all()
    data = {"csrf_token": csrf_token(eve.get("/account"))}
    for number in (target, 10**30):
        assert eve.post(f"/account/sessions/{number}/end", data=data).status_code == 404
    eve.post("/account/sessions/end", data=data)
    assert is_signed_in(victim)


def test_ending_sessions_needs_the_password_given_lately(app: Flask, change: Change) -> None:
    here, there = signed_in(app), signed_in(app)
    change(created_at=-900)
    answer = press(here, "/account/sessions/end")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/login")
    assert "your password once more" in here.get("/login").text
    assert is_signed_in(there)


def change_password(client: FlaskClient, **fields: str) -> int:
    """Fill in the form; return the status."""
    data = {
        "current_password": PASSWORD,
        "new_password": NEW_PASSWORD,
        "confirm_password": NEW_PASSWORD,
        "csrf_token": csrf_token(client.get("/account/password")),
    }
    return client.post("/account/password", data={**data, **fields}).status_code


def test_a_new_password_ends_every_other_session(app: Flask) -> None:
    here, there = signed_in(app), signed_in(app)
    copy = with_cookie(app, stolen(here))
    assert change_password(here) == 303
    assert [is_signed_in(client) for client in (here, there, copy)] == [True, False, False]
    assert sign_in(there).status_code == 401
    assert sign_in(there, password=NEW_PASSWORD).status_code == 303


@pytest.mark.parametrize(
    "wrong",
    [
        {"current_password": NEW_PASSWORD},
        {"current_password": ""},
        {"confirm_password": PASSWORD},
        {"confirm_password": ""},
        {"new_password": "short", "confirm_password": "short"},
        {"new_password": "qwertyqwerty", "confirm_password": "qwertyqwerty"},
    ],
    ids=lambda fields: "-".join(fields),
)
def test_a_password_is_not_changed_by_mistake(app: Flask, wrong: dict[str, str]) -> None:
    here, there = signed_in(app), signed_in(app)
    assert change_password(here, **wrong) == 422
    assert is_signed_in(there)
    assert sign_in(there).status_code == 303


def test_expired_sessions_are_removed(app: Flask, change: Change) -> None:
    signed_in(app)
    signed_in(app)
    change(seen_at=-43_200)
    signed_in(app)
    assert count(app) == 1
    change(created_at=-1_209_600)
    result = app.test_cli_runner().invoke(args=["user", "sessions", "--forget-expired"])
    assert result.output == "1 sessions that were over are gone.\n"
    assert count(app) == 0


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/",
        "///evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "\\\\evil.example",
        "javascript:alert(1)",
        "https:evil.example",
        "evil.example",
        "",
    ],
)
def test_next_stays_on_this_site(app: Flask, target: str) -> None:
    client = app.test_client()
    data = {"email": EMAIL, "password": PASSWORD, "csrf_token": csrf_token(client.get("/login"))}
    answer = client.post("/login", query_string={"next": target}, data=data)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/account")


def test_next_is_kept_while_the_password_is_wrong(client: FlaskClient) -> None:
    page = sign_in(client, password="wrong" * 4, path="/login?next=/contact")
    assert 'action="/login?next=%2Fcontact"' in page.text
    assert sign_in(client, path="/login?next=/contact").headers["Location"] == "/contact"


def test_no_header_of_a_browser_breaks_the_list(app: Flask) -> None:
    client = signed_in(app, agent="x\x00\x1b[2J\x85" + "y" * 500)
    assert "x??[2J?yyy" in client.get("/account").text
    listed = app.test_cli_runner().invoke(args=["user", "sessions", EMAIL]).output
    assert listed.isprintable() or listed.count("\n") == 1
    assert "\x1b" not in listed


@pytest.mark.parametrize("path", ["/", "/account", "/account/password", "/login", "/api/account"])
def test_nobody_keeps_what_depends_on_a_session(app: Flask, path: str) -> None:
    assert "no-store" in signed_in(app).get(path).headers["Cache-Control"]
