# % if cookiecutter.login == "oidc"
# % extends "oidc/models.py"
# % endif
"""Who may sign in, and who has. Times are seconds of the epoch: the same on every database."""

import time
import unicodedata
from datetime import UTC, datetime
from typing import Annotated

from flask import Config
from sqlalchemy import BigInteger, ColumnElement, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ..db import Model

LONGEST_EMAIL = 254  # RFC 5321

Seconds = Annotated[int, mapped_column(BigInteger)]


def now() -> int:
    """Return the time in whole seconds of the epoch."""
    return int(time.time())


def key_of(email: str) -> str:
    """Return what two spellings of an address have in common; empty if it can be nobody's."""
    key = unicodedata.normalize("NFKC", email).strip().casefold()
    return key if key.isprintable() and len(key) <= LONGEST_EMAIL else ""


class User(Model):
    """An account."""

    __tablename__ = "user_account"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(254))  # as it was written
    # What two spellings of one address have in common: by it an account is found.
    email_key: Mapped[str] = mapped_column(String(254), unique=True)
    password_hash: Mapped[str] = mapped_column(String(255))
    disabled: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[Seconds] = mapped_column(default=now)
    signed_in_at: Mapped[Seconds | None]

    @classmethod
    def is_called(cls, name: str) -> ColumnElement[bool]:
        """Return the condition that an account is meant: by its address, however it is spelt."""
        return cls.email_key == key_of(name)

    def label(self) -> str:
        """Return how pages and commands call it."""
        return self.email

    def full_name(self) -> str:
        """Return how the command line tells it from every other."""
        return self.email


class LoginSession(Model):
    """One browser in which a user is signed in; the token itself is in its cookie alone."""

    __tablename__ = "login_session"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"), index=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)  # SHA-256, hexadecimal
    created_at: Mapped[Seconds] = mapped_column(default=now)
    seen_at: Mapped[Seconds] = mapped_column(default=now)
    address: Mapped[str] = mapped_column(String(45))
    agent: Mapped[str] = mapped_column(String(200))
    user: Mapped[User] = relationship(lazy="joined", innerjoin=True)

    def suffices(self, config: Config, *, fresh: bool) -> bool:
        """Return whether it lets somebody in; `fresh`: where the sign-in must not be long ago."""
        return not fresh or self.created_at > now() - config["LOGIN_FRESH_S"]

    def seen(self) -> str:
        """Return when it was last seen, in UTC."""
        return _text(self.seen_at)

    def created(self) -> str:
        """Return when it began, in UTC."""
        return _text(self.created_at)


def _text(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
