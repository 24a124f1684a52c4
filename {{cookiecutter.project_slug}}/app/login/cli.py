"""What an administrator does at the command line: accounts, passwords, sessions."""

import sys

import click
from email_validator import EmailNotValidError, validate_email
from flask.cli import AppGroup, with_appcontext
from sqlalchemy import select

from ..db import db, demand_schema
from ..security import events
from . import accounts, sessions
from .models import LoginSession, User

user = AppGroup("user", help="Look after the accounts.", callback=with_appcontext(demand_schema))


@user.command()
@click.argument("email")
def create(email: str) -> None:
    """Open an account; the password is asked for, or read from a pipe."""
    try:
        validate_email(email, check_deliverability=False)
    except EmailNotValidError as error:
        raise click.ClickException(f"{email!r} is no email address: {error}") from None
    if not accounts.key_of(email):
        raise click.ClickException(f"{email!r} is too long.")
    if accounts.find(email) or not accounts.create(email, _new_password(email)):
        raise click.ClickException(f"{email} has an account already.")
    click.echo(f"{email} can sign in.")


@user.command()
@click.argument("email")
def password(email: str) -> None:
    """Set a new password; every session of the account ends."""
    found = _find(email)
    ended = accounts.set_password(found, _new_password(email))
    click.echo(f"{email} has a new password; {ended} sessions have ended.")


@user.command()
@click.argument("email")
@click.option("--undo", is_flag=True, help="Let it sign in again.")
def disable(email: str, *, undo: bool) -> None:
    """Keep an account from signing in; every session of it ends at once."""
    ended = accounts.disable(_find(email), disabled=not undo)
    done = "can sign in again." if undo else f"cannot sign in; {ended} sessions have ended."
    click.echo(f"{email} {done}")


@user.command("list")
def list_users() -> None:
    """List the accounts."""
    for found in db.session.scalars(select(User).order_by(User.email_key)):
        click.echo(f"{found.email}{'  (disabled)' if found.disabled else ''}")


@user.command("sessions")
@click.argument("email", required=False)
@click.option("--forget-expired", is_flag=True, help="Delete those that are over; from cron.")
@click.option("--end", "ending", is_flag=True, help="End those that are listed.")
def list_sessions(email: str | None, *, forget_expired: bool, ending: bool) -> None:
    """List who is signed in, since when and from where: EMAIL's sessions, or everybody's."""
    if forget_expired:
        click.echo(f"{sessions.forget_expired()} sessions that were over are gone.")
        db.session.commit()
    query = select(LoginSession).order_by(LoginSession.user_id, LoginSession.seen_at)
    if email:
        query = query.where(LoginSession.user_id == _find(email).id)
    listed = list(db.session.scalars(query))
    for row in listed:
        click.echo(f"{row.user.email}  {row.seen()}  {row.address}  {row.agent}")
    if ending:
        for user_id in {row.user_id for row in listed}:
            ended = sessions.end_all(user_id)
            events.record("sessions-ended", user=user_id, sessions_ended=ended)
        click.echo(f"{len(listed)} sessions have ended.")


def _find(email: str) -> User:
    found = accounts.find(email)
    if found is None:
        raise click.ClickException(f"{email} has no account.")
    return found


def _new_password(email: str) -> str:
    """Ask twice without showing it, or read a line: a password given as an argument is shown."""
    if sys.stdin.isatty():
        given = str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    else:
        given = sys.stdin.readline().rstrip("\r\n")
    if problem := accounts.weakness(given, email):
        raise click.ClickException(problem)
    return given
