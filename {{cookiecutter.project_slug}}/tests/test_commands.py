"""The project's commands work on a project that refuses to start, and show no key."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app import commands, config
from app.outside import probes
from app.outside.mistakes import MISTAKES
from app.outside.seen import Seen
from tests.production import KEY, VARIABLES
from tests.servers import copy, free_port, run


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


def looks(monkeypatch: pytest.MonkeyPatch, *options: str, rows: list[Seen] | None = None) -> Result:
    """Run `flask check --url`; `rows` is what is seen there, without them it is really looked."""
    if rows is not None:
        monkeypatch.setattr(probes, "look", lambda *_: iter(rows))
    return CliRunner().invoke(commands.check, ["--url", *options], env=VARIABLES)


def test_check_shows_what_a_deployment_answers_and_what_was_promised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = Seen("GET /", "200", "200")
    wrong = Seen("allowances of two visitors", "two", "one", "hops-wrong")
    url = "https://app.example.com"
    shown = looks(monkeypatch, url, rows=[good])
    assert (shown.exit_code, "All 1 answers are as promised." in shown.output) == (0, True)
    shown = looks(monkeypatch, url, rows=[good, wrong])
    assert shown.exit_code == 1
    assert "WRONG allowances of two visitors" in shown.output
    assert f"[hops-wrong] {MISTAKES['hops-wrong']}" in shown.output
    listed = looks(monkeypatch, url, "--format", "json", rows=[good, wrong])
    assert [row["mistake"] for row in json.loads(listed.output)] == [None, "hops-wrong"]


def test_a_deployment_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = looks(monkeypatch, f"https://127.0.0.1:{free_port()}")
    assert shown.exit_code == 1
    assert "[unanswered]" in shown.output


@pytest.mark.parametrize(
    "options",
    [
        ("http://app.example.com",),
        ("https://staging..example.com",),
        ("https://127.0.0.1:80a",),
        ("https://127.0.0.1:0",),
        ("https://[::1",),
        ("https://127.0.0.1/path",),
        ("https://127.0.0.1", "--http-url", "127.0.0.1:8080"),
        ("https://127.0.0.1", "--http-url", "http://127.0.0.1:80a"),
        ("https://127.0.0.1", "--format", "sarif"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(
    monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    shown = looks(monkeypatch, *options, rows=[])
    assert shown.exit_code == 2
    assert "is not like http" in shown.output or "--format" in shown.output


def test_a_deployment_is_not_compared_with_what_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(VARIABLES, "APP_RATELIMIT_DEFAULT", "lots")
    shown = looks(monkeypatch, "https://127.0.0.1", rows=[])
    assert (shown.exit_code, "[rate-limit-unreadable]" in shown.output) == (1, True)
