"""A provider that lies signs nobody in, and is believed again as soon as it does not."""

import itertools
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace

import pytest
from flask import Flask
from requests import Response

from app.login import oidc
from app.login.oidc import NotProved
from app.login.oidc_http import Session
from tests.conftest import MakeApp
from tests.login.by_oidc import come_back
from tests.login.conftest import is_signed_in
from tests.login.refusals import (
    EVIL,
    assert_nobody,
    assert_refused,
    assert_signs_nobody_in,
    attempt,
    begun_anew,
    enters,
    mend,
    now,
    published,
)
from tests.provider import REMOVED, Provider, elliptic, faults, rsa

Lie = Callable[[Provider], object]
Refuses = Callable[[str], str]
ALGORITHMS = "id_token_signing_alg_values_supported"
HUGE = 10**400
STEPS = {"discovery": "begin", "keys": "id-token", "token": "token", "userinfo": "userinfo"}


@pytest.fixture
def there(app: Flask) -> Iterator[Provider]:
    """Return the provider, to be given its fault."""
    yield from begun_anew(app)


@pytest.fixture
def refuses(app: Flask, there: Provider, capfd: pytest.CaptureFixture[str]) -> Refuses:
    """Return a function that signs in, sees it refused at a step, and then work."""
    return lambda rule: assert_signs_nobody_in(app, there, capfd, rule)


# -- Who has signed the ID token


def with_a_secret(there: Provider, secret: bytes) -> None:
    """Sign with a secret that others know, which the provider publishes and allows."""
    there.signer, there.header["alg"] = secret, "HS256"
    there.discovery[ALGORITHMS] = ["HS256", "ES256"]
    k = urlsafe_b64encode(secret).decode().rstrip("=")
    there.keys.append({"kty": "oct", "k": k, "kid": there.kid, "alg": "HS256"})


def with_a_key_of_its_own(there: Provider) -> None:
    there.signer = mine = elliptic()
    there.header["jwk"] = mine.as_dict(private=False)


FORGED: Mapping[str, Lie] = {
    "signature broken": lambda there: there.token.update(id_token=faults.broken),
    "alg none": lambda there: there.header.update(alg="none"),
    "alg None": lambda there: there.header.update(alg="None"),
    "alg none, which discovery allows": lambda there: (
        there.header.update(alg="none"),
        there.discovery.update({ALGORITHMS: ["none", "ES256"]}),
    ),
    "HS256 with the secret": lambda there: with_a_secret(there, there.client_secret.encode()),
    "HS256 with the key": lambda there: with_a_secret(there, there.key.as_pem(private=False)),
    "another key of that name": lambda there: vars(there).update(signer=elliptic()),
    "an unknown kid": lambda there: there.header.update(kid=EVIL),
    "a key in the token": with_a_key_of_its_own,
    "a key for encryption": lambda there: published(there).update(use="enc"),
    "no keys": lambda there: there.keys.clear(),
    "another key published": lambda there: there.keys.__setitem__(0, there.public(elliptic())),
    "crit": lambda there: there.header.update(crit=["evil"], evil=1),
    "crit that is no list": lambda there: there.header.update(crit=5),
    "crit of odd things": lambda there: there.header.update(crit=[{}]),
    "typ logout+jwt": lambda there: there.header.update(typ="logout+jwt"),
    "typ at+jwt": lambda there: there.header.update(typ="at+jwt"),
    "typ that is no text": lambda there: there.header.update(typ=["JWT"]),
    "ID token that is no token": lambda there: there.token.update(id_token=EVIL),
    "ID token of five parts": lambda there: there.token.update(id_token="a.b.c.d.e"),  # noqa: S106
    "ID token of nothing": lambda there: there.token.update(id_token=".."),  # noqa: S106
}


@pytest.mark.parametrize("lie", FORGED.values(), ids=FORGED)
def test_a_forged_token_signs_nobody_in(there: Provider, refuses: Refuses, lie: Lie) -> None:
    lie(there)
    refuses("id-token")


