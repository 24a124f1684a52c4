"""Out here, out there: once, in the browser that was in, and whenever the provider says so."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update
from werkzeug.test import TestResponse

from app.db import Model, db
from app.login import by_oidc, oidc
from app.login.models import EndedSession, LoginSession, LogoutToken
from app.login.oidc import NotCompleted, NotProved
from tests.conftest import MakeApp, api_token, csrf_token
from tests.login.by_oidc import EMAIL, subject_of
from tests.login.conftest import is_signed_in, press, stolen, with_cookie
from tests.login.refusals import EVIL, assert_refused, attempt, begun_anew, count, now
from tests.production import HOST, ORIGIN, PROVIDER
from tests.provider import LOGOUT_EVENT, REMOVED, Provider, elliptic, faults, rsa

ALGORITHMS = "id_token_signing_alg_values_supported"
Log = pytest.CaptureFixture[str]
LEFT = "__Host-signed-out"
LINK = 'href="/auth/provider-logout"'
BACK_CHANNEL = "/auth/backchannel-logout"


@pytest.fixture
def there(app: Flask) -> Iterator[Provider]:
    """Return the provider, to be given its fault."""
    yield from begun_anew(app)


@pytest.fixture
def here(app: Flask, there: Provider) -> FlaskClient:
    """Return a browser in which somebody is signed in."""
    client = app.test_client()
    assert attempt(client).status_code == 303
    return client


def moved(app: Flask, table: type[Model], **seconds: int) -> None:
    """Change a time of every row of a table by so many seconds."""
    with app.app_context():
        values = {name: getattr(table, name) + by for name, by in seconds.items()}
        db.session.execute(update(table).values(values))
        db.session.commit()


# -- Out here, and then there


def test_out_here_and_then_there(app: Flask, there: Provider, here: FlaskClient) -> None:
    answer = press(here, "/logout")
    assert answer.headers["Location"] == "/logged-out"
    (cookie,) = (line for line in answer.headers.getlist("Set-Cookie") if line.startswith(LEFT))
    assert set(cookie.split("; ")[1:]) == {
        "Secure",
        "HttpOnly",
        "Path=/",
        "SameSite=Lax",
        "Max-Age=600",
        next(part for part in cookie.split("; ") if part.startswith("Expires=")),
    }
    assert LINK in here.get("/logged-out").text
    sent = here.get("/auth/provider-logout")
    assert sent.status_code == 303
    assert "no-store" in sent.headers["Cache-Control"]
    url = urlsplit(sent.headers["Location"])
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{there.issuer}/end_session"
    asked = dict(parse_qsl(url.query, strict_parsing=True))
    hint = asked.pop("id_token_hint")
    assert len(asked.pop("state")) >= 20
    assert asked == {
        "client_id": PROVIDER["APP_OIDC_CLIENT_ID"],
        "post_logout_redirect_uri": f"{ORIGIN}/logged-out",
    }
    assert hint.count(".") == 2
    page = here.get(there.follow(sent.headers["Location"]))
    assert page.status_code == 200
    assert LINK not in page.text
    again = here.get("/auth/provider-logout")
    assert (again.status_code, again.headers["Location"]) == (303, "/logged-out")
    assert count(app, EndedSession) == 0


def test_nobody_else_signs_out_there(app: Flask, there: Provider, here: FlaskClient) -> None:
    assert LINK not in here.get("/logged-out").text  # still signed in
    assert here.get("/auth/provider-logout").headers["Location"] == "/logged-out"
    assert is_signed_in(here)
    before = stolen(here)
    press(here, "/logout")
    left = here.get_cookie(LEFT, domain=HOST)
    assert left
    for value in ("", "x" * 43, left.value[:-1], left.value.swapcase(), before):
        other = with_cookie(app, before)
        if value:
            other.set_cookie(LEFT, value, domain=HOST, secure=True)
        assert other.get("/auth/provider-logout").headers["Location"] == "/logged-out"
    assert LINK not in app.test_client().get("/logged-out").text
    assert there.issuer in here.get("/auth/provider-logout").headers["Location"]


@pytest.mark.parametrize("late_s", [-595, -600])
def test_signing_out_there_is_offered_for_a_while(
    app: Flask, there: Provider, here: FlaskClient, late_s: int
) -> None:
    press(here, "/logout")
    moved(app, EndedSession, ended_at=late_s)
    sent = here.get("/auth/provider-logout")
    goes_there = there.issuer in sent.headers["Location"]
    assert goes_there == (late_s == -595)
    assert sent.headers["Location"].endswith("/logged-out") != goes_there
    assert here.get_cookie(LEFT, domain=HOST) is None


def test_a_provider_where_nobody_signs_out(app: Flask, there: Provider) -> None:
    there.discovery["end_session_endpoint"] = REMOVED
    client = app.test_client()
    attempt(client)
    token = api_token(client)
    answer = client.delete("/api/auth/session", headers=token)
    assert answer.get_json()["location"] is None
    assert client.get_cookie(LEFT, domain=HOST) is None
    assert LINK not in client.get("/logged-out").text
    assert count(app, EndedSession) == 0


def test_a_provider_where_nobody_signs_out_any_more(
    app: Flask, there: Provider, here: FlaskClient, capfd: Log
) -> None:
    press(here, "/logout")
    there.discovery["end_session_endpoint"] = REMOVED
    app.extensions["oidc"].forget()
    capfd.readouterr()
    answer = here.get("/auth/provider-logout")
    assert_refused(app, capfd, answer, NotProved, "logout")
    there.discovery.clear()
    assert there.issuer in here.get("/auth/provider-logout").headers["Location"]


def test_a_front_end_signs_out_there(app: Flask, there: Provider, here: FlaskClient) -> None:
    answer = here.delete("/api/auth/session", headers=api_token(here))
    said = answer.get_json()
    assert said["user"] is None
    assert said["location"] == f"{ORIGIN}/auth/provider-logout"
    sent = here.get(urlsplit(said["location"]).path)
    assert sent.headers["Location"].startswith(f"{there.issuer}/end_session?id_token_hint=")
    assert "location" not in here.get("/api/auth/session").get_json()
    assert here.delete("/api/auth/session", headers=api_token(here)).status_code == 200


def test_nobody_leaves_for_another_place(app: Flask, there: Provider, here: FlaskClient) -> None:
    press(here, "/logout")
    sent = here.get("/auth/provider-logout?post_logout_redirect_uri=https://evil.example&next=evil")
    assert "evil" not in sent.headers["Location"]
    assert here.post("/auth/provider-logout").status_code in (400, 405)


@pytest.mark.usefixtures("development")
def test_in_development_a_browser_keeps_it_without_tls(there: Provider, make_app: MakeApp) -> None:
    client, site = make_app().test_client(), "http://localhost:5000"
    sent = client.get("/login", base_url=site)
    back = urlsplit(there.follow(sent.headers["Location"]))
    assert client.get(f"{back.path}?{back.query}", base_url=site).status_code == 303
    page = client.get("/account", base_url=site)
    data = {"csrf_token": csrf_token(page)}
    answer = client.post("/logout", data=data, base_url=site, origin=site)
    (cookie,) = (c for c in answer.headers.getlist("Set-Cookie") if "signed-out" in c)
    assert cookie.startswith("signed-out=")
    assert "Secure" not in cookie
    assert LINK in client.get("/logged-out", base_url=site).text


def test_what_is_left_is_removed(app: Flask, there: Provider, here: FlaskClient) -> None:
    press(here, "/logout")
    assert told(app.test_client(), there.logout_token()).status_code == 200
    assert (count(app, EndedSession), count(app, LogoutToken)) == (1, 1)
    attempt(app.test_client())
    assert (count(app, EndedSession), count(app, LogoutToken)) == (1, 1)
    moved(app, EndedSession, ended_at=-600)
    moved(app, LogoutToken, expires_at=-421)
    result = app.test_cli_runner().invoke(args=["user", "sessions", "--forget-expired"])
    assert result.exit_code == 0
    assert (count(app, EndedSession), count(app, LogoutToken)) == (0, 0)


# -- The provider says so


def told(client: FlaskClient, token: object, **kwargs: object) -> TestResponse:
    """Tell the application what a provider would, from nowhere and without a cookie."""
    sent: dict[str, object] = {"data": {"logout_token": token}, "origin": None, **kwargs}
    return client.post(BACK_CHANNEL, **sent)


@pytest.fixture
def three(app: Flask, there: Provider) -> list[FlaskClient]:
    """Return browsers of Ada with two sessions of the provider's, and one of Eve."""
    clients = []
    for subject, sid in (("ada", "one"), ("ada", "two"), ("eve", "three")):
        there.subject, there.sid = subject, sid
        clients.append(app.test_client())
        assert attempt(clients[-1]).status_code == 303
    there.subject, there.sid = "ada", "one"
    return clients


