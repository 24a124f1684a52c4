"""Sign in with an address and a password: the pages, the endpoint and the commands for it."""

import sys
from collections.abc import Iterator, Mapping

import click
from email_validator import EmailNotValidError, validate_email
from flask import (
    Config,
    Flask,
    abort,
    current_app,
    flash,
    redirect,
    render_template,
    request,
    url_for,
)
from flask.typing import ResponseReturnValue
from limits import parse_many
from wtforms import EmailField, Field, PasswordField
from wtforms.validators import Email, EqualTo, InputRequired, Length, ValidationError

from ..api import json_object
from ..forms import Form
from ..problem import Problem
from ..security import rate_limits
from . import accounts, api, cli, pages, sessions
from .models import LONGEST_EMAIL, key_of

SETTINGS: Mapping[str, object] = {
    "LOGIN_ACCOUNT_LIMIT": "20 per hour",
    "LOGIN_REGISTER": False,
}
SECRETS: tuple[str, ...] = ()

MOST_PER_HOUR = 100


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
            Length(max=LONGEST_EMAIL),
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


@pages.blueprint.route("/login", methods=["GET", "POST"])
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


@pages.blueprint.route("/account/password", methods=["GET", "POST"])
@rate_limits.strict("password")
@sessions.required()
def change_password() -> ResponseReturnValue:
    """Take a new password; every other session of the user ends, and this one begins anew."""
    form = NewPasswordForm()
    if form.validate_on_submit():
        if accounts.change_password(sessions.mine().user, form.new_password.data or ""):
            flash("Your password has changed, and every other session has ended.")
        return redirect(url_for("login.account"), 303)  # and from there to sign in, if it is not
    return render_template("login/password.html", form=form), 422 if form.is_submitted() else 200


@pages.blueprint.route("/register", methods=["GET", "POST"])
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


@api.blueprint.post("/auth/session")
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
    return api.state()


@cli.user.command()
@click.argument("email")
def create(email: str) -> None:
    """Open an account; the password is asked for, or read from a pipe."""
    try:
        validate_email(email, check_deliverability=False)
    except EmailNotValidError as error:
        raise click.ClickException(f"{email!r} is no email address: {error}") from None
    if not key_of(email):
        raise click.ClickException(f"{email!r} is too long.")
    if accounts.find(email) or not accounts.create(email, _new_password(email)):
        raise click.ClickException(f"{email} has an account already.")
    click.echo(f"{email} can sign in.")


@cli.user.command()
@click.argument("email")
def password(email: str) -> None:
    """Set a new password; every session of the account ends."""
    found = cli.find(email)
    ended = accounts.set_password(found, _new_password(email))
    click.echo(f"{email} has a new password; {ended} sessions have ended.")


def init_app(_app: Flask) -> None:
    """Do nothing: the pages, the endpoint and the commands are there with their blueprints."""


def problems(config: Config) -> Iterator[Problem]:
    """Yield a limit of guesses that cannot be read, or that allows too many."""
    try:
        limits = parse_many(config["LOGIN_ACCOUNT_LIMIT"])
    except ValueError:
        limits = []
    if limits and min(item.amount * 3_600 / item.get_expiry() for item in limits) > MOST_PER_HOUR:
        yield Problem(
            "login-account-limit-high",
            f"LOGIN_ACCOUNT_LIMIT is {config['LOGIN_ACCOUNT_LIMIT']!r}: "
            f"more than {MOST_PER_HOUR} guesses per hour (ASVS 6.3.1).",
            'Far fewer will do: LOGIN_ACCOUNT_LIMIT = "20 per hour"',
            level="warning",
        )
    if not limits or any(item.amount < 1 for item in limits):
        yield Problem(
            "login-account-limit",
            f"LOGIN_ACCOUNT_LIMIT: {config['LOGIN_ACCOUNT_LIMIT']!r} is not a limit.",
            'A number per second, minute, hour or day: LOGIN_ACCOUNT_LIMIT = "20 per hour"',
        )


def _new_password(email: str) -> str:
    """Ask twice without showing it, or read a line: a password given as an argument is shown."""
    if sys.stdin.isatty():
        given = str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    else:
        given = sys.stdin.readline().rstrip("\r\n")
    if problem := accounts.weakness(given, email):
        raise click.ClickException(problem)
    return given
