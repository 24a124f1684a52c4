"""Find everything that defeats a protection: at every start, and when `flask check` asks."""

import os
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from flask import Config, Flask

from . import config, security, security_txt
from .problem import Problem, Refusal
from .security import csrf

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
    if wrong := [problem for problem in found if problem.level == "error"]:
        raise Refusal(wrong)
    return values


def everything(root: Path) -> tuple[Config, list[Problem]]:
    """Return the settings and all that is wrong with them, with the files and with what is there.

    That is more than a start looks at. Nothing is built, and no database or server is asked.
    """
    settings, found = examine({})
    found += processes(settings, os.environ.get("WEB_CONCURRENCY") or "1")
    found += files(root)
    found += topology(root, settings["PROXY_HOPS"])
    found += dependencies(root)
    if os.environ.get("WERKZEUG_DEBUG_PIN") == "off":
        found.append(
            Problem(
                "debug-pin-off",
                "WERKZEUG_DEBUG_PIN is off: the debugger asks nobody who they are.",
                "Unset it; look in .flaskenv too.",
                level="warning",
            )
        )
    return settings, found


def processes(settings: Mapping[str, object], count: str) -> Iterator[Problem]:
    """Yield a number of processes that is none, or that divides the limits."""
    if not count.isdecimal() or int(count) < 1:
        yield Problem(
            "workers-unreadable",
            f"WEB_CONCURRENCY is {count!r}, which is no number of processes.",
            "A whole number from 1: WEB_CONCURRENCY=2",
        )
    elif int(count) > 1 and str(settings["RATELIMIT_STORAGE_URI"]).startswith("memory:"):
        yield Problem(
            "rate-limit-store-per-process",
            f"There are {count} processes, and limits in memory:// count per process.",
            "Leave WEB_CONCURRENCY and --workers out, or count in one place: "
            "APP_RATELIMIT_STORAGE_URI=redis://10.0.0.5:6379",
        )


def files(root: Path) -> Iterator[Problem]:
    """Yield what is wrong with the file that holds secrets."""
    dotenv = root / ".env"
    if os.name == "posix" and dotenv.exists() and dotenv.stat().st_mode & 0o077:
        yield Problem(
            "dotenv-readable",
            ".env can be read by others on this machine.",
            "Type: chmod 600 .env",
            level="warning",
        )
    if _tracked(root, ".env"):
        yield Problem(
            "dotenv-tracked",
            ".env is tracked by git: whoever has the repository has the key.",
            "Type: git rm --cached .env; then, for the key is out: "
            "uv run flask secret-key rotate --compromised",
            level="warning",
        )


def topology(root: Path, hops: int) -> Iterator[Problem]:
    """Yield a number of proxies that is not the one that deploy/ makes."""
    deploy = root / "deploy"
    if (deploy / "nginx.conf").exists() or (deploy / "Caddyfile").exists():
        behind_cdn = (deploy / "cdn-networks.conf").exists()
        made = 2 if behind_cdn else 1
        if hops != made:
            proxies = "a CDN and the proxy" if behind_cdn else "one proxy"
            yield Problem(
                "proxy-hops-topology",
                f"PROXY_HOPS is {hops}, and deploy/ is made for {proxies}: {made}.",
                "docs/proxy.md says how to count. If more stand in front, silence this with "
                "their names as the reason.",
                level="warning",
            )


def dependencies(root: Path) -> Iterator[Problem]:
    """Yield installed packages that are older than pyproject.toml asks for (ASVS 15.2.1)."""
    from packaging.requirements import Requirement  # `flask check` alone has use for it

    path = root / "pyproject.toml"
    if not path.exists():  # as in an image, where the lock file has decided
        return
    wanted = tomllib.loads(path.read_text(encoding="utf-8"))["project"]["dependencies"]
    for requirement in map(Requirement, wanted):
        if requirement.marker and not requirement.marker.evaluate():
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            installed = "not installed"
        else:
            if requirement.specifier.contains(installed, prereleases=True):
                continue
        yield Problem(
            "dependency-version",
            f"pyproject.toml asks for {requirement.name} {requirement.specifier}: {installed}.",
            "Type: uv sync",
            level="warning",
        )


def exemptions(app: Flask) -> Iterator[Problem]:
    """Yield views that were taken out of the CSRF checks without a reason beside them."""
    for endpoint in csrf.unexplained(app):
        yield Problem(
            "csrf-exempt",
            f"{endpoint} is exempt from the CSRF token, and nobody says why.",
            "Take the exemption away, or give the reason: "
            '@csrf.exempt("…") of app/security/csrf.py',
            level="warning",
        )


def _tracked(root: Path, name: str) -> bool:
    git = shutil.which("git")
    if not git:
        return False
    listed = subprocess.run(  # noqa: S603  our own words, no shell
        [git, "ls-files", "--", name], cwd=root, capture_output=True, text=True, check=False
    )
    return bool(listed.stdout)