@pytest.mark.parametrize("token", [REMOVED, None, "", 5, ["x"], {"x": 1}, True])
def test_a_missing_token_signs_nobody_in(there: Provider, refuses: Refuses, token: object) -> None:
    there.token["id_token"] = token
    assert refuses("token") == ("no ID token" if token in (REMOVED, "") else "no text")


@pytest.mark.parametrize(("bits", "padded"), [(1_024, ""), (1_024, "A" * 172), (2_040, "")])
def test_a_short_key_proves_nothing(
    app: Flask, there: Provider, capfd: pytest.CaptureFixture[str], bits: int, padded: str
) -> None:
    there.rotate(rsa(bits))
    published(there)["n"] = f"{padded}{published(there)['n']}"
    client = app.test_client()
    assert assert_refused(app, capfd, attempt(client), NotProved, "id-token") == "no key"
    there.rotate(rsa(2048))
    assert_nobody(app, client)


def test_keys_change_between_sign_ins(app: Flask, there: Provider) -> None:
    for key in (elliptic(), rsa(2048), elliptic()):
        there.rotate(key)
        there.discovery[ALGORITHMS] = ["ES256", "RS256"]
        assert enters(app)


def test_a_provider_that_lists_no_algorithm_signs_with_rs256(app: Flask, there: Provider) -> None:
    there.rotate(rsa(2048))
    there.discovery[ALGORITHMS] = REMOVED
    assert enters(app)


@pytest.mark.parametrize("listed", ["RS384", "PS256"])
def test_an_algorithm_that_is_not_listed_signs_nobody_in(
    there: Provider, refuses: Refuses, listed: str
) -> None:
    there.rotate(rsa(2048))
    there.discovery[ALGORITHMS] = [listed]
    assert refuses("id-token") == "UnsupportedAlgorithmError"


def test_a_key_that_nobody_knows_hides_no_other(app: Flask, there: Provider) -> None:
    strange: object
    for strange in (
        {"kty": "AKP", "kid": "new", "alg": "ML-DSA-44", "pub": "AAAA"},
        {"kty": "EC", "crv": "P-999", "x": "AA", "y": "AA"},
        {"kty": "RSA", "n": 5, "e": []},
        {"kty": ["EC"]},
        {"kty": "EC", "use": []},
        {"kty": "RSA", "n": "AAAA", "e": "AAAA", "key_ops": 5},
        *(5, None, "key", [], {}),
    ):
        there.keys.insert(0, strange)
    assert enters(app)


def test_a_key_need_not_say_what_it_is_for(app: Flask, there: Provider) -> None:
    del published(there)["use"]
    published(there)["n"] = "AAAA"  # of an RSA key, which it is not
    assert enters(app)


def test_a_secret_is_no_key(there: Provider, refuses: Refuses) -> None:
    with_a_secret(there, there.client_secret.encode())
    del there.keys[0]
    assert refuses("id-token") == "no key"


def test_a_key_for_encryption_is_none_for_signing(there: Provider, refuses: Refuses) -> None:
    published(there)["use"] = "enc"
    assert refuses("id-token") == "no key"


def test_keys_that_were_gone_are_back(
    app: Flask, there: Provider, capfd: pytest.CaptureFixture[str]
) -> None:
    client, keys = app.test_client(), there.keys
    gone: object
    for gone in ([], "keys", None, 5, {"keys": []}):
        app.extensions["oidc"].forget()
        vars(there).update(keys=gone)
        capfd.readouterr()
        assert assert_refused(app, capfd, attempt(client), NotProved, "id-token") == "no key"
        vars(there).update(keys=keys)
        assert enters(app)


# -- What it says


