"""Find everything that defeats a protection: at every start, and when `flask check` asks."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

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
