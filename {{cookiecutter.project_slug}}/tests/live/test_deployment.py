"""The attacks over real sockets: on the stack of this machine, or on --base-url.

They harm nothing: a hundred requests from one address, no form that is accepted, no limit spent
that is anybody else's. What a refusal says is the name of the mistake; README.md has them all.
"""

import contextlib
import itertools
import json
import random
import re
import ssl
from collections.abc import Iterator
from http.client import HTTPException

import pytest

from app import config
from app.security.headers import FIXED, HSTS_MAX_AGE_S
from tests.live.deployment import Answer, Deployment
from tests.live.mistakes import mistake

JSON = ("Content-Type", "application/json")
EVIL = "evil.example"
TWO_MEGABYTES = b"z" * 2_000_000
SETTINGS, _ = config.read({})
SHIPPED_PROXY = (config.ROOT / "deploy").exists()

PROXIES = ("nginx", "caddy", "load-balancer", "cdn-nginx")  # without one there is no http port

LINKS = (
    [("X-Forwarded-Host", EVIL)],
    [("x-forwarded-host", EVIL), ("X-Forwarded-Host", EVIL)],
    [("X-Forwarded-Server", EVIL), ("X-Original-Host", EVIL), ("X-Host", EVIL)],
    [("X-Forwarded-Port", "666"), ("X-Forwarded-Prefix", "/evil"), ("X-Script-Name", "/evil")],
    [("Forwarded", f"for=1.2.3.4;host={EVIL};proto=https")],
    [("X-Original-URL", "/evil"), ("X-Rewrite-URL", "/evil")],
)
SCHEMES = (
    "X-Forwarded-Proto",
    "x-forwarded-proto",
    "X-FORWARDED-PROTO",
    "X-Forwarded-Protocol",
    "X-Forwarded-Scheme",
    "X-Url-Scheme",
    "X-Scheme",
    "Front-End-Https",
    "X-Forwarded-Ssl",
)


def addresses() -> Iterator[list[tuple[str, str]]]:
    """Yield forged headers that each claim an address nobody has claimed yet."""
    for number in itertools.count(random.randrange(2**16)):  # noqa: S311  no secret
        one = f"198.18.{number // 256 % 256}.{number % 256}"  # RFC 2544: nobody's
        yield [("X-Forwarded-For", one)]
        yield [("x-forwarded-for", one)]
        yield [("X-FORWARDED-FOR", f"{one}:51234")]
        yield [("X-Forwarded-For", f"{one}, {one}")]
        yield [("X-Forwarded-For", f"{one},{one},{one},{one},{one},{one}")]
        yield [("X-Forwarded-For", one), ("X-Forwarded-For", one)]
        yield [("X-Forwarded-For", f"2001:db8:{number:x}::1")]
        yield [("X-Forwarded-For", f'"[2001:db8:{number:x}::1]:80"')]
        yield [("X-Forwarded-For", f"unknown-{number}")]
        yield [("X-Forwarded-For", f"{one},")]
        yield [("Forwarded", f"for={one};proto=https")]
        yield [("X-Real-IP", one), ("True-Client-IP", one), ("CF-Connecting-IP", one)]
        yield [("X-Client-IP", one), ("X-Cluster-Client-IP", one), ("X-Original-For", one)]


@pytest.fixture(scope="module")
def page(deployment: Deployment) -> Answer:
    """Return the first page: when it does not come, nothing else needs to be asked."""
    answer = deployment.ask("GET", "/")
    if answer.status in (301, 302, 307, 308):
        pytest.fail(mistake("scheme-lost", answer.status, answer.get("Location")))
    if answer.status == 400:
        pytest.fail(mistake("host-lost", f"400 for Host: {deployment.host}"))
    assert answer.status == 200
    again = deployment.ask("GET", "/").get("X-Request-ID")
    assert again != answer.get("X-Request-ID"), mistake("cached", again)
    return answer


# -- Whose request it is