@pytest.mark.parametrize(
    ("says", "left"),
    [
        ({"sub": REMOVED}, [False, True, True]),
        ({"sid": REMOVED}, [False, False, True]),
        ({}, [False, True, True]),
        ({"sid": "three"}, [True, True, True]),  # Eve's, and not Ada's
        ({"sid": "unknown"}, [True, True, True]),
        ({"sub": "unknown", "sid": REMOVED}, [True, True, True]),
        ({"sub": "ADA", "sid": REMOVED}, [True, True, True]),
        ({"aud": ["the-client"]}, [False, True, True]),
        ({"iat": lambda iat: iat - 290}, [True, True, True]),  # they began later
    ],
)
def test_a_provider_ends_what_it_means(
    app: Flask,
    there: Provider,
    three: list[FlaskClient],
    capfd: Log,
    says: Mapping[str, Any],
    left: list[bool],
) -> None:
    capfd.readouterr()
    answer = told(app.test_client(), there.logout_token(**says))
    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers
    (line,) = map(json.loads, capfd.readouterr().err.splitlines())
    assert (line["event"], line["rule"]) == ("sessions-ended", "oidc:logout-token")
    assert line["sessions_ended"] == left.count(False)
    assert [is_signed_in(client) for client in three] == left


def test_a_session_that_was_not_named_ends_with_its_subject(app: Flask, there: Provider) -> None:
    there.sid = None
    client = app.test_client()
    attempt(client)
    assert told(app.test_client(), there.logout_token(sid="one", sub="eve")).status_code == 200
    assert told(app.test_client(), there.logout_token(sid="one", sub=REMOVED)).status_code == 200
    assert is_signed_in(client)
    assert told(app.test_client(), there.logout_token(sid="one")).status_code == 200
    assert not is_signed_in(client)


