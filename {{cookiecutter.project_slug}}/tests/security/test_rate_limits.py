"""One client asks so often and no more, whatever it does to look like many."""

import importlib.util
import re
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from flask import Config, session
from flask.testing import FlaskClient
from flask.typing import ResponseReturnValue
from itsdangerous import TimestampSigner
from limits.strategies import MovingWindowRateLimiter

from app import commands
from app.problem import Refusal
from app.security import rate_limits
from app.security.rate_limits import ACCOUNT, FREE, _client_of, give_back, spend, strict
from tests.conftest import MakeApp, api_token, csrf_token
from tests.production import HOST, VARIABLES
from tests.servers import free_port

GOOD = {"name": "Ada", "email": "ada@example.com", "message": "Hello"}


def statuses(client: FlaskClient, path: str, times: int, **kwargs: object) -> list[int]:
    """Return the statuses of as many GETs."""
    return [client.get(path, **kwargs).status_code for _ in range(times)]


def test_the_default_limit_is_one_over_everything(make_app: MakeApp) -> None:
    client = make_app(RATELIMIT_DEFAULT="4 per minute").test_client()
    asked = [client.get(path).status_code for path in ("/", "/contact", "/api/ping", "/", "/")]
    assert asked == [200, 200, 200, 200, 429]


def test_a_limit_that_is_listed_twice_counts_once(make_app: MakeApp) -> None:
    client = make_app(RATELIMIT_DEFAULT="2 per minute; 2/minute").test_client()
    assert statuses(client, "/", 3) == [200, 200, 429]


def test_static_files_and_monitors_are_free(make_app: MakeApp) -> None:
    client = make_app(RATELIMIT_DEFAULT="1 per minute").test_client()
    for path in ("/static/style.css", "/healthz", "/readyz"):
        assert statuses(client, path, 3) == [200, 200, 200]
    assert statuses(client, "/", 2) == [200, 429]


def test_unknown_paths_and_wrong_methods_count(make_app: MakeApp) -> None:
    client = make_app(RATELIMIT_DEFAULT="3 per minute").test_client()
    asked = [client.get("/wp-login.php"), client.get("/.git/config"), client.put("/")]
    assert [answer.status_code for answer in asked] == [404, 404, 405]
    assert asked[0].headers["RateLimit"].startswith('"default-60s";r=2')
    assert client.get("/.env").status_code == 429


def test_every_endpoint_is_limited_or_named_as_free(make_app: MakeApp) -> None:
    app = make_app()
    names = {rule.endpoint for rule in app.url_map.iter_rules()}
    assert set(FREE) <= names
    client = app.test_client()
    for rule in app.url_map.iter_rules():
        path = rule.rule.replace("<path:filename>", "style.css").replace("<int:number>", "1")
        assert "<" not in path, "a path with a variable needs a value here"
        for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}:
            counted = "RateLimit" in client.open(path, method=method).headers
            assert counted == (rule.endpoint not in FREE), (method, path)


def test_whoever_is_signed_in_is_one_client_wherever_they_are(make_app: MakeApp) -> None:
    app = make_app(RATELIMIT_DEFAULT="3 per minute")

    @app.get("/signs-in/<int:account>")
    def sign_in(account: int) -> str:
        session[ACCOUNT] = account
        return "welcome"

    def browser(address: str, account: int) -> Callable[[], int]:
        client = app.test_client()
        headers = {"X-Forwarded-For": address}
        client.get(f"/signs-in/{account}", headers=headers)
        return lambda: client.get("/", headers=headers).status_code

    phone, laptop, other = (
        browser("198.51.100.1", 7),
        browser("198.51.100.2", 7),
        browser("198.51.100.2", 8),
    )
    assert [phone(), laptop(), phone(), laptop(), phone()] == [200, 200, 200, 429, 429]
    assert other() == 200


def test_nobody_claims_an_account_without_our_signature(make_app: MakeApp) -> None:
    client = make_app(RATELIMIT_DEFAULT="2 per minute").test_client()
    asked = []
    for account in range(4):
        forged = TimestampSigner(f"guess-{account}").sign(b'{"account":7}').decode()
        client.set_cookie("__Host-session", forged, domain=HOST, secure=True)
        asked.append(client.get("/").status_code)
    assert asked == [200, 200, 429, 429]