CLAIMS: Mapping[str, Mapping[str, object]] = {
    "expired": {"exp": lambda exp: exp - 361},
    "not yet valid": {"nbf": now() + 3_600},
    "of the future": {"iat": now() + 3_600},
    "no exp": {"exp": REMOVED},
    "no iat": {"iat": REMOVED},
    "no iss": {"iss": REMOVED},
    "another iss": {"iss": "https://evil.example"},
    "iss with a slash": {"iss": lambda iss: f"{iss}/"},
    "iss in a list": {"iss": lambda iss: [iss]},
    "no aud": {"aud": REMOVED},
    "another aud": {"aud": "evil"},
    "aud of others": {"aud": ["evil", "other"]},
    "aud of others and us": {"aud": lambda aud: [aud, "evil"]},
    "aud of others and us, azp us": {"aud": lambda aud: [aud, "evil"], "azp": "the-client"},
    "aud of another, azp us": {"aud": "evil", "azp": "the-client"},
    "aud is us twice": {"aud": lambda aud: [aud, aud]},
    "azp of another": {"azp": "evil"},
    "no nonce": {"nonce": REMOVED},
    "another nonce": {"nonce": "evil"},
    "nonce in other letters": {"nonce": lambda nonce: nonce.swapcase()},
    "no nonce, and says so": {"nonce": REMOVED, "nonce_supported": False},
    "no sub": {"sub": REMOVED},
    "sub too long": {"sub": "x" * 256},
    "sub of controls": {"sub": "ada\x00"},
    "sub of two lines": {"sub": "ada\n"},
    "sub with a blank": {"sub": "ada lovelace"},
    "sub outside of ASCII": {"sub": "ad\u0430"},
    "sub of no character": {"sub": "\ud800"},
    "sid too long": {"sid": "x" * 256},
    "acr too long": {"acr": "x" * 256},
    "acr of no character": {"acr": "\ud800"},
    "at_hash of another": {"at_hash": "evil"},
    "at_hash of nothing": {"at_hash": ""},
    "at_hash outside of ASCII": {"at_hash": "\u00e9"},
    "auth_time of the future": {"auth_time": now() + 3_600},
    "auth_time before time": {"auth_time": -1},
}


@pytest.mark.parametrize("claims", CLAIMS.values(), ids=CLAIMS)
def test_a_wrong_claim_signs_nobody_in(
    there: Provider, refuses: Refuses, claims: Mapping[str, object]
) -> None:
    there.claims.update(claims)
    _, about = refuses("id-token").split(": ")
    wrong = next(iter(claims))
    assert about in ([wrong, "azp"] if callable(claims.get("aud")) else [wrong])


ODD: Mapping[str, object] = {
    "list": ["x"],
    "object": {"x": 1},
    "true": True,
    "huge": HUGE,
    "NaN": float("nan"),
    "null": None,
    "empty": "",
}
# What a claim that need not be there may be; a token that never ends is the provider's own affair.
HARMLESS = {("exp", "huge")} | {
    *((claim, "null") for claim in ("sid", "auth_time", "amr")),
    *(("amr", odd) for odd in ("list", "empty")),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    "claim",
    "iss aud exp iat nbf nonce sub azp at_hash acr sid auth_time amr".split(),
)
def test_a_claim_of_another_type_signs_nobody_in(
    app: Flask, there: Provider, refuses: Refuses, claim: str, odd: str
) -> None:
    there.claims[claim] = ODD[odd]
    if (claim, odd) in HARMLESS:
        assert enters(app)
    else:
        assert refuses("id-token").endswith(f": {claim}")


@pytest.mark.parametrize("payload", [5, "text", None, [["sub", "ada"]], True])
def test_claims_that_are_no_object_sign_nobody_in(
    there: Provider, refuses: Refuses, payload: object
) -> None:
    there.token["id_token"] = there.signed(payload)
    refuses("id-token")


def test_what_is_right_is_believed(app: Flask, there: Provider) -> None:
    for claims in (
        {"aud": lambda aud: [aud]},
        {"azp": "the-client"},
        {"exp": lambda exp: exp - 300 - 30},  # two clocks may differ
        {"iat": now() + 30, "nbf": now() + 30},
        {"sub": "x" * 255},
        {"sub": "!auth0|{~}"},
        {"at_hash": REMOVED},
        {"auth_time": 0},
    ):
        mend(there)
        there.claims.update(claims)
        assert enters(app), claims
    for typ in (REMOVED, "JWT", "jwt"):
        mend(there)
        there.header["typ"] = typ
        assert enters(app), typ


