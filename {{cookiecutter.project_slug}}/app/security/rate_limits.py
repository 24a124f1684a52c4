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
from functools import lru_cache
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

from flask import Config, Flask, Response, current_app, g, request, session
from flask_limiter import Limiter
from limits import RateLimitItem, parse_many
from werkzeug.exceptions import TooManyRequests

from ..problem import Problem
from ..rate_limit_storage import SCHEMES, BoundedMemory, Count, CountedServer, Try

View = TypeVar("View", bound=Callable[..., object])

# Endpoints that spend no limit, each with its reason; `flask limits` shows them.
FREE: Mapping[str, str] = {
    "static": "files that anybody may have, cheap to serve",
    "healthz": "monitors ask often, and it touches nothing",
    "readyz": "monitors ask often, and its answer is kept for a second",
}

ACCOUNT = "account"  # in the session, which is signed
DEFAULT = "default"
MOST_KNOWN = 1_024  # addresses that need not be read again

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


class OneQuestion(Limiter):
    """Flask-Limiter, which counts what a request spends in one question to the store.

    What it decides anew for every request, of limits that each view may have otherwise, is decided
    here: there are two, over everything. Its decorators add limits of their own, as ever.
    """

    def __init__(
        self, key_func: Callable[[], str], *, default: str, strict: str, storage_uri: str
    ) -> None:
        super().__init__(
            key_func,
            storage_uri=storage_uri,
            strategy="moving-window",  # fixed-window let 9 through where 5 are allowed
            # Flask-Limiter reads RATELIMIT_DEFAULT as one limit per endpoint; ours is over all.
            default_limits_exempt_when=lambda: True,
        )
        self._default, self._strict = _limits(default), _limits(strict)

    def _check_request_limit(
        self, callable_name: str | None = None, in_middleware: bool = True
    ) -> None:
        """Count, before each request; for a decorator, do what it says."""
        if not in_middleware:
            return super()._check_request_limit(callable_name, in_middleware)
        if request.method == "OPTIONS" or request.endpoint in FREE:
            return None
        wanted = [(item, client_key(), DEFAULT) for item in self._default]
        if purpose := _purpose():
            # Over one limit or not, a request spends the other as well.
            wanted += [(item, _strict_key(), purpose) for item in self._strict]
        g.limits = _spend(wanted)
        if any(not spent.counted.room for spent in g.limits):
            raise TooManyRequests
        return None


def init_app(app: Flask) -> None:
    """Count every request but preflights, static files and the health paths.

    app/rate_limit_storage.py does the counting.
    """
    scheme, colon, rest = app.config["RATELIMIT_STORAGE_URI"].partition(":")
    limiter = OneQuestion(  # one per app: a shared one keeps the last app's store for all
        client_key,
        default=app.config["RATELIMIT_DEFAULT"],
        strict=app.config["RATELIMIT_STRICT"],
        storage_uri=f"{SCHEMES[scheme]}{colon}{rest}",
    )
    limiter.init_app(app)
    if limiter._check_request_limit not in app.before_request_funcs.get(None, ()):
        raise RuntimeError("Flask-Limiter has changed, and no request would be counted.")
    app.extensions["rate_limits"] = limiter.storage
    app.after_request(_tell)


def problems(config: Config) -> Iterator[Problem]:
    """Yield limits that limit nothing, and stores that cannot be used."""
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
    uri = config["RATELIMIT_STORAGE_URI"]
    scheme = next((known for known in SCHEMES if uri.startswith(f"{known}://")), None)
    if not scheme:
        yield Problem(
            "rate-limit-store-unknown",
            "RATELIMIT_STORAGE_URI begins like no store that is known.",
            'One of memory://, redis://, rediss://, valkey://, valkeys://: "redis://10.0.0.5:6379"',
        )
    elif scheme in SERVERS and not _names_a_host(uri):
        yield Problem(
            "rate-limit-store-unreadable",
            "RATELIMIT_STORAGE_URI names no host, or no port that is one.",
            "In a password write / as %2F, ? as %3F and # as %23: "
            "APP_RATELIMIT_STORAGE_URI=rediss://:password@10.0.0.5:6379",
        )
    elif scheme in SERVERS and not importlib.util.find_spec(SERVERS[scheme]):
        yield Problem(
            "rate-limit-store-library",
            f"RATELIMIT_STORAGE_URI: the library for {scheme}:// is not installed.",
            f"Type: uv add {SERVERS[scheme]}",
        )


