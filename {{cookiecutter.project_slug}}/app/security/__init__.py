"""Every protection, in the order it is installed.

Each module answers one threat and offers the same two functions.
"""

from collections.abc import Iterator
from typing import Protocol

from flask import Config, Flask

from ..problem import Problem
from . import (
    cors,
    csrf,
    events,
    headers,
    hosts,
    https,
    proxy,
    rate_limits,
    request_size,
    secret_key,
    sessions,
)


class Control(Protocol):
    """What every module in this package offers."""

    def init_app(self, app: Flask, /) -> None:
        """Install the protection."""

    def problems(self, config: Config, /) -> Iterator[Problem]:
        """Yield one problem for each setting that defeats it."""


CONTROLS: tuple[Control, ...] = (
    secret_key,  # nothing below is worth anything when a stranger can sign
    events,  # everything below reports to it
    proxy,  # whose address, and http or https? everything below asks
    headers,  # before the first refusal, so that every refusal carries them and has its nonce
    hosts,  # before https: no redirect to a name that is not ours
    https,  # before sessions and forms: nothing is read from a request that anyone could alter
    cors,  # works on answers, refusals among them: an allowed front end can read those too
    rate_limits,  # before the body is read and a token looked at: failures count as well
    request_size,  # before CSRF: an oversized form is not one without a token
    sessions,
    csrf,  # last: it reads the session and the body
)


def init_app(app: Flask) -> None:
    """Install every protection."""
    for control in CONTROLS:
        control.init_app(app)


def problems(config: Config) -> Iterator[Problem]:
    """Yield one problem for each setting that defeats a protection."""
    for control in CONTROLS:
        yield from control.problems(config)
