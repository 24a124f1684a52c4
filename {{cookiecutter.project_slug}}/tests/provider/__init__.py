"""An OpenID Connect provider that lies, stalls and breaks off as soon as a test asks it to.

It believes everybody, and is for tests and development alone: it listens on loopback, asks for
no password and signs in whoever comes. What the client owes, it checks: PKCE, the secret, a code
used once and for one redirect. To develop against it:

    python -m tests.provider --port 9000 --email ada@example.com

A test sets one fault, and `behave` forgets it:

    provider.claims["aud"] = "somebody-else"            # a claim of the ID token
    provider.discovery["userinfo_endpoint"] = REMOVED   # a member that is missing
    provider.claims["iat"] = lambda iat: iat - 86_400   # what was, changed
    provider.faults["token"] = faults.slow(30)          # how the endpoint answers
"""

import hmac
import json
import secrets
import threading
import time
import warnings
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from email.message import Message
from functools import cache, partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any, cast
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit

from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry

from tests.provider.faults import Answer, Fault, said

CLIENT_ID = "the-client"
CLIENT_SECRET = "provider-secret-" + "0123456789abcdef" * 2
LIFETIME_S = 300
IDLE_S = 2  # until a client that says nothing, or reads nothing, is left
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
AGAIN = "/again"  # before a path: what it answered last, or would have without the fault
REMOVED = object()  # the value of a member that is left out
NOW = object()

ENDPOINTS: Mapping[str, str] = {
    "/.well-known/openid-configuration": "discovery",
    "/keys": "keys",
    "/authorize": "authorize",
    "/token": "token",
    "/userinfo": "userinfo",
    "/end_session": "end_session",
}

Key = ECKey | RSAKey
Changes = Mapping[str, object]  # a value, REMOVED, or a function of what the value was


@dataclass(frozen=True)
class Asked:
    """A request that somebody sent."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)
    headers: "Message[str, str]" = field(default_factory=Message)

    @property
    def endpoint(self) -> str:
        """Return the name of what was asked, or an empty text."""
        return ENDPOINTS.get(self.path.removeprefix(AGAIN), "")


def elliptic() -> ECKey:
    """Return a new key for ES256."""
    return ECKey.generate_key("P-256")


@cache
def rsa(bits: int = 2048) -> RSAKey:
    """Return a key for RS256, the same one each time: it takes long to find."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # a short one is what the test wants
        return RSAKey.generate_key(bits)


@dataclass(frozen=True)
class _Grant:
    """Who has signed in, and what the client has to prove for it."""

    redirect_uri: str
    challenge: str
    user: Mapping[str, object]
    session: Mapping[str, object]


