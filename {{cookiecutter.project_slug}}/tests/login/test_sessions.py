"""A session is one browser's, ends when it should, and is worth nothing to whoever copies it."""

import hashlib
import json
import re
import secrets
import time
from collections.abc import Mapping
from urllib.parse import urlencode

import pytest
from flask import Config, Flask, session
from flask.testing import FlaskClient
from flask_wtf.csrf import generate_csrf
from sqlalchemy import func, select, update
from werkzeug.exceptions import Unauthorized

from app import config, login
from app.db import db
from app.login import sessions
from app.login.models import LoginSession, User, now
from app.problem import Refusal
from tests.conftest import MakeApp, api_token, csrf_token, set_cookie
from tests.login import EMAIL, PROVED_AT, PUBLIC, add, sign_in, signed_in
from tests.login.conftest import COOKIE, Change, is_signed_in, press, stolen, with_cookie
from tests.production import FRONT_END, HOST

pytestmark = pytest.mark.usefixtures("ada")


def count(app: Flask) -> int:
    """Return how many sessions there are."""
    with app.app_context():
        return int(db.session.scalar(select(func.count()).select_from(LoginSession)) or 0)


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("LOGIN_SESSION_IDLE_S", 12 * 3_600),
        ("LOGIN_SESSION_MAX_S", 14 * 86_400),
        ("LOGIN_FRESH_S", 15 * 60),
    ],
)
def test_a_lifetime_is_what_nobody_sets_and_from_a_second(
    make_app: MakeApp, name: str, seconds: int
) -> None:
    assert config.SETTINGS[name] == seconds
    make_app(**{name: 1})
    for none in (0, -1):
        with pytest.raises(Refusal, match=f"{name} is {none} seconds"):
            make_app(**{name: none})


@pytest.mark.parametrize(
    ("idle_s", "cookie_s", "is_told"), [(2, 1, True), (1, 1, False), (1, 2, False), (1, 0, False)]
)
def test_a_session_that_outlives_its_cookie_is_told(
    app: Flask, *, idle_s: int, cookie_s: int, is_told: bool
) -> None:
    changed = Config("", app.config)
    changed |= {"LOGIN_SESSION_IDLE_S": idle_s, "PERMANENT_SESSION_LIFETIME": cookie_s}
    assert ("login-idle" in {problem.id for problem in login.problems(changed)}) == is_told


def test_a_stranger_is_sent_to_sign_in_and_back(app: Flask) -> None:
    client = app.test_client()
    sent = client.get("/account?page=X")
    assert (sent.status_code, sent.headers["Location"]) == (303, "/login?next=/account?page%3DX")
    back = sign_in(client, path=sent.headers["Location"])
    assert (back.status_code, back.headers["Location"]) == (303, "/account?page=X")
    assert EMAIL in client.get("/account").text


# Whoever is not signed in may call these, and none that is not listed here.
EVERYWHERE = """
    static healthz readyz security_txt pages.home pages.contact reports.csp_report
    api.csrf api.ping api.echo
    login.login login.logout login.logged_out
    login_api.read login_api.end
""".split()


def test_what_is_not_named_as_public_is_for_the_signed_in(app: Flask) -> None:
    client = app.test_client()
    token = api_token(client)
    seen = set()
    for rule in app.url_map.iter_rules():
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            if rule.endpoint not in {*EVERYWHERE, *PUBLIC}:
                path = rule.rule.replace("<int:number>", "1")
                answer = client.open(path, method=method, headers=token)
                sent_away = (answer.headers.get("Location") or "").startswith("/login")
                assert answer.status_code == 401 or sent_away, (method, path)
                seen.add(path)
    assert {"/account", "/api/account"} <= seen


@pytest.mark.parametrize(
    "claimed",
    [
        {"headers": {"X-User": EMAIL, "X-Remote-User": EMAIL, "X-Forwarded-User": EMAIL}},
        {"headers": {"Authorization": "Basic YWRhQGV4YW1wbGUuY29tOg=="}},
        {"headers": {"X-Original-URL": "/api/account", "X-User-ID": "1", "X-Role": "admin"}},
        {"query_string": {"user": EMAIL, "account": "1", "token": "1", "role": "admin"}},
        {"environ_overrides": {"REMOTE_USER": EMAIL}},
    ],
    ids=["user", "authorization", "id", "query", "server"],
)
def test_nobody_is_somebody_by_saying_so(
    app: Flask, ada: int, claimed: dict[str, dict[str, str]]
) -> None:
    signed_in(app)  # elsewhere
    client = app.test_client()
    with client.session_transaction(base_url=f"https://{HOST}") as session:
        session["account"] = ada  # signed, and still no session of the database
    assert client.get("/api/account", **claimed).status_code == 401


