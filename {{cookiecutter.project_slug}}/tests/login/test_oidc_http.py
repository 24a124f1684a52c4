"""Every request to the provider ends, is small, goes over https, and follows nobody elsewhere."""

import gzip
import itertools
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from http.client import ResponseNotReady
from types import SimpleNamespace
from typing import Any, cast

import pytest
from authlib.integrations.base_client import OAuthError
from flask import Flask
from requests import Request, Response
from requests.adapters import HTTPAdapter
from requests.exceptions import ConnectionError as NoAnswer
from requests.exceptions import HTTPError, TooManyRedirects
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool

from app.login import oidc_http
from app.login.oidc_http import Odd, Session, is_private
from tests.login.refusals import begun_anew
from tests.provider import Provider, faults

KIB = 1_024


@pytest.fixture
def there(app: Flask) -> Iterator[Provider]:
    """Return the provider, to be given its fault."""
    yield from begun_anew(app)


def ask(there: Provider, fault: faults.Fault) -> Response:
    """Return what a session makes of an answer."""
    there.faults["discovery"] = fault
    with Session() as session:
        url = f"{there.issuer}/.well-known/openid-configuration"
        answer: Response = session.request("GET", url, withhold_token=True)
    assert answer.url == url
    return answer


def status(code: int) -> faults.Fault:
    """Answer with that, and say nothing of where else to look."""
    return lambda _: iter((b"HTTP/1.1 %d Odd\r\nContent-Length: 2\r\nX-Odd: yes\r\n\r\n{}" % code,))


@pytest.mark.parametrize(
    "url",
    [
        "https://login.example.com",
        "HTTPS://login.example.com:8443/a?b=c#d",
        "https://[2001:db8::1]/",
        "http://localhost",
        "http://localhost:9000/token",
        "http://127.0.0.1:9000",
        "http://[::1]:9000/",
    ],
)
def test_nobody_listens_on_the_way(url: str) -> None:
    assert is_private(url)


@pytest.mark.parametrize(
    "url",
    [
        *(None, 5, True, b"https://login.example.com", ["https://login.example.com"]),
        *("", "https:", "https://", "https:///token", "login.example.com", "//login.example.com"),
        *("http://login.example.com", "http://127.0.0.2/", "http://localhost.evil.example"),
        *("ftp://localhost/", "file://localhost/etc/passwd", "http://[::1/", "https://\u2100/"),
        *(
            "https://login.example.com/ x",
            "https://login.example.com/\n",
            "http://evil\\@localhost/",
        ),
    ],
)
def test_somebody_may_listen_on_the_way(there: Provider, url: object) -> None:
    assert is_private(url) is False
    with Session() as session, pytest.raises(Odd, match=r"^not https$"):
        session.request("GET", url, withhold_token=True)
    assert there.asked == []


def test_an_answer_is_given_as_it_came(there: Provider) -> None:
    for code in (200, 299, 400, 500):
        answer = ask(there, status(code))
        assert (answer.status_code, answer.headers["X-Odd"], answer.json()) == (code, "yes", {})


@pytest.mark.parametrize("code", [300, 302, 399])
def test_no_redirect_is_followed(there: Provider, code: int) -> None:
    with pytest.raises(TooManyRedirects):
        ask(there, status(code))


def test_an_answer_may_be_packed(there: Provider) -> None:
    packed = faults.Answer(gzip.compress(b'{"a": 1}'), headers={"Content-Encoding": "gzip"})
    assert ask(there, lambda _: iter((packed.raw,))).json() == {"a": 1}


def test_an_answer_may_be_so_large(there: Provider) -> None:
    largest = json.dumps("x" * (128 * KIB - 2))
    assert ask(there, faults.instead(largest)).text == largest
    with pytest.raises(Odd, match=r"^too large$"):
        ask(there, faults.instead(f"{largest} "))


