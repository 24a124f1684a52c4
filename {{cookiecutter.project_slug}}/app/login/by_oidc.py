"""Sign in with an OpenID Connect provider: the way there, the way back, and out again.

The code, the state and the proof that goes with them count once, and only in the browser that
went there (RFC 9700 2.1, ASVS 10.1.2). No token of the provider's ever reaches the browser,
but for the ID token that it wants back where its user signs out.
"""

import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from authlib.integrations.flask_client import OAuth
from flask import (
    Config,
    Flask,
    abort,
    after_this_request,
    current_app,
    g,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask.typing import ResponseReturnValue
from sqlalchemy import delete, or_, select
from sqlalchemy.exc import IntegrityError
from werkzeug.wrappers import Response

from ..db import db
from ..problem import Problem
from ..security import csrf, events, rate_limits
from . import pages, sessions
from .models import EndedSession, LoginSession, LogoutToken, User, now
from .oidc import (
    LEEWAY_S,
    LOGOUT_TOKEN_S,
    NotAllowed,
    NotProved,
    Proof,
    Provider,
    known_error,
    logout_refusal,
    refusal,
)
from .oidc_http import is_private

SETTINGS: Mapping[str, object] = {
    "OIDC_ISSUER": "",
    "OIDC_CLIENT_ID": "",
    "OIDC_SCOPES": ["openid", "email"],
    "OIDC_ALLOWED_DOMAINS": [],
    "OIDC_REQUIRED_ACR": "",
    "OIDC_MAX_AGE_S": 0,
}
SECRETS = ("OIDC_CLIENT_SECRET",)

PENDING = "sign_ins"  # in the session: those that have begun in this browser
MOST_PENDING = 2  # of about 250 bytes each in a cookie of at most 4 kB
PENDING_S = 600
LONGEST_TARGET = 300
LEAVING_S = 600  # how long the provider's sign-out is offered
MOST_CHARACTERS = 32 * 1024  # of a logout token

ISSUER = re.compile(r"https?://(?!.*/\.well-known/)[^\s?#{}]+")
DOMAIN = re.compile(r"([a-z0-9-]+\.)+[a-z0-9-]+")
# Where anybody can have an account; the last is Microsoft's for people without an organisation.
OPEN_TO_ALL = (
    "https://accounts.google.com",
    "https://gitlab.com",
    "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0",
)


def init_app(app: Flask) -> None:
    """Name the provider; nothing is asked of it before somebody signs in."""
    if app.config["OIDC_ISSUER"]:
        app.extensions["oidc"] = OAuth(app).register(  # one per app: a shared one mixes settings
            "provider",
            client_cls=Provider,
            client_id=app.config["OIDC_CLIENT_ID"],
            client_secret=app.config["OIDC_CLIENT_SECRET"],
            client_kwargs={
                "scope": " ".join(_scopes(app.config)),
                "code_challenge_method": "S256",
            },
            issuer=app.config["OIDC_ISSUER"],
        )
    else:  # in development alone, where everything else can be tried without one
        app.logger.warning("OIDC_ISSUER is empty: nobody can sign in. See docs/providers.md")
    app.context_processor(lambda: {"can_leave_provider": lambda: _cookie() in request.cookies})


@pages.blueprint.get("/login")
def login() -> ResponseReturnValue:
    """Send the visitor to the provider; whoever is signed in has to prove it anew.

    Whoever has sent a form is asked to go by a link: `form-action 'self'` (CSP) holds for where a
    form is sent on to as well, and a browser would stop there without a word.
    """
    if "again" in request.args:
        return render_template("login/again.html")
    target, nonce, max_age = request.args.get("next"), secrets.token_urlsafe(24), _max_age()
    acr = current_app.config["OIDC_REQUIRED_ACR"] or None
    here = url_for(".callback", _external=True)
    begun = _provider().begin(here, nonce, max_age=max_age, acr_values=acr)
    target = sessions.safe_next(target)
    pending = [
        *session.get(PENDING, []),
        {
            "state": begun["state"],
            "verifier": begun["code_verifier"],
            "nonce": nonce,
            "next": target if len(target) <= LONGEST_TARGET else sessions.safe_next(None),
            "at": now(),
            "max_age": max_age,
        },
    ]
    session[PENDING] = pending[-MOST_PENDING:]
    return redirect(begun["url"], 303)


@pages.blueprint.get("/auth/callback")
def callback() -> ResponseReturnValue:
    """Take the visitor back, signed in: 303 to where they wanted to go.

    400 for what this browser did not go for, 502 for what the provider cannot prove, 403 for
    somebody who may not come in: one plain page each, and one line of the log.
    """
    begun = _begun()
    code = _returned()
    proof = _provider().prove(
        code, begun["verifier"], begun["nonce"], url_for(".callback", _external=True)
    )
    _demand(proof, begun)
    user = _account(proof)
    proved_at = min(now(), now() if proof.proved_at is None else proof.proved_at)
    others = session[PENDING]
    entered = sessions.start(
        user, proved_at=proved_at, acr=proof.acr, sid=proof.sid, id_token=proof.id_token
    )
    if not entered:
        raise refusal("disabled", f"account {user.id}", NotAllowed)
    if others:
        session[PENDING] = others  # another tab is at the provider
    events.record("login", user=user.id)
    return redirect(begun["next"], 303)


@pages.blueprint.post("/auth/backchannel-logout")
@csrf.exempt("the provider sends no token of ours: its own is signed; no session is read")
def backchannel_logout() -> ResponseReturnValue:
    """End the sessions that the provider has ended: 200, or 400 for a token that is none.

    OpenID Connect Back-Channel Logout 1.0, ASVS 10.5.5.
    """
    tokens = request.form.getlist("logout_token")
    if len(tokens) != 1 or len(tokens[0]) > MOST_CHARACTERS:
        raise logout_refusal("none, two, or too long")
    ended = _provider().ended(tokens[0])
    _use_up(ended.name)
    rate_limits.give_back(all_of_it=True)  # one address ends the sessions of everybody
    mine = [User.issuer == current_app.config["OIDC_ISSUER"]]
    if ended.subject:
        mine.append(User.subject == ended.subject)
    whose = LoginSession.user_id.in_(select(User.id).where(*mine))
    # A session that began later is not meant: a token that is sent again ends nothing new.
    which = [whose, LoginSession.created_at <= ended.at + LEEWAY_S]
    if ended.sid:
        unnamed = [LoginSession.sid.is_(None)] if ended.subject else []
        which.append(or_(LoginSession.sid == ended.sid, *unnamed))
    count = sessions.written(delete(LoginSession).where(*which))
    db.session.commit()
    events.record("sessions-ended", rule="oidc:logout-token", sessions_ended=count)
    return "", 200, {"Cache-Control": "no-store"}


@pages.blueprint.get("/auth/provider-logout")
def provider_logout() -> ResponseReturnValue:
    """Sign out at the provider too: once, in the browser whose session has just ended."""
    token_hash = sessions.digest(request.cookies.get(_cookie(), ""))
    left = db.session.get(EndedSession, token_hash)
    target = url_for(".logged_out", _external=True)
    if left and left.ended_at > now() - LEAVING_S:
        target = _provider().leave(left.id_token, target)
    used = sessions.written(delete(EndedSession).where(EndedSession.token_hash == token_hash))
    db.session.commit()
    answer = redirect(target if used else url_for(".logged_out"), 303)
    answer.delete_cookie(_cookie(), secure=_is_secure(), httponly=True, samesite="Lax")
    return answer


def problems(config: Config) -> Iterator[Problem]:
    """Yield what is missing or cannot be right about the provider, or lets anybody in."""
    for name, example in (
        ("OIDC_ISSUER", 'OIDC_ISSUER = "https://login.example.com/realms/main"'),
        ("OIDC_CLIENT_ID", 'OIDC_CLIENT_ID = "my-secure-app"'),
        ("OIDC_CLIENT_SECRET", "OIDC_CLIENT_SECRET=… as a variable or in .env"),
    ):
        if not config[name]:
            yield Problem(
                "oidc-incomplete",
                f"{name} is empty: nobody can sign in.",
                f"docs/providers.md says where it is found. {example}",
                level="warning" if config["DEBUG"] else "error",
            )
    issuer, scopes = config["OIDC_ISSUER"], _scopes(config)
    domains = config["OIDC_ALLOWED_DOMAINS"]
    if issuer and not (is_private(issuer) and ISSUER.fullmatch(issuer)):
        yield Problem(
            "oidc-issuer",
            f"OIDC_ISSUER is {issuer!r}, which is no issuer.",
            "https, exactly as the provider writes it, without query, placeholder or "
            '/.well-known/…: OIDC_ISSUER = "https://login.example.com/realms/main"',
        )
    elif issuer.startswith("http:") and not config["DEBUG"]:
        yield Problem(
            "oidc-loopback",
            f"OIDC_ISSUER is {issuer}: whoever listens there on this machine signs in anybody.",
            "In production, name a provider by https; is this development's .env?",
            level="warning",
        )
    if "openid" not in scopes:
        yield Problem(
            "oidc-scopes",
            "OIDC_SCOPES lacks openid: without it nobody tells who signs in.",
            'OIDC_SCOPES = ["openid", "email"]',
        )
    if "offline_access" in scopes:
        yield Problem(
            "oidc-offline",
            "OIDC_SCOPES asks for offline_access: a token that outlives the visit, for nothing.",
            'OIDC_SCOPES = ["openid", "email"]',
            level="warning",
        )
    if wrong := [domain for domain in domains if not DOMAIN.fullmatch(domain)]:
        yield Problem(
            "oidc-domains",
            f"OIDC_ALLOWED_DOMAINS: {wrong[0]!r} is not what stands behind the @ of an address.",
            'In lower case, each by itself: OIDC_ALLOWED_DOMAINS = ["example.com"]',
        )
    if domains and "email" not in scopes:
        yield Problem(
            "oidc-domains-email",
            "OIDC_ALLOWED_DOMAINS needs an address, and OIDC_SCOPES asks for none.",
            'OIDC_SCOPES = ["openid", "email"]',
        )
    if not domains and issuer.removesuffix("/") in OPEN_TO_ALL:
        yield Problem(
            "oidc-open",
            f"OIDC_ISSUER is {issuer}: whoever has an account there can sign in here.",
            'If that is not meant: OIDC_ALLOWED_DOMAINS = ["example.com"]',
            level="warning",
        )
    if config["OIDC_MAX_AGE_S"] < 0:
        yield Problem(
            "oidc-max-age",
            f"OIDC_MAX_AGE_S is {config['OIDC_MAX_AGE_S']} seconds.",
            "From 1, or 0 to take the provider's word however old: OIDC_MAX_AGE_S = 3600",
        )


def _scopes(config: Mapping[str, Any]) -> list[str]:
    """Return the scopes one by one; OAuth writes them with blanks between."""
    return " ".join(config["OIDC_SCOPES"]).split()


def _provider() -> Provider:
    provider: Provider | None = current_app.extensions.get("oidc")
    return provider or abort(503, "No provider is named yet: see docs/providers.md.")


def _max_age() -> int | None:
    """Return how old a proof may be: whoever is signed in has to give a new one."""
    return 0 if sessions.current() else current_app.config["OIDC_MAX_AGE_S"] or None


def _begun() -> dict[str, Any]:
    """Return what this browser went to the provider with; it counts once."""
    pending, states = session.get(PENDING, []), request.args.getlist("state")
    found: dict[str, Any] | None = next(
        (begun for begun in pending if states == [begun["state"]]), None
    )
    if found is None:
        raise refusal("state", "not of this browser")
    session[PENDING] = [begun for begun in pending if begun is not found]
    if found["at"] <= now() - PENDING_S:
        raise refusal("state", "too old")
    return found


def _returned() -> str:
    """Return the code that the provider has sent the browser back with."""
    answer = request.args
    if any(len(answer.getlist(name)) > 1 for name in ("code", "iss", "error")):
        raise refusal("callback", "twice")
    issuer = answer.get("iss")
    if issuer is None and _provider().must_name_itself():
        raise refusal("iss", "missing")
    if issuer not in (None, current_app.config["OIDC_ISSUER"]):
        raise refusal("iss", "another issuer")
    if "error" in answer:
        raise refusal("callback", known_error(answer["error"]))
    if not answer.get("code"):
        raise refusal("callback", "no code")
    return answer["code"]


def _demand(proof: Proof, begun: Mapping[str, Any]) -> None:
    """Refuse what is proved if it is too old, too weak, or about somebody from elsewhere."""
    config = current_app.config
    acr, domains = config["OIDC_REQUIRED_ACR"], config["OIDC_ALLOWED_DOMAINS"]
    if begun["max_age"] is not None:
        oldest = begun["at"] - begun["max_age"] - LEEWAY_S
        if proof.proved_at is None or proof.proved_at < oldest:
            raise refusal("auth_time", "missing or too old", NotProved)
    if acr not in ("", proof.acr):
        raise refusal("acr", "not the required one", NotAllowed)
    domain = (proof.email or "").rpartition("@")[2].lower()
    if domains and domain not in domains:
        raise refusal("domain", "not an allowed one", NotAllowed)


def _account(proof: Proof) -> User:
    """Return the account of whom the provider means; there is one from the first time on."""
    issuer = current_app.config["OIDC_ISSUER"]
    theirs = select(User).where(User.issuer == issuer, User.subject == proof.subject)
    found: User | None = db.session.scalar(theirs)
    if found is None:
        found = User(issuer=issuer, subject=proof.subject)
        db.session.add(found)
        try:
            db.session.commit()
        except IntegrityError:  # in another tab, at the same moment
            db.session.rollback()
            found = db.session.scalars(theirs).one()
        else:
            events.record("account-created", user=found.id)
    found.email = proof.email
    return found


def _use_up(name: str) -> None:
    """Let a logout token count once; nothing is committed."""
    issuer = current_app.config["OIDC_ISSUER"]
    until = now() + LOGOUT_TOKEN_S + 2 * LEEWAY_S
    db.session.add(LogoutToken(token_hash=sessions.digest(f"{issuer} {name}"), expires_at=until))
    try:
        db.session.flush()
    except IntegrityError:
        raise logout_refusal("again") from None


def _offer(ending: LoginSession) -> None:
    """Let this browser, and no other, sign out at the provider too: its ID token stays here."""
    g.signed_out = {"location": None}
    if not ending.id_token:
        return
    token = secrets.token_urlsafe(32)
    db.session.add(EndedSession(token_hash=sessions.digest(token), id_token=ending.id_token))
    g.signed_out = {"location": url_for("login.provider_logout", _external=True)}

    @after_this_request
    def remember(answer: Response) -> Response:
        answer.set_cookie(
            _cookie(), token, LEAVING_S, secure=_is_secure(), httponly=True, samesite="Lax"
        )
        return answer


def _is_secure() -> bool:
    return not current_app.config["DEBUG"]


def _cookie() -> str:
    return "__Host-signed-out" if _is_secure() else "signed-out"


sessions.AFTER_FORM["again"] = "yes"
sessions.ENDING.append(_offer)
sessions.FORGETTING.append(
    lambda: delete(EndedSession).where(EndedSession.ended_at <= now() - LEAVING_S)
)
sessions.FORGETTING.append(lambda: delete(LogoutToken).where(LogoutToken.expires_at <= now()))
