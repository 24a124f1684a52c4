"""Answer nothing over plain http: whoever is on the way can read and alter it.

A page is sent to https; anything else is refused, for a redirected POST has already been read
by everyone on the way, and the mistake would never be noticed (ASVS 4.1.2).
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

from flask import Config, Flask, Response, redirect, request
from werkzeug.exceptions import Forbidden

from ..problem import Problem


class PlainHTTP(Forbidden):
    """Something other than a page was asked for over plain http."""

    description = "This is answered over https only."


def init_app(app: Flask) -> None:
    """Redirect GET and HEAD to https with 308, refuse other methods with 403."""
    if app.config["DEBUG"]:
        return

    @app.before_request
    def require_https() -> Response | None:
        if request.is_secure:
            return None
        if request.method not in ("GET", "HEAD"):
            raise PlainHTTP
        url = urlsplit(request.url)
        target = url._replace(scheme="https", netloc=url.hostname or "").geturl()
        return redirect(target, 308)  # type: ignore[return-value]


def problems(_config: Config) -> Iterator[Problem]:
    """Yield nothing: no setting loosens this."""
    yield from ()