def _names_a_host(uri: str) -> bool:
    try:
        url = urlsplit(uri)
        return bool(url.hostname) and url.port != 0
    except ValueError:  # what stands in the place of the port, or of an address, is none
        return False


def spend(limits: str, scope: str, key: str) -> None:
    """Count one try against limits of a view's own, such as the guesses at one account.

    `limits` is text such as "20 per hour", `key` whose try it is. Every try counts, before it is
    known what comes of it, so that no number of parallel ones passes; see `give_back`.
    Raises TooManyRequests, with the seconds to wait, when there is no room.
    """
    for spent in _spend([(item, key, scope) for item in _limits(limits)]):
        if not spent.counted.room:
            raise TooManyRequests(scope, retry_after=max(1, spent.wait_s()))
        g.setdefault("tries", []).append(spent)


def give_back(*, all_of_it: bool = False) -> None:
    """Return what this request spent: it was no guess. RATELIMIT_DEFAULT stays, or `all_of_it`."""
    tries: list[_Spent] = g.pop("tries", [])
    tries += [spent for spent in _spent() if all_of_it or spent.scope != DEFAULT]
    for item, key, scope, _ in tries:
        _storage().give_back(item.key_for(key, scope), item.amount, item.get_expiry())


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
    return _client_of(request.remote_addr or "")


@lru_cache(MOST_KNOWN)
def _client_of(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if not address.ipv4_mapped:
            return str(ipaddress.ip_network((address.packed, 64), strict=False))
        address = address.ipv4_mapped
    return str(address)


def retry_after_s() -> int | None:
    """Return in how many seconds to come back, if this request was over a limit."""
    waits = [spent.wait_s() for spent in _spent() if not spent.counted.room]
    return max(1, *waits) if waits else None


def exceeded(error: TooManyRequests) -> str:
    """Return the name of the limit that a request was over: a purpose, else `default`."""
    names = [spent.scope for spent in _spent() if not spent.counted.room]
    return min(names, key=DEFAULT.__eq__) if names else str(error.description)


def store_answers() -> bool:
    """Return whether the store of the counts can be reached."""
    return bool(_storage().check())


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


def _limits(text: str) -> list[RateLimitItem]:
    """Return the limits of a setting; one that stands there twice counts a request once."""
    return list(dict.fromkeys(parse_many(text)))


def _strict_key() -> str:
    view = current_app.view_functions[request.endpoint or ""]
    return address_key() if getattr(view, "strict_by_address", False) else client_key()


def _storage() -> BoundedMemory | CountedServer:
    storage: BoundedMemory | CountedServer = current_app.extensions["rate_limits"]
    return storage


def _purpose() -> str | None:
    if request.method != "POST":
        return None
    view = current_app.view_functions.get(request.endpoint or "")
    return getattr(view, "strict_purpose", None)


class _Spent(NamedTuple):
    """What one limit says of this request."""

    item: RateLimitItem
    key: str
    scope: str
    counted: Count

    def name(self) -> str:
        """Return what the client is told that the limit is called."""
        return f"{self.scope}-{self.item.get_expiry()}s"

    def wait_s(self) -> int:
        """Return in how many seconds the oldest of what counts has left the window."""
        return max(0, math.ceil(self.counted.oldest + self.item.get_expiry() - time.time()))


def _spend(wanted: list[tuple[RateLimitItem, str, str]]) -> list[_Spent]:
    """Count a try against each limit, for a key and a scope."""
    tries = [
        Try(item.key_for(key, scope), item.amount, item.get_expiry()) for item, key, scope in wanted
    ]
    counts = _storage().spend(tries)
    return [_Spent(*limit, count) for limit, count in zip(wanted, counts, strict=True)]


def _spent() -> list[_Spent]:
    """Return what every request spends, as far as this one has come."""
    spent: list[_Spent] = g.get("limits", [])
    return spent


def _tell(response: Response) -> Response:
    """Add RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-11)."""
    if limits := _spent():
        response.headers["RateLimit-Policy"] = ", ".join(
            f'"{spent.name()}";q={spent.item.amount};w={spent.item.get_expiry()}'
            for spent in limits
        )
        response.headers["RateLimit"] = ", ".join(
            f'"{spent.name()}";r={spent.item.amount - spent.counted.used};t={spent.wait_s()}'
            for spent in limits
        )
    return response
