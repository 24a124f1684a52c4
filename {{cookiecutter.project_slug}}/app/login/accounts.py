"""Find out whether somebody is who they say, and tell nobody else anything (ASVS 6.3.8).

One sentence for every failure, one hash computed, one line in the security log. Two limits, per
client and per account, are spent before that, and given back by a right password.
"""

import hashlib

from flask import current_app
from sqlalchemy import ColumnElement, select, update
from sqlalchemy.exc import IntegrityError
from werkzeug.exceptions import Unauthorized

from ..db import GONE, db
from ..security import events, rate_limits
from . import passwords, sessions
from .models import User, key_of


class Unauthenticated(Unauthorized):
    """The address and the password do not go together; nobody is told which is wrong."""

    description = "This address and this password do not go together."
    recorded = True  # as a failed sign-in


def find(email: str) -> User | None:
    """Return the account of an address."""
    if not key_of(email):
        return None
    found: User | None = db.session.scalar(select(User).where(User.email_key == key_of(email)))
    return found


def create(email: str, password: str) -> User | None:
    """Open an account and return it; None if the address has one or can have none.

    The work is the same.
    """
    made = passwords.make_hash(password)
    if not key_of(email):
        return None
    user = User(email=email.strip(), email_key=key_of(email), password_hash=made)
    db.session.add(user)
    try:
        db.session.commit()
    except IntegrityError:
        db.session.rollback()
        return None
    events.record("account-created", user=user.id)
    return user


def sign_in(email: str, password: str) -> bool:
    """Sign in whoever has this address and this password; return whether somebody has.

    Raises TooManyRequests when the account has had all the guesses it gets.
    """
    _spend(key_of(email))
    try:
        user = find(email)
        number = user.id if user else None
        proved = _is_proved(user, password)
    except GONE:  # before anything was compared, or after it was right
        rate_limits.give_back()
        raise
    if proved:
        rate_limits.give_back()
    events.record("login" if proved else "login-failed", user=number)
    return proved


def _is_proved(user: User | None, password: str) -> bool:
    stored = user.password_hash if user else None
    if not passwords.is_right(stored, password) or user is None or stored is None:
        return False
    if not sessions.start(user, User.password_hash == stored):
        return False
    if passwords.is_outdated(stored):
        better = {"password_hash": passwords.make_hash(password)}
        same = (User.id == user.id, User.password_hash == stored)
        db.session.execute(update(User).where(*same).values(better))
        db.session.commit()
    return True


def knows_password(user: User, password: str) -> bool:
    """Return whether somebody who is signed in knows the password; the limits are the same."""
    _spend(user.email_key)
    if passwords.is_right(user.password_hash, password):
        rate_limits.give_back()
        return True
    events.record("password-refused", user=user.id)
    return False


def set_password(user: User, password: str, *still: ColumnElement[bool]) -> int | None:
    """Store a new password and end every session of the user; return how many.

    `still` are conditions of the account that must hold at that moment, as for `sessions.start`;
    None is returned, and nothing changed, if they do not.
    """
    number, made = user.id, passwords.make_hash(password)
    changed = update(User).where(User.id == number, *still).values(password_hash=made)
    if not sessions.written(changed):
        db.session.rollback()
        return None
    ended = sessions.end_all(number)
    events.record("password-changed", user=number, sessions_ended=ended)
    return ended


def change_password(user: User, password: str) -> bool:
    """Store the new password of somebody whose current one has been verified, and sign in anew.

    Returns whether it is done: while it was verified, somebody may have set another one.
    """
    verified = User.password_hash == user.password_hash
    if set_password(user, password, verified, User.disabled.is_(False)) is None:
        return False
    return sessions.start(user, User.password_hash == user.password_hash)


def weakness(password: str, email: str) -> str | None:
    """Return why a password is refused for this site and this address, or None."""
    hosts = current_app.config["TRUSTED_HOSTS"] or []  # Flask asks for none in development
    return passwords.weakness(password, [current_app.config["SITE_NAME"], *hosts, email])


def _spend(key: str) -> None:
    # Hashed: what strangers type as an address is neither long nor readable in the store.
    digest = hashlib.sha256(key.encode()).hexdigest()
    rate_limits.spend(current_app.config["LOGIN_ACCOUNT_LIMIT"], "account", digest)
