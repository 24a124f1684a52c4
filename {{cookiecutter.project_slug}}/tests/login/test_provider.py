"""The provider that the attacks on sign-in use does what it is asked, seen without our code.

A fault that the provider did not commit would be a test that passes for nothing.
"""

import hmac
import json
import signal
import socket
import subprocess
import sys
import time
import zlib
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Iterator
from hashlib import sha256
from http.client import HTTPConnection, HTTPException, HTTPResponse
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import pytest
from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError
from joserfc.jwk import KeySet

from app import config
from tests.provider import LOGOUT_EVENT, REMOVED, Provider, elliptic, faults, rsa
from tests.servers import ask, free_port

BACK = "https://app.example.com/login/callback"
VERIFIER = "a-verifier-" + "0123456789abcdef" * 3
CHALLENGE = b64encode(sha256(VERIFIER.encode()).digest(), b"-_").rstrip(b"=").decode()
REQUEST = {
    "client_id": "the-client",
    "response_type": "code",
    "redirect_uri": BACK,
    "scope": "openid email",
    "state": "the-state",
    "nonce": "the-nonce",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
}
FORM = {"grant_type": "authorization_code", "redirect_uri": BACK, "code_verifier": VERIFIER}
HOSTILE = "<script>alert(1)</script>\r\nSet-Cookie: a=b"
PATHS = {
    "discovery": "/.well-known/openid-configuration",
    "keys": "/keys",
    "token": "/token",
    "userinfo": "/userinfo",
}


@pytest.fixture(scope="module")
def _running() -> Iterator[Provider]:
    provider = Provider(free_port())
    provider.start()
    yield provider
    provider.stop()


@pytest.fixture
def provider(_running: Provider) -> Provider:
    _running.behave()
    return _running


def address(provider: Provider, **changes: str) -> str:
    """Return where an application would send a visitor; an empty text leaves a field out."""
    fields = {name: value for name, value in {**REQUEST, **changes}.items() if value}
    return f"{provider.issuer}/authorize?{urlencode(fields)}"


def back(provider: Provider, **changes: str) -> dict[str, str]:
    """Return the fields with which a visitor comes back."""
    path, _, query = provider.follow(address(provider, **changes)).partition("?")
    assert path == "/login/callback"
    return dict(parse_qsl(query, strict_parsing=True))


def exchanged(
    provider: Provider, *, basic: bool = True, secret: str = "", **changes: str
) -> tuple[int, dict[str, object]]:
    """Exchange a code for tokens; return the status and the answer."""
    secret = secret or provider.client_secret
    form, headers = {**FORM, **changes}, {"Content-Type": "application/x-www-form-urlencoded"}
    if "code" not in form:
        form["code"] = back(provider)["code"]
    if basic:
        known = b64encode(f"{provider.client_id}:{secret}".encode()).decode()
        headers["Authorization"] = f"Basic {known}"
    else:
        form |= {"client_id": provider.client_id, "client_secret": secret}
    status, _, body = ask(provider.port, "POST", "/token", headers, urlencode(form))
    return status, json.loads(body)


def id_token(provider: Provider) -> str:
    """Return the ID token of a sign-in."""
    status, tokens = exchanged(provider)
    assert status == 200, tokens
    return str(tokens["id_token"])


def parts(token: str) -> tuple[dict[str, object], dict[str, object], bytes]:
    """Return header, claims and signature of a token, believed."""
    head, claims, signature = (
        urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split(".")
    )
    return json.loads(head), json.loads(claims), signature


def keys(provider: Provider) -> KeySet:
    """Return the keys that the provider publishes."""
    return KeySet.import_key_set(json.loads(ask(provider.port, "GET", "/keys")[2]))


def discovered(provider: Provider) -> dict[str, object]:
    """Return what the provider says of itself."""
    found: dict[str, object] = json.loads(ask(provider.port, "GET", PATHS["discovery"])[2])
    return found


def told(provider: Provider, access_token: object) -> tuple[int, dict[str, str], str]:
    """Ask whose an access token is."""
    headers = {"Authorization": f"Bearer {access_token}"}
    return ask(provider.port, "GET", "/userinfo", headers)


# -- As it should be