@pytest.mark.parametrize("typ", ["logout+jwt", "application/logout+jwt", "LOGOUT+JWT"])
def test_a_logout_token_says_what_it_is(
    app: Flask, there: Provider, here: FlaskClient, typ: str
) -> None:
    assert told(app.test_client(), there.logout_token({"typ": typ})).status_code == 200
    assert not is_signed_in(here)


def test_a_session_that_is_sent_along_is_not_touched(
    app: Flask, there: Provider, three: list[FlaskClient]
) -> None:
    token = there.logout_token()
    for origin in ("https://evil.example", "null", ORIGIN):
        answer = told(three[2], token, headers={"Origin": origin, "Sec-Fetch-Site": "cross-site"})
        assert "Set-Cookie" not in answer.headers
        token = there.logout_token()
    assert [is_signed_in(client) for client in three] == [False, True, True]


def test_it_is_a_form_that_is_posted(app: Flask, there: Provider, here: FlaskClient) -> None:
    client, token = app.test_client(), there.logout_token()
    assert client.get(f"{BACK_CHANNEL}?logout_token={token}").status_code == 405
    for method in ("PUT", "DELETE", "PATCH"):
        answer = client.open(BACK_CHANNEL, method=method, data={"logout_token": token})
        assert answer.status_code in (400, 405)
    assert is_signed_in(here)


