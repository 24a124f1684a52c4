"""Signing in and out for front ends: JSON, from this site and the allowed origins."""

from flask import Blueprint, Response, abort, jsonify
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import generate_csrf

from ..api import json_object
from ..security import rate_limits
from . import accounts, sessions
from .pages import CLEAR

blueprint = Blueprint("login_api", __name__, url_prefix="/api")


@blueprint.get("/account")
@sessions.required()
def account() -> ResponseReturnValue:
    """Return who is signed in; 401 if nobody is."""
    return jsonify(email=sessions.mine().user.email)


@blueprint.get("/auth/session")
def read() -> ResponseReturnValue:
    """Return who is signed in, null if nobody is, and the token for what changes that."""
    return _session()


@blueprint.post("/auth/session")
@rate_limits.strict("login", by_address=True)
def start() -> ResponseReturnValue:
    """Sign in with `email` and `password`: 200, or 401 with one sentence for every cause.

    The answer has the new CSRF token; the one from before is void.
    """
    body = json_object()
    email, password = body.get("email"), body.get("password")
    if not isinstance(email, str) or not isinstance(password, str):
        abort(422, "Give email and password, both as text.")
    if not accounts.sign_in(email, password):
        raise accounts.Unauthenticated
    return _session()


@blueprint.delete("/auth/session")
def end() -> ResponseReturnValue:
    """Sign out."""
    sessions.end()
    answer = _session()
    answer.headers["Clear-Site-Data"] = CLEAR
    return answer


def _session() -> Response:
    row = sessions.current()
    return jsonify(user={"email": row.user.email} if row else None, csrf_token=generate_csrf())