def test_flask_limits_lists_every_endpoint() -> None:
    result = CliRunner().invoke(commands.limits, env=VARIABLES)
    assert result.exit_code == 0, result.output
    listed = {tuple(line.split()[:2]): line for line in result.output.splitlines() if "/" in line}
    strict = "120 per minute over everything, 5 per minute for contact"
    assert listed["POST", "/contact"].endswith(strict)
    assert listed["GET", "/contact"].endswith("120 per minute over everything")
    assert listed["POST", "/api/ping"].endswith("120 per minute over everything")
    assert {method for method, _ in listed}.isdisjoint({"HEAD", "OPTIONS"})
    assert listed["POST", "/csp-report"].endswith("5 per minute for reports")
    assert "nothing: monitors" in listed["GET", "/healthz"]
    assert "nothing: monitors" in listed["GET", "/readyz"]
    assert "nothing: files" in listed["GET", "/static/<path:filename>"]
    assert "IPv6 /64" in result.output


def test_flask_limits_names_what_is_wrong_instead() -> None:
    result = CliRunner().invoke(commands.limits, env={**VARIABLES, "SECRET_KEY": "dev"})
    assert result.exit_code == 1


def test_preflights_are_free(make_app: MakeApp) -> None:
    client = make_app(RATELIMIT_DEFAULT="1 per minute").test_client()
    assert [client.options("/api/ping").status_code for _ in range(3)] == [200, 200, 200]
    assert statuses(client, "/api/ping", 2) == [200, 429]


def test_a_strict_limit_counts_what_is_sent_not_what_is_read(
    make_app: MakeApp,
) -> None:
    client = make_app(RATELIMIT_STRICT="2 per minute").test_client()
    assert statuses(client, "/contact", 5) == [200] * 5
    data = {**GOOD, "csrf_token": csrf_token(client.get("/contact"))}
    sent = [client.post("/contact", data=data).status_code for _ in range(3)]
    assert sent == [303, 303, 429]
    assert client.get("/contact").status_code == 200


@pytest.mark.parametrize(
    ("origin", "status"), [("https://app.example.com", 400), ("https://evil.example", 403)]
)
def test_a_refused_form_spends_the_strict_limit(
    make_app: MakeApp, origin: str, status: int
) -> None:
    client = make_app(RATELIMIT_STRICT="2 per minute").test_client()
    sent = [client.post("/contact", data=GOOD, origin=origin).status_code for _ in range(3)]
    assert sent == [status, status, 429]


def test_an_oversized_form_spends_it_too(make_app: MakeApp) -> None:
    client = make_app(RATELIMIT_STRICT="1 per minute", MAX_CONTENT_LENGTH=10).test_client()
    assert [client.post("/contact", data=GOOD).status_code for _ in range(2)] == [413, 429]


def test_what_is_sent_spends_the_default_limit_as_well(make_app: MakeApp) -> None:
    client = make_app(RATELIMIT_DEFAULT="3 per hour", RATELIMIT_STRICT="1 per minute")
    browser = client.test_client()
    sent = [browser.post("/contact", data=GOOD).status_code for _ in range(3)]
    assert sent == [400, 429, 429]
    assert browser.get("/").status_code == 429


def test_each_purpose_counts_apart(make_app: MakeApp) -> None:
    client = make_app(RATELIMIT_STRICT="1 per minute").test_client()
    assert [client.post("/contact", data=GOOD).status_code for _ in range(2)] == [400, 429]
    assert [client.post("/csp-report", json={}).status_code for _ in range(2)] == [415, 429]


@pytest.mark.parametrize("marked_first", [True, False])
def test_no_order_of_decorators_loses_the_limit(make_app: MakeApp, marked_first: bool) -> None:
    app = make_app(RATELIMIT_STRICT="1 per minute")

    def view() -> ResponseReturnValue:
        return "done"

    mark, route = strict("test"), app.post("/marked")
    route(mark(view)) if marked_first else mark(route(view))
    client = app.test_client()
    token = api_token(client)
    assert [client.post("/marked", headers=token).status_code for _ in range(2)] == [200, 429]


