"""Find everything that defeats a protection: at every start, and when `flask check` asks."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from flask import Config

from . import config, security, security_txt
from .problem import Problem, Refusal

# What parts of the application find in the settings, beyond the protections.
_PARTS: list[Callable[[Config], Iterator[Problem]]] = [security_txt.problems]


def add(
    settings: Mapping[str, object],
    secrets: Iterable[str],
    problems: Callable[[Config], Iterator[Problem]],
) -> None:
    """Let a part of the application have settings and secrets; call it where it is imported.

    `settings` maps names to the values that hold when nobody sets them, `secrets` are names,
    `problems` yields what is wrong with a configuration, before anything is built.
    """
    config.SETTINGS.update(settings)
    config.SECRETS.update(secrets)
    _PARTS.append(problems)


def examine(overrides: Mapping[str, object]) -> tuple[Config, list[Problem]]:
    """Return the settings and all that is wrong with them, without building the application."""
    settings, found = config.read(overrides)
    found += security.problems(settings)
    for problems in _PARTS:
        found += problems(settings)
    return settings, found


def settings(overrides: Mapping[str, object]) -> Config:
    """Return settings that defeat no protection; raise Refusal, naming every problem, otherwise."""
    values, found = examine(overrides)
    if wrong := [problem for problem in found if problem.stops]:
        raise Refusal(wrong)
    return values


def files(root: Path) -> Iterator[Problem]:
    """Yield what is wrong with the project's files; a start does not look at them."""
    dotenv = root / ".env"
    if os.name == "posix" and dotenv.exists() and dotenv.stat().st_mode & 0o077:
        yield Problem(
            "dotenv-readable",
            ".env can be read by others on this machine.",
            "Type: chmod 600 .env",
        )
    if _tracked(root, ".env"):
        yield Problem(
            "dotenv-tracked",
            ".env is tracked by git: whoever has the repository has the key.",
            "Type: git rm --cached .env; then, for the key is out: "
            "uv run flask secret-key rotate --compromised",
        )


def _tracked(root: Path, name: str) -> bool:
    git = shutil.which("git")
    if not git:
        return False
    listed = subprocess.run(  # noqa: S603  our own words, no shell
        [git, "ls-files", "--", name], cwd=root, capture_output=True, text=True, check=False
    )
    return bool(listed.stdout)