class Provider:
    """A provider on a port of loopback, and what a test asks of it.

    The attributes that `behave` sets are the test's: who signs in, and the one fault.
    """

    def __init__(
        self, port: int, client_id: str = CLIENT_ID, client_secret: str = CLIENT_SECRET
    ) -> None:
        self.port, self.client_id, self.client_secret = port, client_id, client_secret
        self.issuer = f"http://127.0.0.1:{port}"
        self.other_host = f"http://localhost:{port}"  # nothing of it is the issuer's
        self._server: ThreadingTCPServer | None = None
        self.stopped = threading.Event()
        self.behave()

    def behave(self) -> None:
        """Forget every fault, everybody and all that was asked; sign with a fresh key."""
        self.asked: list[Asked] = []
        # Who signs in; None leaves the claim out.
        self.subject, self.email = "ada", "ada@example.com"
        self.email_verified: object = True
        self.sid: str | None = "session-of-ada"
        self.acr: str | None = None
        self._auth_time: object = NOW
        # Members changed: of JSON answers, of the ID token, of the query of the callback.
        self.discovery: dict[str, object] = {}
        self.token: dict[str, object] = {}
        self.userinfo: dict[str, object] = {}
        self.claims: dict[str, object] = {}
        self.header: dict[str, object] = {}
        self.callback: dict[str, object] = {}  # a list is sent as often as it is long
        # Who signs instead of the key that is published: a key, or the secret for HS256.
        self.signer: Key | bytes | None = None
        # How an endpoint answers, by its name.
        self.faults: dict[str, Fault] = {}
        self._codes: dict[str, _Grant] = {}
        self._grants: dict[str, _Grant] = {}
        self._answered: dict[str, Answer] = {}
        self.rotate()

    @property
    def auth_time(self) -> int | None:
        """When the user has proved who they are: now, until a test says another time, or None."""
        return int(time.time()) if self._auth_time is NOW else cast("int | None", self._auth_time)

    @auth_time.setter
    def auth_time(self, moment: int | None) -> None:
        self._auth_time = moment

    def rotate(self, key: Key | None = None, kid: str | None = None) -> None:
        """Publish and use this key, or a new one for ES256, and no other any more."""
        self.key = key or elliptic()
        self.kid = kid or secrets.token_hex(8)
        self.keys: list[object] = [self.public(self.key)]

    def public(self, key: Key) -> dict[str, object]:
        """Return what is published of a key, under the id of the present one."""
        return {**key.as_dict(private=False), "kid": self.kid, "use": "sig", "alg": _alg(key)}

    def requests(self, endpoint: str) -> list[Asked]:
        """Return what an endpoint was asked, the last one last."""
        return [asked for asked in self.asked if asked.endpoint == endpoint]

    def follow(self, location: str) -> str:
        """Visit an address of ours as a browser; return path and query of where it is sent.

        It is what GET /authorize and GET /end_session do, without a socket and without `faults`.
        """
        if not location.startswith(f"{self.issuer}/"):
            raise ValueError(location)
        url = urlsplit(location)
        asked = Asked("GET", url.path, _fields(url.query))
        self.asked.append(asked)
        answer = self._honest(asked)
        if "Location" not in answer.headers:
            raise ValueError(answer.body.decode())
        back = urlsplit(answer.headers["Location"])
        return f"{back.path}?{back.query}" if back.query else back.path

    def logout_token(
        self, header: Changes | None = None, signer: Key | bytes | None = None, **changes: object
    ) -> str:
        """Return a token that ends the session of who signs in (Back-Channel Logout 1.0, 2.4)."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": self.client_id,
            "iat": now,
            "exp": now + 120,
            "jti": secrets.token_hex(16),
            "events": {LOGOUT_EVENT: {}},
            "sub": self.subject,
            "sid": self.sid,
        }
        typed = {"typ": "logout+jwt", **(header or {})}
        return self.signed(altered(_given(claims), changes), typed, signer)

    def signed(
        self, claims: object, header: Changes | None = None, signer: Key | bytes | None = None
    ) -> str:
        """Return a signed token; the header may say `none` or HS256, or lie about the key."""
        key = signer if isinstance(signer, ECKey | RSAKey) else self.key
        head = altered({"alg": _alg(key), "kid": self.kid, "typ": "JWT"}, header or {})
        message = b".".join(_base64(json.dumps(part).encode()) for part in (head, claims))
        alg = str(head.get("alg"))
        if alg.lower() == "none":
            signature = b""
        elif alg.startswith("HS"):
            secret = signer if isinstance(signer, bytes) else self.client_secret.encode()
            signature = hmac.digest(secret, message, f"sha{alg[2:]}")
        else:
            signature = JWSRegistry.algorithms[_alg(key)].sign(message, key)
        return b".".join((message, _base64(signature))).decode()

    def answer(self, asked: Asked) -> Iterator[bytes | float]:
        """Yield what a request is answered: bytes to send, seconds to wait."""
        self.asked.append(asked)
        if asked.path in self._answered:
            return iter((self._answered[asked.path].raw,))
        again = AGAIN + asked.path
        answer = replace(self._honest(asked), again=self.other_host + again)
        self._answered[again] = answer
        fault = self.faults.get(asked.endpoint)
        return fault(answer) if fault else iter((answer.raw,))

    def _honest(self, asked: Asked) -> Answer:
        match asked.endpoint:
            case "discovery":
                return said(altered(self._metadata(), self.discovery))
            case "keys":
                return said({"keys": self.keys})
            case "authorize":
                return self._authorize(asked.query)
            case "token":
                return self._exchange(asked)
            case "userinfo":
                return self._tell(asked)
            case "end_session":
                state = {"state": asked.query.get("state")}
                return _redirect(asked.query.get("post_logout_redirect_uri"), _given(state))
        return said("not found", 404, "text/plain")

    def _metadata(self) -> dict[str, object]:
        """Return what is published at the well-known address (Discovery 1.0, 3)."""
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/keys",
            "end_session_endpoint": f"{self.issuer}/end_session",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code"],
            "subject_types_supported": ["public"],
            "scopes_supported": ["openid", "email"],
            "id_token_signing_alg_values_supported": [_alg(self.key)],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
            "backchannel_logout_supported": True,
            "backchannel_logout_session_supported": True,
        }

    def _authorize(self, query: Mapping[str, str]) -> Answer:
        """Send a visitor back who has consented to everything."""
        redirect_uri = query.get("redirect_uri")
        if query.get("client_id") != self.client_id or not redirect_uri:
            return said("an unknown client, or no redirect_uri", 400, "text/plain")
        sent = _given({"state": query.get("state"), "iss": self.issuer})
        if query.get("response_type") != "code":
            sent["error"] = "unsupported_response_type"
        elif "openid" not in query.get("scope", "").split():
            sent["error"] = "invalid_scope"
        elif query.get("code_challenge_method") != "S256" or not query.get("code_challenge"):
            sent |= {"error": "invalid_request", "error_description": "PKCE with S256 is missing"}
        else:
            sent["code"] = secrets.token_urlsafe(24)
            self._codes[str(sent["code"])] = self._grant(query)
        return _redirect(redirect_uri, altered(sent, self.callback))

    def _grant(self, query: Mapping[str, str]) -> _Grant:
        user: dict[str, object] = {"sub": self.subject}
        if "email" in query["scope"].split():
            user |= {"email": self.email, "email_verified": self.email_verified}
        session = {"nonce": query.get("nonce"), "auth_time": self.auth_time}
        session |= {"sid": self.sid, "acr": self.acr}
        return _Grant(query["redirect_uri"], query["code_challenge"], user, _given(session))

    def _exchange(self, asked: Asked) -> Answer:
        """Give tokens for a code to the client that it was made for (RFC 6749, RFC 7636)."""
        if self._client(asked) != (self.client_id, self.client_secret):
            return said({"error": "invalid_client"}, 401, **{"WWW-Authenticate": "Basic"})
        if asked.method != "POST" or asked.form.get("grant_type") != "authorization_code":
            return said({"error": "unsupported_grant_type"}, 400)
        grant = self._codes.pop(asked.form.get("code", ""), None)
        verifier = asked.form.get("code_verifier", "").encode()
        proof = (asked.form.get("redirect_uri"), _base64(sha256(verifier).digest()).decode())
        if not grant or proof != (grant.redirect_uri, grant.challenge):
            return said({"error": "invalid_grant"}, 400)
        access_token, now = secrets.token_urlsafe(24), int(time.time())
        self._grants[access_token] = grant
        claims = {
            "iss": self.issuer,
            "aud": self.client_id,
            "iat": now,
            "exp": now + LIFETIME_S,
            "at_hash": _base64(sha256(access_token.encode()).digest()[:16]).decode(),
            **grant.user,
            **grant.session,
        }
        tokens = {
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": LIFETIME_S,
            "id_token": self.signed(altered(claims, self.claims), self.header, self.signer),
        }
        return said(altered(tokens, self.token))

    @staticmethod
    def _client(asked: Asked) -> tuple[str, str] | None:
        """Return how a client calls itself and its secret; None if it does so in two ways."""
        scheme, _, encoded = (asked.headers["Authorization"] or "").partition(" ")
        if scheme.lower() != "basic":
            return asked.form.get("client_id", ""), asked.form.get("client_secret", "")
        name, _, secret = b64decode(encoded).decode().partition(":")
        return None if "client_secret" in asked.form else (unquote_plus(name), unquote_plus(secret))

    def _tell(self, asked: Asked) -> Answer:
        """Say who an access token was given for."""
        scheme, _, access_token = (asked.headers["Authorization"] or "").partition(" ")
        grant = self._grants.get(access_token)
        if scheme.lower() != "bearer" or not grant:
            return said({"error": "invalid_token"}, 401, **{"WWW-Authenticate": "Bearer"})
        return said(altered(grant.user, self.userinfo))

    def start(self) -> None:
        """Listen, if it does not."""
        if not self._server:
            self.stopped.clear()
            self._server = _Server(("127.0.0.1", self.port), partial(_Handler, self))
            threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Close the port and every connection, whatever they wait for."""
        if self._server:
            self.stopped.set()
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 64