def test_the_api_sends_nobody_anywhere(client: FlaskClient) -> None:
    answer = client.get("/api/account")
    assert (answer.status_code, answer.mimetype) == (401, "application/problem+json")
    assert "Location" not in answer.headers


def test_the_database_signs_nobody_in(app: Flask) -> None:
    client = signed_in(app)
    with client.session_transaction(base_url=f"https://{HOST}") as cookie:
        token = cookie["token"]
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
    token = csrf_token(client.get("/contact"))
    planted = stolen(client)
    with client.session_transaction(base_url=f"https://{HOST}") as cookie:
        cookie["cart"] = "of somebody else"
    sign_in(client)
    with client.session_transaction(base_url=f"https://{HOST}") as cookie:
        assert set(cookie) == {"token", "account"}
    assert client.post("/contact", data={"csrf_token": token}).status_code == 400
    assert not is_signed_in(with_cookie(app, planted))


def test_a_token_from_before_is_in_no_page_that_follows(app: Flask, ada: int) -> None:
    with app.test_request_context(base_url=f"https://{HOST}"):
        tokens = {generate_csrf()}
        user = db.session.get(User, ada)
        assert user
        assert sessions.start(user)
        tokens.add(generate_csrf())
        assert session["csrf_token"]  # else the next request refuses what the page has
        sessions.end()
        tokens.add(generate_csrf())
        assert session["csrf_token"]
    assert len(tokens) == 3


def test_signing_in_is_of_one_account(app: Flask, ada: int) -> None:
    eve = add(app, "eve@example.com")
    before = now()
    signed_in(app)
    with app.app_context():
        moments = {user.id: user.signed_in_at for user in db.session.scalars(select(User))}
    assert moments == {ada: moments[ada], eve: None}
    assert before <= (moments[ada] or 0) <= now()


def test_a_sign_in_that_is_refused_holds_nothing(app: Flask, ada: int) -> None:
    with app.test_request_context(base_url=f"https://{HOST}"):
        user = db.session.get_one(User, ada)
        assert not sessions.start(user, User.disabled.is_(True))
        assert not db.session.in_transaction()