def test_anybody_is_signed_in(provider: Provider) -> None:
    status, tokens = exchanged(provider)
    assert (status, tokens["token_type"]) == (200, "Bearer")
    token = jwt.decode(str(tokens["id_token"]), keys(provider), algorithms=["ES256"])
    assert token.header == {"alg": "ES256", "kid": provider.kid, "typ": "JWT"}
    expected = {
        "iss": provider.issuer,
        "aud": "the-client",
        "sub": "ada",
        "email": "ada@example.com",
        "email_verified": True,
        "nonce": "the-nonce",
        "sid": "session-of-ada",
    }
    assert expected.items() <= token.claims.items()
    assert "acr" not in token.claims
    assert token.claims["iat"] <= time.time() < token.claims["exp"]
    status, _, body = told(provider, tokens["access_token"])
    assert (status, json.loads(body)["sub"]) == (200, "ada")
    assert told(provider, "another")[0] == 401


def test_a_test_says_who_signs_in(provider: Provider) -> None:
    provider.subject, provider.email, provider.email_verified = "bob", "bob@example.com", "true"
    provider.sid, provider.acr, provider.auth_time = None, "mfa", 12
    _, claims, _ = parts(id_token(provider))
    assert (claims["sub"], claims["email"], claims["email_verified"]) == (
        *("bob", "bob@example.com"),
        "true",
    )
    assert (claims.get("sid"), claims["acr"], claims["auth_time"]) == (None, "mfa", 12)


def test_the_address_is_told_to_who_asks_for_it(provider: Provider) -> None:
    code = back(provider, scope="openid")["code"]
    _, tokens = exchanged(provider, code=code)
    assert "email" not in parts(str(tokens["id_token"]))[1]


def test_what_was_asked_is_known(provider: Provider) -> None:
    status, headers, _ = ask(provider.port, "GET", address(provider, max_age="0", prompt="login"))
    returned = dict(parse_qsl(urlsplit(headers["Location"]).query))
    assert (status, returned["state"], returned["iss"]) == (302, "the-state", provider.issuer)
    exchanged(provider, code=returned["code"])
    discovered(provider)
    assert [asked.endpoint for asked in provider.asked] == ["authorize", "token", "discovery"]
    (authorize,), (token,) = provider.requests("authorize"), provider.requests("token")
    assert authorize.query == {**REQUEST, "max_age": "0", "prompt": "login"}
    assert (token.method, token.path) == ("POST", "/token")
    assert token.form == {**FORM, "code": returned["code"]}
    assert token.headers["authorization"].startswith("Basic ")
    provider.behave()
    assert provider.asked == []


def test_a_code_is_good_once_for_one_client(provider: Provider) -> None:
    code = back(provider)["code"]
    assert exchanged(provider, code=code, basic=False)[0] == 200
    assert exchanged(provider, code=code) == (400, {"error": "invalid_grant"})
    assert exchanged(provider, code_verifier="x" * 43) == (400, {"error": "invalid_grant"})
    assert exchanged(provider, redirect_uri="https://x/") == (400, {"error": "invalid_grant"})
    assert exchanged(provider, grant_type="password")[0] == 400
    for basic in (True, False):
        refused = exchanged(provider, basic=basic, secret="another")  # noqa: S106
        assert refused == (401, {"error": "invalid_client"})
    assert exchanged(provider, client_secret=provider.client_secret)[0] == 401  # said twice


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "id_token"}, "unsupported_response_type"),
        ({"scope": "email"}, "invalid_scope"),
        ({"code_challenge": ""}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
    ],
)
def test_a_wrong_request_comes_back_as_an_error(
    provider: Provider, changes: dict[str, str], error: str
) -> None:
    returned = back(provider, **changes)
    assert (returned["error"], returned["state"]) == (error, "the-state")
    assert "code" not in returned


def test_an_unknown_client_is_not_sent_anywhere(provider: Provider) -> None:
    for changes in ({"client_id": "x"}, {"redirect_uri": ""}):
        with pytest.raises(ValueError, match="unknown client"):
            provider.follow(address(provider, **changes))
    with pytest.raises(ValueError, match="nowhere"):
        provider.follow(address(provider, redirect_uri=f"{BACK}\r\nSet-Cookie: a=b"))
    with pytest.raises(ValueError, match=r"evil\.example"):
        provider.follow("https://evil.example/authorize?client_id=the-client")


