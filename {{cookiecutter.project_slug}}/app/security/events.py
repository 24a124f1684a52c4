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
    BadRequest,
    Forbidden,
    HTTPException,
    RequestEntityTooLarge,
    SecurityError,
    TooManyRequests,
    Unauthorized,
    UnprocessableEntity,
    UnsupportedMediaType,
)

from .. import request_id
from ..problem import Problem
from .csrf import ForeignOrigin
from .https import PlainHTTP
from .rate_limits import address_key, exceeded

LOG = logging.getLogger("security")

# What a refusal is called in the log, and the rule it comes from, by the exception that refuses:
# the first that fits. 404, 405, 500 and 503 refuse nobody.
EVENTS: tuple[tuple[type[HTTPException], str, str], ...] = (
    (SecurityError, "host-refused", "hosts"),
    (PlainHTTP, "http-refused", "https"),
    (TooManyRequests, "limit-exceeded", "rate_limits"),
    (RequestEntityTooLarge, "size-refused", "request_size"),
    (ForeignOrigin, "origin-refused", "csrf:origin"),
    (CSRFError, "csrf-refused", "csrf:token"),
    (Forbidden, "access-refused", "access"),
    (Unauthorized, "access-refused", "sign-in"),
    (UnsupportedMediaType, "input-refused", "media-type"),
    (UnprocessableEntity, "input-refused", "shape"),
    (BadRequest, "input-refused", "syntax"),
)


def init_app(_app: Flask) -> None:
    """Send the log, one for the process, to the server's own, a line as it is."""
    if not LOG.handlers:
        LOG.addHandler(logging.StreamHandler(cast("TextIO", wsgi_errors_stream)))
        LOG.setLevel(logging.INFO)


def problems(_config: Config) -> Iterator[Problem]:
    """Yield nothing: no setting silences it."""
    yield from ()


def refused(error: HTTPException) -> None:
    """Record a refusal, if it is one, and nobody has recorded it (an attribute `recorded`)."""
    if getattr(error, "recorded", False):
        return
    for kind, event, rule in EVENTS:
        if isinstance(error, kind):
            if isinstance(error, TooManyRequests):
                rule = f"rate_limits:{exceeded(error)}"
            record(event, rule=rule)
            return


def record(event: str, **details: object) -> None:
    """Write one line: when, what, which request, from whom, and details that are no secrets.

    `rule` is what a refusal comes from, and the event itself for what is none.
    docs/security/logging.md has every event.
    """
    asked = has_request_context()  # else it is a command
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "event": event,
        "request_id": request_id.current(),
        "client": address_key() if asked else "command line",
        "method": request.method if asked else None,
        "endpoint": request.endpoint if asked else None,
        "rule": event,
        **details,
    }
    LOG.warning("%s", json.dumps(line, default=str))