ONE_CLIENT = [
    ("192.0.2.1", "192.0.2.1"),
    ("192.0.2.1", "::ffff:192.0.2.1"),
    ("2001:db8::1", "2001:db8::ffff:1"),
    ("2001:db8:0:0:1::1", "2001:db8:0:0:8000::1"),
    ("", "unix:"),
    ("", "not an address"),
]
TWO_CLIENTS = [
    ("192.0.2.1", "192.0.2.2"),
    ("2001:db8::1", "2001:db8:0:1::1"),
    ("192.0.2.1", "2001:db8::1"),
    ("192.0.2.1", ""),
]


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [(*pair, 429) for pair in ONE_CLIENT] + [(*pair, 200) for pair in TWO_CLIENTS],
)
def test_one_client_is_one_bucket(make_app: MakeApp, first: str, second: str, status: int) -> None:
    client = make_app(RATELIMIT_DEFAULT="1 per minute", PROXY_HOPS=0).test_client()
    for address, expected in ((first, 200), (first, 429), (second, status)):
        answer = client.get("/", environ_overrides={"REMOTE_ADDR": address})
        assert answer.status_code == expected


def test_a_server_that_knows_no_address_has_one_client(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str]
) -> None:
    client = make_app(PROXY_HOPS=0).test_client()
    nowhere = {"REMOTE_ADDR": "unix:/run/app.sock"}  # in no other test, so that it is not known yet
    client.post("/contact", environ_overrides=nowhere)
    assert '"client": "unknown"' in capfd.readouterr().err


def test_many_addresses_take_no_more_memory_than_some() -> None:
    for number in range(2_000):
        _client_of(f"198.51.{number // 256}.{number % 256}")
    assert _client_of.cache_info().currsize == 1_024


def test_a_forged_address_is_no_new_client(make_app: MakeApp) -> None:
    client = make_app(RATELIMIT_DEFAULT="1 per minute").test_client()
    asked = [
        client.get("/", headers={"X-Forwarded-For": f"{forged}, 192.0.2.1"}).status_code
        for forged in ("6.6.6.6", "7.7.7.7", "8.8.8.8")
    ]
    assert asked == [200, 429, 429]


def test_no_window_lets_more_through(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000_000.0]
    monkeypatch.setattr("limits.storage.memory.time.time", lambda: now[0])
    client = make_app(RATELIMIT_DEFAULT="5 per minute").test_client()
    passed = []
    # One early, then many where the window of the first ends.
    for moment in (0, *(50 + half / 2 for half in range(40))):
        now[0] = 1_000_000 + moment
        if client.get("/").status_code == 200:
            passed.append(now[0])
    for start in passed:
        assert sum(start <= moment < start + 60 for moment in passed) <= 5