def test_somebody_signs_out(provider: Provider) -> None:
    query = urlencode({"post_logout_redirect_uri": "https://app.example.com/bye", "state": "s"})
    assert provider.follow(f"{provider.issuer}/end_session?{query}") == "/bye?state=s"
    assert provider.requests("end_session")[0].query["state"] == "s"


# -- What it says


def test_the_callback_is_changed(provider: Provider) -> None:
    provider.callback = {"iss": ["https://evil.example", provider.issuer], "state": REMOVED}
    returned = parse_qs(urlsplit(provider.follow(address(provider))).query)
    assert returned["iss"] == ["https://evil.example", provider.issuer]
    assert "state" not in returned
    provider.callback = {"error": "access_denied", "error_description": HOSTILE, "code": REMOVED}
    assert back(provider)["error_description"] == HOSTILE


def test_discovery_is_changed(provider: Provider) -> None:
    assert discovered(provider)["issuer"] == provider.issuer
    hostile = {"verify": False, "proxies": {}, "token_endpoint": f"{provider.other_host}/token"}
    provider.discovery = {"issuer": lambda issuer: issuer + "/", "jwks_uri": REMOVED, **hostile}
    found = discovered(provider)
    assert found["issuer"] == provider.issuer + "/"
    assert "jwks_uri" not in found
    assert hostile.items() <= found.items()


def test_the_id_token_is_changed(provider: Provider) -> None:
    provider.claims = {"aud": ["the-client", "x"], "sub": REMOVED, "iat": lambda iat: iat - 9_000}
    provider.header = {"crit": ["b64"], "typ": "at+jwt", "kid": REMOVED}
    header, claims, _ = parts(id_token(provider))
    assert header == {"alg": "ES256", "typ": "at+jwt", "crit": ["b64"]}
    assert (claims["aud"], "sub" in claims) == (["the-client", "x"], False)
    assert claims["exp"] == claims["iat"] + 9_300  # type: ignore[operator]
    provider.token["id_token"] = REMOVED
    assert "id_token" not in exchanged(provider)[1]
    provider.token["id_token"] = 5
    assert exchanged(provider)[1]["id_token"] == 5


def test_the_id_token_is_not_signed(provider: Provider) -> None:
    provider.header["alg"] = "none"
    header, _, signature = parts(id_token(provider))
    assert (header["alg"], signature) == ("none", b"")


@pytest.mark.parametrize("secret", ["of the client", "the published key"])
def test_the_id_token_is_signed_with_what_others_know(provider: Provider, secret: str) -> None:
    provider.header["alg"] = "HS256"
    key = provider.client_secret.encode()
    if secret == "the published key":  # noqa: S105
        provider.signer = key = provider.key.as_pem(private=False)
    token = id_token(provider)
    signed = token.rpartition(".")[0].encode()
    assert parts(token)[2] == hmac.digest(key, signed, "sha256")


def test_the_signature_is_another(provider: Provider) -> None:
    provider.token["id_token"] = faults.broken
    with pytest.raises(BadSignatureError):
        jwt.decode(id_token(provider), keys(provider), algorithms=["ES256"])
    provider.behave()
    provider.signer = elliptic()
    token = id_token(provider)
    assert parts(token)[0]["kid"] == provider.kid
    with pytest.raises(BadSignatureError):
        jwt.decode(token, keys(provider), algorithms=["ES256"])
    assert jwt.decode(token, provider.signer, algorithms=["ES256"]).claims["sub"] == "ada"


def test_keys_change(provider: Provider) -> None:
    before, kid = id_token(provider), provider.kid
    provider.rotate()
    assert provider.kid != kid
    with pytest.raises(InvalidKeyIdError):
        jwt.decode(before, keys(provider), algorithms=["ES256"])
    jwt.decode(id_token(provider), keys(provider), algorithms=["ES256"])
    provider.rotate(kid=kid)  # another key of the same name
    with pytest.raises(BadSignatureError):
        jwt.decode(before, keys(provider), algorithms=["ES256"])
    provider.keys.insert(0, {"kty": "XYZ", "kid": "strange"})
    assert '{"keys": [{"kty": "XYZ"' in ask(provider.port, "GET", "/keys")[2]
    provider.keys = []
    assert ask(provider.port, "GET", "/keys")[2] == '{"keys": []}'