def test_a_session_is_read_once_for_a_request(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    client, load, loaded = signed_in(app), sessions._load, list[object]()

    def counted() -> LoginSession | None:
        found = load()
        loaded.append(found)
        return found

    monkeypatch.setattr(sessions, "_load", counted)
    assert client.get("/account").status_code == 200
    assert len(loaded) == 1


def test_nobodys_session_is_no_session(app: Flask) -> None:
    with app.test_request_context(base_url=f"https://{HOST}"), pytest.raises(Unauthorized):
        sessions.mine()


def test_signing_in_again_ends_what_was(app: Flask) -> None:
    client = signed_in(app)
    copy = with_cookie(app, stolen(client))
    sign_in(client)
    assert is_signed_in(client)
    assert not is_signed_in(copy)
    assert copy.get_cookie(COOKIE, domain=HOST) is None
    assert count(app) == 1


@pytest.mark.parametrize("how", ["page", "api"])
def test_a_copied_cookie_is_worth_nothing_after_signing_out(app: Flask, how: str) -> None:
    client = signed_in(app)
    copy = with_cookie(app, stolen(client))
    assert is_signed_in(copy)
    if how == "page":
        answer = press(client, "/logout", "/")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/logged-out")
        gone = f"{COOKIE}=; Expires=Thu, 01 Jan 1970"
        assert any(gone in cookie for cookie in answer.headers.getlist("Set-Cookie"))
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
    assert "/account" in guarded


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
    assert copy.get_cookie(COOKIE, domain=HOST) is None


def test_a_form_can_be_sent_where_a_session_was_over(app: Flask, change: Change) -> None:
    client = signed_in(app)
    client.get("/contact")  # from now on its cookie has a token
    change(created_at=-1_209_600)
    page = client.get("/contact")
    assert 'href="/login"' in page.text
    with client.session_transaction(base_url=f"https://{HOST}") as cookie:
        assert list(cookie) == ["csrf_token"]
    data = {"name": "Ada", "email": EMAIL, "message": "Hello", "csrf_token": csrf_token(page)}
    assert client.post("/contact", data=data).status_code == 303


def test_using_a_session_keeps_it(app: Flask, change: Change) -> None:
    client = signed_in(app)
    assert "Set-Cookie" not in client.get("/api/account").headers
    change(seen_at=-43_100)
    # Signed anew: the cookie has a lifetime of its own.
    assert "Set-Cookie" in client.get("/api/account").headers
    change(seen_at=-43_100)
    assert is_signed_in(client)


@pytest.mark.parametrize(
    ("idle_s", "unused_s", "is_written"),
    [
        (43_200, 59, False),
        (43_200, 60, True),
        (40, 1, False),
        (40, 2, True),
        (38, 1, True),
        (10, 1, True),
    ],
)
def test_a_session_is_written_once_a_minute_or_more_often_where_it_is_short(
    make_app: MakeApp,
    monkeypatch: pytest.MonkeyPatch,
    idle_s: int,
    unused_s: int,
    is_written: bool,
) -> None:
    app = make_app(LOGIN_SESSION_IDLE_S=idle_s)
    client, moment = signed_in(app), now()
    with app.app_context():
        db.session.execute(update(LoginSession).values(seen_at=moment - unused_s))
        db.session.commit()
    monkeypatch.setattr(sessions, "now", lambda: moment)
    assert is_signed_in(client)
    with app.app_context():
        seen_at = db.session.scalars(select(LoginSession.seen_at)).one()
    assert seen_at == (moment if is_written else moment - unused_s)


def test_a_session_that_ends_while_it_is_read_is_over(
    app: Flask, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile() -> int:
        with app.app_context():
            sessions.end_all(ada)
        return now()

    client = signed_in(app)
    change(seen_at=-100)
    with app.app_context():
        ada = db.session.scalars(select(User.id)).one()
    monkeypatch.setattr(sessions, "now", meanwhile)
    answer = client.get("/api/account")
    assert (answer.status_code, "token" in set_cookie(answer)) == (401, False)
    assert client.get_cookie(COOKIE, domain=HOST) is None


def test_the_start_counts_for_the_longest_life(make_app: MakeApp, change: Change) -> None:
    client = signed_in(make_app(LOGIN_SESSION_MAX_S=100))
    change(created_at=-101)
    assert not is_signed_in(client)


def test_one_ends_a_session_from_the_list(app: Flask) -> None:
    here, there = signed_in(app, agent="Here"), signed_in(app, agent="There <b>")
    page = here.get("/account").text
    assert f"You are signed in as {EMAIL}." in page
    assert "This browser" in page
    assert "There &lt;b&gt;" in page
    with app.app_context():
        other = db.session.scalars(select(LoginSession.id).filter_by(agent="There <b>")).one()
    answer = press(here, f"/account/sessions/{other}/end")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/account")
    assert (is_signed_in(here), is_signed_in(there)) == (True, False)
    page = here.get("/account").text
    assert '<p class="notice" role="status">That session has ended.</p>' in page
    assert "There" not in page


def test_the_list_begins_with_the_last_one_seen(app: Flask) -> None:
    here = signed_in(app, agent="Here")
    moments = {"First": -40, "Second": -20, "Third": -30, "Long ago": -43_200}
    for agent, ago_s in moments.items():
        signed_in(app, agent=agent)
        with app.app_context():
            this = update(LoginSession).where(LoginSession.agent == agent)
            db.session.execute(this.values(seen_at=LoginSession.seen_at + ago_s))
            db.session.commit()
    listed = re.findall(r"<p>(Here|First|Second|Third|Long ago)</p>", here.get("/account").text)
    assert listed == ["Here", "Second", "Third", "First"]


def test_who_is_kept_out_and_let_in_again_is_in_the_log(
    app: Flask, ada: int, capfd: pytest.CaptureFixture[str]
) -> None:
    for words, event in ((["--undo"], "account-enabled"), ([], "account-disabled")):
        capfd.readouterr()
        done = app.test_cli_runner().invoke(args=["user", "disable", EMAIL, *words])
        (line,) = [json.loads(text) for text in done.output.splitlines() if text.startswith("{")]
        assert (line["event"], line["user"]) == (event, ada)


def test_times_are_told_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    read_zone = getattr(time, "tzset", lambda: None)  # Windows has none
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "XXX-5:30")
        read_zone()
        row = LoginSession(created_at=0, seen_at=86_399)
        told = row.created(), row.seen()
    read_zone()
    assert told == ("1970-01-01 00:00 UTC", "1970-01-01 23:59 UTC")


def test_ending_this_session_is_signing_out(app: Flask) -> None:
    client = signed_in(app)
    with app.app_context():
        mine = db.session.scalars(select(LoginSession.id)).one()
    assert press(client, f"/account/sessions/{mine}/end").headers["Location"] == "/logged-out"
    assert not is_signed_in(client)


def test_one_ends_all_others(app: Flask, ada: int, capfd: pytest.CaptureFixture[str]) -> None:
    here, *others = (signed_in(app) for _ in range(3))
    capfd.readouterr()
    answer = press(here, "/account/sessions/end")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/account")
    (line,) = map(json.loads, capfd.readouterr().err.splitlines())
    assert (line["event"], line["user"], line["sessions_ended"]) == ("sessions-ended", ada, 2)
    page = here.get("/account").text
    assert '<p class="notice" role="status">Every other session has ended.</p>' in page
    assert [is_signed_in(client) for client in (here, *others)] == [True, False, False]


def test_nobody_ends_somebody_elses(app: Flask, capfd: pytest.CaptureFixture[str]) -> None:
    eve_id = add(app, "eve@example.com")
    victim, eve = signed_in(app), signed_in(app, "eve@example.com")
    with app.app_context():
        (target,) = db.session.scalars(
            select(LoginSession.id).join(User).where(User.email == EMAIL)
        ).all()
    data = {"csrf_token": csrf_token(eve.get("/account"))}
    for number in (target, 10**30):
        capfd.readouterr()
        assert eve.post(f"/account/sessions/{number}/end", data=data).status_code == 404
        (line,) = map(json.loads, capfd.readouterr().err.splitlines())
        assert (line["event"], line["rule"]) == ("access-refused", "own-sessions")
        assert line["user"] == eve_id
    eve.post("/account/sessions/end", data=data)
    assert is_signed_in(victim)


def test_ending_sessions_needs_a_proof_given_lately(app: Flask, change: Change) -> None:
    here, there = signed_in(app), signed_in(app)
    change(**{PROVED_AT: -900})
    with app.app_context():
        last = db.session.scalar(select(func.max(LoginSession.id)))
    for path in ("/account/sessions/end", f"/account/sessions/{last}/end"):
        answer = press(here, path)
        assert (answer.status_code, answer.headers["Location"].split("?")[0]) == (303, "/login")
    assert is_signed_in(there)


def test_expired_sessions_are_removed(app: Flask, change: Change) -> None:
    signed_in(app)
    signed_in(app)
    add(app, "eve@example.com")
    signed_in(app, "eve@example.com")
    change(seen_at=-43_200)
    signed_in(app)
    assert count(app) == 2  # hers is for her, and for `--forget-expired`
    change(created_at=-1_209_600)
    result = app.test_cli_runner().invoke(args=["user", "sessions", "--forget-expired"])
    assert result.output == "2 sessions that were over are gone.\n"
    assert count(app) == 0


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/",
        FRONT_END,
        FRONT_END.removeprefix("https://") + "/orders",
        "///evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "/account\r\nSet-Cookie: a=b",
        "\\\\evil.example",
        "javascript:alert(1)",
        "//[",
        "//\u2100",
        "https:evil.example",
        "evil.example",
        f"{FRONT_END}.evil.example/",
        f"{FRONT_END}@evil.example/",
        f"{FRONT_END}:8443/",
        f"{FRONT_END}\\@evil.example/",
        FRONT_END.replace("https:", "http:") + "/",
        "",
    ],
)
def test_next_stays_on_this_site(app: Flask, target: str) -> None:
    client = app.test_client()
    answer = sign_in(client, path=f"/login?{urlencode({'next': target})}")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/account")