@pytest.mark.parametrize("ahead_s", [60, 61])
def test_a_clock_of_the_providers_may_be_ahead(
    app: Flask, there: Provider, monkeypatch: pytest.MonkeyPatch, ahead_s: int
) -> None:
    moment = now()
    monkeypatch.setattr(oidc, "now", lambda: moment)
    there.auth_time = moment + ahead_s
    assert enters(app) == (ahead_s == 60)


# -- What it says of itself


METADATA: Sequence[tuple[str, Mapping[str, object]]] = (
    ("another issuer", {"issuer": "https://evil.example"}),
    ("another issuer", {"issuer": lambda issuer: f"{issuer}/"}),
    ("another issuer", {"issuer": lambda issuer: issuer.upper()}),
    ("another issuer", {"issuer": REMOVED}),
    ("another issuer", {"issuer": lambda issuer: [issuer]}),
    ("no authorization_endpoint", {"authorization_endpoint": REMOVED}),
    ("no token_endpoint", {"token_endpoint": REMOVED}),
    ("no token_endpoint", {"token_endpoint": REMOVED, "jwks_uri": ""}),
    ("no jwks_uri", {"jwks_uri": REMOVED}),
    ("no asymmetric algorithm", {ALGORITHMS: ["none"]}),
    ("no asymmetric algorithm", {ALGORITHMS: ["HS256", "HS512", "none", "dir", "RSA1_5"]}),
    ("no asymmetric algorithm", {ALGORITHMS: []}),
    ("no asymmetric algorithm", {ALGORITHMS: 5}),
    ("no asymmetric algorithm", {ALGORITHMS: "ES256"}),
    ("no asymmetric algorithm", {ALGORITHMS: [5, None, ["ES256"], {}, "es256", "xES256"]}),
    ("no asymmetric algorithm", {ALGORITHMS: ["ES256K "]}),
)
ENDPOINTS = (
    "authorization_endpoint",
    "token_endpoint",
    "jwks_uri",
    "userinfo_endpoint",
    "end_session_endpoint",
)
UNSAFE = (
    "http://evil.example/",
    "//evil.example/",
    "/token",
    "ftp://localhost/",
    "file://localhost/etc/passwd",
    "javascript://localhost/%0aalert(1)",
    "http://evil.example\\@localhost/",
    "http://localhost.evil.example/",
    "http://localhost@evil.example/",
    "http://127.0.0.1.evil.example/",
    "http://[::1/",
    "https:///token",
    "https://evil.example/\r\nSet-Cookie: a=b",
    "https://evil.example/\ud800",
    "https://evil.example/ x",
    " https://evil.example/",
    "https://\u2100/",
)


@pytest.mark.parametrize(("why", "members"), METADATA)
def test_wrong_metadata_sends_nobody_anywhere(
    there: Provider, refuses: Refuses, why: str, members: Mapping[str, object]
) -> None:
    there.discovery.update(members)
    assert refuses("begin") == why


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_nothing_goes_where_others_can_listen(
    app: Flask, there: Provider, capfd: pytest.CaptureFixture[str], endpoint: str
) -> None:
    client = app.test_client()
    for url in UNSAFE:
        there.discovery[endpoint] = url
        assert assert_refused(app, capfd, client.get("/login"), NotProved, "begin") == "not https"
    assert {asked.endpoint for asked in there.asked} == {"discovery"}
    assert_nobody(app, client)


