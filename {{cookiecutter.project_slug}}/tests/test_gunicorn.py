"""gunicorn believes nothing that a client can send, and does not start when we refuse."""

import json
import logging
import re
import runpy
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from app import config
from app.problem import Refusal
from tests.production import HOST, VARIABLES
from tests.servers import ask, free_port, run, served

gunicorn = pytest.importorskip("gunicorn.config", reason="gunicorn does not exist on Windows")

from app.access_log import AccessLog  # noqa: E402

OWN = {"Host": HOST}
WAIT_S = 10


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Yield the port of gunicorn with the project's own configuration, behind one proxy: us."""
    port = free_port()
    # PORT would listen on every address of this machine, and the key of VARIABLES is known.
    with served(port, "gunicorn", "--bind", f"127.0.0.1:{port}", variables=VARIABLES):
        yield port


def test_a_page_over_https_says_the_proxy(port: int) -> None:
    status, headers, _ = ask(port, "GET", "/", {**OWN, "X-Forwarded-Proto": "https"})
    assert status == 200
    assert not re.search(r"\d", headers["Server"])
    assert headers["Strict-Transport-Security"].startswith("max-age=63072000")


@pytest.mark.parametrize(
    "forged",
    [
        {},
        {"X-Forwarded-Ssl": "on"},
        {"X-Forwarded-Protocol": "ssl"},
        {"X-Forwarded-Proto": "http", "X-Forwarded-Ssl": "on"},
    ],
)
def test_gunicorn_itself_believes_no_scheme(port: int, forged: dict[str, str]) -> None:
    status, headers, _ = ask(port, "GET", "/", {**OWN, **forged})
    assert status == 308
    assert headers["Location"] == "https://app.example.com/"


@pytest.mark.parametrize("name", ["SCRIPT_NAME", "Script-Name", "PATH_INFO"])
def test_gunicorn_takes_no_path_from_a_header(port: int, name: str) -> None:
    forged = {**OWN, "X-Forwarded-Proto": "https", name: "/contact"}
    status, _, page = ask(port, "GET", "/", forged)
    assert status == 200
    assert "<form" not in page


LENGTHS = {
    "two kinds": ("Content-Length: 5", "Transfer-Encoding: chunked"),
    "two lengths": ("Content-Length: 5", "Content-Length: 6"),
    "no number": ("Content-Length: +5",),
    "an unknown coding": ("Transfer-Encoding: xchunked",),
    "chunked, and more": ("Transfer-Encoding: chunked, identity",),
    "a blank in the name": ("Content-Length : 5",),
}


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_where_a_request_ends_is_no_matter_of_opinion(port: int, lengths: tuple[str, ...]) -> None:
    own = (f"Host: {HOST}", "X-Forwarded-Proto: https")
    first = "\r\n".join(["POST /contact HTTP/1.1", *own, *lengths, "", "0", "", ""])
    second = "\r\n".join(["GET /smuggled HTTP/1.1", *own, "", ""])
    with socket.create_connection(("127.0.0.1", port), WAIT_S) as connection:
        connection.sendall((first + second).encode())
        answered = b""
        with suppress(ConnectionError):
            while read := connection.recv(65_536):
                answered += read
    assert answered.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))
    assert answered.count(b"HTTP/1.1 ") == 1


CHUNKS = ("zz\r\n", "-5\r\n", "5\r\nabcdefg\r\n0\r\n\r\n", "0\r\nno trailer\r\n\r\n")


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("path", ["/contact", "/api/ping", "/csp-report"])
def test_what_is_no_chunk_is_the_clients_mistake(port: int, path: str, chunk: str) -> None:
    own = (f"Host: {HOST}", "X-Forwarded-Proto: https", f"Origin: https://{HOST}")
    request = "\r\n".join([f"POST {path} HTTP/1.1", *own, "Transfer-Encoding: chunked", "", chunk])
    with socket.create_connection(("127.0.0.1", port), WAIT_S) as connection:
        connection.sendall(request.encode())
        answered = connection.recv(65_536)
    assert answered.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nX-Content-Type-Options: nosniff\r\n" in answered


@pytest.mark.parametrize("length", [900_000, 1_048_576])
def test_a_refusal_outlives_the_body_that_nobody_read(port: int, length: int) -> None:
    own = (f"Host: {HOST}", "X-Forwarded-Proto: https", "Connection: close")
    head = "\r\n".join(["POST / HTTP/1.1", *own, f"Content-Length: {length}", "", ""])
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)  # nothing waits in it
        connection.settimeout(WAIT_S)
        connection.connect(("127.0.0.1", port))
        connection.sendall(head.encode() + b"x" * length)  # ConnectionResetError: it was closed
        assert connection.recv(65_536).startswith(b"HTTP/1.1 4")


def test_a_body_that_never_comes_holds_nobody_up(port: int) -> None:
    own = (f"Host: {HOST}", "X-Forwarded-Proto: https", "Connection: close")
    head = "\r\n".join(["POST / HTTP/1.1", *own, "Content-Length: 900000", "", ""])
    with socket.create_connection(("127.0.0.1", port), WAIT_S) as connection:
        connection.sendall(head.encode())
        said = b"".join(iter(lambda: connection.recv(65_536), b""))  # TimeoutError: it still waits
    assert said.startswith(b"HTTP/1.1 405 ")


