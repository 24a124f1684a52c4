"""Give every request an id that its answer and its log lines share.

A visitor reads it to you from an error page, and you find the line.
It is made here, never taken from the request: a client could forge another's.
"""

import json
import logging
import secrets
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flask import Flask, has_request_context, request
from flask.logging import default_handler

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

HEADER = "X-Request-ID"
KEY = "app.request_id"


def init_app(app: Flask) -> None:
    """Put the id into every answer, outside of Flask, and into every line of the log."""
    wsgi_app = app.wsgi_app

    def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        environ[KEY] = secrets.token_hex(16)

        def start(
            status: str, headers: list[tuple[str, str]], exc_info: "OptExcInfo | None" = None
        ) -> Callable[[bytes], object]:
            return start_response(status, [*headers, (HEADER, environ[KEY])], exc_info)

        return wsgi_app(environ, start)

    app.wsgi_app = application  # type: ignore[method-assign]
    app.logger.addFilter(_FILTER)
    default_handler.setFormatter(_FORMATTER)


def current() -> str:
    """Return the id of the current request, 32 hexadecimal digits; `-` outside of one."""
    return str(request.environ.get(KEY, "-")) if has_request_context() else "-"


class _Filter(logging.Filter):
    """Add the id, and keep a visitor's line breaks from forging a line of the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = current()
        message = record.getMessage()
        record.msg = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)
        record.args = None
        return True


class _Formatter(logging.Formatter):
    """One JSON object a line, in ASCII and UTC: what a traceback quotes forges no other line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "event": "log",
            "level": record.levelname,
            "logger": record.name,
            "request_id": getattr(record, "request_id", None) or current(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


_FILTER = _Filter()
_FORMATTER = _Formatter()
