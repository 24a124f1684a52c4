"""Ask a provider who somebody is, and believe no more than it proves (OpenID Connect Core 3.1.3).

Authlib's client does the protocol. What it takes on trust is looked at here: whose metadata it
has and where that leads, which keys and algorithms count, and every claim of a token.
"""

import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, cast

from authlib.common.errors import AuthlibBaseError
from authlib.integrations.base_client import OAuthError
from authlib.integrations.flask_client import FlaskOAuth2App
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import (
    BadSignatureError,
    ClaimError,
    InvalidClaimError,
    InvalidKeyIdError,
    JoseError,
)
from joserfc.jwk import JWKRegistry, KeySet, KeySetSerialization
from joserfc.jwt import ClaimsOption, JWTClaimsRegistry
from requests.exceptions import RequestException
from werkzeug.exceptions import BadGateway, BadRequest, Forbidden, HTTPException

from ..security import events
from .models import LONGEST_EMAIL, now
from .oidc_http import Odd, Session, is_private

LEEWAY_S = 60  # by which two clocks may differ
KEPT_S = 900  # how long metadata and keys are believed
REREAD_S = 10  # how often what a stranger sends can make us read the keys again
LOGOUT_TOKEN_S = 300  # how old a logout token may be

LOGOUT = "http://schemas.openid.net/event/backchannel-logout"
NEEDED_FOR_LOGOUT = ("exp", "iat", "jti", "events")
LOGOUT_TYPES = ("logout+jwt", "application/logout+jwt")
NAME = re.compile(r"[!-~]{1,255}")  # of a subject (Core 2), a session, a token; no longer a column
KNOWN_ERROR = re.compile(r"[a-z_]{1,40}")

# Nobody but the provider can have signed with one of these. An ID token's at_hash needs SHA-2.
ASYMMETRIC = re.compile(r"(RS|PS|ES)(256|384|512)")
KEY_TYPES = ("RSA", "EC")
FEWEST_RSA_BYTES = 256

# All that the provider's own document may decide: Authlib would take `verify` or `proxies` too.
NEEDED = ("authorization_endpoint", "token_endpoint", "jwks_uri")
OPTIONAL = ("userinfo_endpoint", "end_session_endpoint")
ALGORITHMS = "id_token_signing_alg_values_supported"
NAMES_ITSELF = "authorization_response_iss_parameter_supported"  # RFC 9207

# What the libraries raise; Python's own where they take a type, or a member, on trust.
FAULTS: tuple[type[Exception], ...] = (
    AuthlibBaseError,
    JoseError,
    RequestException,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,
)


class NotSignedIn(HTTPException):
    """What the three refusals share: a heading for people, a way to begin again, one log line."""

    recorded = again = True

    @property
    def name(self) -> str:
        """Return the heading of the page."""
        return "You are not signed in"


class NotCompleted(NotSignedIn, BadRequest):
    """What came back is not what this browser went to the provider for."""

    description = "Signing in was not completed. Please begin again."


class NotProved(NotSignedIn, BadGateway):
    """The provider is not there, or what it says proves nothing."""

    description = "The provider could not tell us who you are. Please try again later."


class NotAllowed(NotSignedIn, Forbidden):
    """It is proved who somebody is, and that is not enough."""

    description = "You are signed in at the provider, but not as somebody who may come in here."


class Proof(NamedTuple):
    """What a provider has proved: who signed in, in which of its sessions, how and when."""

    subject: str
    email: str | None  # if the provider has verified it
    sid: str | None
    acr: str | None
    proved_at: int | None
    id_token: str | None  # if it is needed to sign out there


class Ended(NamedTuple):
    """Whose sessions a provider has ended, which and when; the name that its token has once."""

    subject: str | None
    sid: str | None
    at: int
    name: str


