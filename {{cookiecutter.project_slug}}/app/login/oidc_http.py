"""Talk to the provider, who may be slow, endless, gone, or send us elsewhere.

Every request ends after a time and a size, follows no redirect, and goes over https. Requests
bounds each read alone: whoever sends a byte every few seconds would hold us for hours.
"""

import io
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.exceptions import ConnectionError as NoAnswer
from requests.exceptions import TooManyRedirects
from urllib3 import HTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import ConnectionPool, HTTPConnectionPool
from urllib3.exceptions import HTTPError

ANSWER_S, WHOLE_ANSWER_S = 5, 10  # until something comes, until all of it is there
MOST_BYTES = 128 * 1024
LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Of a URL that is read in one way only: for some readers the host of http://a\@localhost/ is a.
PLAIN = re.compile(r"[!-\[\]-~]+")
TEXTS = ("access_token", "token_type", "id_token", "error")


class Odd(ValueError):  # noqa: N818  it reads as a word where it is raised
    """What the provider sent is none of what it may send; the text is ours, for the log."""


def is_private(url: object) -> bool:
    """Return whether nobody can listen on the way to a URL: https, or this machine itself."""
    if not isinstance(url, str) or not PLAIN.fullmatch(url):
        return False
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK))


@contextmanager
def _ended_after(seconds: float, connection: HTTPConnection) -> Iterator[None]:
    """Hang up after so many seconds."""

    def hang_up() -> None:
        with suppress(OSError, AttributeError):  # it may just have ended by itself
            connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class _Plain(HTTPConnection):
    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as in urllib3
        with _ended_after(WHOLE_ANSWER_S, self):
            return super().getresponse()


class _Encrypted(HTTPSConnection):
    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as in urllib3
        with _ended_after(WHOLE_ANSWER_S, self):
            return super().getresponse()


class _Timed(HTTPAdapter):
    """Bounds the time until the last header is there."""

    def get_connection_with_tls_context(
        self,
        request: PreparedRequest,
        verify: bool | str | None,
        proxies: Mapping[str, str] | None = None,
        cert: tuple[str, str] | str | None = None,
    ) -> ConnectionPool:
        """Return the connections to where a request goes."""
        pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
        if isinstance(pool, HTTPConnectionPool):
            pool.ConnectionCls = _Encrypted if pool.scheme == "https" else _Plain
        return pool


class Session(OAuth2Session):  # type: ignore[misc]  # Authlib has no types
    """Requests to the provider."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        for scheme in ("https://", "http://"):
            self.mount(scheme, _Timed())

    def request(self, method: str, url: str, **kwargs: object) -> Response:
        """Send a request; RequestException or Odd when there is no answer that we take."""
        if not is_private(url):
            raise Odd("not https")
        deadline = time.monotonic() + WHOLE_ANSWER_S
        kwargs |= {"allow_redirects": False, "stream": True, "timeout": ANSWER_S}
        with super().request(method, url, **kwargs) as answer:
            body = b"".join(_parts(answer, deadline))
            if 300 <= answer.status_code < 400:
                raise TooManyRedirects
            found = Response()
            found.status_code, found.url = answer.status_code, url
            found.headers, found.raw = answer.headers, io.BytesIO(body)
        return found

    def parse_response_token(self, answer: Response) -> object:
        """Return the tokens that are texts; OAuthError if it is an error, Odd if it is neither."""
        tokens = answer.json()
        if not isinstance(tokens, dict):
            raise Odd("no object")
        found = {name: tokens[name] for name in TEXTS if name in tokens}
        if not all(isinstance(text, str) for text in found.values()):
            raise Odd("no text")
        if "error" in found:
            raise OAuthError(found["error"])
        answer.raise_for_status()
        self.token = found
        return self.token


def _parts(answer: Response, deadline: float) -> Iterator[bytes]:
    """Yield the body; Odd when it is too large, ConnectionError when it ends or takes too long."""
    room = MOST_BYTES
    try:
        while part := answer.raw.read1(8_192, decode_content=True):
            room -= len(part)
            if room < 0:
                raise Odd("too large")
            if time.monotonic() > deadline:
                raise Odd("too slow")
            yield part
    except (HTTPError, OSError) as error:
        raise NoAnswer(type(error).__name__) from None
