"""A stranger's first hour: README's commands and docs/first-hour.md, in an empty HOME."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.checkout import CHOICES, CLEAN
from tests.conftest import LONG_S, Project, said_by

WHOLE_SUITE_S = 1_200  # a bound for a busy machine


def commands(readme: Path) -> list[str]:
    """Return the command lines of a README, in order."""
    blocks = re.findall(r"```console\n(.*?)```", readme.read_text(), re.DOTALL)
    return "".join(blocks).splitlines()


def uv_cache() -> dict[str, str]:
    """Return where uv keeps packages on this machine: they need not come twice."""
    if not shutil.which("uv"):
        return {}
    said = subprocess.run(
        ["uv", "cache", "dir"],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    )
    return {"UV_CACHE_DIR": said.stdout.strip()}


class Typed(NamedTuple):
    """A command of docs/first-hour.md, and what it says is printed."""

    command: str
    shown: str

    def is_printed(self, said: str) -> bool:
        """Return whether somebody called Ada would see it, "…" being anything on a line or lines.

        Blanks at the end of a line and empty lines around the whole are nobody's to see.
        """
        said = "\n".join(line.rstrip() for line in said.splitlines()).strip("\n")
        lines = [
            "(.*\n)*?" if line == "…" else f"{re.escape(line).replace('…', '.+')}\n"
            for line in self.shown.splitlines()
        ]
        return re.fullmatch("".join(lines), f"{said}\n" if said else "") is not None


def first_hour(page: Path) -> list[Typed]:
    """Return what the page types, in order."""
    blocks = "".join(re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL))
    first, *steps = re.split(r"^\$ ", blocks, flags=re.MULTILINE)
    assert not first
    return [Typed(*step.split("\n", 1)) for step in steps]


class Terminal:
    """A shell that is typed into, one command after another."""

    def __init__(self, stranger: "Stranger", where: Path, shown: Path) -> None:
        self._shown, self._read = shown, 0
        with shown.open("wb") as stdout:
            self._shell = subprocess.Popen(
                ["bash"],  # noqa: S607
                cwd=where,
                env=stranger.variables,
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def types(self, step: Typed, *, runs_on: bool = False) -> str:
        """Type a command and return what it printed: at its end, or when all of it is there."""
        assert self._shell.stdin
        self._shell.stdin.write(f"{step.command}\nprintf '\\nended %s\\n' $?\n".encode())
        self._shell.stdin.flush()
        deadline = time.monotonic() + LONG_S
        while True:
            text = self._shown.read_text("utf-8", "replace")[self._read :]
            said, ended, _ = text.partition("\nended ")
            if ended or (runs_on and step.is_printed(text)):
                break
            assert time.monotonic() < deadline, text
            time.sleep(0.1)
        assert runs_on or text.endswith("\nended 0\n"), text
        self._read += len(text)
        return said

    def close(self) -> None:
        """End the shell and all that it began, as a window that is closed does."""
        assert sys.platform != "win32"
        os.killpg(self._shell.pid, signal.SIGTERM)
        self._shell.communicate(timeout=60)
        deadline = time.monotonic() + 60
        with suppress(ProcessLookupError):  # the last of them is gone
            while time.monotonic() < deadline:
                os.killpg(self._shell.pid, 0)
                time.sleep(0.1)


class Stranger:
    """Someone with a shell, Python and an empty HOME."""

    def __init__(self, home: Path) -> None:
        left_out = ("VIRTUAL_ENV", "UV_", "PYTHON", "NOX_", "RUFF_")
        variables = {name: value for name, value in CLEAN.items() if not name.startswith(left_out)}
        # The interpreter of a virtual environment is not what a fresh machine has.
        path = os.pathsep.join(
            part
            for part in CLEAN["PATH"].split(os.pathsep)
            if not (Path(part).parent / "pyvenv.cfg").exists()
        )
        self.variables = {**variables, **uv_cache(), "HOME": str(home), "PATH": path}

    def types(self, command: str, where: Path, timeout_s: float = LONG_S) -> str:
        """Run a command line to its end; return what it printed, or fail with it."""
        line = ("bash", "-c", command)
        return said_by(*line, cwd=where, env=self.variables, timeout_s=timeout_s)

    @contextmanager
    def serves(self, command: str, where: Path, url: str) -> Iterator[str]:
        """Leave a command line running and yield the page it serves; then end it."""
        server = subprocess.Popen(
            ["bash", "-c", command],  # noqa: S607
            cwd=where,
            env=self.variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + LONG_S
            while True:
                try:
                    with urlopen(url, timeout=10) as page:  # noqa: S310  ours, on loopback
                        yield page.read().decode()
                    break
                except URLError:
                    assert server.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.2)
        finally:
            if sys.platform != "win32":
                os.killpg(server.pid, signal.SIGTERM)  # SIGINT may be ignored where this runs
            server.wait(30)


def last_words(said: str) -> list[str]:
    """Return the three commands with which the hook ends."""
    lines = said.rstrip().splitlines()[-4:]
    assert lines[0] == ""
    return [line.strip() for line in lines[1:]]


def told_as_the_page_says(stranger: Stranger, here: Path, typed: set[str]) -> str:
    """Type docs/first-hour.md, a second terminal once the first is busy; return the hook's words.

    Where the terminal and the page differ, or a command fails, the test does.
    """
    home = here.parent
    terminals = [Terminal(stranger, here, home / "first")]
    copied, told = "", ""
    try:
        for step in first_hour(here / "docs" / "first-hour.md"):
            runs_on = "tests.live.stack" in step.command
            command = step.command.replace("/tmp/stack-…", copied)  # noqa: S108
            assert "…" not in command
            said = terminals[-1].types(step._replace(command=command), runs_on=runs_on)
            shown = said.replace(str(home), "/home/ada")
            assert step.is_printed(shown), f"$ {command}\n{shown}"
            typed.add(step.command)
            if runs_on:
                copied = str(Path(json.loads(said)["ca"]).parent)
                terminals.append(Terminal(stranger, home, home / "second"))
            if "is ready" in said:
                told = said
    finally:
        for terminal in terminals:
            terminal.close()
    assert copied
    return told


def serves_its_page(stranger: Stranger, run: str, where: Path) -> None:
    """See that a command line serves the page, on a port that nobody has."""
    with socket.socket() as probe:  # somebody else may sit on 5000
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with stranger.serves(f"{run} --port {port}", where, f"http://localhost:{port}") as page:
        assert "<h1>My Secure App</h1>" in page


@pytest.mark.skipif(os.name != "posix" or not shutil.which("curl"), reason="needs bash and curl")
def test_the_first_hour_and_what_the_hook_says_next(
    checkout: Path,
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    typed: set[str],
) -> None:
    here = shutil.copytree(checkout, tmp_path / "home" / checkout.name)
    stranger = Stranger(here.parent)
    go, run, test = last_words(told_as_the_page_says(stranger, here, typed))
    project = here.parent / "my-secure-app"
    install, *named = commands(project / "README.md")
    assert named[:2] == [run, test]
    stranger.types(install, project)
    serves_its_page(stranger, f"{install} && {go} && {run}", here.parent)
    # Without what the page has brought for the production shape: who follows the hook has none.
    attack = f"{install} && {go} && uv sync --quiet && {test} -q"
    summary = stranger.types(attack, here.parent, WHOLE_SUITE_S).splitlines()[-1]
    assert re.search(r"\d+ passed", summary)
    assert "failed" not in summary
    typed |= {install, run, test}
    # What the generated CI and an editor would say, without the optional group.
    stranger.types(f"{install} && uv run ruff check . && uv run mypy --strict .", project)


@pytest.mark.removal  # a minute each, for other pages and tables
@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
@pytest.mark.parametrize("login", CHOICES["login"][1:])
def test_what_the_hook_says_next_works_for_every_login(
    bake: Callable[..., Project], tmp_path: Path, login: str
) -> None:
    project = bake(login=login)
    stranger = Stranger(tmp_path)
    go, run, test = last_words(project.said)
    install, *_ = commands(project.path / "README.md")
    stranger.types(install, tmp_path)
    serves_its_page(stranger, f"{install} && {go} && {run}", tmp_path)
    stranger.types(f"{install} && {go} && {test} -q tests/test_development.py", tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_from_the_readme_to_a_page_without_uv(
    checkout: Path, tmp_path: Path, typed: set[str]
) -> None:
    here = shutil.copytree(checkout, tmp_path / "somewhere" / "checkout")
    home = tmp_path / "home"
    home.mkdir()
    stranger = Stranger(home)
    make, *_ = commands(here / "README.md")
    assert "my-secure-app is ready" in stranger.types(make, here)
    project = here.parent / "my-secure-app"
    *_, run, test = commands(project / "README.md")[:5]
    serves_its_page(stranger, run, project)
    assert " passed" in stranger.types(f"{test} -q tests/test_development.py", project)
    typed |= {make, run, test}