@pytest.mark.parametrize("bits", [1024, 2048])
def test_an_rsa_key_signs(provider: Provider, bits: int) -> None:
    provider.rotate(rsa(bits))
    assert discovered(provider)["id_token_signing_alg_values_supported"] == ["RS256"]
    token = id_token(provider)
    assert (parts(token)[0]["alg"], len(parts(token)[2])) == ("RS256", bits // 8)
    jwt.decode(token, provider.key, algorithms=["RS256"])


def test_userinfo_is_changed(provider: Provider) -> None:
    provider.claims = {"email": REMOVED}
    provider.userinfo = {"sub": "mallory"}
    _, tokens = exchanged(provider)
    assert "email" not in parts(str(tokens["id_token"]))[1]
    found = json.loads(told(provider, tokens["access_token"])[2])
    assert (found["sub"], found["email"]) == ("mallory", "ada@example.com")
    token = provider.signed({"sub": "ada"})
    provider.faults["userinfo"] = faults.instead(token, content_type="application/jwt")
    status, headers, body = told(provider, tokens["access_token"])
    assert (status, headers["Content-Type"], body) == (200, "application/jwt", token)


def test_a_logout_token_is_made(provider: Provider) -> None:
    token = jwt.decode(provider.logout_token(), keys(provider), algorithms=["ES256"])
    assert token.header["typ"] == "logout+jwt"
    assert token.claims["events"] == {LOGOUT_EVENT: {}}
    assert (token.claims["sub"], token.claims["sid"]) == ("ada", "session-of-ada")
    changed = provider.logout_token(
        {"alg": "none"}, sub=REMOVED, nonce="x", iat=lambda iat: iat - 9
    )
    header, claims, signature = parts(changed)
    assert (header["alg"], header["typ"], signature) == ("none", "logout+jwt", b"")
    assert (claims["nonce"], "sub" in claims) == ("x", False)
    with pytest.raises(BadSignatureError):
        jwt.decode(provider.logout_token(signer=elliptic()), keys(provider), algorithms=["ES256"])


# -- How it answers


def begun(provider: Provider, path: str) -> HTTPResponse:
    """Send a request; return the answer, of which the body is not read."""
    connection = HTTPConnection("127.0.0.1", provider.port, timeout=20)
    try:
        connection.request("POST" if path.endswith("/token") else "GET", path)
        return connection.getresponse()
    finally:
        connection.close()  # what was begun keeps its own half open


def answered(provider: Provider, path: str) -> tuple[int, bytes]:
    """Return status and body of what an endpoint answers to somebody it does not know."""
    with begun(provider, path) as answer:
        return answer.status, answer.read()


@pytest.fixture(params=PATHS)
def endpoint(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_another_answer_comes_instead(provider: Provider, endpoint: str) -> None:
    for body, status, expected in (
        ([1, 2], 200, b"[1, 2]"),
        ("<p>not JSON", 500, b"<p>not JSON"),
        (b"\xff", 200, b"\xff"),
        ({"error": "x", "error_description": HOSTILE}, 400, json.dumps(HOSTILE).encode()),
    ):
        provider.faults[endpoint] = faults.instead(body, status)
        found, text = answered(provider, PATHS[endpoint])
        assert found == status
        assert expected in text


def test_a_redirect_leads_to_another_host(provider: Provider, endpoint: str) -> None:
    expected = answered(provider, PATHS[endpoint])
    provider.faults[endpoint] = faults.moved()
    with begun(provider, PATHS[endpoint]) as answer:
        assert (answer.status, answer.read()) == (307, b"")
        path = answer.headers["Location"].removeprefix(provider.other_host)
    assert answered(provider, path) == expected
    assert [asked.path for asked in provider.requests(endpoint)][1:] == [PATHS[endpoint], path]
    provider.faults[endpoint] = faults.moved(302, "https://evil.example/")
    with begun(provider, PATHS[endpoint]) as answer:
        assert (answer.status, answer.headers["Location"]) == (302, "https://evil.example/")


def test_an_answer_has_no_end(provider: Provider, endpoint: str) -> None:
    expected = answered(provider, PATHS[endpoint])[1]
    provider.faults[endpoint] = faults.huge(megabytes=12)
    with begun(provider, PATHS[endpoint]) as answer:
        assert answer.headers["Content-Length"] is None
        body = answer.read()
    assert len(body) == len(expected) + 12 * 1_048_576
    assert json.loads(body) == json.loads(expected)


def test_few_bytes_become_many(provider: Provider, endpoint: str) -> None:
    expected = answered(provider, PATHS[endpoint])[1]
    provider.faults[endpoint] = faults.bomb(megabytes=12)
    with begun(provider, PATHS[endpoint]) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        packed = answer.read()
    body = zlib.decompress(packed, wbits=31)
    assert len(packed) < 100_000
    assert len(body) == len(expected) + 12 * 1_048_576
    assert json.loads(body) == json.loads(expected)


def test_an_answer_is_too_deep_for_the_parser(provider: Provider, endpoint: str) -> None:
    expected = answered(provider, PATHS[endpoint])[1]
    provider.faults[endpoint] = faults.deep()
    with pytest.raises(RecursionError):
        json.loads(answered(provider, PATHS[endpoint])[1])
    provider.faults[endpoint] = faults.deep(levels=3)
    found = json.loads(answered(provider, PATHS[endpoint])[1])
    assert found == {**json.loads(expected), "deep": [[[]]]}


def test_an_answer_comes_late(provider: Provider, endpoint: str) -> None:
    expected = answered(provider, PATHS[endpoint])
    provider.faults[endpoint] = faults.slow(0.2)
    since = time.monotonic()
    assert answered(provider, PATHS[endpoint]) == expected
    assert time.monotonic() - since >= 0.2


def test_an_answer_comes_byte_by_byte(provider: Provider, endpoint: str) -> None:
    expected = answered(provider, PATHS[endpoint])
    for part in ("body", "head"):
        provider.faults[endpoint] = faults.drip(0.001, "body" if part == "body" else "head")
        since = time.monotonic()
        with begun(provider, PATHS[endpoint]) as answer:
            head_s = time.monotonic() - since
            assert (answer.status, answer.read()) == expected
        # The head alone has more than 100 bytes.
        assert head_s > 0.1 if part == "head" else time.monotonic() - since > 0.02


def test_an_answer_never_comes(provider: Provider, endpoint: str) -> None:
    provider.faults[endpoint] = faults.dropped()
    with pytest.raises(ConnectionError):
        answered(provider, PATHS[endpoint])
    provider.faults[endpoint] = faults.cut()
    with pytest.raises(HTTPException, match="IncompleteRead"):
        answered(provider, PATHS[endpoint])
    del provider.faults[endpoint]
    assert answered(provider, PATHS[endpoint])[0] in (200, 400, 401)


# -- As a process


def test_it_stops_at_once_whatever_it_does() -> None:
    provider = Provider(free_port())
    provider.faults["keys"] = faults.slow(60)
    provider.start()
    provider.start()
    with socket.create_connection(("127.0.0.1", provider.port)) as visitor:
        visitor.sendall(b"GET /keys HTTP/1.1\r\nHost: x\r\n\r\n")
        while not provider.asked:
            time.sleep(0.01)
        since = time.monotonic()
        provider.stop()
        provider.stop()
        assert time.monotonic() - since < 2
        assert visitor.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        answered(provider, "/keys")
    provider.start()
    provider.behave()
    assert answered(provider, "/keys")[0] == 200
    provider.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_developer_starts_and_ends_it(number: signal.Signals) -> None:
    port = free_port()
    command = ("tests.provider", "--port", str(port), "--email", "bob@example.com")
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", *command],
        cwd=config.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout
        try:
            said = [process.stdout.readline() for _ in range(3)]
            assert ask(port, "GET", "/keys")[0] == 200
        finally:
            process.send_signal(number)
            rest, _ = process.communicate(timeout=10)
    assert (process.returncode, rest) == (0, "")
    names = [line.partition("=")[0] for line in said]
    assert names == ["APP_OIDC_ISSUER", "APP_OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET"]
    assert said[0] == f"APP_OIDC_ISSUER=http://127.0.0.1:{port}\n"
