"""Say what went wrong without saying how we are built: no trace, path, version or secret.

People get a page, programs under /api/ get application/problem+json (RFC 9457),
both with the id to find the request in the log.
"""

import json

from flask import Flask, render_template, request
from werkzeug.exceptions import (
    HTTPException,
    SecurityError,
    TooManyRequests,
    default_exceptions,
)
from werkzeug.wrappers import Response

from . import request_id
from .security import events, rate_limits

PROBLEM_JSON = "application/problem+json"

SENTENCES = {
    400: "The request cannot be understood.",
    401: "Please sign in first.",
    403: "This is not allowed.",
    404: "There is nothing at this address.",
    405: "This address does not take that kind of request.",
    413: "This is more than we accept at once.",
    415: "This kind of content is not accepted here.",
    422: "Some of what was sent is not right.",
    429: "That was too often. Please try again later.",
    500: "Something went wrong on our side.",
    503: "This cannot be done at the moment. Please try again soon.",
}


def init_app(app: Flask) -> None:
    """Answer every error here: an exception arrives as InternalServerError, already logged."""
    app.register_error_handler(HTTPException, answer)


def answer(error: HTTPException) -> Response:
    """Return the page or the problem document of an error, with the headers it brings along."""
    response = error.get_response()
    if response.status_code < 400:
        return response  # a redirect of the router's
    events.refused(error)
    sentence = _sentence(error)
    if isinstance(error, TooManyRequests):
        # The limits' own word, else the view's, else a guess: the store cannot tell.
        seconds = rate_limits.retry_after_s() or error.retry_after or 60
        response.headers["Retry-After"] = str(seconds)
        sentence = f"That was too often. Please come back in {seconds} seconds."
    if request.path.startswith("/api/"):
        body = {
            "type": "about:blank",
            "title": error.name,
            "status": response.status_code,
            "detail": sentence,
            "request_id": request_id.current(),
        }
        response.set_data(json.dumps(body))
        response.content_type = PROBLEM_JSON
    else:
        # The page builds no URL: with an untrusted Host, url_for would make a 500 of the 400.
        page = render_template(
            "error.html", error=error, sentence=sentence, request_id=request_id.current()
        )
        response.set_data(page)
        response.content_type = "text/html; charset=utf-8"
    return response


def _sentence(error: HTTPException) -> str:
    """Return what the code that aborted has said, or else our own words."""
    code = error.code or 500
    usual = getattr(default_exceptions.get(code), "description", None)
    if isinstance(error, SecurityError) or not error.description or error.description == usual:
        return SENTENCES.get(code, SENTENCES[400])
    return error.description