SENT: Mapping[str, Callable[[str], dict[str, object]]] = {
    "nothing": lambda _: {"data": {}},
    "an empty one": lambda _: {"data": {"logout_token": ""}},
    "two": lambda token: {"data": {"logout_token": [token, token]}},
    "JSON": lambda token: {"data": None, "json": {"logout_token": token}},
    "in the query": lambda token: {"data": {}, "query_string": {"logout_token": token}},
    "as text": lambda token: {"data": f"logout_token={token}", "content_type": "text/plain"},
    "by another name": lambda token: {"data": {"id_token": token}},
    "no token": lambda _: {"data": {"logout_token": EVIL}},
    "parts of nothing": lambda _: {"data": {"logout_token": ".."}},
    "odd letters": lambda _: {"data": {"logout_token": "\x00.\ud7ff.\r\n"}},
    "too many parts": lambda token: {"data": {"logout_token": f"{token}.x"}},
    "cut": lambda token: {"data": {"logout_token": token.rpartition(".")[0]}},
    "changed": lambda token: {"data": {"logout_token": faults.broken(token)}},
    "a long one": lambda token: {"data": {"logout_token": token + "A" * 30_000}},
    "deep": lambda _: {"data": {"logout_token": f"{deep()}.e30.x"}},
}


def deep() -> str:
    """Return a header that is a list in a list in a list."""
    return "W1tb" * 120


@pytest.mark.parametrize("how", SENT.values(), ids=SENT)
def test_what_is_sent_in_another_way_ends_nothing(
    app: Flask,
    there: Provider,
    here: FlaskClient,
    capfd: Log,
    how: Callable[[str], dict[str, object]],
) -> None:
    capfd.readouterr()
    answer = told(app.test_client(), "", **how(there.logout_token()))
    assert_refused(app, capfd, answer, NotCompleted, "logout-token")
    assert is_signed_in(here)
    assert count(app, LogoutToken) == 0


def test_a_long_token_is_not_looked_at(
    app: Flask, there: Provider, here: FlaskClient, capfd: Log
) -> None:
    capfd.readouterr()
    answer = told(app.test_client(), there.logout_token(more="x" * 32_000))
    assert_refused(app, capfd, answer, NotCompleted, "logout-token")
    answer = told(app.test_client(), there.logout_token(more="x" * 1_000_000))
    assert answer.status_code == 413
    (line,) = map(json.loads, capfd.readouterr().err.splitlines())
    assert line["event"] == "size-refused"
    assert is_signed_in(here)


@pytest.mark.parametrize(("length", "is_read"), [(32_768, True), (32_769, False)])
def test_a_token_may_be_so_long(
    app: Flask, there: Provider, capfd: Log, length: int, is_read: bool
) -> None:
    capfd.readouterr()
    answer = told(app.test_client(), "A" * length)
    why = assert_refused(app, capfd, answer, NotCompleted, "logout-token")
    assert (why == "none, two, or too long") != is_read


@pytest.mark.parametrize(("before_s", "is_over"), [(61, True), (60, True), (59, False)])
def test_a_token_means_the_sessions_of_its_time(
    app: Flask, there: Provider, here: FlaskClient, before_s: int, is_over: bool
) -> None:
    with app.app_context():
        began = db.session.scalars(select(LoginSession.created_at)).one()
    token = there.logout_token(iat=lambda _: began - 120)
    moved(app, LoginSession, created_at=-before_s)
    assert told(app.test_client(), token).status_code == 200
    assert is_signed_in(here) != is_over