def test_parallel_requests_cannot_race_the_limit(make_app: MakeApp) -> None:
    app = make_app(RATELIMIT_STRICT="5 per minute")
    barrier, sent = threading.Barrier(20), []

    def send() -> None:
        client = app.test_client()
        barrier.wait(10)
        sent.append(client.post("/contact", data=GOOD).status_code)

    threads = [threading.Thread(target=send) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(sent) == [400] * 5 + [429] * 15


def test_the_client_is_told_what_is_left(make_app: MakeApp) -> None:
    client = make_app(RATELIMIT_DEFAULT="3 per minute").test_client()
    for left in (2, 1, 0):
        answer = client.get("/api/ping")
        assert answer.headers["RateLimit-Policy"] == '"default-60s";q=3;w=60'
        assert answer.headers["RateLimit"].startswith(f'"default-60s";r={left};t=')
        assert "Retry-After" not in answer.headers


def test_a_form_tells_of_both_limits(client: FlaskClient) -> None:
    headers = client.post("/contact", data=GOOD).headers
    assert headers["RateLimit-Policy"] == '"default-60s";q=120;w=60, "contact-60s";q=5;w=60'
    left = r'"default-60s";r=119;t=\d+, "contact-60s";r=4;t=\d+'
    assert re.fullmatch(left, headers["RateLimit"])


@pytest.mark.parametrize("path", ["/", "/api/ping"])
def test_a_refused_client_is_told_when_to_come_back(make_app: MakeApp, path: str) -> None:
    client = make_app(RATELIMIT_DEFAULT="1 per hour").test_client()
    client.get(path)
    answer = client.get(path)
    assert answer.status_code == 429
    seconds = int(answer.headers["Retry-After"])
    assert 3_500 < seconds <= 3_600
    assert f"Please come back in {seconds} seconds." in answer.text
    assert answer.mimetype == ("application/problem+json" if path == "/api/ping" else "text/html")


def test_a_window_that_ends_meanwhile_is_worth_a_second(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_app(RATELIMIT_DEFAULT="1 per minute").test_client()
    client.get("/")
    later = SimpleNamespace(time=lambda: time.time() + 100)  # counted before, told after
    monkeypatch.setattr("app.security.rate_limits.time", later)
    headers = client.get("/").headers
    assert headers["RateLimit"] == '"default-60s";r=0;t=0'
    assert headers["Retry-After"] == "1"


def test_the_log_names_the_purpose_of_what_is_over_both_limits(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str]
) -> None:
    client = make_app(RATELIMIT_DEFAULT="1 per minute", RATELIMIT_STRICT="1 per minute")
    browser = client.test_client()
    assert [browser.post("/csp-report", json={}).status_code for _ in range(2)] == [415, 429]
    assert '"rule": "rate_limits:reports"' in capfd.readouterr().err


def test_coming_back_then_works(make_app: MakeApp) -> None:
    client = make_app(RATELIMIT_DEFAULT="1 per second").test_client()
    client.get("/")
    wait_s = int(client.get("/").headers["Retry-After"])
    time.sleep(wait_s)
    assert client.get("/").status_code == 200


def test_a_second_application_changes_nothing_for_the_first(make_app: MakeApp) -> None:
    first = make_app(RATELIMIT_DEFAULT="2 per minute").test_client()
    assert statuses(first, "/", 1) == [200]
    second = make_app(RATELIMIT_DEFAULT="1 per minute").test_client()
    assert statuses(second, "/", 2) == [200, 429]
    assert statuses(first, "/", 2) == [200, 429]


@pytest.mark.parametrize("name", ["RATELIMIT_DEFAULT", "RATELIMIT_STRICT"])
@pytest.mark.parametrize("limit", ["", "often", "5", "0 per minute", "5 per x"])
def test_a_limit_that_limits_nothing_is_refused(make_app: MakeApp, name: str, limit: str) -> None:
    with pytest.raises(Refusal, match="rate-limit-unreadable"):
        make_app(**{name: limit})


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("", "rate-limit-store-unknown"),
        ("memory", "rate-limit-store-unknown"),
        ("mongodb://x", "rate-limit-store-unknown"),
        ("REDIS://127.0.0.1", "rate-limit-store-unknown"),
        ("redis://", "rate-limit-store-unreadable"),
        ("redis://[::1", "rate-limit-store-unreadable"),
        ("redis://127.0.0.1:0", "rate-limit-store-unreadable"),
        ("redis://127.0.0.1:abc", "rate-limit-store-unreadable"),
    ],
)
def test_a_store_that_cannot_be_used_is_refused(make_app: MakeApp, uri: str, problem: str) -> None:
    with pytest.raises(Refusal) as refusal:
        make_app(RATELIMIT_STORAGE_URI=uri)
    assert [found.id for found in refusal.value.problems] == [problem]


@pytest.mark.parametrize("password", ["p4/ss", "12#ss", "12?ss", "p[4ss"])
def test_a_password_that_is_not_encoded_is_not_shown(make_app: MakeApp, password: str) -> None:
    uri = {"RATELIMIT_STORAGE_URI": f"rediss://:{password}@10.0.0.5:6379"}
    (found,) = rate_limits.problems(Config("", {**make_app().config, **uri}))
    assert found.id == "rate-limit-store-unreadable"
    assert not re.search("p4|12|ss@|p.4", f"{found}")


@pytest.mark.parametrize(
    ("scheme", "library"),
    [("redis", "redis"), ("rediss", "redis"), ("valkey", "valkey"), ("valkeys", "valkey")],
)
def test_a_store_without_its_library_is_refused(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, scheme: str, library: str
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == library else find_spec(name)
    )
    with pytest.raises(Refusal, match=rf"\[rate-limit-store-library\]\s+Type: uv add {library}$"):
        make_app(RATELIMIT_STORAGE_URI=f"{scheme}://127.0.0.1:6379")


