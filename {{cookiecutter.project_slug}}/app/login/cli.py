"""What an administrator does at the command line: accounts, passwords, sessions."""

import click
from flask.cli import AppGroup, with_appcontext
from sqlalchemy import func, select

from ..db import db, demand_schema
from ..security import events
from . import sessions
from .models import LoginSession, User

user = AppGroup("user", help="Look after the accounts.", callback=with_appcontext(demand_schema))


@user.command()
@click.argument("email")
@click.option("--undo", is_flag=True, help="Let it sign in again.")
def disable(email: str, *, undo: bool) -> None:
    """Keep an account from signing in; every session of it ends at once."""
    ended = sessions.disable(find(email), disabled=not undo)
    done = "can sign in again." if undo else f"cannot sign in; {ended} sessions have ended."
    click.echo(f"{email} {done}")


@user.command("list")
def list_users() -> None:
    """List the accounts."""
    for found in db.session.scalars(select(User).order_by(func.lower(User.email), User.id)):
        click.echo(f"{found.label()}{'  (disabled)' if found.disabled else ''}")


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
        query = query.where(LoginSession.user_id == find(email).id)
    listed = list(db.session.scalars(query))
    for row in listed:
        click.echo(f"{row.user.label()}  {row.seen()}  {row.address}  {row.agent}")
    if ending:
        for user_id in {row.user_id for row in listed}:
            ended = sessions.end_all(user_id)
            events.record("sessions-ended", user=user_id, sessions_ended=ended)
        click.echo(f"{len(listed)} sessions have ended.")


def find(name: str) -> User:
    """Return the account that somebody at the command line means; ClickException without one."""
    found = list(db.session.scalars(select(User).where(User.is_called(name))))
    if not found:
        raise click.ClickException(f"{name} has no account.")
    if len(found) > 1:
        listed = "\n".join(user.full_name() for user in found)
        raise click.ClickException(f"{name} is not the only one, name one of:\n{listed}")
    return found[0]
