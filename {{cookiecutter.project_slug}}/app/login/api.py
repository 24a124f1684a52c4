"""Who is signed in, for front ends: JSON, from this site and the allowed origins."""

from flask import Blueprint, Response, g, jsonify
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import generate_csrf

from . import sessions
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
    return state()


@blueprint.delete("/auth/session")
def end() -> ResponseReturnValue:
    """Sign out."""
    sessions.end()
    answer = state()
    answer.headers["Clear-Site-Data"] = CLEAR
    return answer


def state() -> Response:
    """Return the answer to every change: who is signed in now, and the CSRF token from now on."""
    row = sessions.current()
    user = {"email": row.user.email} if row else None
    return jsonify(user=user, csrf_token=generate_csrf(), **g.get("signed_out", {}))
