"""The template by path, zip or git; without its hooks; again over a project that was edited."""

import json
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from dotenv import dotenv_values

from hooks import post_gen_project as hook
from tests.checkout import CHOICES
from tests.combinations import ALWAYS, wrong_files
from tests.conftest import CommandLine, Project

DEFAULTS = {question: options[0] for question, options in CHOICES.items()}
NAME = "cookiecutter-secure-flask"
TAG = "2026.11.23"


def files(project: Path) -> set[str]:
    """Return every file of a project."""
    return Project(project, 0, "").files()


def by_zip(checkout: Path, home: Path) -> str:
    """Make an archive with one directory at its top, as GitHub's are."""
    return shutil.make_archive(str(home / "template"), "zip", checkout.parent, checkout.name)


def by_git(checkout: Path, home: Path) -> str:
    """Make a repository in which a tag is this template, and what follows is none."""
    if not shutil.which("git"):
        pytest.skip("needs git")
    repository = home / "repositories" / NAME
    shutil.copytree(checkout, repository)

    def git(*words: str) -> None:
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
        subprocess.run(["git", *identity, *words], cwd=repository, check=True)  # noqa: S607

    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "first")
    git("tag", TAG)
    git("rm", "--quiet", "cookiecutter.json")
    git("commit", "--quiet", "--message", "second")
    return f"git+{repository.as_uri()}"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (lambda checkout, _: f"../{checkout.name}", ()),
        (lambda *_: ".", ()),
        (by_zip, ()),
        (by_git, ("--checkout", TAG)),
    ],
    ids=["relative", "here", "zip", "git"],
)
def test_the_template_may_be_named_in_every_way(
    command_line: CommandLine, name: Callable[[Path, Path], str], options: tuple[str, ...]
) -> None:
    checkout, home = command_line.checkout, command_line.home
    template = name(checkout, home)
    options = ("--no-input", "--output-dir", str(home), *options)
    command_line(*options, template=template, where=checkout)
    assert wrong_files(command_line.project, DEFAULTS) == set()
    (replay,) = home.glob(".cookiecutter_replay/*")
    assert replay.name == f"{NAME}.json"  # its own name, however it came


def test_without_hooks_a_project_starts_once_it_has_a_key(command_line: CommandLine) -> None:
    command_line("--no-input", "--accept-hooks", "no")
    project = Project(command_line.project, 0, "")
    assert project.files() == ALWAYS  # those of every answer, and no key
    project.run("flask", "secret-key", "create")
    project.run("flask", "db", "upgrade")


def test_hooks_over_a_project_without_tell_what_is_too_much(command_line: CommandLine) -> None:
    command_line("--no-input", "--accept-hooks", "no")
    said = command_line("--replay", "-f")
    listed = "".join(f"  {path}\n" for path in hook.ruled_out(DEFAULTS))
    assert f"Your answers rule out:\n{listed}" in said
    assert files(command_line.project) == ALWAYS | {".env"}
    shutil.rmtree(command_line.project)
    command_line("--replay")
    assert wrong_files(command_line.project, DEFAULTS) == set()


def test_without_hooks_the_application_refuses_what_is_wrong(command_line: CommandLine) -> None:
    bad = {"domain": "https://x", "rate_limit": "often", "security_contact": "me"}
    bad |= {"allowed_origins": "*"}
    command_line("--no-input", "--accept-hooks", "no", answers=bad)
    with pytest.raises(AssertionError, match="refuses to start") as refusal:
        Project(command_line.project, 0, "").run("flask", "db", "upgrade")
    said = str(refusal.value)
    assert "SECRET_KEY is missing" in said
    assert "Type: uv run flask secret-key create" in said
    for setting in ("TRUSTED_HOSTS", "RATELIMIT_DEFAULT", "SECURITY_CONTACT", "CORS_ALLOWED_O"):
        assert f"  {setting}" in said


def test_a_project_kept_after_a_refusal_is_an_empty_directory(command_line: CommandLine) -> None:
    keep = ("--no-input", "--keep-project-on-failure")
    said = command_line(*keep, status=1, answers={"domain": "https://x"})
    assert "- domain: 'https://x' cannot be used. Give a host" in said
    assert list(command_line.project.iterdir()) == []
    command_line("--no-input", "-f")  # as if it were not there
    assert wrong_files(command_line.project, DEFAULTS) == set()


def test_a_replay_file_can_be_edited(command_line: CommandLine, tmp_path: Path) -> None:
    command_line("--no-input", answers={"project_name": "Ada's", "proxy": "caddy"})
    (replay,) = command_line.home.glob(".cookiecutter_replay/*")
    before = files(command_line.home / "ada-s")
    answers = json.loads(replay.read_text())
    answers["cookiecutter"] |= {"project_name": 'The "other"', "allowed_origins": "none"}
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps(answers))
    command_line("--replay-file", str(mine), "--output-dir", "again")
    project = command_line.home / "again" / "ada-s"
    assert files(project) == before
    settings = tomllib.loads((project / "settings.toml").read_text())
    assert settings["SITE_NAME"] == 'The "other"'
    assert settings["CORS_ALLOWED_ORIGINS"] == []


@pytest.mark.parametrize(
    "again", [("--no-input", "-f"), ("--replay", "-f"), ("--no-input", "-f", "-s")], ids=" ".join
)
def test_over_an_edited_project_nothing_is_removed(
    command_line: CommandLine, again: tuple[str, ...]
) -> None:
    command_line("--no-input")
    project, skip = command_line.project, "-s" in again
    fresh = (project / "settings.toml").read_text()
    edits = {"settings.toml": f"{fresh}# mine\n", "deploy/Caddyfile": "# mine\n"}
    own = {"app/mine.py": "MINE = True\n", ".env": f"{(project / '.env').read_text()}OTHER='1'\n"}
    for name, text in {**edits, **own}.items():
        (project / name).write_text(text)
    (project / "app/api.py").unlink()
    said = command_line(*again)
    for name, text in own.items():
        assert (project / name).read_text() == text
    for name, text in edits.items():
        assert ((project / name).read_text() == text) == skip
    assert skip or (project / "settings.toml").read_text() == fresh
    assert (project / "app/api.py").exists()
    key = dotenv_values(project / ".env")["SECRET_KEY"]
    assert key
    assert key not in said
