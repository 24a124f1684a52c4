"""Leave one line for every refusal, so that an attack is seen and none can be made up.

One JSON object a line, in ASCII: nothing that a client sends can end the line or begin another
(ASVS 16.3.3, 16.4.1). No body, query, cookie, token or key is ever in it.
"""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TextIO, cast

from flask import Config, Flask, has_request_context, request
from flask.logging import wsgi_errors_stream
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import (
    HTTPException,
    RequestEntityTooLarge,
    SecurityError,
    TooManyRequests,
)

from .. import request_id
from ..problem import Problem
from .csrf import ForeignOrigin
from .https import PlainHTTP
from .rate_limits import address_key

LOG = logging.getLogger("security")

# What a refusal is called in the log, by the exception that refuses.
EVENTS: tuple[tuple[type[HTTPException], str], ...] = (
    (SecurityError, "host-refused"),
    (PlainHTTP, "http-refused"),
    (TooManyRequests, "limit-exceeded"),
    (RequestEntityTooLarge, "size-refused"),
    (ForeignOrigin, "origin-refused"),
    (CSRFError, "csrf-refused"),
)


def init_app(_app: Flask) -> None:
    """Send the log, one for the process, to the server's own, a line as it is."""
    if not LOG.handlers:
        handler = logging.StreamHandler(cast("TextIO", wsgi_errors_stream))
        handler.setFormatter(logging.Formatter("%(message)s"))
        LOG.addHandler(handler)
        LOG.setLevel(logging.INFO)


def problems(_config: Config) -> Iterator[Problem]:
    """Yield nothing: no setting silences it."""
    yield from ()


def refused(error: HTTPException) -> None:
    """Record a refusal, if it is one of ours."""
    for kind, event in EVENTS:
        if isinstance(error, kind):
            record(event)


def record(event: str, **details: object) -> None:
    """Write one line: when, what, which request, from whom, and details that are no secrets."""
    asked = has_request_context()  # else it is a command
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "event": event,
        "request_id": request_id.current(),
        "client": address_key() if asked else "command line",
        "method": request.method if asked else None,
        "endpoint": request.endpoint if asked else None,
        **details,
    }
    LOG.warning("%s", json.dumps(line, default=str))
