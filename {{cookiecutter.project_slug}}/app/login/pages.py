"""The pages that every way of signing in shares: signing out, and one's own account."""

from flask import Blueprint, abort, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from ..security import events
from . import sessions

blueprint = Blueprint("login", __name__)

# On the answer of a POST alone, and never "cookies": that reaches every host of the domain.
CLEAR = '"cache", "storage"'


@blueprint.post("/logout")
def logout() -> ResponseReturnValue:
    """End the session, and tell the browser to forget what it kept of it."""
    sessions.end()
    answer = redirect(url_for("login.logged_out"), 303)
    answer.headers["Clear-Site-Data"] = CLEAR
    return answer


@blueprint.get("/logged-out")
def logged_out() -> ResponseReturnValue:
    """Say that it is over."""
    return render_template("login/logged_out.html")


@blueprint.get("/account")
@sessions.required()
def account() -> ResponseReturnValue:
    """Show the account, and where it is signed in."""
    mine = sessions.mine()
    return render_template("login/account.html", mine=mine, sessions=sessions.of(mine.user_id))


@blueprint.post("/account/sessions/<int:number>/end")
@sessions.required(fresh=True)
def end_session(number: int) -> ResponseReturnValue:
    """End one of the user's sessions."""
    mine = sessions.mine()
    if number == mine.id:
        return logout()
    if number not in [row.id for row in sessions.of(mine.user_id)]:
        events.record("access-refused", rule="own-sessions", user=mine.user_id)
        abort(404)  # whether there is such a session is nobody's business
    sessions.end_one(number)
    events.record("session-ended", user=mine.user_id)
    flash("That session has ended.")
    return redirect(url_for("login.account"), 303)


@blueprint.post("/account/sessions/end")
@sessions.required(fresh=True)
def end_other_sessions() -> ResponseReturnValue:
    """End every session of the user but this one."""
    mine = sessions.mine()
    ended = sessions.end_all(mine.user_id, but=mine.id)
    events.record("sessions-ended", user=mine.user_id, sessions_ended=ended)
    flash("Every other session has ended.")
    return redirect(url_for("login.account"), 303)