TOKENS: Mapping[str, tuple[Mapping[str, object], Mapping[str, object]]] = {
    "typ JWT": ({"typ": "JWT"}, {}),
    "typ of another": ({"typ": "at+jwt"}, {}),
    "no typ": ({"typ": REMOVED}, {}),
    "typ of another type": ({"typ": ["logout+jwt"]}, {}),
    "alg none": ({"alg": "none"}, {}),
    "alg HS256": ({"alg": "HS256"}, {}),
    "another alg": ({"alg": "RS256"}, {}),
    "no alg": ({"alg": REMOVED}, {}),
    "alg of another type": ({"alg": ["ES256"]}, {}),
    "an unknown kid": ({"kid": EVIL}, {}),
    "kid of another type": ({"kid": {"evil": 1}}, {}),
    "crit": ({"crit": ["evil"], "evil": 1}, {}),
    "crit of another type": ({"crit": 5}, {}),
    "crit of odd things": ({"crit": [{}]}, {}),
    "b64": ({"b64": False}, {}),
    "jku": ({"jku": "https://evil.example/keys", "kid": "evil"}, {}),
    "nonce": ({}, {"nonce": "x"}),
    "nonce of null": ({}, {"nonce": None}),
    "no events": ({}, {"events": REMOVED}),
    "events of null": ({}, {"events": None}),
    "no event": ({}, {"events": {}}),
    "another event": ({}, {"events": {"evil": {}}}),
    "events in a list": ({}, {"events": [LOGOUT_EVENT]}),
    "events as text": ({}, {"events": LOGOUT_EVENT}),
    "event of another type": ({}, {"events": {LOGOUT_EVENT: True}}),
    "event of null": ({}, {"events": {LOGOUT_EVENT: None}}),
    "nobody": ({}, {"sub": REMOVED, "sid": REMOVED}),
    "nobody, as null": ({}, {"sub": REMOVED, "sid": None}),
    "sub of another type": ({}, {"sub": ["ada"]}),
    "an empty sub": ({}, {"sub": ""}),
    "sid of another type": ({}, {"sid": 5}),
    "an empty sid": ({}, {"sid": ""}),
    "sid of controls": ({}, {"sid": "session-of-ada\x00"}),
    "another aud": ({}, {"aud": "evil"}),
    "no aud": ({}, {"aud": REMOVED}),
    "aud of others and us": ({}, {"aud": ["the-client", "evil"]}),
    "another iss": ({}, {"iss": "https://evil.example"}),
    "no iss": ({}, {"iss": REMOVED}),
    "expired": ({}, {"exp": now() - 100}),
    "no exp": ({}, {"exp": REMOVED}),
    "exp of another type": ({}, {"exp": "never"}),
    "exp that is no number": ({}, {"exp": float("nan")}),
    "old": ({}, {"iat": lambda iat: iat - 302}),
    "of the future": ({}, {"iat": lambda iat: iat + 100}),
    "of the far future": ({}, {"iat": 10**400}),
    "no iat": ({}, {"iat": REMOVED}),
    "iat of another type": ({}, {"iat": True}),
    "no jti": ({}, {"jti": REMOVED}),
    "jti of another type": ({}, {"jti": 5}),
    "an empty jti": ({}, {"jti": ""}),
    "a long jti": ({}, {"jti": "x" * 256}),
    "not yet valid": ({}, {"nbf": lambda _: now() + 100}),
}


@pytest.mark.parametrize(("header", "claims"), TOKENS.values(), ids=TOKENS)
def test_a_wrong_logout_token_ends_nothing(
    app: Flask,
    there: Provider,
    here: FlaskClient,
    capfd: Log,
    header: Mapping[str, object],
    claims: Mapping[str, Any],
) -> None:
    capfd.readouterr()
    answer = told(app.test_client(), there.logout_token(header, **claims))
    why = assert_refused(app, capfd, answer, NotCompleted, "logout-token")
    if claims:
        assert why.endswith(f": {next(iter(claims))}")
    assert is_signed_in(here)
    assert count(app, LogoutToken) == 0
    assert told(app.test_client(), there.logout_token()).status_code == 200
    assert not is_signed_in(here)


