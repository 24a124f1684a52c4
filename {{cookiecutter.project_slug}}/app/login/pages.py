"""The pages of signing in and out, and of one's own account."""

from flask import Blueprint, abort, current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from wtforms import EmailField, Field, PasswordField
from wtforms.validators import Email, EqualTo, InputRequired, Length, ValidationError

from ..forms import Form
from ..security import events, rate_limits
from . import accounts, sessions

blueprint = Blueprint("login", __name__)

# On the answer of a POST alone, and never "cookies": that reaches every host of the domain.
CLEAR = '"cache", "storage"'


class LoginForm(Form):
    """An address and a password; what is missing is as wrong as what is wrong."""

    email = EmailField("Email address")
    password = PasswordField("Password")


class NewPasswordForm(Form):
    """The password so far, and the next one twice."""

    current_password = PasswordField("Current password", [InputRequired("Please give it.")])
    new_password = PasswordField("New password", [InputRequired("Please choose one.")])
    confirm_password = PasswordField(
        "The new one again", [EqualTo("new_password", "These two are not the same.")]
    )

    def validate_current_password(self, field: Field) -> None:
        """Refuse a password that is not the user's own."""
        if not accounts.knows_password(sessions.mine().user, field.data or ""):
            raise ValidationError("This is not your current password.")

    def validate_new_password(self, field: Field) -> None:
        """Refuse a password that is easy to guess."""
        if problem := accounts.weakness(field.data or "", sessions.mine().user.email):
            raise ValidationError(problem)


class RegisterForm(Form):
    """A new account."""

    email = EmailField(
        "Email address",
        [
            InputRequired("Please give your address."),
            Email("This does not look like an email address."),
            Length(max=accounts.LONGEST_EMAIL),
        ],
        filters=[lambda text: (text or "").strip()],
    )
    new_password = PasswordField("Password", [InputRequired("Please choose one.")])
    confirm_password = PasswordField(
        "The password again", [EqualTo("new_password", "These two are not the same.")]
    )

    def validate_new_password(self, field: Field) -> None:
        """Refuse a password that is easy to guess."""
        if problem := accounts.weakness(field.data or "", self.email.data or ""):
            raise ValidationError(problem)


@blueprint.route("/login", methods=["GET", "POST"])
@rate_limits.strict("login", by_address=True)
def login() -> ResponseReturnValue:
    """Sign in: 303 to where the visitor wanted to go, or 401 with one sentence for every cause."""
    form, target = LoginForm(), sessions.safe_next(request.args.get("next"))
    failed = ""
    if request.method == "POST":
        if accounts.sign_in(form.email.data or "", form.password.data or ""):
            return redirect(target, 303)
        failed = accounts.Unauthenticated.description
    page = render_template("login/login.html", form=form, target=target, failed=failed)
    return page, 401 if failed else 200


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
        abort(404)
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


@blueprint.route("/account/password", methods=["GET", "POST"])
@rate_limits.strict("password")
@sessions.required()
def change_password() -> ResponseReturnValue:
    """Take a new password; every other session of the user ends, and this one begins anew."""
    form = NewPasswordForm()
    if form.validate_on_submit():
        user = sessions.mine().user
        accounts.set_password(user, form.new_password.data or "")
        sessions.start(user)
        flash("Your password has changed, and every other session has ended.")
        return redirect(url_for("login.account"), 303)
    return render_template("login/password.html", form=form), 422 if form.is_submitted() else 200


@blueprint.route("/register", methods=["GET", "POST"])
@rate_limits.strict("register", by_address=True)
def register() -> ResponseReturnValue:
    """Open an account, where LOGIN_REGISTER lets anybody; nobody has verified the address."""
    if not current_app.config["LOGIN_REGISTER"]:
        abort(404)
    form = RegisterForm()
    if form.validate_on_submit():
        accounts.create(form.email.data or "", form.new_password.data or "")
        flash("If this address had no account, it has one now. Please sign in.")
        return redirect(url_for("login.login"), 303)
    return render_template("login/register.html", form=form), 422 if form.is_submitted() else 200
