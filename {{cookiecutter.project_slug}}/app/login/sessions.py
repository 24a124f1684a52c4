"""Who is signed in, in which browser, and until when: a stolen cookie can be ended (ASVS 7.4).

The cookie holds a random token, the database its SHA-256: whoever reads the database cannot
sign in as anybody.
"""

import hashlib
import secrets
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from flask import abort, current_app, g, redirect, request, session, url_for
from sqlalchemy import ColumnElement, CursorResult, Delete, Update, delete, or_, select, update
from werkzeug.wrappers import Response

from ..db import db
from ..security import events, rate_limits
from ..security.cors import API
from .models import LoginSession, User, now

P = ParamSpec("P")
R = TypeVar("R")

TOKEN = "token"  # noqa: S105  its name in the cookie
SEEN_STEP_S = 60  # a row is not written at every request
LONGEST_ADDRESS, LONGEST_AGENT = 45, 200

# Who is told of a session that its own browser ends, before its row goes.
ENDING: list[Callable[[LoginSession], None]] = []
# What /login is told where somebody has sent a form.
AFTER_FORM: dict[str, Any] = {}
# What else is over after a while, as statements that delete it.
FORGETTING: list[Callable[[], Delete]] = []


def start(user: User, *still: ColumnElement[bool], **known: object) -> bool:
    """Sign a user in, in this browser; nothing from before stays in the cookie.

    `still` are conditions of the account that must hold at that moment: somebody may have changed
    its password while another one was being verified. `known` are further columns of the session.
    Returns whether the conditions did hold.
    """
    token = secrets.token_urlsafe(32)
    agent = request.user_agent.string[:LONGEST_AGENT]
    row = LoginSession(
        user_id=user.id,
        token_hash=digest(token),
        address=(request.remote_addr or "")[:LONGEST_ADDRESS],
        agent="".join(c if c.isprintable() else "?" for c in agent),
        **known,
    )
    # From here on nobody else can change the account: the databases lock what is written.
    held = update(User).where(User.id == user.id, User.disabled.is_(False), *still)
    if not written(held.values(signed_in_at=now())):
        db.session.rollback()
        return False
    db.session.add(row)
    forget_expired(user.id)
    _end_this()
    db.session.commit()
    session.clear()
    g.pop("csrf_token", None)  # Flask-WTF keeps the token of this request here
    session[TOKEN], session[rate_limits.ACCOUNT] = token, user.id
    g.login_session = row
    return True


def current() -> LoginSession | None:
    """Return the session of this browser if it is alive, with its user; asked once per request."""
    if "login_session" not in g:
        g.login_session = _load()
    found: LoginSession | None = g.login_session
    return found


def mine() -> LoginSession:
    """Return the session of a view that is guarded by `required`; abort with 401 elsewhere."""
    return current() or abort(401)


def of(user_id: int) -> list[LoginSession]:
    """Return the sessions of a user that are alive, the one that was seen last first."""
    mine = select(LoginSession).where(LoginSession.user_id == user_id, ~_is_over())
    return list(db.session.scalars(mine.order_by(LoginSession.seen_at.desc())))


def end() -> None:
    """Sign out in this browser: its row goes, and everything in its cookie."""
    if row := current():
        events.record("logout", user=row.user_id)
        for told in ENDING:
            told(row)
    _end_this()
    db.session.commit()
    g.login_session = None
    session.clear()
    g.pop("csrf_token", None)


def end_all(user_id: int, but: int | None = None) -> int:
    """End the sessions of a user, all but one; return how many.

    What else has changed about the account is committed with it, both or neither.
    """
    db.session.flush()
    query = delete(LoginSession).where(LoginSession.user_id == user_id)
    if but is not None:
        query = query.where(LoginSession.id != but)
    ended = written(query)
    db.session.commit()
    return ended


def end_one(number: int) -> None:
    """End the session with that id; whose it is, the caller has looked at."""
    db.session.execute(delete(LoginSession).where(LoginSession.id == number))
    db.session.commit()


