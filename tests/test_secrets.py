"""The key is in .env and nowhere else, and nothing that can be typed takes it away."""

import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dotenv import dotenv_values

from tests.checkout import CLEAN
from tests.conftest import CommandLine, Project


def key_of(project: Path) -> str:
    return dotenv_values(project / ".env")["SECRET_KEY"] or ""


def test_the_key_is_in_dotenv_alone(command_line: CommandLine) -> None:
    said = command_line("--no-input")
    key = key_of(command_line.project)
    assert len(key) == 64
    assert key not in said
    holders = [path for path in command_line.home.rglob("*") if path.is_file()]
    assert [path.name for path in holders if key in path.read_text(errors="ignore")] == [".env"]
    (replay,) = command_line.home.rglob("cookiecutter-secure-flask.json")
    assert "SECRET_KEY" not in json.dumps(json.loads(replay.read_text()))
    mode = (command_line.project / ".env").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600 or sys.platform == "win32"


def test_nothing_that_lies_where_hooks_are_run_is_run_with_them(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, trap = tmp_path / "shared", tmp_path / "trap"
    shared.mkdir()
    for name in ("collections", "ipaddress", "json", "re", "runpy", "shlex", "sys", "os"):
        (shared / f"{name}.py").write_text(f"open({str(trap)!r}, 'w')\n")
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setitem(CLEAN, name, str(shared))
    command_line("--no-input")
    assert key_of(command_line.project)
    assert not trap.exists()


def test_an_edited_dotenv_gains_only_what_is_missing(command_line: CommandLine) -> None:
    command_line.project.mkdir()
    file = command_line.project / ".env"
    file.write_text("# mine\nOTHER='1'")
    command_line("--no-input", "-f")
    assert file.read_text().startswith("# mine\nOTHER='1'\nSECRET_KEY=")
    assert len(file.read_text().splitlines()) == 3


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_git_never_sees_the_key(bake: Callable[..., Project]) -> None:
    project = bake()

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
        return subprocess.run(
            ["git", *identity, *arguments],  # noqa: S607
            cwd=project.path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    for name in (".env.local", ".env.rej", "settings.toml.rej", ".env.orig"):
        (project.path / name).write_text(key_of(project.path))
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "first")
    history = git("log", "--patch")
    assert "SECRET_KEY=\n" in history  # .env.example
    assert key_of(project.path) not in history


def test_an_update_of_the_template_does_not_see_it(bake: Callable[..., Project]) -> None:
    assert 'skip = [".env"]' in (bake().path / "pyproject.toml").read_text()