def test_a_forged_address_is_nobody(deployment: Deployment, page: Answer) -> None:
    claims: list[list[tuple[str, str]]] = [[], [], [], *itertools.islice(addresses(), 13)]
    for spent, forged in enumerate(claims, 1):
        answer = deployment.ask("GET", "/", forged)
        left = answer.left()
        assert left <= answer.allowance() - spent, mistake("hops-too-many", forged, f"r={left}")


def test_nobody_spends_anothers_allowance(deployment: Deployment, page: Answer) -> None:
    other = deployment.second_address()
    if other is None:
        pytest.skip("needs a second address: compare RateLimit from another network by hand")
    before = deployment.ask("GET", "/", source=other).left()
    for _ in range(5):
        deployment.ask("GET", "/")
    after = deployment.ask("GET", "/", source=other).left()
    assert after >= before - 1, mistake("hops-wrong", f"r={before}", f"r={after}")


# -- Over which scheme


def test_https_is_not_redirected(deployment: Deployment, page: Answer) -> None:
    for path in ("/", "/contact", "/api/ping"):
        answer = deployment.ask("GET", path)
        assert answer.status == 200, mistake("scheme-lost", path, answer.status)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_forged_scheme_is_no_scheme(deployment: Deployment, page: Answer, name: str) -> None:
    for value in ("http", "off"):
        answer = deployment.ask("GET", "/api/csrf", [(name, value)])
        assert answer.status == 200, mistake("scheme-forged", f"{name}: {value}", answer.status)


def http(deployment: Deployment) -> Deployment:
    """Return the deployment, if it has an http port that can be reached."""
    if deployment.http is None:
        pytest.skip("there is no http port: nothing to ask (--http-url names another than 80)")
    try:
        with deployment.connected("http"):
            return deployment
    except OSError:
        pytest.skip("nobody listens on the http port")


@pytest.mark.behind(*PROXIES)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_http_takes_nothing_else(deployment: Deployment, method: str) -> None:
    answer = http(deployment).ask(method, "/api/ping", [JSON], b"{}", scheme="http")
    name = "http-redirected" if 300 <= answer.status < 400 else "http-answered"
    assert answer.status == 403, mistake(name, method, answer.status, answer.get("Location"))
    assert not answer.get("Location")


@pytest.mark.behind(*PROXIES)
def test_http_leads_to_https(deployment: Deployment) -> None:
    for path in ("/", "/contact?a=b", "/static/style.css", "/nothing"):
        answer = http(deployment).ask("GET", path, scheme="http")
        target = f"https://{deployment.host}{path}"
        seen = mistake("http-answered", path, answer.status, answer.get("Location"))
        assert (answer.status, answer.get("Location")) == (308, target), seen
        assert not answer.get("Strict-Transport-Security")
        assert not answer.get("Set-Cookie")


@pytest.mark.behind(*PROXIES)
@pytest.mark.parametrize("name", SCHEMES)
def test_http_cannot_claim_to_be_https(deployment: Deployment, name: str) -> None:
    for value in ("https", "on", "https, https"):
        answer = http(deployment).ask("GET", "/", [(name, value)], scheme="http")
        assert answer.status == 308, mistake("scheme-forged", f"{name}: {value}", answer.status)


# -- By which name


@pytest.mark.behind(*PROXIES)
@pytest.mark.parametrize("forged", LINKS, ids=lambda forged: forged[0][0])
def test_a_redirect_cannot_be_poisoned(
    deployment: Deployment, forged: list[tuple[str, str]]
) -> None:
    answer = http(deployment).ask("GET", "/contact?a=b", forged, scheme="http")
    target = f"https://{deployment.host}/contact?a=b"
    seen = mistake("link-forged", forged, answer.get("Location"))
    assert (answer.status, answer.get("Location")) == (308, target), seen


@pytest.mark.parametrize("forged", LINKS, ids=lambda forged: forged[0][0])
def test_a_page_cannot_be_poisoned(
    deployment: Deployment, page: Answer, forged: list[tuple[str, str]]
) -> None:
    answer = deployment.ask("GET", "/.well-known/security.txt", forged)
    assert answer.status == 200, mistake("link-forged", forged, answer.status)
    assert f"https://{deployment.host}/" in answer.text, mistake("host-lost", answer.text)
    assert EVIL not in answer.text, mistake("link-forged", forged)


