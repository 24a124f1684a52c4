"""Bound how often one client may ask: guessing, flooding and spam live on repetition.

Two limits, both counted before anything else is done with the request (ASVS 2.4.1):
RATELIMIT_DEFAULT over everything together, and RATELIMIT_STRICT for each purpose that a view is
marked with. A view is marked, not wrapped, so that no order of decorators can lose the limit.
"""

import importlib.util
import ipaddress
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeVar, cast
from urllib.parse import urlsplit

from flask import Config, Flask, Response, current_app, g, request, session
from flask_limiter import ApplicationLimit, Limiter
from limits import RateLimitItem, parse_many
from werkzeug.exceptions import TooManyRequests

from .. import rate_limit_storage
from ..problem import Problem

View = TypeVar("View", bound=Callable[..., object])

# Endpoints that spend no limit, each with its reason; `flask limits` shows them.
FREE: Mapping[str, str] = {
    "static": "files that anybody may have, cheap to serve",
    "healthz": "monitors ask often, and it touches nothing",
    "readyz": "monitors ask often, and its answer is kept for a second",
}

ACCOUNT = "account"  # in the session, which is signed
DEFAULT = "default"

SERVERS = {"redis": "redis", "rediss": "redis", "valkey": "valkey", "valkeys": "valkey"}


def strict(purpose: str, *, by_address: bool = False) -> Callable[[View], View]:
    """Mark a view: its POST requests spend RATELIMIT_STRICT, counted per client and purpose.

    `by_address`: who is signed in counts as nobody; for what makes accounts or guesses at them.
    """

    def mark(view: View) -> View:
        vars(view)["strict_purpose"] = purpose
        vars(view)["strict_by_address"] = by_address
        return view

    return mark


def init_app(app: Flask) -> None:
    """Count every request but preflights, static files and the health paths.

    app/rate_limit_storage.py does the counting.
    """
    scheme, colon, rest = app.config["RATELIMIT_STORAGE_URI"].partition(":")
    limiter = Limiter(  # one per app: a shared one keeps the last app's store for all
        client_key,
        application_limits=[
            ApplicationLimit(app.config["RATELIMIT_DEFAULT"], scope=DEFAULT),
            ApplicationLimit(
                app.config["RATELIMIT_STRICT"],
                key_function=_strict_key,
                scope=lambda _endpoint: _purpose() or "",
                exempt_when=lambda: _purpose() is None,
            ),
        ],
        # Flask-Limiter reads RATELIMIT_DEFAULT as one limit per endpoint; ours is over all.
        default_limits_exempt_when=lambda: True,
        strategy="moving-window",  # fixed-window let 9 through where 5 are allowed
        storage_uri=f"{rate_limit_storage.SCHEMES[scheme]}{colon}{rest}",
        # Without an endpoint nothing would be counted: unknown paths and wrong methods.
        request_identifier=lambda: request.endpoint or "nothing",
        fail_on_first_breach=False,  # a request over one limit spends the other as well
    )
    limiter.request_filter(lambda: request.method == "OPTIONS")
    limiter.init_app(app)
    app.extensions["rate_limits"] = limiter
    app.after_request(_tell)


def problems(config: Config) -> Iterator[Problem]:
    """Yield limits that Flask-Limiter would log and drop, and stores that cannot be used."""
    for name in ("RATELIMIT_DEFAULT", "RATELIMIT_STRICT"):
        try:
            unlimited = any(item.amount < 1 for item in parse_many(config[name]))
        except ValueError:
            unlimited = True
        if unlimited:
            yield Problem(
                "rate-limit-unreadable",
                f"{name}: {config[name]!r} is not a limit.",
                f'A number per second, minute, hour or day: {name} = "5 per minute"',
            )
    scheme = urlsplit(config["RATELIMIT_STORAGE_URI"]).scheme
    if scheme != "memory" and scheme not in SERVERS:
        yield Problem(
            "rate-limit-store-unknown",
            f"RATELIMIT_STORAGE_URI begins with {scheme!r}.",
            'One of memory://, redis://, rediss://, valkey://, valkeys://: "redis://10.0.0.5:6379"',
        )
    elif scheme in SERVERS and not importlib.util.find_spec(SERVERS[scheme]):
        yield Problem(
            "rate-limit-store-library",
            f"RATELIMIT_STORAGE_URI: the library for {scheme}:// is not installed.",
            f"Type: uv add {SERVERS[scheme]}",
        )


