"""Over which scheme, by which name, from whose address: what is decided in front of us.

One function for each question, asked from the outside in; tests/live asks the same ones, in more
ways.
"""

import itertools
import random
import re
import ssl
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from http.client import HTTPException

from ..security_txt import PATH as SECURITY_TXT
from .deployment import Deployment, Headers
from .seen import EVIL, JSON, NOT_SEEN, SHIPPED_PROXY, Seen, Settings, row, shown

SHORTEST_WINDOW_S = 10  # a limit over less is whole again before it has been asked thrice
REFUSALS = ("400", "403", "404", "421")

LINKS: Sequence[Headers] = (
    [("X-Forwarded-Host", EVIL)],
    [("x-forwarded-host", EVIL), ("X-Forwarded-Host", EVIL)],
    [("X-Forwarded-Server", EVIL), ("X-Original-Host", EVIL), ("X-Host", EVIL)],
    [("X-Forwarded-Port", "666"), ("X-Forwarded-Prefix", "/evil"), ("X-Script-Name", "/evil")],
    [("Forwarded", f"for=1.2.3.4;host={EVIL};proto=https")],
    [("X-Original-URL", "/evil"), ("X-Rewrite-URL", "/evil")],
)


def addresses() -> Iterator[Headers]:
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


def https(deployment: Deployment, _settings: Settings) -> Iterator[Seen]:
    """Ask for the first page: when it does not come, nothing else needs to be asked."""
    valid = f"valid for {deployment.host}"
    try:
        with deployment.connected() as connection:
            known = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
    except ssl.SSLCertVerificationError as error:
        yield Seen("certificate", valid, error.verify_message, "certificate")
        return
    until = ssl.cert_time_to_seconds(str((known or {})["notAfter"]))
    yield Seen("certificate", valid, f"{valid} until {datetime.fromtimestamp(until, UTC):%Y-%m-%d}")
    answer = deployment.ask("GET", "/")
    name = {3: "scheme-lost", 4: "unanswered"}.get(answer.status // 100, "unanswered")
    yield row("GET /", "200", shown(answer), "host-lost" if answer.status == 400 else name)


def old_tls(deployment: Deployment, _settings: Settings) -> Iterator[Seen]:
    """Offer what no browser offers any more."""
    context = deployment.tls()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that it is old is the point
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    answered = "refused"
    with (
        deployment.connected_plain() as plain,
        suppress(OSError),
        context.wrap_socket(plain, server_hostname=deployment.host) as connection,
    ):
        answered = str(connection.version())
    yield row("TLS 1.0 and 1.1", "refused", answered, "tls-old")


def no_http(deployment: Deployment) -> str:
    """Return why http cannot be asked, '' if it can."""
    if deployment.http is None:
        return "there is no http port to ask"
    try:
        with deployment.connected("http"):
            return ""
    except OSError:
        return "nobody listens on the http port"


def http_page(
    deployment: Deployment, _settings: Settings, paths: Iterable[str] = ("/contact?a=b",)
) -> Iterator[Seen]:
    """Ask for pages over http: they are at the same path over https."""
    for path in paths:
        answer = deployment.ask("GET", path, scheme="http")
        target = f"308 to https://{deployment.host}{path}"
        answered = shown(answer, "Strict-Transport-Security", "Set-Cookie")
        yield row(f"http: GET {path}", target, answered, "http-answered")


def http_post(
    deployment: Deployment, _settings: Settings, methods: Iterable[str] = ("POST",)
) -> Iterator[Seen]:
    """Send over http what must not be led on: everybody on the way has read it."""
    for method in methods:
        answer = deployment.ask(method, "/api/ping", [JSON], b"{}", scheme="http")
        name = "http-redirected" if 300 <= answer.status < 400 else "http-answered"
        yield row(f"http: {method} /api/ping", "403", shown(answer), name)


def http_scheme(
    deployment: Deployment,
    _settings: Settings,
    claims: Iterable[tuple[str, str]] = (("X-Forwarded-Proto", "https"), ("X-Scheme", "https")),
) -> Iterator[Seen]:
    """Claim over http that it is https."""
    target = f"308 to https://{deployment.host}/"
    for name, value in claims:
        answer = deployment.ask("GET", "/", [(name, value)], scheme="http")
        yield row(f"http: GET /, {name}: {value}", target, shown(answer), "scheme-forged")


def https_scheme(
    deployment: Deployment,
    _settings: Settings,
    claims: Iterable[tuple[str, str]] = (("X-Forwarded-Proto", "http"),),
) -> Iterator[Seen]:
    """Claim over https that it is http."""
    for name, value in claims:
        answer = deployment.ask("GET", "/api/csrf", [(name, value)])
        yield row(f"GET /api/csrf, {name}: {value}", "200", shown(answer), "scheme-forged")


def other_host(
    deployment: Deployment, _settings: Settings, paths: Iterable[str] = ("/",)
) -> Iterator[Seen]:
    """Ask for a name that is not ours; no answer is no answer either."""
    for path, scheme in itertools.product(paths, ("https", "http")):
        if scheme == "https" or deployment.http:
            answered = "no answer"
            with suppress(OSError):
                answered = shown(deployment.ask("GET", path, host=EVIL, scheme=scheme))
            what = f"{scheme}: GET {path}, Host: {EVIL}"
            kept = answered in (*REFUSALS, "no answer")  # a proxy may know its names as well
            yield row(what, " or ".join(REFUSALS), answered, "host-any", kept=kept)


def http_link(
    deployment: Deployment, _settings: Settings, claims: Iterable[Headers] = LINKS
) -> Iterator[Seen]:
    """Ask for a redirect with another name beside the true one."""
    target = f"308 to https://{deployment.host}/contact?a=b"
    for forged in claims:
        answer = deployment.ask("GET", "/contact?a=b", forged, scheme="http")
        yield row(f"http: GET /contact, {forged[0][0]}", target, shown(answer), "link-forged")


def https_link(
    deployment: Deployment, _settings: Settings, claims: Iterable[Headers] = LINKS[::2]
) -> Iterator[Seen]:
    """Read the one text that holds our own URL, with another name beside the true one."""
    promised = f"200 https://{deployment.host}{SECURITY_TXT}"
    for forged in claims:
        answer = deployment.ask("GET", SECURITY_TXT, forged)
        name = "link-forged" if answer.status != 200 or EVIL in answer.text else "host-lost"
        urls = re.findall(r"^Canonical: (.*)$", answer.text, re.MULTILINE)
        answered = " ".join([shown(answer), *urls])
        yield row(f"GET security.txt, {forged[0][0]}", promised, answered, name)


def readiness(deployment: Deployment, _settings: Settings) -> Iterator[Seen]:
    """Ask what only insiders may, where the proxy is ours: a platform passes everything on."""
    if SHIPPED_PROXY:
        yield row("GET /readyz", "404", shown(deployment.ask("GET", "/readyz")), "readyz-outside")


def past_the_proxy(deployment: Deployment, settings: Settings) -> Iterator[Seen]:
    """Ask gunicorn itself."""
    port = settings["BIND"].rpartition(":")[2]
    if settings["PROXY_HOPS"] and port.isdigit():
        past = deployment._replace(http=f"http://{deployment.address()}:{port}")
        text = ""
        with suppress(OSError, HTTPException):
            text = past.ask("GET", "/healthz", scheme="http").text.strip()
        answered = text if "status" in text else "nothing of ours"
        yield row(f"http: port {port}", "nothing of ours", answered, "port-outside")


def forged_address(
    deployment: Deployment, _settings: Settings, claims: Iterable[Headers] = ()
) -> Iterator[Seen]:
    """Be one visitor who claims to be many: everything counts down one allowance."""
    sent: list[float] = []
    answered = "one"
    for forged in [[], [], [], *(claims or itertools.islice(addresses(), 5))]:
        sent.append(time.monotonic())
        answer = deployment.ask("GET", "/", forged)
        window_s, allowance = answer.limits()[-1]
        if window_s < SHORTEST_WINDOW_S:
            answered = f"{NOT_SEEN}the limit is whole again after {window_s} s"
            break
        counted = sum(at > time.monotonic() - window_s + 1 for at in sent)
        if answer.left() > allowance - counted:
            answered = f"{answer.left()} of {allowance} left for {forged}"
            break
    kept = answered == "one" or answered.startswith(NOT_SEEN)
    yield row("allowances by X-Forwarded-For", "one", answered, "hops-too-many", kept=kept)


def two_visitors(deployment: Deployment, _settings: Settings) -> Iterator[Seen]:
    """Be two visitors, from two addresses of this machine: nobody spends another's allowance."""
    what, promised = "allowances of two visitors", "two"
    other = deployment.second_address()
    if other is None:
        yield Seen(what, promised, f"{NOT_SEEN}this machine has one address")
        return
    before = deployment.ask("GET", "/", source=other).left()
    for _ in range(5):
        deployment.ask("GET", "/")
    after = deployment.ask("GET", "/", source=other).left()
    answered = "two" if after >= before - 1 else f"one: {before} left, then {after}"
    yield row(what, promised, answered, "hops-wrong")
