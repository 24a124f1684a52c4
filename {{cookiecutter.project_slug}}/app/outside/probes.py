"""What a deployment answers, beside what its settings promise.

One function for each question; tests/live asks the same ones, in more ways. They harm nothing:
some fifty requests, no form that is accepted, no log-in, no limit spent that is anybody else's.
"""

import re
import ssl
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from limits import parse_many

from ..security import headers
from ..security_txt import PATH as SECURITY_TXT
from . import edge
from .deployment import Deployment, TooOften
from .seen import EVIL, JSON, NOT_SEEN, SHIPPED_PROXY, Probe, Seen, Settings, row, shown, to_its_end

MOST_SENT = 20_000_000  # bytes of one request
ABSENT = ("X-Powered-By", "X-XSS-Protection", "Expect-CT")
COOKIE = "__Host-session; HttpOnly; Path=/; SameSite=Lax; Secure"
NONCE = re.compile(r" 'nonce-[^']+'")


def look(deployment: Deployment, settings: Mapping[str, Any]) -> Iterator[Seen]:
    """Yield every row, from the outside in; only the first ones if there is no page over https.

    `settings` are those of app/config.py; `mistake` is a name of app/outside/mistakes.py.
    """
    try:
        first = list(to_its_end(edge.https(deployment, settings), "https"))
        yield from first
        if not any(seen.mistake for seen in first):
            for probe in PROBES:
                yield from to_its_end(probe(deployment, settings), probe.__name__)
    except TooOften as error:
        yield Seen("everything else", "an answer", str(error), "unanswered")


def over_http(deployment: Deployment, settings: Settings) -> Iterator[Seen]:
    """Ask everything that is asked over http, if anybody listens."""
    if closed := edge.no_http(deployment):
        yield Seen("http", "leads to https, or is closed", closed)
        return
    for probe in (edge.http_page, edge.http_post, edge.http_scheme, edge.http_link):
        yield from to_its_end(probe(deployment, settings), probe.__name__)


def health(
    deployment: Deployment,
    _settings: Settings,
    asks: Iterable[tuple[str, str | None]] = (("https", None),),
) -> Iterator[Seen]:
    """Ask as a monitor does: by scheme and name, the deployment's own if that is None."""
    for scheme, host in asks:
        answer = deployment.ask("GET", "/healthz", scheme=scheme, host=host)
        answered = f"{shown(answer, 'Set-Cookie')} {answer.text.strip()}"
        yield row(f"{scheme}: GET /healthz", '200 {"status":"ok"}', answered, "unanswered")


def tokens(deployment: Deployment, _settings: Settings) -> Iterator[Seen]:
    """Be two visitors: what one has got is not kept for the other."""
    one, other = (deployment.ask("GET", "/api/csrf") for _ in range(2))
    shared = one.text == other.text or one.cookies() == other.cookies()
    yield row("tokens of two visitors", "two", "one" if shared else "two", "cached")


def policies(deployment: Deployment, settings: Settings) -> Iterator[Seen]:
    """Read the limit over everything."""
    limits = parse_many(settings["RATELIMIT_DEFAULT"])
    promised = _limits(sorted((limit.get_expiry(), limit.amount) for limit in limits))
    answered = _limits(deployment.ask("GET", "/").limits())
    yield row("RATELIMIT_DEFAULT", promised, answered, "settings-other")


def _limits(limits: Iterable[tuple[int, int]]) -> str:
    return ", ".join(f"{window_s} s: {amount} requests" for window_s, amount in limits)


def security_headers(
    deployment: Deployment,
    settings: Settings,
    paths: Iterable[str] = ("/", "/api/ping", "/static/style.css"),
) -> Iterator[Seen]:
    """Compare every header of app/security/headers.py; the nonce is the answer's own."""
    for path in paths:
        answer = deployment.ask("GET", path)
        page = answer.get("Content-Type").startswith(headers.PAGE)
        # A proxy may answer that itself, without an id; what is not there is the application's.
        static = path.startswith("/static/") and answer.status == 200
        promised = headers.promised(settings, page=page)
        if static:
            promised["Cache-Control"] = "no-cache"
        if static or (answer.status >= 400 and not page):
            del promised["Cross-Origin-Embedder-Policy"]
        sent = {name: _plain(*answer.all(name)) for name in promised}
        wrong = [
            f"{n}: {sent[n] or '-'}" for n, value in promised.items() if sent[n] != _plain(value)
        ]
        wrong += [f"{name}: {answer.get(name)}" for name in ABSENT if answer.all(name)]
        if len(answer.all("X-Request-ID")) != 1 and not static:
            wrong.append(f"X-Request-ID: {answer.all('X-Request-ID')}")
        whole = f"{len(promised)} headers, each once"
        yield row(f"GET {path}, headers", whole, "; ".join(wrong) or whole, "headers-changed")