def disable(user: User, *, disabled: bool) -> int:
    """Keep an account from signing in, or no longer; return how many sessions ended."""
    user.disabled = disabled
    ended = end_all(user.id)
    events.record("account-disabled" if disabled else "account-enabled", user=user.id)
    return ended


def forget_expired(user_id: int | None = None) -> int:
    """Delete the rows of sessions that are over, of one user or of all; return how many.

    Nothing is committed.
    """
    for others in FORGETTING:
        db.session.execute(others())
    query = delete(LoginSession).where(_is_over())
    if user_id is not None:
        query = query.where(LoginSession.user_id == user_id)
    return written(query)


def required(*, fresh: bool = False) -> Callable[[Callable[P, R]], Callable[P, R | Response]]:
    """Let only a signed-in user see a view; `fresh`: one who signed in within LOGIN_FRESH_S.

    Pages send to /login and back again; under /api/ the answer is 401.
    """

    def wrap(view: Callable[P, R]) -> Callable[P, R | Response]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R | Response:
            row = current()
            if row and row.suffices(current_app.config, fresh=fresh):
                return view(*args, **kwargs)
            if request.path.startswith(API):
                abort(401)
            # A form cannot be sent again from there; where it stands can be opened.
            here = request.full_path.rstrip("?")
            back = {"next": here} if request.method == "GET" else AFTER_FORM
            return redirect(url_for("login.login", **back), 303)

        return guarded

    return wrap


def safe_next(target: str | None) -> str:
    """Return where to go after signing in: a path of this site, or an address of an allowed origin.

    Anything else is /account (CWE-601).
    """
    target = target or ""
    allowed = current_app.config["CORS_ALLOWED_ORIGINS"]
    origin, slash, _ = target.removeprefix("https://").partition("/")
    stays = target.startswith("/") and not target.startswith("//")
    goes = target.startswith("https://") and slash and f"https://{origin}" in allowed
    # Browsers take \ for / and drop tabs and line breaks.
    plain = target.isprintable() and "\\" not in target
    return target if plain and (stays or goes) else "/account"


def _load() -> LoginSession | None:
    token = session.get(TOKEN)
    if not isinstance(token, str):
        return None
    query = (
        select(LoginSession)
        .join(LoginSession.user)
        .where(LoginSession.token_hash == digest(token), User.disabled.is_(False))
    )
    row: LoginSession | None = db.session.scalar(query)
    config, moment = current_app.config, now()
    idle_s = config["LOGIN_SESSION_IDLE_S"]
    if row and row.created_at <= moment - config["LOGIN_SESSION_MAX_S"]:
        events.record("session-over", user=row.user_id, why="lifetime")
        row = None
    elif row and row.seen_at <= moment - idle_s:
        events.record("session-over", user=row.user_id, why="unused")
        row = None
    if row and row.seen_at <= moment - max(1, min(SEEN_STEP_S, idle_s // 20)):
        seen = update(LoginSession).where(LoginSession.id == row.id).values(seen_at=moment)
        if not written(seen):
            row = None  # somebody ended it after it was read
        db.session.commit()
        session.modified = True  # sign it again: the cookie has a lifetime as well
    if row is None:
        # But for the token that a form of this answer may have already: Flask-WTF's, see `start`.
        kept = {"csrf_token": session["csrf_token"]} if "csrf_token" in g else {}
        session.clear()
        session.update(kept)
    return row


def _is_over() -> ColumnElement[bool]:
    config = current_app.config
    unused = LoginSession.seen_at <= now() - config["LOGIN_SESSION_IDLE_S"]
    return or_(unused, LoginSession.created_at <= now() - config["LOGIN_SESSION_MAX_S"])


def written(statement: Delete | Update) -> int:
    """Execute a statement; return how many rows it changed."""
    return cast("CursorResult[Any]", db.session.execute(statement)).rowcount


def _end_this() -> None:
    if TOKEN in session:
        db.session.execute(
            delete(LoginSession).where(LoginSession.token_hash == digest(session[TOKEN]))
        )


def digest(token: str) -> str:
    """Return what the database holds of a token: its SHA-256, in hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()