def test_a_library_that_no_longer_asks_us_is_refused(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_limiter.Limiter.init_app", lambda *_: None)
    with pytest.raises(
        RuntimeError, match=r"^Flask-Limiter has changed, and no request would be counted\.$"
    ):
        make_app()


def test_a_decorator_of_the_library_adds_a_limit_of_its_own(make_app: MakeApp) -> None:
    app = make_app(RATELIMIT_DEFAULT="2 per minute")
    (limiter,) = app.extensions["limiter"]
    assert isinstance(limiter.limiter, MovingWindowRateLimiter)
    app.add_url_rule("/rare", "rare", limiter.limit("1 per minute")(lambda: "rare"))
    client = app.test_client()
    assert statuses(client, "/rare", 2) == [200, 429]
    assert statuses(client, "/", 1) == [429]  # it has spent what is over everything


def test_a_decorator_of_the_library_limits_what_a_view_calls(make_app: MakeApp) -> None:
    app = make_app()
    (limiter,) = app.extensions["limiter"]

    def dear() -> str:
        return "done"

    limited = limiter.limit("1 per minute")(dear)
    app.add_url_rule("/calls", "calls", lambda: limited())
    assert statuses(app.test_client(), "/calls", 2) == [200, 429]


def test_a_view_counts_tries_of_its_own(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str]
) -> None:
    app = make_app()

    @app.get("/guess/<whom>")
    def guess(whom: str) -> str:
        spend("2 per hour", "guess", whom)
        return "wrong"

    client = app.test_client()
    assert statuses(client, "/guess/ada", 2) == [200, 200]
    answer = client.get("/guess/ada")
    assert answer.status_code == 429
    assert 3_500 < int(answer.headers["Retry-After"]) <= 3_600
    assert '"rule": "rate_limits:guess"' in capfd.readouterr().err
    assert statuses(client, "/guess/grace", 1) == [200]


def test_a_view_that_spends_no_limit_counts_tries_of_its_own_all_the_same(
    make_app: MakeApp,
) -> None:
    app = make_app()

    def guess(filename: str) -> str:
        spend("1 per minute", "guess", filename)
        return "wrong"

    app.view_functions["static"] = guess
    assert statuses(app.test_client(), "/static/ada", 2) == [200, 429]


def test_a_short_wait_is_told_as_it_is(make_app: MakeApp) -> None:
    app = make_app()

    @app.get("/guess")
    def guess() -> str:
        spend("1 per second", "guess", "ada")
        return "wrong"

    client = app.test_client()
    client.get("/guess")
    assert client.get("/guess").headers["Retry-After"] == "1"


def test_what_was_no_guess_is_given_back(make_app: MakeApp) -> None:
    app = make_app(RATELIMIT_DEFAULT="6 per minute", RATELIMIT_STRICT="1 per minute")

    @app.post("/right")
    @strict("right")
    def right() -> str:
        spend("1 per minute", "guess", "ada")
        spend("1 per minute", "guess", "grace")
        give_back()
        return "right"

    client = app.test_client()
    token = api_token(client)
    sent = [client.post("/right", headers=token).status_code for _ in range(6)]
    assert sent == [200] * 5 + [429]  # that anybody asked is not given back


def test_all_of_it_is_given_back(make_app: MakeApp) -> None:
    app = make_app(RATELIMIT_DEFAULT="1 per minute")

    @app.get("/right")
    def right() -> str:
        give_back(all_of_it=True)
        return "right"

    assert statuses(app.test_client(), "/right", 3) == [200] * 3


def test_what_was_not_spent_is_not_given_back(make_app: MakeApp) -> None:
    app = make_app(RATELIMIT_DEFAULT="1 per minute")

    @app.get("/free")
    def free() -> str:
        give_back()
        return "done"

    assert statuses(app.test_client(), "/free", 2) == [200, 429]


@pytest.mark.parametrize(("by_address", "second"), [(True, 429), (False, 200)])
def test_an_account_of_ones_own_is_another_client_unless_the_address_counts(
    make_app: MakeApp, by_address: bool, second: int
) -> None:
    app = make_app(RATELIMIT_STRICT="1 per minute")

    @app.get("/signs-in/<int:account>")
    def sign_in(account: int) -> str:
        session[ACCOUNT] = account
        return "welcome"

    marked = strict("test", by_address=True) if by_address else strict("test")
    app.post("/marked")(marked(lambda: "done"))

    def sent(account: int) -> int:
        client = app.test_client()
        client.get(f"/signs-in/{account}")
        return client.post("/marked", headers=api_token(client)).status_code

    assert [sent(1), sent(2)] == [200, second]


def test_limits_hold_while_the_store_is_down(make_app: MakeApp) -> None:
    pytest.importorskip("redis", reason="needs a store's library: uv run --group live pytest")
    uri = f"redis://127.0.0.1:{free_port()}"
    client = make_app(RATELIMIT_STORAGE_URI=uri, RATELIMIT_DEFAULT="2 per minute").test_client()
    assert statuses(client, "/", 3) == [200, 200, 429]
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.text.splitlines()[0] == "limit storage: down"