class IDToken(CodeIDToken):  # type: ignore[misc]  # Authlib has no types
    """The claims of an ID token, for us alone (OpenID Connect Core 3.1.3.7)."""

    def __init__(self, *given: object, access_token: str | None) -> None:
        super().__init__(*given)
        self.params["access_token"] = access_token  # what at_hash is of: Authlib leaves it out

    def validate(self, now: int | None = None, leeway: int = 0) -> None:
        """Raise ClaimError if one of them is not as it must be."""
        if str(self.header.get("typ") or "JWT").upper() != "JWT":
            raise InvalidClaimError("typ")  # a token for another purpose
        for name in ("at_hash", "acr"):
            if name in self and _names(self, name) is None:
                raise InvalidClaimError(name)
        super().validate(now, leeway)
        # Authlib lets others be meant as well, if `azp` is us.
        ours = self.params["client_id"]
        if self["aud"] not in (ours, [ours]):
            raise InvalidClaimError("aud")
        if self.get("azp", ours) != ours:
            raise InvalidClaimError("azp")
        _names(self, "sub")
        _names(self, "sid")


class Provider(FlaskOAuth2App):  # type: ignore[misc]  # Authlib has no types
    """The provider that the settings name, as one application knows it."""

    client_cls = Session
    server_metadata: dict[str, Any]
    _reread_at = -float(REREAD_S)

    def load_server_metadata(self) -> dict[str, Any]:
        """Return what the provider says of itself, as far as we let it; Odd if that is wrong."""
        known = self.server_metadata  # another thread may forget it meanwhile
        if known.get("_loaded_at", -KEPT_S) <= time.monotonic() - KEPT_S:
            issuer = known["issuer"]
            with self._get_session() as session:
                url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
                answer = session.request("GET", url, withhold_token=True)
            answer.raise_for_status()
            self.server_metadata = known = _believed(answer.json(), issuer)
        return known

    def fetch_jwk_set(self, force: bool = False) -> dict[str, object]:
        """Return the keys that may have signed something; `force` reads them again."""
        document = super().fetch_jwk_set(force=force)
        keys = document.get("keys") if isinstance(document, dict) else None
        usable = [key for key in keys if _is_usable(key)] if isinstance(keys, list) else []
        if not usable:
            self.server_metadata.pop("jwks", None)
            raise Odd("no key")
        return {"keys": usable}

    def forget(self) -> None:
        """Have metadata and keys read anew: something was wrong with them or what they signed."""
        self.server_metadata = {"issuer": self.server_metadata["issuer"]}

    def begin(self, redirect_uri: str, nonce: str, **asked: object) -> dict[str, str]:
        """Return `url` to send a browser to, and `state` and `code_verifier` to keep in it.

        `asked` are further parameters of the request; one that is None is left out.
        """
        with self._refusing("begin"):
            begun: dict[str, str] = self.create_authorization_url(
                redirect_uri, nonce=nonce, **asked
            )
        return begun

    def must_name_itself(self) -> bool:
        """Return whether the provider says that it names itself in callbacks (RFC 9207)."""
        with self._refusing("discovery"):
            return bool(self.load_server_metadata()[NAMES_ITSELF])

    def prove(self, code: str, code_verifier: str, nonce: str, redirect_uri: str) -> Proof:
        """Exchange a code for what it proves. Raises NotCompleted or NotProved if that is nothing.

        Whether it is enough (when, how, of which domain) is for the caller to say.
        """
        with self._refusing("token"):
            metadata = self.load_server_metadata()
            given = self.fetch_access_token(redirect_uri, code=code, code_verifier=code_verifier)
            if not given.get("id_token"):
                raise Odd("no ID token")
        with self._refusing("id-token"):
            kind = partial(IDToken, access_token=given.get("access_token"))
            claims = self.parse_id_token(given, nonce, self._ours(), kind, LEEWAY_S)
            proved_at = _time(claims, "auth_time")
        with self._refusing("userinfo"):
            if self._asks_userinfo(claims, metadata):
                answer = self.get(metadata["userinfo_endpoint"], token=given)
                answer.raise_for_status()
                more = answer.json()
                if not isinstance(more, dict) or more.get("sub") != claims["sub"]:
                    raise InvalidClaimError("sub")
                claims |= {name: more.get(name) for name in ("email", "email_verified")}
        return Proof(
            subject=claims["sub"],
            email=_verified_email(claims),
            sid=claims.get("sid"),
            acr=claims.get("acr"),
            proved_at=proved_at,
            id_token=given["id_token"] if "end_session_endpoint" in metadata else None,
        )

    def ended(self, token: str) -> Ended:
        """Return what a logout token says (OpenID Connect Back-Channel Logout 2.6).

        Raises NotCompleted if it says nothing, or not to us.
        """
        try:
            found = self._decode(token)
            claims = found.claims
            needed = {name: ClaimsOption(essential=True) for name in NEEDED_FOR_LOGOUT}
            JWTClaimsRegistry(None, LEEWAY_S, **self._ours(), **needed).validate(claims)
            if str(found.header.get("typ")).lower() not in LOGOUT_TYPES:
                raise InvalidClaimError("typ")
            if claims["aud"] not in (self.client_id, [self.client_id]):
                raise InvalidClaimError("aud")
            happened = claims["events"]
            if not isinstance(happened, dict) or not isinstance(happened.get(LOGOUT), dict):
                raise InvalidClaimError("events")
            if "nonce" in claims:
                raise InvalidClaimError("nonce")  # an ID token, and no logout token
            if claims["iat"] < now() - LOGOUT_TOKEN_S:
                raise InvalidClaimError("iat")
            subject, sid = _names(claims, "sub"), _names(claims, "sid")
            name = _names(claims, "jti")
            if name is None or (subject is None and sid is None):
                raise InvalidClaimError("sub")
        except FAULTS as error:
            raise logout_refusal(_why(error)) from None
        return Ended(subject, sid, int(claims["iat"]), name)

    def leave(self, id_token: str, back: str) -> str:
        """Return where a user signs out at the provider (OpenID Connect RP-Initiated Logout 2)."""
        with self._refusing("logout"):
            left: dict[str, str] = self.create_logout_url(back, id_token, client_id=self.client_id)
        return left["url"]

    def _ours(self) -> dict[str, ClaimsOption]:
        """Return what every token says: by this provider, and for us."""
        issuer = self.server_metadata["issuer"]
        return {
            "iss": ClaimsOption(essential=True, value=issuer),
            "aud": ClaimsOption(essential=True, value=self.client_id),
        }

    def _asks_userinfo(self, claims: Mapping[str, object], metadata: Mapping[str, object]) -> bool:
        """Return whether only the userinfo endpoint can know an address that we have asked for."""
        asked = "email" in self.client_kwargs["scope"].split()
        return asked and "email" not in claims and "userinfo_endpoint" in metadata

    def _decode(self, token: str) -> jwt.Token:
        algorithms = self.load_server_metadata()[ALGORITHMS]
        try:
            return jwt.decode(token, self._keys(), algorithms)
        except (InvalidKeyIdError, BadSignatureError):
            if self._reread_at > time.monotonic() - REREAD_S:
                raise
        self._reread_at = time.monotonic()
        return jwt.decode(token, self._keys(force=True), algorithms)

    def _keys(self, *, force: bool = False) -> KeySet:
        return KeySet.import_key_set(cast("KeySetSerialization", self.fetch_jwk_set(force=force)))

    @contextmanager
    def _refusing(self, step: str) -> Iterator[None]:
        """Turn a fault into a refusal, one line of the log, and a fresh start at the next try.

        A code that is refused is the visitor's, who may have made it up: nothing starts afresh.
        """
        try:
            yield
        except FAULTS as error:
            is_old = isinstance(error, OAuthError) and error.error == "invalid_grant"
            if not is_old:
                self.forget()
            raise refusal(step, _why(error), NotCompleted if is_old else NotProved) from None


