"""A provider that is slow, endless, gone, or sends us elsewhere signs nobody in and holds nobody.

Nor does it break anything, whatever it says.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pytest
from flask import Flask

from app.login import oidc_http
from app.login.oidc import NotProved
from tests.login.by_oidc import come_back
from tests.login.refusals import (
    EVIL,
    assert_nobody,
    assert_refused,
    assert_signs_nobody_in,
    attempt,
    begun_anew,
    enters,
    mend,
    published,
)
from tests.provider import REMOVED, Provider, faults
from tests.provider.faults import Answer, Fault

ALGORITHMS = "id_token_signing_alg_values_supported"
HUGE = 10**400
STEPS = {"discovery": "begin", "keys": "id-token", "token": "token", "userinfo": "userinfo"}


@pytest.fixture
def there(app: Flask) -> Iterator[Provider]:
    """Return the provider, to be given its fault."""
    yield from begun_anew(app)


# -- How it answers


def altogether(change: Callable[[Answer], Answer]) -> Fault:
    """Answer so that only what is changed tells that something is wrong."""
    return lambda answer: iter((change(answer).raw,))


TRANSPORT: Mapping[str, Fault] = {
    "dropped": faults.dropped(),
    "cut": faults.cut(),
    "moved": faults.moved(),
    "moved for ever": faults.moved(308),
    "moved by POST": faults.moved(302),
    "huge": faults.huge(),
    "bomb": faults.bomb(),
    "deep": faults.deep(),
    "not JSON": faults.instead(EVIL, content_type="text/html"),
    "no text": faults.instead(b"\xff\xfe{}"),
    "nothing": faults.instead(b""),
    "a list": faults.instead([EVIL]),
    "a text": faults.instead('"evil"'),
    "null": faults.instead("null"),
    "an error": faults.instead({"error": EVIL, "error_description": EVIL}, 400),
    "good with 302": altogether(lambda answer: replace(answer, status=302)),
    "good with 500": altogether(lambda answer: replace(answer, status=500)),
    "good with 404": altogether(lambda answer: replace(answer, status=404)),
    "no HTTP": lambda _: iter((b"evil\r\n\r\n",)),
    "headers for ever": lambda _: iter((b"HTTP/1.1 200 OK\r\n", b"X-Evil: x\r\n" * 100_000)),
    "a status that is none": lambda _: iter((b"HTTP/1.1 999 Evil\r\n\r\n{}",)),
    "another encoding": lambda answer: iter(
        (replace(answer, headers={"Content-Encoding": "gzip"}).raw,)
    ),
    "a size that is none": lambda _: iter((b"HTTP/1.1 200 OK\r\nContent-Length: evil\r\n\r\n{",)),
    "two sizes": lambda _: iter(
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",)
    ),
    "chunks that are none": lambda _: iter(
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nevil\r\n{}\r\n",)
    ),
}
NOTHING = {
    "discovery": "another issuer",
    "keys": "no key",
    "token": "no object",
    "userinfo": "InvalidClaimError: sub",
}
# What the log says of some of them.
SAID: Mapping[str, str] = {
    **dict.fromkeys(("huge", "bomb", "deep"), "too large"),
    **dict.fromkeys(("moved", "moved for ever", "good with 302"), "TooManyRedirects"),
    **dict.fromkeys(("dropped", "cut"), "ConnectionError"),
    **dict.fromkeys(("good with 404", "good with 500"), "HTTPError"),
}
IN_TIME: Mapping[str, Fault] = {
    "slow": faults.slow(60),
    "drips its head": faults.drip(0.1, "head"),
    "drips its body": faults.drip(0.05),
    "stops in its body": lambda answer: iter((answer.head(), 60, answer.body)),
}


@pytest.mark.parametrize("fault", IN_TIME)
@pytest.mark.parametrize("endpoint", STEPS)
def test_an_answer_that_takes_too_long_signs_nobody_in(
    app: Flask,
    there: Provider,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    endpoint: str,
    fault: str,
) -> None:
    there.claims["email"] = REMOVED
    there.faults[endpoint] = IN_TIME[fault]
    client, since = app.test_client(), time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(oidc_http, "ANSWER_S", 0.5)
        patch.setattr(oidc_http, "WHOLE_ANSWER_S", 1)
        answer = attempt(client)
    assert time.monotonic() - since < 10
    why = assert_refused(app, capfd, answer, NotProved, STEPS[endpoint])
    if fault == "drips its body":
        assert why == "too slow"
    assert_nobody(app, client)


@pytest.mark.parametrize("fault", TRANSPORT)
@pytest.mark.parametrize("endpoint", STEPS)
def test_a_bad_answer_signs_nobody_in(
    app: Flask, there: Provider, capfd: pytest.CaptureFixture[str], endpoint: str, fault: str
) -> None:
    there.claims["email"] = REMOVED  # so that the userinfo endpoint is asked
    there.faults[endpoint] = TRANSPORT[fault]
    since = time.monotonic()
    why = assert_signs_nobody_in(app, there, capfd, STEPS[endpoint])
    if fault in SAID:
        assert why == SAID[fault]
    if fault in ("a list", "a text", "null"):
        assert why == NOTHING[endpoint]
    assert time.monotonic() - since < 20


def test_no_worker_waits_longer_than_a_visitor() -> None:
    assert 0 < oidc_http.ANSWER_S <= oidc_http.WHOLE_ANSWER_S <= 15


def test_a_provider_that_is_gone_comes_back(
    app: Flask, there: Provider, capfd: pytest.CaptureFixture[str]
) -> None:
    client = app.test_client()
    sent = client.get("/login")
    there.stop()
    try:
        assert_refused(app, capfd, come_back(client, sent), NotProved, "token")
        assert_refused(app, capfd, client.get("/login"), NotProved, "begin")
    finally:
        there.start()
    assert_nobody(app, client)


# -- Anything at all


ANYTHING: tuple[object, ...] = (
    *(None, True, -1, 2**63, HUGE, 0.5, float("nan"), float("-inf")),
    *("", "\x00", "\ud800", "x" * 5_000, "https://", "http://["),
    *([], {}, [None], {"x": [1]}, ["x"] * 100),
)
MEMBERS: Mapping[str, str] = {
    "claims": "iss sub aud exp iat nonce acr sid auth_time at_hash email email_verified",
    "header": "alg kid typ crit b64",
    "token": "access_token token_type error",
    "userinfo": "sub email",
    "discovery": f"""
        issuer authorization_endpoint token_endpoint jwks_uri end_session_endpoint {ALGORITHMS}
        authorization_response_iss_parameter_supported token_endpoint_auth_methods_supported
    """,
    "key": "kty crv x kid use key_ops",
}


@pytest.mark.parametrize("part", MEMBERS)
def test_nothing_that_a_provider_says_breaks_us(
    app: Flask, there: Provider, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    known, key, kid, seen = app.extensions["oidc"], there.key, there.kid, set()
    forget = known.forget if part == "discovery" else lambda: known.server_metadata.pop("jwks", 0)
    monkeypatch.setattr(known, "forget", lambda: None)  # quicker: each would be asked for anew
    for member in MEMBERS[part].split():
        for value in ANYTHING:
            there.behave()
            there.rotate(key, kid)
            app.extensions["rate_limits"].reset()
            if part in ("discovery", "key"):
                forget()
            if part == "userinfo":
                there.claims["email"] = REMOVED
            changed = published(there) if part == "key" else getattr(there, part)
            changed[member] = value
            answer = attempt(app.test_client())
            assert answer.status_code in (303, 502), (member, value)
            seen.add(answer.status_code)
    assert 502 in seen
    monkeypatch.undo()
    mend(there)
    assert enters(app)