def test_another_signature_ends_nothing(
    app: Flask, there: Provider, here: FlaskClient, capfd: Log
) -> None:
    capfd.readouterr()
    for header, signer in (
        ({}, elliptic()),
        ({"alg": "HS256"}, there.client_secret.encode()),
        ({"alg": "HS256"}, there.key.as_pem(private=False)),
        ({"alg": "HS256"}, b""),
    ):
        answer = told(app.test_client(), there.logout_token(header, signer))
        assert_refused(app, capfd, answer, NotCompleted, "logout-token")
    assert is_signed_in(here)


@pytest.mark.parametrize(("age_s", "is_over"), [(300, True), (301, False)])
def test_a_logout_token_may_be_so_old(
    app: Flask,
    there: Provider,
    here: FlaskClient,
    monkeypatch: pytest.MonkeyPatch,
    age_s: int,
    is_over: bool,
) -> None:
    moment = now()
    moved(app, LoginSession, created_at=-600)
    monkeypatch.setattr(oidc, "now", lambda: moment)
    told(app.test_client(), there.logout_token(iat=moment - age_s))
    assert is_signed_in(here) != is_over


def test_two_clocks_may_differ(app: Flask, there: Provider) -> None:
    late: list[dict[str, Any]] = [{"exp": now() - 30}, {"iat": now() + 30}]
    for claims in late:
        assert told(app.test_client(), there.logout_token(**claims)).status_code == 200