def refusal(step: str, why: str, kind: type[HTTPException] = NotCompleted) -> HTTPException:
    """Record that a sign-in has failed; return what to raise."""
    events.record("login-failed", rule=f"oidc:{step}", why=why)
    return kind()


def logout_refusal(why: str) -> HTTPException:
    """Record that a logout token ends nothing; return what to raise."""
    events.record("logout-refused", rule="oidc:logout-token", why=why)
    return NotCompleted()


def known_error(code: str) -> str:
    """Return an error's code if it looks like one of OAuth's own (RFC 6749 4.1.2.1)."""
    return code if KNOWN_ERROR.fullmatch(code) else "an error"


def _believed(document: object, issuer: str) -> dict[str, Any]:
    """Return what counts of a discovery document (OpenID Connect Discovery 4.3); Odd if wrong."""
    if not isinstance(document, dict) or document.get("issuer") != issuer:
        raise Odd("another issuer")
    found = {name: document[name] for name in (*NEEDED, *OPTIONAL) if document.get(name)}
    if missing := [name for name in NEEDED if name not in found]:
        raise Odd(f"no {missing[0]}")
    if not all(is_private(url) for url in found.values()):
        raise Odd("not https")
    listed = document.get(ALGORITHMS, ["RS256"])
    texts = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    found[ALGORITHMS] = [name for name in texts if ASYMMETRIC.fullmatch(name)]
    if not found[ALGORITHMS]:
        raise Odd("no asymmetric algorithm")
    found[NAMES_ITSELF] = document.get(NAMES_ITSELF) is True
    methods = document.get("token_endpoint_auth_methods_supported")
    if isinstance(methods, list) and "client_secret_basic" not in methods:
        found["token_endpoint_auth_method"] = "client_secret_post"  # noqa: S105
    return {**found, "issuer": issuer, "_loaded_at": time.monotonic()}


