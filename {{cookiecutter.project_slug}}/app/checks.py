"""Find everything that defeats a protection: at every start, and when `flask check` asks."""

from collections.abc import Mapping

from flask import Config

from . import config, security, security_txt
from .problem import Problem, Refusal


def examine(overrides: Mapping[str, object]) -> tuple[Config, list[Problem]]:
    """Return the settings and all that is wrong with them, without building the application."""
    settings, found = config.read(overrides)
    return settings, [*found, *security.problems(settings), *security_txt.problems(settings)]


def settings(overrides: Mapping[str, object]) -> Config:
    """Return settings that defeat no protection; raise Refusal, naming every problem, otherwise."""
    values, found = examine(overrides)
    if found:
        raise Refusal(found)
    return values