@pytest.mark.parametrize("target", ["/contact", f"{FRONT_END}/orders/5?page=2", f"{FRONT_END}/"])
def test_next_is_kept_on_this_site_and_at_an_allowed_origin(
    client: FlaskClient, target: str
) -> None:
    answer = sign_in(client, path=f"/login?{urlencode({'next': target})}")
    assert (answer.status_code, answer.headers["Location"]) == (303, target)


def test_no_header_of_a_browser_breaks_the_list(app: Flask) -> None:
    client = signed_in(app, agent="x\x00\x1b[2J\x85" + "y" * 500)
    page = client.get("/account").text
    assert f"<p>x??[2J?{'y' * (200 - 7)}</p>" in page
    listed = app.test_cli_runner().invoke(args=["user", "sessions", EMAIL]).output
    assert listed.isprintable() or listed.count("\n") == 1
    assert "\x1b" not in listed


def test_no_address_is_longer_than_its_column(app: Flask) -> None:
    sign_in(app.test_client(), headers={"X-Forwarded-For": "9" * 500})
    with app.app_context():
        assert db.session.scalars(select(LoginSession.address)).one() == "9" * 45


def test_a_server_need_not_know_an_address(app: Flask) -> None:
    sign_in(app.test_client(), environ_overrides={"REMOTE_ADDR": ""})  # as over a socket file
    with app.app_context():
        assert db.session.scalars(select(LoginSession.address)).one() == ""


@pytest.mark.parametrize("path", ["/", "/account", "/api/account", "/api/auth/session"])
def test_nobody_keeps_what_depends_on_a_session(app: Flask, path: str) -> None:
    assert "no-store" in signed_in(app).get(path).headers["Cache-Control"]