@pytest.mark.parametrize("path", ["/", "/contact", "/static/style.css", "/api/ping"])
def test_another_name_is_not_answered(deployment: Deployment, page: Answer, path: str) -> None:
    for scheme in ("https", "http"):
        if scheme == "http" and deployment.http is None:
            continue
        with contextlib.suppress(OSError):  # no answer is no answer either
            answer = deployment.ask("GET", path, host=EVIL, scheme=scheme)
            seen = mistake("host-any", scheme, path, answer.status, answer.get("Location"))
            assert answer.status in (400, 403, 404, 421), seen
            assert not answer.get("Location"), seen


def test_monitors_are_answered_by_any_name(deployment: Deployment) -> None:
    schemes = ["https"] if deployment.http is None else ["https", "http"]
    for scheme in schemes:
        answer = deployment.ask("GET", "/healthz", host="10.0.0.1", scheme=scheme)
        if SHIPPED_PROXY or deployment.is_on_loopback():  # a platform may keep other names away
            assert (answer.status, json.loads(answer.text)) == (200, {"status": "ok"})
            assert not answer.get("Set-Cookie")


# -- What it says


def kinds(deployment: Deployment) -> Iterator[tuple[str, Answer]]:
    """Yield one answer of every kind."""
    yield "page", deployment.ask("GET", "/")
    yield "json", deployment.ask("GET", "/api/ping")
    yield "static", deployment.ask("GET", "/static/style.css")
    yield "error", deployment.ask("GET", "/nothing")
    yield "api error", deployment.ask("GET", "/api/nothing")


def test_headers_arrive_once_and_unchanged(deployment: Deployment, page: Answer) -> None:
    transport = f"max-age={HSTS_MAX_AGE_S}"
    transport += "; includeSubDomains" * SETTINGS["HSTS_INCLUDE_SUBDOMAINS"]
    for kind, answer in kinds(deployment):
        promised = {**FIXED, "Strict-Transport-Security": transport}
        if kind == "static":
            promised["Cache-Control"] = "no-cache"
        for name, value in promised.items():
            sent = answer.all(name)
            assert sent == [value], mistake("headers-changed", kind, f"{name}: {sent}")
        (policy,) = answer.all("Content-Security-Policy") or [""]
        for directive in ("default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"):
            assert directive in policy, mistake("headers-changed", kind, policy)
        assert len(answer.all("X-Request-ID")) == 1 or kind == "static"
        for name in ("X-Powered-By", "X-XSS-Protection", "Expect-CT"):
            assert not answer.get(name), mistake("headers-changed", kind, name)


def test_every_page_has_a_nonce_of_its_own(deployment: Deployment, page: Answer) -> None:
    policies = {deployment.ask("GET", "/").get("Content-Security-Policy") for _ in range(3)}
    assert len(policies) == 3, mistake("cached", policies)


def test_nobody_shares_a_token(deployment: Deployment, page: Answer) -> None:
    answers = [deployment.ask("GET", "/api/csrf") for _ in range(2)]
    assert len({answer.text for answer in answers}) == 2, mistake("cached", "/api/csrf")
    assert len({answer.cookies() for answer in answers}) == 2, mistake("cached", "Set-Cookie")


def test_errors_say_nothing_of_how_it_is_built(deployment: Deployment, page: Answer) -> None:
    for path in ("/nothing", "/api/nothing", "/%00", "/static/../app/config.py", "/" + "a" * 3000):
        answer = deployment.ask("GET", path)
        assert answer.status in (400, 404, 414)
        assert not re.search(r"Traceback|Werkzeug|gunicorn|/srv|/home|\.py", answer.text)
    for kind, answer in kinds(deployment):
        server = answer.get("Server")
        assert not re.search(r"\d", server), mistake("version-told", kind, server)


def test_security_txt_says_where_to_report(deployment: Deployment, page: Answer) -> None:
    answer = deployment.ask("GET", "/.well-known/security.txt")
    assert answer.status == 200
    assert f"Contact: {SETTINGS['SECURITY_CONTACT']}" in answer.text