def spend(limits: str, scope: str, key: str) -> None:
    """Count one try against limits of a view's own, such as the guesses at one account.

    `limits` is text such as "20 per hour", `key` whose try it is. Every try counts, before it is
    known what comes of it, so that no number of parallel ones passes; see `give_back`.
    Raises TooManyRequests, with the seconds to wait, when there is no room.
    """
    for item in parse_many(limits):
        if not _limiter().limiter.hit(item, key, scope):
            reset = _limiter().limiter.get_window_stats(item, key, scope).reset_time
            raise TooManyRequests(scope, retry_after=max(1, math.ceil(reset - time.time())))
        g.setdefault("tries", []).append((item, [key, scope]))


def give_back() -> None:
    """Return what this request spent, but for RATELIMIT_DEFAULT: it was no guess."""
    spent: list[tuple[RateLimitItem, list[str]]] = g.pop("tries", [])
    for limit in _limiter().current_limits:
        if limit.request_args[-1] != DEFAULT:
            spent.append((limit.limit, limit.request_args))
    storage = cast("rate_limit_storage.BoundedMemory", _limiter().storage)
    for item, arguments in spent:
        storage.give_back(item.key_for(*arguments), item.amount, item.get_expiry())


def client_key() -> str:
    """Return whose request this is: the signed-in account's, else the address's.

    Whoever signs somebody in puts the account's id into the session under ACCOUNT.
    """
    has_session = current_app.config["SESSION_COOKIE_NAME"] in request.cookies
    account = session.get(ACCOUNT) if has_session else None
    return address_key() if account is None else f"account {account}"


def address_key() -> str:
    """Return which client's address this is, as the counted proxies tell it; never an empty text.

    All addresses of an IPv6 /64 are one client: a household or a server has them all.
    What is no address, as on a unix socket, shares one bucket.
    """
    try:
        address = ipaddress.ip_address(request.remote_addr or "")
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if not address.ipv4_mapped:
            return str(ipaddress.ip_network((address.packed, 64), strict=False))
        address = address.ipv4_mapped
    return str(address)


def retry_after_s() -> int | None:
    """Return in how many seconds to come back, if this request was over a limit."""
    waits = [state.wait_s for state in _states() if state.breached]
    return max(1, *waits) if waits else None


def exceeded(error: TooManyRequests) -> str:
    """Return the name of the limit that a request was over: a purpose, else `default`."""
    names = [state.name.rpartition("-")[0] for state in _states() if state.breached]
    return min(names, key=DEFAULT.__eq__) if names else str(error.description)


def store_answers() -> bool:
    """Return whether the store of the counts can be reached."""
    return bool(_limiter().storage.check())


def listed() -> Iterator[tuple[str, str, str]]:
    """Yield each endpoint of the current application, with its methods and what it spends."""
    default = f"{current_app.config['RATELIMIT_DEFAULT']} over everything"
    rules = sorted(current_app.url_map.iter_rules(), key=lambda rule: (rule.rule, rule.endpoint))
    for rule in rules:
        methods = sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
        purpose = getattr(current_app.view_functions[rule.endpoint], "strict_purpose", None)
        for method in methods:
            spends = default
            if purpose and method == "POST":
                spends += f", {current_app.config['RATELIMIT_STRICT']} for {purpose}"
            if rule.endpoint in FREE:
                spends = f"nothing: {FREE[rule.endpoint]}"
            yield method, rule.rule, spends


def _strict_key() -> str:
    view = current_app.view_functions[request.endpoint or ""]
    return address_key() if getattr(view, "strict_by_address", False) else client_key()


def _limiter() -> Limiter:
    limiter: Limiter = current_app.extensions["rate_limits"]
    return limiter


def _purpose() -> str | None:
    view = current_app.view_functions.get(request.endpoint or "")
    return getattr(view, "strict_purpose", None) if request.method == "POST" else None


class _State(NamedTuple):
    """What one limit says of this request."""

    name: str
    amount: int
    window_s: int
    remaining: int
    wait_s: int
    breached: bool


def _states() -> list[_State]:
    try:
        return [
            _State(
                name=f"{limit.request_args[-1]}-{limit.limit.get_expiry()}s",
                amount=limit.limit.amount,
                window_s=limit.limit.get_expiry(),
                remaining=limit.remaining,
                wait_s=max(0, math.ceil(limit.window.reset_time - time.time())),
                breached=limit.breached,
            )
            for limit in _limiter().current_limits
        ]
    except Exception:  # whatever the store's library raises: it died after the count
        current_app.logger.exception("The limits of this request cannot be told")
        return []


def _tell(response: Response) -> Response:
    """Add RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-11)."""
    if states := _states():
        response.headers["RateLimit-Policy"] = ", ".join(
            f'"{state.name}";q={state.amount};w={state.window_s}' for state in states
        )
        response.headers["RateLimit"] = ", ".join(
            f'"{state.name}";r={state.remaining};t={state.wait_s}' for state in states
        )
    return response
