"""A row of what has been seen from outside, and what the probes have in common."""

from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPException
from typing import Any, NamedTuple

from ..config import ROOT
from .deployment import Answer, Deployment

EVIL = "evil.example"
JSON = ("Content-Type", "application/json")
NOT_SEEN = "not seen from here: "
SHIPPED_PROXY = (ROOT / "deploy").exists()  # another's proxy may refuse in its own words

Settings = Mapping[str, Any]


class Seen(NamedTuple):
    """One question: what the settings promise, what was answered, and the mistake if it differs."""

    what: str
    promised: str
    answered: str
    mistake: str | None = None


Probe = Callable[[Deployment, Settings], Iterator[Seen]]


def row(what: str, promised: str, answered: str, mistake: str, *, kept: bool | None = None) -> Seen:
    """Return a row; without `kept`, what is answered has to be what is promised, word for word."""
    kept = answered == promised if kept is None else kept
    return Seen(what, promised, answered, None if kept else mistake)


def to_its_end(rows: Iterator[Seen], what: str) -> Iterator[Seen]:
    """Yield a probe's rows; when it finds no answer, or not the header that it reads, one more."""
    try:
        yield from rows
    except (OSError, HTTPException) as error:
        yield Seen(what, "an answer", str(error) or type(error).__name__, "unanswered")
    except LookupError as error:
        yield Seen(what, "an answer with every header", str(error), "headers-changed")


def shown(answer: Answer, *unwanted: str) -> str:
    """Return the status, where it leads, and which headers are there that should not be."""
    parts = [str(answer.status), *(f"to {place}" for place in answer.all("Location"))]
    return " ".join(parts + [f"with {name}" for name in unwanted if answer.all(name)])
