"""A deployment as a stranger sees it: what is sent is exactly what the caller says.

It needs nothing but the standard library: what it finds is nobody else's doing.
"""

import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPResponse
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

Headers = Sequence[tuple[str, str]]

CONNECT_S = 10
ANSWER_S = 60
TRIES = 3
MOST_BYTES = 10_000_000  # of an answer: whoever answers may be anybody

LIMIT = re.compile(r'"default-(\d+)s";r=(\d+)')
POLICY = re.compile(r'"default-(\d+)s";q=(\d+)')


class Answer(NamedTuple):
    """What came back; names of headers in lower case, in order, as often as they came."""

    status: int
    headers: Sequence[tuple[str, str]]
    text: str

    def all(self, name: str) -> list[str]:
        """Return every value of a header."""
        return [value for key, value in self.headers if key == name.lower()]

    def get(self, name: str) -> str:
        """Return the one value of a header; '' without one, and all joined by a bar if many."""
        return " | ".join(self.all(name))

    def cookies(self) -> str:
        """Return what a browser would send back."""
        return "; ".join(value.partition(";")[0] for value in self.all("Set-Cookie"))

    def left(self) -> int:
        """Return how many requests are left of the default limit with the longest window."""
        return max(_limits(LIMIT, self.get("RateLimit")))[1]

    def limits(self) -> list[tuple[int, int]]:
        """Return the seconds and the size of every default limit, the longest window last."""
        return _limits(POLICY, self.get("RateLimit-Policy"))


def _limits(pattern: re.Pattern[str], header: str) -> list[tuple[int, int]]:
    found = sorted((int(window_s), int(number)) for window_s, number in pattern.findall(header))
    if not found:
        raise LookupError(f"no default limit in {header!r}")
    return found


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _parts(text: str, scheme: str) -> SplitResult:
    """Return the parts of a URL without a path; raise ValueError, with a good example, if none."""
    with suppress(ValueError):  # what stands in the place of a port, a name or an address is none
        url = urlsplit(text)
        host = (url.hostname or "").encode("idna")
        if url.scheme == scheme and host and url.port != 0 and not url.path.strip("/"):
            return url
    raise ValueError(f"{text} is not like {scheme}://staging.example.com")


def is_of_this_machine(address: str) -> bool:
    """Return whether an IPv4 address can be sent from: macOS has one of 127.0.0.0/8, Linux all."""
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
        return True


class TooOften(Exception):  # noqa: N818  it reads as a sentence where it is raised
    """The limit of this machine's address is spent, for longer than is worth waiting."""


class Deployment(NamedTuple):
    """Where to connect, and which name to ask for.

    `https` and `http` are URLs without a path; `http` is None where there is no such port.
    `host` is sent as Host and SNI, `ca` is a PEM file if the system's own do not do, `source` the
    address of this machine to send from, if not the usual one.
    """

    https: str
    http: str | None
    host: str
    ca: str | None = None
    source: str | None = None

    @classmethod
    def at(
        cls, https: str, http: str | None, ca: str | None, trusted: Sequence[str]
    ) -> "Deployment":
        """Return the deployment at a URL; one that is an address is asked for the first name.

        Raises ValueError, with a good example, if a URL is none.
        """
        url = _parts(https, "https")
        if http is not None:
            _parts(http, "http")
        names = [name.removeprefix(".") for name in trusted]
        own = str(url.hostname)
        host = names[0] if names and _is_address(own) else own
        if http is None and url.port in (None, 443):
            http = f"http://{url.netloc.removesuffix(':443')}"
        return cls(https, http, host, ca)

    def ask(
        self,
        method: str,
        path: str,
        headers: Headers = (),
        body: bytes = b"",
        *,
        scheme: str = "https",
        host: str | None = None,
        source: str | None = None,
    ) -> Answer:
        """Send one request and return the answer; wait and ask again if that was too often.

        `source` is the address of this machine to send from, in the place of the deployment's.
        Raises OSError or HTTPException if there is no answer, TooOften if the wait is long.
        """
        wait_s = 0
        for _ in range(TRIES):
            with self.connected(scheme, source) as connection:
                connection.sendall(self.request(method, path, headers, body, host=host))
                answer = read(connection, method)
            if answer.status != 429:
                return answer
            said = answer.get("Retry-After")
            wait_s = int(said) if re.fullmatch(r"\d{1,9}", said, re.ASCII) else 1
            if wait_s > ANSWER_S:
                break
            time.sleep(wait_s)
        raise TooOften(f"429: too many requests, again in {wait_s} s")

    def request(
        self, method: str, path: str, headers: Headers, body: bytes, *, host: str | None = None
    ) -> bytes:
        """Return the bytes of a request."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host if host is None else host}"]
        lines += [f"{name}: {value}" for name, value in headers]
        if body and not any(name.lower() == "content-length" for name, _ in headers):
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body

    @contextmanager
    def connected(
        self, scheme: str = "https", source: str | None = None
    ) -> Iterator[socket.socket]:
        """Yield a connection, with TLS where the scheme has it."""
        with self.connected_plain(scheme, source) as plain:
            if scheme == "http":
                yield plain
                return
            with self.tls().wrap_socket(plain, server_hostname=self.host) as connection:
                yield connection

    def connected_plain(self, scheme: str = "https", source: str | None = None) -> socket.socket:
        """Return a connection to the port of a scheme, before any TLS."""
        url = urlsplit((self.https if scheme == "https" else self.http) or "")
        place = (url.hostname or "", url.port or {"https": 443, "http": 80}[scheme])
        source = source or self.source
        bound = (source, 0) if source else None
        connection = socket.create_connection(place, CONNECT_S, source_address=bound)
        connection.settimeout(ANSWER_S)
        return connection

    def tls(self) -> ssl.SSLContext:
        """Return a client's TLS that checks the certificate."""
        return ssl.create_default_context(cafile=self.ca)

    def address(self) -> str:
        """Return the host or address to connect to."""
        return urlsplit(self.https).hostname or ""

    def is_on_loopback(self) -> bool:
        """Return whether it is on this machine."""
        return self.address().startswith(("127.", "localhost", "::1"))

    def second_address(self) -> str | None:
        """Return another address of this machine that reaches the deployment, if there is one."""
        url = urlsplit(self.https)
        place = (url.hostname or "", url.port or 443)
        if self.is_on_loopback():
            other = "127.0.0.2"
            return other if ":" not in self.address() and is_of_this_machine(other) else None
        with suppress(OSError):
            for family in (socket.AF_INET6, socket.AF_INET):
                for *_, address in socket.getaddrinfo(*place, family, socket.SOCK_STREAM):
                    with socket.socket(family, socket.SOCK_STREAM) as probe:
                        probe.settimeout(5)
                        probe.connect(address)
                        used = str(probe.getsockname()[0])
                        if used != self._first_address():
                            return used
        return None

    def _first_address(self) -> str:
        with self.connected() as connection:
            return str(connection.getsockname()[0])


def read(connection: socket.socket, method: str = "GET") -> Answer:
    """Return the answer on a connection, to its end."""
    response = HTTPResponse(connection, method=method)
    response.begin()
    text = response.read(MOST_BYTES).decode("utf-8", "replace")
    headers = [(name.lower(), value) for name, value in response.getheaders()]
    return Answer(response.status, headers, text)