def test_a_logout_token_is_known_until_it_is_too_old(
    app: Flask, there: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = now()
    monkeypatch.setattr(by_oidc, "now", lambda: moment)
    assert told(app.test_client(), there.logout_token()).status_code == 200
    with app.app_context():
        until = db.session.scalars(select(LogoutToken.expires_at)).one()
    assert until == moment + 300 + 2 * 60
    for later, left in ((until - 1, 1), (until, 0)):
        monkeypatch.setattr(by_oidc, "now", lambda later=later: later)
        app.test_cli_runner().invoke(args=["user", "sessions", "--forget-expired"])
        assert count(app, LogoutToken) == left


def test_a_logout_token_of_another_provider_has_a_name_of_its_own(
    app: Flask, there: Provider, make_app: MakeApp
) -> None:
    other = make_app(OIDC_ISSUER=f"{there.issuer}/")
    assert told(app.test_client(), there.logout_token(jti="one")).status_code == 200
    there.discovery["issuer"] = f"{there.issuer}/"
    token = there.logout_token(jti="one", iss=f"{there.issuer}/")
    assert told(other.test_client(), token).status_code == 200
    assert told(other.test_client(), token).status_code == 400


def test_an_algorithm_that_is_not_listed_ends_nothing(
    app: Flask, there: Provider, capfd: Log
) -> None:
    for listed, header in (("PS256", {}), ("PS256", {"kid": "unknown"})):
        there.rotate(rsa(2048))
        there.discovery[ALGORITHMS] = [listed]
        app.extensions["oidc"].forget()
        capfd.readouterr()
        answer = told(app.test_client(), there.logout_token(header))
        why = assert_refused(app, capfd, answer, NotCompleted, "logout-token")
        assert why == "UnsupportedAlgorithmError"


def test_an_id_token_ends_nothing(app: Flask, there: Provider, capfd: Log) -> None:
    tokens: list[str] = []

    def keep(token: str) -> str:
        tokens.append(token)
        return token

    there.token["id_token"] = keep
    there.claims.update(jti="x", events={LOGOUT_EVENT: {}})
    client = app.test_client()
    attempt(client)
    capfd.readouterr()
    answer = told(app.test_client(), tokens[0])
    why = assert_refused(app, capfd, answer, NotCompleted, "logout-token")
    assert why == "InvalidClaimError: typ"
    assert is_signed_in(client)


def test_a_logout_token_signs_nobody_in(app: Flask, there: Provider, capfd: Log) -> None:
    def keep(_: object) -> str:
        nonce = sent_nonce[0]
        return there.logout_token(nonce=nonce, exp=now() + 100)

    sent_nonce: list[object] = []
    client = app.test_client()
    sent = client.get("/login")
    sent_nonce.append(dict(parse_qsl(urlsplit(sent.headers["Location"]).query))["nonce"])
    there.token["id_token"] = keep
    answer = client.get(there.follow(sent.headers["Location"]))
    why = assert_refused(app, capfd, answer, NotProved, "id-token")
    assert why == "InvalidClaimError: typ"


def test_a_logout_token_counts_once(
    app: Flask, there: Provider, here: FlaskClient, capfd: Log
) -> None:
    token = there.logout_token()
    assert told(app.test_client(), token).status_code == 200
    assert attempt(here).status_code == 303
    for again, says in (
        (token, "again"),
        (there.logout_token(jti=REMOVED), "MissingClaimError: jti"),
    ):
        capfd.readouterr()
        for client in (here, app.test_client()):
            why = assert_refused(app, capfd, told(client, again), NotCompleted, "logout-token")
            assert why == says
    assert is_signed_in(here)


def test_a_token_that_is_sent_twice_at_once_counts_once(
    app: Flask, there: Provider, here: FlaskClient
) -> None:
    token, found = there.logout_token(), list[int]()

    def tell() -> None:
        found.append(told(app.test_client(), token).status_code)

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [200, 400, 400, 400]
    assert count(app, LogoutToken) == 1


def test_a_token_never_ends_a_session_that_began_later(
    app: Flask, there: Provider, here: FlaskClient
) -> None:
    late, token = app.test_client(), there.logout_token(iat=lambda iat: iat - 200)
    attempt(late)
    moved(app, LoginSession, created_at=-250)
    attempt(late)
    assert told(app.test_client(), token).status_code == 200
    assert (is_signed_in(here), is_signed_in(late)) == (False, True)


@pytest.mark.parametrize("endpoint", ["discovery", "keys"])
@pytest.mark.parametrize(
    "fault",
    [faults.dropped(), faults.moved(), faults.instead({"keys": 5}), faults.instead(EVIL, 500)],
    ids=["dropped", "moved", "odd", "failed"],
)
def test_what_cannot_be_verified_ends_nothing(
    app: Flask,
    there: Provider,
    here: FlaskClient,
    capfd: Log,
    endpoint: str,
    fault: faults.Fault,
) -> None:
    app.extensions["oidc"].forget()
    there.faults[endpoint] = fault
    capfd.readouterr()
    answer = told(app.test_client(), there.logout_token())
    assert_refused(app, capfd, answer, NotCompleted, "logout-token")
    assert is_signed_in(here)
    there.faults.clear()
    assert told(app.test_client(), there.logout_token()).status_code == 200
    assert not is_signed_in(here)


def test_a_key_that_is_new_is_read(app: Flask, there: Provider, here: FlaskClient) -> None:
    there.rotate()
    assert told(app.test_client(), there.logout_token()).status_code == 200
    assert not is_signed_in(here)


def test_a_machine_that_has_just_started_reads_it_as_well(
    app: Flask, there: Provider, here: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "time", SimpleNamespace(monotonic=lambda: 0))
    app.extensions["oidc"].forget()
    assert told(app.test_client(), there.logout_token(sub="eve", sid="x")).status_code == 200
    there.rotate()
    assert told(app.test_client(), there.logout_token()).status_code == 200
    assert not is_signed_in(here)


def test_strangers_do_not_make_us_ask(
    app: Flask, there: Provider, here: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, began = len(there.requests("keys")), int(time.monotonic())
    for seconds, times in ((0, 1), (9, 1), (10, 2), (19, 2), (20, 3)):
        clock = SimpleNamespace(monotonic=lambda seconds=seconds: began + seconds)
        monkeypatch.setattr(oidc, "time", clock)
        for header, signer in (({"kid": "unknown"}, None), ({}, elliptic())):
            told(app.test_client(), there.logout_token(header, signer))
        assert len(there.requests("keys")) == before + times
    assert len(there.requests("discovery")) == 1
    there.rotate()
    assert attempt(app.test_client()).status_code == 303  # whoever signs in does not wait for that


def test_the_provider_ends_as_many_sessions_as_it_likes(
    there: Provider, here: FlaskClient, make_app: MakeApp
) -> None:
    app = make_app(RATELIMIT_DEFAULT="2 per minute")
    for _ in range(5):
        assert told(app.test_client(), there.logout_token(sub="nobody")).status_code == 200
    again = there.logout_token(sub="nobody")
    statuses = [told(app.test_client(), token).status_code for token in (again, again, "x", "x")]
    assert statuses == [200, 400, 400, 429]  # neither a stranger nor one that is sent again


ANYTHING: tuple[object, ...] = (
    *(None, True, 0, -1, 2**63, 10**400, 0.5, 1e308, float("nan"), float("inf")),
    *("", "\x00", "\ud800", "x" * 5_000, [], {}, [[]], [None], {"": ""}, {"x": [1]}, ["x"]),
)


def test_nothing_that_a_stranger_sends_breaks_us(
    app: Flask, there: Provider, here: FlaskClient
) -> None:
    for place, names in (
        ("header", "alg kid typ crit b64 jwk jku x5c cty enc zip evil"),
        ("claims", "iss sub aud exp iat nbf jti nonce events sid evil"),
    ):
        for name in names.split():
            for value in ANYTHING:
                app.extensions["rate_limits"].reset()
                changed: dict[str, Any] = {name: value}
                token = (
                    there.logout_token(changed, sub="nobody")
                    if place == "header"
                    else there.logout_token(**{"sub": "nobody", **changed})
                )
                answer = told(app.test_client(), token)
                assert answer.status_code in (200, 400), (name, value)
    for part in ([], "alg", 5, None, ["alg"], {"alg": ["alg"]}):
        token = there.signed(part)
        assert told(app.test_client(), token).status_code == 400
        _, claims, signature = token.split(".")
        assert told(app.test_client(), f"{claims}.{claims}.{signature}").status_code == 400
    assert is_signed_in(here)


# -- At the command line


def test_an_administrator_names_accounts(app: Flask, there: Provider) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        done = app.test_cli_runner().invoke(args=["user", *arguments])
        return done.exit_code, done.stderr if done.exit_code else done.stdout

    clients = []
    for subject, email in (("one", EMAIL), ("two", EMAIL), ("three", "")):
        there.subject, there.email = subject, email
        clients.append(app.test_client())
        attempt(clients[-1])
    assert "is not the only one" in run("disable", EMAIL)[1]  # of two
    there.subject = EMAIL  # and no address, as the one before
    attempt(app.test_client())
    nameless, odd = f"three of {there.issuer}", f"{EMAIL} of {there.issuer}"
    assert sorted(run("list")[1].splitlines()) == sorted([EMAIL, EMAIL, odd, nameless])
    for command in ("disable", "sessions"):
        assert run(command, EMAIL) == (
            1,
            f"Error: {EMAIL} is not the only one, name one of:\n"
            f"one of {there.issuer}  {EMAIL}\ntwo of {there.issuer}  {EMAIL}\n{odd}\n",
        )
    assert all(is_signed_in(client) for client in clients)
    assert run("sessions", "two", "--end")[1].endswith("1 sessions have ended.\n")
    assert [is_signed_in(client) for client in clients] == [True, False, True]
    assert run("disable", "three") == (0, "three cannot sign in; 1 sessions have ended.\n")
    assert f"{nameless}  (disabled)" in run("list")[1]
    assert run("disable", "four")[0] == 1
    assert run("disable", subject_of("nobody@example.com"))[0] == 1
    assert [is_signed_in(client) for client in clients] == [True, False, False]