@pytest.fixture
def configuration(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Return a function that reads gunicorn.conf.py as gunicorn does, with these variables."""

    def read(**variables: str) -> dict[str, Any]:
        for name, value in {**VARIABLES, **variables}.items():
            monkeypatch.setenv(name, value)
        return runpy.run_path(str(config.ROOT / "gunicorn.conf.py"))

    return read


def test_there_is_no_way_in_beside_the_port(configuration: Callable[..., dict[str, Any]]) -> None:
    read = configuration()
    assert read["control_socket_disable"] is True
    assert (read["secure_scheme_headers"], read["forwarder_headers"]) == ({}, "")


def test_where_it_listens(configuration: Callable[..., dict[str, Any]]) -> None:
    assert configuration(APP_BIND="127.0.0.1:8000")["bind"] == "127.0.0.1:8000"
    assert configuration(PORT="5123")["bind"] == "0.0.0.0:5123"


def test_a_worker_that_counts_in_its_memory_is_not_replaced(
    configuration: Callable[..., dict[str, Any]],
) -> None:
    assert configuration()["max_requests"] == 0
    shared = configuration(APP_RATELIMIT_STORAGE_URI="redis://127.0.0.1:6379", WEB_CONCURRENCY="4")
    assert shared["workers"] == 4
    assert shared["max_requests"] > shared["max_requests_jitter"] > 0


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"SECRET_KEY": "dev"}, "secret-key-published"),
        ({"APP_PROXY_HOPS": "0"}, "tls-missing"),
        ({"APP_PROXY_HOPS": "9"}, "proxy-hops"),
        ({"APP_BIND": "8000"}, "bind-unreadable"),
        ({"WEB_CONCURRENCY": "2"}, "rate-limit-store-per-process"),
        ({"WEB_CONCURRENCY": "many"}, "workers-unreadable"),
        ({"WEB_CONCURRENCY": "0"}, "workers-unreadable"),
    ],
)
def test_it_refuses(
    configuration: Callable[..., dict[str, Any]], variables: dict[str, str], problem: str
) -> None:
    read = configuration(**variables)
    settings = gunicorn.Config()
    settings.set("workers", read["workers"])
    with pytest.raises(Refusal) as refusal:
        read["on_starting"](SimpleNamespace(cfg=settings))
    assert [found.id for found in refusal.value.problems] == [problem]


def test_it_refuses_once_and_ends() -> None:
    bind = f"127.0.0.1:{free_port()}"
    wrong = {**VARIABLES, "SECRET_KEY": "dev"}
    status, output = run("gunicorn", "--bind", bind, "--workers", "2", variables=wrong)
    assert status == 1
    for problem in ("secret-key-published", "rate-limit-store-per-process"):
        assert output.count(f"[{problem}]") == 1
    assert "Traceback" not in output
    assert "Booting worker" not in output


@pytest.mark.usefixtures("app")  # whose start opens the security log
def test_it_writes_to_its_two_streams_and_nowhere_else(
    configuration: Callable[..., dict[str, Any]],
) -> None:
    read = configuration()
    elsewhere = {"errorlog", "logconfig", "logconfig_dict", "logconfig_json", "statsd_host"}
    assert (read["accesslog"], elsewhere & set(read), "syslog" in read) == ("-", set(), False)
    settings = gunicorn.Config()
    settings.set("accesslog", "-")
    log = AccessLog(settings)
    for logger in (log.error_log, log.access_log, logging.getLogger("security")):
        assert {type(handler) for handler in logger.handlers} == {logging.StreamHandler}


def test_a_request_is_one_line_that_holds_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    settings = gunicorn.Config()
    settings.set("accesslog", "-")
    environ = {
        "app.request_id": "0123",
        "REMOTE_ADDR": "203.0.113.9",
        "REQUEST_METHOD": "GET",
        "PATH_INFO": '/\n{"event":"request"}"',
        "QUERY_STRING": "token=secret",
        "RAW_URI": "/?token=secret",
        "HTTP_REFERER": "https://app.example.com/?secret",
        "HTTP_COOKIE": "secret",
        "HTTP_AUTHORIZATION": "Basic c2VjcmV0OnNlY3JldA==",
        "wsgi.url_scheme": "https",
    }
    answer = SimpleNamespace(status="404 Not Found", sent=12, headers=[])
    log = AccessLog(settings)
    log.access(answer, None, environ, timedelta(milliseconds=34.5))  # type: ignore[arg-type]
    (text,) = capsys.readouterr().out.splitlines()
    line = json.loads(text)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "event": "request",
        "request_id": "0123",
        "client": "203.0.113.9",
        "scheme": "https",
        "method": "GET",
        "path": '/\n{"event":"request"}"',
        "status": 404,
        "bytes": 12,
        "duration_ms": 34,
    }