@pytest.mark.parametrize(
    "hostile",
    [
        {"verify": False, "cert": "/etc/passwd", "trust_env": False, "max_redirects": 30},
        {"proxies": {"http": "http://127.0.0.1:9", "https": "http://127.0.0.1:9"}},
        {"headers": {"Authorization": "evil"}, "auth": ["evil", "evil"], "hooks": {"response": 5}},
        {"scope": "evil", "response_type": "token", "code_challenge_method": "plain"},
        {"code_challenge_methods_supported": ["plain"], "grant_type": "password"},
        {"client_id": "evil", "client_secret": "evil", "redirect_uri": "https://evil.example"},
        {"_loaded_at": 1e18, "jwks": {"keys": []}, "default_timeout": 0, "token": {"x": 1}},
        {"token_endpoint_auth_method": "none", "leeway": -1, "state": "evil", "nonce": "evil"},
        {"request_uri": "https://evil.example", "authorize_params": {"scope": "evil"}},
    ],
)
def test_metadata_decide_nothing_else(
    app: Flask, there: Provider, hostile: Mapping[str, object]
) -> None:
    there.discovery.update(hostile)
    client = app.test_client()
    sent = client.get("/login")
    assert "evil" not in sent.headers["Location"]
    assert come_back(client, sent).status_code == 303
    assert is_signed_in(client)
    (asked,) = there.requests("token")
    assert asked.headers["Authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    ("methods", "basic"),
    [(["client_secret_post"], False), (["none", "client_secret_basic"], True), (None, True)],
)
def test_the_secret_goes_as_the_provider_wants_it(
    app: Flask, there: Provider, methods: object, basic: bool
) -> None:
    there.discovery["token_endpoint_auth_methods_supported"] = methods
    assert enters(app)
    (asked,) = there.requests("token")
    assert ("Authorization" in asked.headers, "client_secret" in asked.form) == (basic, not basic)


def test_metadata_and_keys_are_asked_once(
    app: Flask, there: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked() -> tuple[int, int]:
        return len(there.requests("discovery")), len(there.requests("keys"))

    client = app.test_client()
    for seconds, times in (
        (0, 1),
        (1, 1),
        (899, 1),
        (900, 2),
        (901, 2),
    ):  # since the machine starts
        clock = SimpleNamespace(monotonic=lambda seconds=seconds: seconds)
        monkeypatch.setattr(oidc, "time", clock)
        assert enters(app)
        assert asked() == (times, times)
    there.claims["iss"] = EVIL
    assert attempt(client).status_code == 502
    there.claims.clear()
    assert asked() == (2, 2)
    assert enters(app)
    assert asked() == (3, 3)


def test_another_thread_forgets_what_this_one_reads(
    app: Flask, there: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, moments = app.extensions["oidc"], itertools.count(1)

    def meanwhile() -> float:
        known.forget()
        return next(moments) * 0.001

    assert enters(app)
    known.server_metadata["_loaded_at"] = 0
    monkeypatch.setattr(oidc, "time", SimpleNamespace(monotonic=meanwhile))
    for _ in range(3):
        assert enters(app)


def test_a_code_that_somebody_made_up_starts_nothing_afresh(app: Flask, there: Provider) -> None:
    assert enters(app)
    there.callback["code"] = "evil"
    assert attempt(app.test_client()).status_code == 400
    mend(there)
    assert enters(app)
    assert (there.requests("discovery"), there.requests("keys")) == ([], [])


def test_an_address_is_asked_for_whatever_another_thread_forgets(
    app: Flask, there: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = app.extensions["oidc"]
    there.claims["email"] = REMOVED  # so that the userinfo endpoint is asked
    fetched = known.fetch_jwk_set

    def meanwhile(**how: bool) -> object:
        found = fetched(**how)
        known.forget()
        return found

    monkeypatch.setattr(known, "fetch_jwk_set", meanwhile)
    assert enters(app)
    assert len(there.requests("userinfo")) == 1


def test_another_application_has_a_provider_of_its_own(
    app: Flask, there: Provider, make_app: MakeApp
) -> None:
    other = make_app(OIDC_ISSUER=f"{there.issuer}/other", OIDC_CLIENT_ID="another")
    assert enters(app)
    assert other.test_client().get("/login").status_code == 502  # that is not what it is called
    assert enters(app)


def test_an_issuer_may_end_in_a_slash(
    there: Provider, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls: list[str] = []
    request = Session.request

    def asked(self: Session, method: str, url: str, **kwargs: object) -> Response:
        urls.append(url)
        return request(self, method, url, **kwargs)

    monkeypatch.setattr(Session, "request", asked)
    there.discovery["issuer"] = there.claims["iss"] = there.callback["iss"] = f"{there.issuer}/"
    assert enters(make_app(OIDC_ISSUER=f"{there.issuer}/"))
    assert urls[0] == f"{there.issuer}/.well-known/openid-configuration"
