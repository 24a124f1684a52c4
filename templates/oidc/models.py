"""Who may sign in, and who has. Times are seconds of the epoch: the same on every database."""

import time
from datetime import UTC, datetime
from typing import Annotated

from flask import Config
from sqlalchemy import BigInteger, ColumnElement, ForeignKey, String, Text, UniqueConstraint, or_
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ..db import Model

LONGEST_EMAIL = 254  # RFC 5321
LONGEST_NAME = 255  # OpenID Connect Core 2, `sub`

Seconds = Annotated[int, mapped_column(BigInteger)]


def now() -> int:
    """Return the time in whole seconds of the epoch."""
    return int(time.time())


class User(Model):
    """An account: whom a provider means by a subject, for ever (OpenID Connect Core 5.7)."""

    __tablename__ = "user_account"
    __table_args__ = (UniqueConstraint("issuer", "subject"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    issuer: Mapped[str] = mapped_column(String(LONGEST_NAME))
    subject: Mapped[str] = mapped_column(String(LONGEST_NAME))
    email: Mapped[str | None] = mapped_column(String(LONGEST_EMAIL))  # if it is verified
    disabled: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[Seconds] = mapped_column(default=now)
    signed_in_at: Mapped[Seconds | None]

    @classmethod
    def is_called(cls, name: str) -> ColumnElement[bool]:
        """Return the condition that an account is meant: by its address or its subject."""
        return or_(cls.email == name, cls.subject == name)

    def label(self) -> str:
        """Return how pages and commands call it."""
        return self.email or f"{self.subject} of {self.issuer}"

    def full_name(self) -> str:
        """Return how the command line tells it from every other."""
        return f"{self.subject} of {self.issuer}  {self.email or ''}".rstrip()


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
    # What the provider said: when the user proved who they are, how, and in which of its sessions.
    proved_at: Mapped[Seconds] = mapped_column(default=now)
    acr: Mapped[str | None] = mapped_column(String(LONGEST_NAME))
    sid: Mapped[str | None] = mapped_column(String(LONGEST_NAME), index=True)
    id_token: Mapped[str | None] = mapped_column(Text)  # if signing out there needs it
    user: Mapped[User] = relationship(lazy="joined", innerjoin=True)

    def suffices(self, config: Config, *, fresh: bool) -> bool:
        """Return whether it lets somebody in; `fresh`: where the proof must not be long ago."""
        acr = config["OIDC_REQUIRED_ACR"]
        is_fresh = self.proved_at > now() - config["LOGIN_FRESH_S"]
        return (is_fresh or not fresh) and acr in ("", self.acr)

    def seen(self) -> str:
        """Return when it was last seen, in UTC."""
        return _text(self.seen_at)

    def created(self) -> str:
        """Return when it began, in UTC."""
        return _text(self.created_at)


class EndedSession(Model):
    """What is left of a session for a few minutes: its user may sign out at the provider too."""

    __tablename__ = "ended_session"

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)  # SHA-256, hexadecimal
    id_token: Mapped[str] = mapped_column(Text)
    ended_at: Mapped[Seconds] = mapped_column(default=now)


class LogoutToken(Model):
    """A back-channel logout token that has done its work, until it would be over anyway."""

    __tablename__ = "logout_token"

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)  # SHA-256, hexadecimal
    expires_at: Mapped[Seconds]


def _text(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
