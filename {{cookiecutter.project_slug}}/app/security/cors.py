"""Let named sites call /api/, and no other site read an answer of ours.

CORS loosens the browser's own rule for origins that are listed, it keeps no request out:
what may change something is for csrf.py to decide (ASVS 3.4.2, Fetch standard).
"""

import re
from collections.abc import Iterator

from flask import Config, Flask, Response, request
from flask_cors import CORS

from ..problem import Problem
from .hosts import HOST

API = "/api/"
PORT = r"(:(?!80\Z|443\Z)[1-9][0-9]{1,4})?"
# Flask-CORS takes anything else for a pattern that may match elsewhere, or never matches it.
ORIGIN = re.compile(rf"(https://{HOST}|http://(localhost|127\.0\.0\.1)){PORT}")


def init_app(app: Flask) -> None:
    """Answer the listed origins, with cookies, for paths under /api/ alone."""
    if origins := app.config["CORS_ALLOWED_ORIGINS"]:
        CORS(
            app,
            resources={rf"^{API}.*": {"origins": origins}},  # r"/api/*" matches /apikeys too
            supports_credentials=True,
            methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Content-Type", "X-CSRFToken"],
            expose_headers=["RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-ID"],
            always_send=False,  # to whoever names no origin there is nothing to say
            vary_header=False,  # it would say so for some answers, _vary() does for all
            max_age=600,  # seconds a browser may remember the permission
        )
    app.after_request(_vary)


def problems(config: Config) -> Iterator[Problem]:
    """Yield origins that mean more than they say, or nothing."""
    for origin in config["CORS_ALLOWED_ORIGINS"]:
        if not ORIGIN.fullmatch(origin):
            yield Problem(
                "cors-origin",
                f"CORS_ALLOWED_ORIGINS: {origin!r} is not an exact origin.",
                "https:// and a host in lower case, a port if it is not the usual one, no path, "
                'no slash at the end, no wildcard, not null: "https://www.example.com"',
            )


def _vary(response: Response) -> Response:
    """Keep a cache from handing one origin's answer to another."""
    if request.path.startswith(API):
        vary = response.headers.get("Vary")
        response.headers["Vary"] = f"{vary}, Origin" if vary else "Origin"
    return response
