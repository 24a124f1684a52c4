"""Refuse what another site made the visitor's browser send.

Two locks, either of which would do: a token that another site cannot read,
and the browser's own word about where the request came from (ASVS 3.5.1, OWASP CSRF cheat sheet).
"""

from collections.abc import Callable, Iterator
from typing import TypeVar
from urllib.parse import urlsplit

from flask import Config, Flask, current_app, request
from flask_wtf.csrf import CSRFProtect
from werkzeug.exceptions import Forbidden

from ..problem import Problem
from .cors import API

UNSAFE_METHODS = ["POST", "PUT", "PATCH", "DELETE"]

View = TypeVar("View", bound=Callable[..., object])

_protect = CSRFProtect()


class ForeignOrigin(Forbidden):
    """The request was made by a page of another site."""

    description = "This request came from another site."


def exempt(reason: str) -> Callable[[View], View]:
    """Take a view out of both checks; the reason stands beside it for the reader."""

    def mark(view: View) -> View:
        vars(view)["csrf_exempt"] = reason
        _protect.exempt(view)
        return view

    return mark


def init_app(app: Flask) -> None:
    """Check origin and token on every POST, PUT, PATCH and DELETE, form or JSON."""
    app.config.update(
        WTF_CSRF_ENABLED=True,
        WTF_CSRF_CHECK_DEFAULT=False,  # _check() asks it, between our own two questions
        WTF_CSRF_METHODS=UNSAFE_METHODS,
        WTF_CSRF_TIME_LIMIT=None,  # as long as the session: a form may stay open over lunch
        WTF_CSRF_SSL_STRICT=False,  # our own check knows the allowed origins, this one does not
    )
    _protect.init_app(app)
    app.before_request(_check)


def problems(_config: Config) -> Iterator[Problem]:
    """Yield nothing: no setting loosens this."""
    yield from ()


def exemptions(app: Flask) -> dict[str, str]:
    """Return the endpoints that neither check looks at, each with its reason."""
    return {
        endpoint: view.csrf_exempt
        for endpoint, view in app.view_functions.items()
        if hasattr(view, "csrf_exempt")
    }


def unexplained(app: Flask) -> list[str]:
    """Return the endpoints that were taken out of Flask-WTF's check past `exempt`."""
    explained = exemptions(app)
    return [
        endpoint
        for endpoint, view in app.view_functions.items()
        if f"{view.__module__}.{view.__name__}" in _protect._exempt_views
        and endpoint not in explained
    ] + [f"{blueprint.name}.*" for blueprint in _protect._exempt_blueprints]


def _check() -> None:
    """Refuse what another site sent, then what has no token, then what hides where it came from.

    The last is a script, honest or not: every browser tells.
    """
    if request.method not in UNSAFE_METHODS or request.endpoint is None:
        return  # without an endpoint no view runs: the answer is 404 or 405
    if hasattr(current_app.view_functions[request.endpoint], "csrf_exempt"):
        return
    ours = _comes_from_us()
    if ours is False:
        raise ForeignOrigin
    _protect.protect(apply_exemptions=True)
    if ours is None:
        raise ForeignOrigin


def _comes_from_us() -> bool | None:
    """Return whether Origin, else Referer, else Sec-Fetch-Site names this host; None without any.

    Under /api/ it may name an allowed origin as well. Origin `null` is no origin of ours.
    """
    ours = [f"{request.scheme}://{request.host}"]
    if request.path.startswith(API):
        ours += current_app.config["CORS_ALLOWED_ORIGINS"]
    if origin := request.headers.get("Origin"):
        return origin in ours
    if request.referrer:
        try:
            referrer = urlsplit(request.referrer)
        except ValueError:  # it is no URL
            return False
        return f"{referrer.scheme}://{referrer.netloc}" in ours
    if site := request.headers.get("Sec-Fetch-Site"):
        return site == "same-origin"
    return None
