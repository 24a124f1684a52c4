"""The attacks over real sockets: on the stack of this machine, or on --base-url.

They harm nothing: a hundred requests from one address, no form that is accepted, no limit spent
that is anybody else's. What a refusal says is the name of the mistake; docs/proxy.md has them all.
"""

import itertools
import json
import re
from collections.abc import Iterator

import pytest

from app import config
from app.outside import edge, probes
from app.outside.deployment import Deployment, Headers
from app.outside.mistakes import mistake
from app.outside.seen import EVIL, JSON, NOT_SEEN, SHIPPED_PROXY, Seen, to_its_end

SETTINGS, _ = config.read({})
PROXIES = ("nginx", "caddy", "load-balancer", "cdn-nginx")  # without one there is no http port

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
KINDS = ("/", "/api/ping", "/static/style.css", "/nothing", "/api/nothing")


def as_promised(rows: Iterator[Seen]) -> None:
    """Fail with the mistakes that a probe has seen; skip if there was nothing to see from here."""
    seen = list(to_its_end(rows, "the question"))
    wrong = [mistake(row.mistake, row.what, row.answered) for row in seen if row.mistake]
    assert not wrong, "\n".join(wrong)
    if seen and all(row.answered.startswith(NOT_SEEN) for row in seen):
        pytest.skip(seen[0].answered)


@pytest.fixture(scope="module")
def page(deployment: Deployment) -> None:
    """See the first page, and none from a cache: else nothing else needs to be asked."""
    as_promised(edge.https(deployment, SETTINGS))
    as_promised(probes.tokens(deployment, SETTINGS))


# -- Whose request it is


def test_the_limit_is_the_settings(deployment: Deployment, page: None) -> None:
    as_promised(probes.policies(deployment, SETTINGS))


def test_a_forged_address_is_nobody(deployment: Deployment, page: None) -> None:
    claims = itertools.islice(edge.addresses(), 13)
    as_promised(edge.forged_address(deployment, SETTINGS, claims))


def test_nobody_spends_anothers_allowance(deployment: Deployment, page: None) -> None:
    as_promised(edge.two_visitors(deployment, SETTINGS))


# -- Over which scheme


def test_https_is_not_redirected(deployment: Deployment, page: None) -> None:
    for path in ("/", "/contact", "/api/ping"):
        answer = deployment.ask("GET", path)
        assert answer.status == 200, mistake("scheme-lost", path, answer.status)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_forged_scheme_is_no_scheme(deployment: Deployment, page: None, name: str) -> None:
    as_promised(edge.https_scheme(deployment, SETTINGS, [(name, "http"), (name, "off")]))


def http(deployment: Deployment) -> Deployment:
    """Return the deployment, if it has an http port that can be reached."""
    if reason := edge.no_http(deployment):
        pytest.skip(f"{reason} (--http-url names another than 80)")
    return deployment


@pytest.mark.behind(*PROXIES)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_http_takes_nothing_else(deployment: Deployment, method: str) -> None:
    as_promised(edge.http_post(http(deployment), SETTINGS, [method]))


@pytest.mark.behind(*PROXIES)
def test_http_leads_to_https(deployment: Deployment) -> None:
    paths = ("/", "/contact?a=b", "/static/style.css", "/nothing")
    as_promised(edge.http_page(http(deployment), SETTINGS, paths))


@pytest.mark.behind(*PROXIES)
@pytest.mark.parametrize("name", SCHEMES)
def test_http_cannot_claim_to_be_https(deployment: Deployment, name: str) -> None:
    claims = [(name, value) for value in ("https", "on", "https, https")]
    as_promised(edge.http_scheme(http(deployment), SETTINGS, claims))


# -- By which name


@pytest.mark.behind(*PROXIES)
@pytest.mark.parametrize("forged", edge.LINKS, ids=lambda forged: forged[0][0])
def test_a_redirect_cannot_be_poisoned(deployment: Deployment, forged: Headers) -> None:
    as_promised(edge.http_link(http(deployment), SETTINGS, [forged]))


@pytest.mark.parametrize("forged", edge.LINKS, ids=lambda forged: forged[0][0])
def test_a_page_cannot_be_poisoned(deployment: Deployment, page: None, forged: Headers) -> None:
    as_promised(edge.https_link(deployment, SETTINGS, [forged]))


@pytest.mark.parametrize("path", ["/", "/contact", "/static/style.css", "/api/ping"])
def test_another_name_is_not_answered(deployment: Deployment, page: None, path: str) -> None:
    as_promised(edge.other_host(deployment, SETTINGS, [path]))


def test_monitors_are_answered_by_any_name(deployment: Deployment) -> None:
    if SHIPPED_PROXY or deployment.is_on_loopback():  # a platform may keep other names away
        schemes = ["https"] if deployment.http is None else ["https", "http"]
        asks = [(scheme, "10.0.0.1") for scheme in schemes]
        as_promised(probes.health(deployment, SETTINGS, asks))


# -- What it says


def test_headers_arrive_once_and_unchanged(deployment: Deployment, page: None) -> None:
    as_promised(probes.security_headers(deployment, SETTINGS, KINDS))


def test_every_page_has_a_nonce_of_its_own(deployment: Deployment, page: None) -> None:
    policies = {deployment.ask("GET", "/").get("Content-Security-Policy") for _ in range(3)}
    assert len(policies) == 3, mistake("cached", policies)


def test_errors_say_nothing_of_how_it_is_built(deployment: Deployment, page: None) -> None:
    for path in ("/nothing", "/api/nothing", "/%00", "/static/../app/config.py", "/" + "a" * 3000):
        answer = deployment.ask("GET", path)
        assert answer.status in (400, 404, 414)
        assert not re.search(r"Traceback|Werkzeug|gunicorn|/srv|/home|\.py", answer.text)
    as_promised(probes.version(deployment, SETTINGS, KINDS))


def test_security_txt_says_where_to_report(deployment: Deployment, page: None) -> None:
    as_promised(probes.security_txt(deployment, SETTINGS))


# -- Who may send what


def test_a_cookie_is_for_this_host_alone(deployment: Deployment, page: None) -> None:
    as_promised(probes.cookie(deployment, SETTINGS))


def test_a_post_needs_a_token_and_our_own_origin(deployment: Deployment, page: None) -> None:
    as_promised(probes.forged_post(deployment, SETTINGS))
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


def test_only_named_sites_may_read_the_api(deployment: Deployment, page: None) -> None:
    allowed = SETTINGS["CORS_ALLOWED_ORIGINS"]
    refused = [f"https://{EVIL}", "null", f"https://{deployment.host}.{EVIL}"]
    as_promised(probes.other_origins(deployment, SETTINGS, [*allowed, *refused]))


def test_a_large_body_is_refused(deployment: Deployment, page: None) -> None:
    form = ("Content-Type", "application/x-www-form-urlencoded")
    forms = (("/contact", form), ("/api/ping", JSON))
    as_promised(probes.large_body(deployment, SETTINGS, forms))


# -- What must not be reachable


def test_readiness_is_for_insiders(deployment: Deployment, page: None) -> None:
    as_promised(edge.readiness(deployment, SETTINGS))


def test_nobody_gets_past_the_proxy(deployment: Deployment, pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("--base-url"):  # the stack's own port is nobody else's
        as_promised(edge.past_the_proxy(deployment, SETTINGS))


def test_old_tls_is_refused(deployment: Deployment) -> None:
    as_promised(edge.old_tls(deployment, SETTINGS))
