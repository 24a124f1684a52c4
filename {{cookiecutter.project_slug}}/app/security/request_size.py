"""Refuse what is too large before it is read: memory is the cheapest thing to take from a server.

The bounds are Flask's own; this asks for the form early, so that an oversized one is refused with
413 and not taken for one without a token (ASVS 5.2.1).
"""

from collections.abc import Iterator

from flask import Config, Flask, request
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge

from ..problem import Problem

URLENCODED = "application/x-www-form-urlencoded"
BOUNDS = {
    "MAX_CONTENT_LENGTH": 100 * 1024 * 1024,
    "MAX_FORM_MEMORY_SIZE": 10 * 1024 * 1024,
    "MAX_FORM_PARTS": 10_000,
}


def init_app(app: Flask) -> None:
    """Refuse a body, a form field or a number of parts over its bound, with 413."""
    app.before_request(_refuse_oversized)


def problems(config: Config) -> Iterator[Problem]:
    """Yield bounds that bound nothing."""
    for name, most in BOUNDS.items():
        if not 0 < config[name] <= most:
            yield Problem(
                "request-size",
                f"{name} is {config[name]}.",
                f"Between 1 and {most:_}: {name} = {min(most, 500_000)}",
            )


def _refuse_oversized() -> None:
    is_chunked = "Transfer-Encoding" in request.headers
    if not request.content_length and not is_chunked:
        return  # there is no body
    most_bytes = request.max_content_length or 0
    if request.mimetype == URLENCODED:  # Werkzeug bounds the fields of multipart forms alone
        most_bytes = min(most_bytes, request.max_form_memory_size or 0)
    length = request.content_length or 0
    if is_chunked:
        # A chunked body does not say how long it is, and Werkzeug cuts it at its bound in silence.
        request.max_content_length = most_bytes + 1
        try:
            length = len(request.get_data())
        except HTTPException:
            raise
        except Exception as error:  # each server has its own for what is no chunk
            raise BadRequest from error
    if length > most_bytes:
        raise RequestEntityTooLarge
    if request.mimetype in (URLENCODED, "multipart/form-data"):
        _ = request.form  # parses it, field by field and part by part, up to the bounds
