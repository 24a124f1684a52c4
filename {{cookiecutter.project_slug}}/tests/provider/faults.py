"""How an endpoint of the provider fails: each of these is one value for `provider.faults`.

Those that answer well in the end would be believed by a client that waits, or reads, too long.
"""

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Literal


@dataclass(frozen=True)
class Answer:
    """An answer as it should be; a fault makes of it what is sent."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    again: str = ""  # where another host gives this answer

    def head(self, *, sized: bool = True) -> bytes:
        """Return the status line and the headers, with the length of the body or without."""
        own = {"Cache-Control": "no-store", "Connection": "close"}
        length = {"Content-Length": str(len(self.body))} if sized else {}
        lines = [f"{name}: {value}" for name, value in {**own, **self.headers, **length}.items()]
        status = f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"
        return "\r\n".join([status, *lines, "", ""]).encode("latin-1")

    @property
    def raw(self) -> bytes:
        """Return all that goes over the wire."""
        return self.head() + self.body


# Yields bytes to send, and seconds to wait before the next ones.
Fault = Callable[[Answer], Iterator[bytes | float]]


def said(
    body: object, status: int = 200, content_type: str = "application/json", **headers: str
) -> Answer:
    """Return an answer: bytes and text as they are, anything else as JSON."""
    data = body if isinstance(body, bytes | str) else json.dumps(body)
    data = data if isinstance(data, bytes) else data.encode()
    return Answer(data, status, {"Content-Type": content_type, **headers})


def instead(body: object, status: int = 200, content_type: str = "application/json") -> Fault:
    """Answer this: bytes and text as they are, anything else as JSON."""
    return lambda _: iter((said(body, status, content_type).raw,))


def moved(status: int = 307, to: str = "") -> Fault:
    """Redirect there, or to another host that answers well."""
    return lambda answer: iter((said(b"", status, Location=to or answer.again).raw,))


def slow(seconds: float) -> Fault:
    """Say nothing for so long, then answer well."""
    return lambda answer: iter((seconds, answer.raw))


def drip(pause_s: float, part: Literal["head", "body"] = "body") -> Fault:
    """Answer well, byte by byte from the head or from the body on, with a pause before each."""

    def pieces(answer: Answer) -> Iterator[bytes | float]:
        at_once = len(answer.head()) if part == "body" else 0
        yield answer.raw[:at_once]
        for place in range(at_once, len(answer.raw)):
            yield pause_s
            yield answer.raw[place : place + 1]

    return pieces


def dropped() -> Fault:
    """Close the connection without an answer."""
    return lambda _: iter(())


def cut() -> Fault:
    """Close the connection in the middle of the body."""
    return lambda answer: iter((answer.head() + answer.body[: len(answer.body) // 2],))


def huge(megabytes: int = 20) -> Fault:
    """Answer well, then go on with spaces, which are JSON, and never say how many will come."""

    def pieces(answer: Answer) -> Iterator[bytes | float]:
        yield answer.head(sized=False) + answer.body
        for _ in range(megabytes * 16):
            yield b" " * 65_536

    return pieces


def bomb(megabytes: int = 50) -> Fault:
    """Answer well in few bytes of gzip, which become many spaces."""

    def pieces(answer: Answer) -> Iterator[bytes | float]:
        packed = {**answer.headers, "Content-Encoding": "gzip"}
        yield replace(answer, headers=packed).head(sized=False)
        packer = zlib.compressobj(level=1, wbits=31)
        yield packer.compress(answer.body)
        for _ in range(megabytes):
            yield packer.compress(b" " * 1_048_576)
        yield packer.flush()

    return pieces


def deep(levels: int = 100_000) -> Fault:
    """Answer well, with one more member that holds a list in a list in a list."""
    more = b', "deep": ' + b"[" * levels + b"]" * levels + b"}"
    return lambda answer: iter((replace(answer, body=answer.body[:-1] + more).raw,))


def broken(token: object) -> str:
    """Return a token with its signature changed; `provider.token["id_token"]` takes this one."""
    signed, _, signature = str(token).rpartition(".")
    return f"{signed}.{'B' if signature.startswith('A') else 'A'}{signature[1:]}"