class _Handler(BaseHTTPRequestHandler):
    timeout = IDLE_S

    def __init__(self, provider: Provider, *connection: Any) -> None:  # noqa: ANN401
        self._provider = provider
        super().__init__(*connection)

    def handle(self) -> None:
        with suppress(OSError):  # a client has gone away
            super().handle()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        form = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()
        asked = Asked(self.command, url.path, _fields(url.query), _fields(form), self.headers)
        for piece in self._provider.answer(asked):
            if isinstance(piece, bytes):
                self.wfile.write(piece)
            elif self._provider.stopped.wait(piece):
                break

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing: a test prints what it wants to see."""


def altered(honest: Mapping[str, object], changes: Changes) -> dict[str, object]:
    """Return the members with the changes: a value, REMOVED, or a function of the old value."""
    result = dict(honest)
    for name, change in changes.items():
        result[name] = change(result.get(name)) if callable(change) else change
    return {name: value for name, value in result.items() if value is not REMOVED}


def _fields(text: str) -> dict[str, str]:
    return dict(parse_qsl(text, keep_blank_values=True))


def _given(members: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in members.items() if value is not None}


def _redirect(to: str | None, members: Mapping[str, object]) -> Answer:
    if not to or not (to.isascii() and to.isprintable()):  # a line break would be a header
        return said("nowhere to go", 400, "text/plain")
    query = urlencode(members, doseq=True)
    location = f"{to}{'&' if '?' in to else '?'}{query}" if query else to
    return said(b"", 302, Location=location)


def _alg(key: Key) -> str:
    return "ES256" if isinstance(key, ECKey) else "RS256"


def _base64(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