def _is_usable(key: object) -> bool:
    """Return whether a key of the provider's is one that signs, and strong enough."""
    try:
        if not isinstance(key, dict) or key.get("kty") not in KEY_TYPES:
            return False
        modulus = str(key.get("n", "")) if key["kty"] == "RSA" else ""
        if modulus and len(urlsafe_b64decode(f"{modulus}==").lstrip(b"\0")) < FEWEST_RSA_BYTES:
            return False
        JWKRegistry.import_key(key)
    except FAULTS:
        return False
    return bool(key.get("use", "sig") == "sig")


def _names(claims: Mapping[str, object], claim: str) -> str | None:
    """Return a name that the provider gives to somebody or something; None without it."""
    name = claims.get(claim)
    if name is not None and not (isinstance(name, str) and NAME.fullmatch(name)):
        raise InvalidClaimError(claim)
    return name


def _time(claims: Mapping[str, object], claim: str) -> int | None:
    """Return a moment of the past in seconds of the epoch; None without it."""
    moment = claims.get(claim)
    if moment is None:
        return None
    if isinstance(moment, bool) or not isinstance(moment, int | float):
        raise InvalidClaimError(claim)
    if not 0 <= moment <= now() + LEEWAY_S:
        raise InvalidClaimError(claim)
    return int(moment)


def _verified_email(claims: Mapping[str, object]) -> str | None:
    """Return the address, if the provider says that it has verified it: true and nothing else."""
    email = claims.get("email")
    if claims.get("email_verified") is not True or not isinstance(email, str):
        return None
    fits = len(email) <= LONGEST_EMAIL and email.isprintable() and "@" in email
    return email if fits else None


def _why(error: Exception) -> str:
    """Return what the log may hold of an error: no word that somebody else has chosen."""
    if isinstance(error, Odd):
        return str(error)
    if isinstance(error, OAuthError):
        return known_error(str(error.error))
    name = type(error).__name__
    return f"{name}: {error.claim}" if isinstance(error, ClaimError) else name