def _plain(*values: str) -> str:
    """Return what a header says, whatever its nonce and blanks; every value, if it came often."""
    parts = (NONCE.sub("", value).split(";") for value in values)
    return " | ".join("; ".join(part.strip() for part in of_one) for of_one in parts)


def version(
    deployment: Deployment, _settings: Settings, paths: Iterable[str] = ("/",)
) -> Iterator[Seen]:
    """Read what says which version an attacker has to look up."""
    for path in paths:
        server = deployment.ask("GET", path).get("Server")
        kept = not re.search(r"\d", server)
        yield row(f"GET {path}, Server", "no version", server or "none", "version-told", kept=kept)


def cookie(deployment: Deployment, _settings: Settings) -> Iterator[Seen]:
    """Read whose the cookie is; app/security/sessions.py says so."""
    answer = deployment.ask("GET", "/api/csrf")
    answered = " | ".join(map(_cookie, answer.all("Set-Cookie")))
    yield row("Set-Cookie", COOKIE, answered, "headers-changed")


def _cookie(answer: str) -> str:
    """Return the name and the attributes in order, without what differs from one to another."""
    pair, *attributes = (part.strip() for part in answer.split(";"))
    lasting = [each for each in attributes if not each.startswith(("Expires=", "Max-Age="))]
    return "; ".join([pair.partition("=")[0], *sorted(lasting)])


def other_origins(
    deployment: Deployment, settings: Settings, origins: Iterable[str] = ()
) -> Iterator[Seen]:
    """Ask from an allowed site and from another one, and before a POST from there."""
    allowed = settings["CORS_ALLOWED_ORIGINS"]
    for origin in origins or [*allowed[:1], f"https://{EVIL}"]:
        asks = [("Origin", origin), ("Access-Control-Request-Method", "POST")]
        promised = f"read by {origin if origin in allowed else 'nobody'}, varies"
        for method, sent in (("GET", asks[:1]), ("OPTIONS", asks)):
            answer = deployment.ask(method, "/api/ping", sent)
            by = answer.get("Access-Control-Allow-Origin") or "nobody"
            answered = f"read by {by}" + ", varies" * ("Origin" in answer.get("Vary"))
            what = f"{method} /api/ping, Origin: {origin}"
            yield row(what, promised, answered, "headers-changed")


def forged_post(deployment: Deployment, _settings: Settings) -> Iterator[Seen]:
    """Post without a token, from here and from another site."""
    for origin, promised in ((f"https://{deployment.host}", "400"), (f"https://{EVIL}", "403")):
        answer = deployment.ask("POST", "/api/ping", [JSON, ("Origin", origin)], b"{}")
        what = f"POST /api/ping, Origin: {origin}, no token"
        yield row(what, promised, shown(answer), "request-changed")


def large_body(
    deployment: Deployment,
    settings: Settings,
    forms: Iterable[tuple[str, tuple[str, str]]] = (("/api/ping", JSON),),
) -> Iterator[Seen]:
    """Send twice as much as is taken."""
    size = 2 * settings["MAX_CONTENT_LENGTH"]
    # The application refuses before it has read all; a platform that is still sending then may
    # find the connection closed, and say so.
    refusals = ("413", "closed") if SHIPPED_PROXY else ("413", "closed", "502", "503")
    for path, kind in forms:
        what = f"POST {path}, {size} bytes"
        if size > MOST_SENT:
            yield Seen(what, "413", f"{NOT_SEEN}too many to send")
            continue
        try:
            answered = shown(deployment.ask("POST", path, [kind], b"z" * size))
        except (ConnectionError, ssl.SSLError):
            answered = "closed"  # before all was sent: refused as well
        yield row(what, "413", answered, "body-unbounded", kept=answered in refusals)


def security_txt(deployment: Deployment, settings: Settings) -> Iterator[Seen]:
    """Read where to report a weakness, and until when."""
    answer = deployment.ask("GET", SECURITY_TXT)
    said = dict(re.findall(r"^(Contact|Expires): (\S+)$", answer.text, re.MULTILINE))
    promised = f"200 {settings['SECURITY_CONTACT']} until {settings['SECURITY_TXT_EXPIRES']}"
    day = said.get("Expires", "").partition("T")[0]
    answered = f"{shown(answer)} {said.get('Contact', '')} until {day}"
    over = day <= f"{datetime.now(UTC):%Y-%m-%d}"
    kept = answered == promised and not over
    yield row("GET security.txt", promised, answered, "settings-other", kept=kept)


PROBES: tuple[Probe, ...] = (
    edge.old_tls,
    over_http,
    edge.https_scheme,
    edge.other_host,
    edge.https_link,
    health,
    edge.readiness,
    edge.past_the_proxy,
    tokens,  # before what compares answers: one from a cache would say something else there
    policies,
    edge.forged_address,
    edge.two_visitors,
    security_headers,
    version,
    cookie,
    other_origins,
    forged_post,
    large_body,
    security_txt,
)
