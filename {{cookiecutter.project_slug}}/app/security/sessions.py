"""Keep the session cookie from being read, set or sent by anyone but this host over https.

A `__Host-` cookie must be Secure, for Path=/ and for no Domain, so that neither a sibling
subdomain nor plain http can set it (RFC 6265bis 4.1.3.2, ASVS 3.3).
"""

import hashlib
from collections.abc import Iterator

from flask import Config, Flask
from flask.sessions import SecureCookieSessionInterface
from itsdangerous import URLSafeTimedSerializer

from ..problem import Problem

DAY_S = 86_400
LONGEST_S = 31 * DAY_S


def _sha256(string: bytes = b"") -> object:
    """Digest as Flask's own does, whose parameter has this name; that of hashlib is Python's."""
    return hashlib.sha256(string)


class SHA256SessionInterface(SecureCookieSessionInterface):
    """Flask's signed cookie, signed with HMAC-SHA-256 where Flask still uses SHA-1."""

    digest_method = staticmethod(_sha256)
    _signer: URLSafeTimedSerializer | None = None

    def get_signing_serializer(self, app: Flask) -> URLSafeTimedSerializer | None:
        """Return what signs and verifies, made once: no key changes while an application runs."""
        self._signer = self._signer or super().get_signing_serializer(app)
        return self._signer


def init_app(app: Flask) -> None:
    """Set every attribute of the cookie at the start: Talisman sets Secure at the first request."""
    secure = not app.config["DEBUG"]
    app.session_interface = SHA256SessionInterface()
    app.config.update(
        SESSION_COOKIE_NAME="__Host-session" if secure else "session",
        SESSION_COOKIE_SECURE=secure,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",  # Strict would lose the session on the way back from a link
        SESSION_COOKIE_DOMAIN=None,
        SESSION_COOKIE_PATH="/",
    )


def problems(config: Config) -> Iterator[Problem]:
    """Yield a lifetime that is none, or that outlives what a stolen cookie should."""
    lifetime_s = config["PERMANENT_SESSION_LIFETIME"]
    if not 0 < lifetime_s <= LONGEST_S:
        yield Problem(
            "session-lifetime",
            f"PERMANENT_SESSION_LIFETIME is {lifetime_s} seconds.",
            f"Between 1 and {LONGEST_S} (31 days): PERMANENT_SESSION_LIFETIME = 43200",
        )
