"""The project's commands work on a project that refuses to start, and show no key."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from app import commands, config
from tests.production import KEY, VARIABLES
from tests.servers import copy, run


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a fresh clone of this project: everything but its .env, and no word about proxies."""
    root = copy(tmp_path / "clone")
    shutil.rmtree(root / "deploy", ignore_errors=True)
    return root


def test_check_finds_nothing_in_a_safe_project(clone: Path) -> None:
    status, said = run("flask", "check", variables=VARIABLES, root=clone)
    assert (status, said.splitlines()[0]) == (0, "Nothing found: every protection is on.")


def test_check_says_what_is_worth_knowing(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "ROOT", clone)
    result = CliRunner().invoke(commands.check, env={**VARIABLES, "APP_PROXY_HOPS": "0"})
    assert result.exit_code == 0
    assert "[proxy-none]" in result.output
    assert "no defence against slow clients" in result.output
    assert "no http port" in result.output


def test_check_names_everything_that_is_wrong(clone: Path) -> None:
    wrong = {"SECRET_KEY": "dev", "APP_PROXY_HOPS": "9"}
    status, output = run("flask", "check", variables={**VARIABLES, **wrong}, root=clone)
    assert status == 1
    assert "[secret-key-published]" in output
    assert "[proxy-hops]" in output
    assert "2 found" in output
    assert "Traceback" not in output


def test_a_fresh_clone_is_told_what_to_type_and_typing_it_helps(clone: Path) -> None:
    variables = {**VARIABLES, "APP_SECRET_KEY_SOURCE": "dotenv", "SECRET_KEY": ""}
    status, output = run("flask", "check", variables=variables, root=clone)
    assert status == 1
    assert "uv run flask secret-key create" in output
    for said in ("A new SECRET_KEY is in", "has a SECRET_KEY already; it stays."):
        status, output = run("flask", "secret-key", "create", variables=variables, root=clone)
        assert status == 0
        assert said in output
    key = (clone / ".env").read_text().partition("SECRET_KEY=")[2].strip()
    assert len(key) == 64
    assert key not in output


def test_a_strangers_dotenv_above_the_clone_changes_nothing(clone: Path) -> None:
    (clone.parent / ".env").write_text(f"SECRET_KEY={KEY}\nAPP_PROXY_HOPS=9\n")
    variables = {**VARIABLES, "SECRET_KEY": "", "APP_PROXY_HOPS": ""}
    del variables["SECRET_KEY"], variables["APP_PROXY_HOPS"]
    status, output = run("flask", "check", variables=variables, root=clone)
    assert status == 1
    assert "[secret-key-missing]" in output
    assert KEY not in output