# -- Who may send what


def test_a_cookie_is_for_this_host_alone(deployment: Deployment, page: Answer) -> None:
    (cookie,) = deployment.ask("GET", "/api/csrf").all("Set-Cookie")
    assert cookie.startswith("__Host-")
    for flag in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
        assert flag in cookie, mistake("headers-changed", cookie)
    assert "Domain" not in cookie


def test_a_post_needs_a_token_and_our_own_origin(deployment: Deployment, page: Answer) -> None:
    ours = ("Origin", f"https://{deployment.host}")
    start = deployment.ask("GET", "/api/csrf")
    known = [JSON, ("Cookie", start.cookies())]
    token = ("X-CSRFToken", json.loads(start.text)["csrf_token"])
    body = b'{"message": "hello"}'

    def send(*headers: tuple[str, str]) -> int:
        return deployment.ask("POST", "/api/ping", [*known, *headers], body).status

    assert send(ours, token) == 200
    assert send(ours) == 400
    assert send(ours, ("X-CSRFToken", "forged")) == 400
    assert send(token, ("Origin", f"https://{EVIL}")) == 403
    assert send(token, ("Origin", "null")) == 403
    assert send(token, ("Origin", f"http://{deployment.host}")) == 403
    assert send(token, ("Referer", f"https://{EVIL}/")) == 403
    assert send(token, ("Sec-Fetch-Site", "cross-site")) == 403
    assert deployment.ask("POST", "/api/ping", [JSON, ours, token], body).status == 400


def test_only_named_sites_may_read_the_api(deployment: Deployment, page: Answer) -> None:
    allowed = SETTINGS["CORS_ALLOWED_ORIGINS"]
    refused = [f"https://{EVIL}", "null", f"https://{deployment.host}.{EVIL}"]
    for origin in [*allowed, *refused]:
        expected = [origin] if origin in allowed else []
        asks = [("Origin", origin), ("Access-Control-Request-Method", "POST")]
        for method, headers in (("GET", asks[:1]), ("OPTIONS", asks)):
            answer = deployment.ask(method, "/api/ping", headers)
            sent = answer.all("Access-Control-Allow-Origin")
            assert sent == expected, mistake("headers-changed", method, origin, sent)
            assert "Origin" in answer.get("Vary"), mistake("headers-changed", "Vary")


def test_a_large_body_is_refused(deployment: Deployment, page: Answer) -> None:
    form = ("Content-Type", "application/x-www-form-urlencoded")
    for path, kind in (("/contact", form), ("/api/ping", JSON)):
        try:
            answer = deployment.ask("POST", path, [kind], TWO_MEGABYTES)
        except OSError:
            continue  # closed before all was sent: refused as well
        # The application refuses before it has read all; a platform that is still sending then
        # may find the connection closed, and say so.
        refused = (413,) if SHIPPED_PROXY else (413, 502, 503)
        assert answer.status in refused, mistake("body-unbounded", path, answer.status)


# -- What must not be reachable


def test_readiness_is_for_insiders(deployment: Deployment, page: Answer) -> None:
    if SHIPPED_PROXY:  # a platform passes everything on
        answer = deployment.ask("GET", "/readyz")
        assert answer.status == 404, mistake("readyz-outside", answer.status)


def test_nobody_gets_past_the_proxy(deployment: Deployment, pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("--base-url"):  # the stack's own port is nobody else's
        port = SETTINGS["BIND"].rpartition(":")[2]
        past = deployment._replace(http=f"http://{deployment.address()}:{port}")
        with contextlib.suppress(OSError, HTTPException):
            answer = past.ask("GET", "/healthz", scheme="http")
            assert "status" not in answer.text, mistake("port-outside", past.http)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # that it is old is the point
def test_old_tls_is_refused(deployment: Deployment) -> None:
    context = deployment.tls()
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    accepted = None
    with deployment.connected_plain() as plain, contextlib.suppress(OSError):
        accepted = context.wrap_socket(plain, server_hostname=deployment.host).version()
    assert accepted is None, mistake("tls-old", accepted)
