"""Refuse what another site made the visitor's browser send.

Two locks, either of which would do: a token that another site cannot read,
and the browser's own word about where the request came from (ASVS 3.5.1, OWASP CSRF cheat sheet).
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

from flask import Config, Flask, abort, request
from flask_wtf.csrf import CSRFProtect

from ..problem import Problem

UNSAFE_METHODS = ["POST", "PUT", "PATCH", "DELETE"]

csrf = CSRFProtect()


def init_app(app: Flask) -> None:
    """Check origin and token on every POST, PUT, PATCH and DELETE, form or JSON."""
    app.config.update(
        WTF_CSRF_ENABLED=True,
        WTF_CSRF_CHECK_DEFAULT=True,
        WTF_CSRF_METHODS=UNSAFE_METHODS,
        WTF_CSRF_TIME_LIMIT=None,  # as long as the session: a form may stay open over lunch
        WTF_CSRF_SSL_STRICT=False,  # our own check knows the allowed origins, this one does not
    )
    app.before_request(_refuse_foreign_origin)
    csrf.init_app(app)


def problems(_config: Config) -> Iterator[Problem]:
    """Yield nothing: no setting loosens this."""
    yield from ()


def _refuse_foreign_origin() -> None:
    # Without an endpoint no view runs: the answer is 404 or 405.
    if request.endpoint and request.method in UNSAFE_METHODS and not _comes_from_us():
        abort(403, "This request came from another site.")


def _comes_from_us() -> bool:
    """Return whether Origin, else Referer, else Sec-Fetch-Site names this host.

    A request that carries none of the three is no browser's, or hides where it came from.
    Origin `null` is no origin of ours.
    """
    if origin := request.headers.get("Origin"):
        return origin == _this_origin()
    if request.referrer:
        referrer = urlsplit(request.referrer)
        return f"{referrer.scheme}://{referrer.netloc}" == _this_origin()
    return request.headers.get("Sec-Fetch-Site") == "same-origin"


def _this_origin() -> str:
    return f"{request.scheme}://{request.host}"