def test_an_answer_may_take_so_long(there: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(*moments: int) -> SimpleNamespace:
        left = itertools.chain(moments, itertools.repeat(moments[-1]))
        return SimpleNamespace(monotonic=lambda: next(left))

    monkeypatch.setattr(oidc_http, "time", seconds(5, 15))
    assert ask(there, status(200)).json() == {}
    monkeypatch.setattr(oidc_http, "time", seconds(5, 16))
    with pytest.raises(Odd, match=r"^too slow$"):
        ask(there, status(200))


def test_what_fails_on_the_way_is_no_answer(there: Provider) -> None:
    with pytest.raises(NoAnswer, match=r"^ProtocolError$"):
        ask(there, faults.cut())


def test_every_request_has_its_time(there: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    timers: list[threading.Timer] = []
    waits: list[object] = []

    class Timer(threading.Timer):
        def start(self) -> None:
            timers.append(self)
            super().start()

    send = HTTPAdapter.send

    def sent(self: HTTPAdapter, *args: Any, **kwargs: Any) -> Response:  # noqa: ANN401
        waits.append(kwargs["timeout"])
        return send(self, *args, **kwargs)

    monkeypatch.setattr("threading.Timer", Timer)
    monkeypatch.setattr(HTTPAdapter, "send", sent)
    ask(there, status(200))
    (timer,) = timers
    assert (waits, timer.interval) == ([5], 10)
    assert timer.daemon  # it keeps no process that wants to end
    assert timer.finished.is_set()  # and hangs up on nobody later
    timer.function()  # even if it was about to


def test_whoever_takes_too_long_is_hung_up_on() -> None:
    hung_up = threading.Event()
    how: list[int] = []

    def shutdown(which: int) -> None:
        how.append(which)
        hung_up.set()

    connection = cast("HTTPConnection", SimpleNamespace(sock=SimpleNamespace(shutdown=shutdown)))
    with oidc_http._ended_after(0.01, connection):
        assert hung_up.wait(30)
    assert how == [socket.SHUT_RDWR]


def test_whoever_has_ended_by_himself_is_left_alone() -> None:
    others = set(threading.enumerate())
    with socket.socket() as never_connected:
        connection = cast("HTTPConnection", SimpleNamespace(sock=never_connected))
        with oidc_http._ended_after(60, connection):
            (timer,) = set(threading.enumerate()) - others
            assert isinstance(timer, threading.Timer)
            timer.function()


def test_a_head_that_drips_is_hung_up_on(there: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oidc_http, "WHOLE_ANSWER_S", 0.3)
    with pytest.raises(NoAnswer):
        ask(there, faults.drip(0.05, "head"))


@pytest.mark.parametrize(
    ("url", "kind"),
    [("https://login.example.com/", HTTPSConnection), ("http://localhost/", HTTPConnection)],
)
def test_no_connection_is_without_a_bound(
    monkeypatch: pytest.MonkeyPatch, url: str, kind: type[HTTPConnection]
) -> None:
    bounds: list[tuple[float, object]] = []

    def bound(*given: Any) -> AbstractContextManager[None]:  # noqa: ANN401
        bounds.append(given)
        return nullcontext()

    with Session() as session:
        adapter = session.get_adapter(url)
        assert isinstance(adapter, HTTPAdapter)
        request = Request("GET", url).prepare()
        pool = adapter.get_connection_with_tls_context(request, verify=True)
    assert isinstance(pool, HTTPConnectionPool)
    assert issubclass(pool.ConnectionCls, kind)
    monkeypatch.setattr(oidc_http, "_ended_after", bound)
    connection = pool.ConnectionCls("localhost")
    with pytest.raises(ResponseNotReady):
        connection.getresponse()
    assert bounds == [(10, connection)]


def test_a_connection_is_made_with_what_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    request = Request("GET", "https://login.example.com/").prepare()
    given = (request, "/etc/ours.pem", {"https": "http://proxy.example"}, "/etc/client.pem")
    passed: list[object] = []
    name = "get_connection_with_tls_context"
    monkeypatch.setattr(HTTPAdapter, name, lambda _self, *args: passed.append(args))
    with Session() as session:
        getattr(session.get_adapter("https://login.example.com/"), name)(*given)
    assert passed == [given]


def answer(body: object, code: int = 200) -> Response:
    """Return an answer of the token endpoint."""
    made = Response()
    made.status_code, made._content = code, json.dumps(body).encode()
    return made


def test_tokens_are_texts() -> None:
    texts = {"access_token": "a", "token_type": "Bearer", "id_token": "i"}
    with Session() as session:
        given = answer({**texts, "refresh_token": "r", "expires_in": 5, "scope": ["evil"]})
        assert session.parse_response_token(given) == texts
        assert session.token == texts


@pytest.mark.parametrize("body", [[], "text", None, 5, [{"id_token": "i"}]])
def test_tokens_are_an_object(body: object) -> None:
    with Session() as session, pytest.raises(Odd, match=r"^no object$"):
        session.parse_response_token(answer(body))


@pytest.mark.parametrize("name", ["access_token", "token_type", "id_token", "error"])
@pytest.mark.parametrize("odd", [None, 5, True, ["x"], {"x": 1}])
def test_a_token_is_a_text(name: str, odd: object) -> None:
    with Session() as session, pytest.raises(Odd, match=r"^no text$"):
        session.parse_response_token(answer({"id_token": "i", "access_token": "a", name: odd}))


def test_an_error_is_none_of_them() -> None:
    with Session() as session:
        for code in (200, 400):
            with pytest.raises(OAuthError) as raised:
                session.parse_response_token(answer({"error": "x", "id_token": "i"}, code))
            assert raised.value.error == "x"
        with pytest.raises(HTTPError):
            session.parse_response_token(answer({"id_token": "i"}, 500))
        assert not session.token
