"""The hooks as functions: what they refuse, remove, ignore and say, to the letter.

nox -s mutants asks these tests about each small mistake in a hook, so they make no project.
"""

import io
import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hooks import post_gen_project, pre_gen_project
from hooks.post_gen_project import NEW_PROJECT
from tests.checkout import CHOICES
from tests.combinations import ALWAYS
from tests.test_answers import GOOD

Which = Callable[[str], str | None]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty directory, in which the hooks run."""
    directory = tmp_path / "ada's shop"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


def having(*programs: str) -> Which:
    """Return shutil.which of a machine that has these programs alone."""
    return lambda name: f"/bin/{name}" if name in programs else None


# -- What is removed


@pytest.mark.parametrize("path", list(itertools.chain(*post_gen_project.RULED_OUT.values())))
def test_what_an_answer_rules_out_is_a_file_of_the_template(path: str) -> None:
    assert path in ALWAYS


@pytest.mark.parametrize(("question", "answer"), post_gen_project.RULED_OUT)
def test_what_rules_files_out_can_be_answered(question: str, answer: str) -> None:
    assert answer in CHOICES[question]


def test_a_directory_goes_with_its_last_file(here: Path) -> None:
    (here / "deploy" / "deep").mkdir(parents=True)
    for name in ("deploy/deep/one", "deploy/deep/two", "three", "four"):
        (here / name).touch()
    post_gen_project.remove("deploy/deep/one")
    assert (here / "deploy" / "deep" / "two").exists()
    post_gen_project.remove("deploy/deep/two")
    assert sorted(path.name for path in here.iterdir()) == ["four", "three"]
    post_gen_project.remove("three")
    assert [path.name for path in here.iterdir()] == ["four"]


# -- What git ignores


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, ".env*\n!.env.example\n"),
        ("", ".env*\n!.env.example\n"),
        ("*.pyc", "*.pyc\n.env*\n!.env.example\n"),
        ("*.pyc\n", "*.pyc\n.env*\n!.env.example\n"),
        ("!.env.example\n", "!.env.example\n.env*\n"),
        (".env*\n!.env.example", ".env*\n!.env.example"),
    ],
)
@pytest.mark.usefixtures("here")
def test_secrets_are_ignored_whatever_was_there(before: str | None, after: str) -> None:
    if before is not None:
        Path(".gitignore").write_text(before)
    post_gen_project.ignore_secrets()
    assert Path(".gitignore").read_text() == after


# -- What is said


def test_a_shell_reads_the_directory_that_the_hook_names() -> None:
    quoted = post_gen_project.quoted
    assert quoted("/home/ada/it's here", "linux") == "'/home/ada/it'\"'\"'s here'"
    assert quoted(r"C:\Users\Ada L\app", "win32") == r'"C:\Users\Ada L\app"'


def test_what_cannot_be_encoded_is_said_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(said, encoding="ascii"))
    post_gen_project.say("Ürün is ready")
    sys.stdout.flush()
    assert said.getvalue().split() == [b"\\xdcr\\xfcn", b"is", b"ready"]


READY = "\nada-s-shop is ready; its secret key is in .env, and only there.\n"
HERE_BEFORE = """\
It was here before, so nothing was removed. Your answers rule out:
  deploy/nginx.conf
  deploy/Caddyfile
"""
NO_UV = "uv is not installed: README.md begins with the line that does it.\n"
NEXT = """
Run it, open http://localhost:5000, end it with Ctrl-C, and attack it:

  cd {directory}
  uv run flask run --debug
  uv run pytest

"""


@pytest.mark.parametrize("has_uv", [True, False])
@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("has_too_much", [True, False])
def test_a_project_is_finished_and_that_is_said(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    is_new: bool,
    has_too_much: bool,
    has_uv: bool,
) -> None:
    monkeypatch.setattr(shutil, "which", having("uv") if has_uv else having())
    (here / "app").mkdir()
    (here / "app" / "env_file.py").write_text(
        "from pathlib import Path\n"
        "def create(): Path('.env').write_text(Path('.gitignore').read_text())\n"
    )
    edges = ["deploy/Caddyfile", "deploy/nginx.conf"] if has_too_much else []
    for name in (*([NEW_PROJECT] if is_new else []), *edges, "Procfile"):
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).touch()
    answers = {"project_slug": "ada-s-shop", "proxy": "load-balancer", "login": "password"}
    post_gen_project.main(answers)
    assert (here / ".env").read_text() == ".env*\n!.env.example\n"  # it was ignored before
    files = [path.relative_to(here).as_posix() for path in here.rglob("*") if path.is_file()]
    kept = [] if is_new else edges
    assert sorted(files) == sorted([".env", ".gitignore", "Procfile", "app/env_file.py", *kept])
    expected = [READY, HERE_BEFORE if kept else "", "" if has_uv else NO_UV]
    expected += [NEXT.format(directory=post_gen_project.quoted(str(here)))]
    assert capsys.readouterr().out == "".join(expected)


# -- What is refused


def test_an_empty_directory_is_marked_as_new(here: Path) -> None:
    pre_gen_project.main(GOOD)
    assert [path.name for path in here.iterdir()] == [NEW_PROJECT]
    assert (here / NEW_PROJECT).read_bytes() == b""


def test_a_directory_with_a_file_is_not(here: Path) -> None:
    (here / "mine").touch()
    pre_gen_project.main(GOOD)
    assert [path.name for path in here.iterdir()] == ["mine"]


def test_every_bad_answer_is_in_the_refusal(here: Path) -> None:
    bad = {**GOOD, "domain": "x" * 200, "login": 5}
    with pytest.raises(SystemExit) as refusal:
        pre_gen_project.main(bad)
    assert str(refusal.value) == (
        f"\nNo project was made:\n\n- domain: '{'x' * 76}... cannot be used. "
        "Give a host in lower case, without scheme, port, path or blank, such as: app.example.com\n"
        "- login: 5 cannot be used. Give one of these: password, oidc, none\n"
    )
    assert list(here.iterdir()) == []


def test_as_much_is_shown_of_an_answer_as_stands_in_a_line() -> None:
    (whole,) = pre_gen_project.problems({**GOOD, "login": "x" * 78})
    assert whole.startswith(f"login: '{'x' * 78}' cannot be used. ")
    (cut,) = pre_gen_project.problems({**GOOD, "login": "x" * 79})
    assert cut.startswith(f"login: '{'x' * 76}... cannot be used. ")


AGAIN = """
No answer has to be given twice: change these in

  {file}

and type

  {command}

cookiecutter now shows a traceback, which says nothing more.
"""


@pytest.fixture
def answers(here: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Return answers that cookiecutter has kept in a replay file, with what it adds to them."""
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(here))
    answers: dict[str, object] = {**GOOD, "_template": "gh:org/secure flask", "_checkout": None}
    answers |= {"_repo_dir": "/tmp/x/secure-flask", "_output_dir": "/srv/apps"}  # noqa: S108
    replay = here / ".cookiecutter_replay" / "secure-flask.json"
    replay.parent.mkdir()
    replay.write_text(json.dumps({"cookiecutter": answers}))
    return answers


@pytest.mark.parametrize("checkout", [None, "2026.11.23"])
@pytest.mark.parametrize("is_on_path", [True, False])
def test_a_refusal_names_the_kept_answers_and_the_command_that_goes_on(
    answers: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
    *,
    checkout: str | None,
    is_on_path: bool,
) -> None:
    monkeypatch.setattr(shutil, "which", having("cookiecutter") if is_on_path else having())
    monkeypatch.setattr(sys, "executable", "/my python")
    command = "cookiecutter" if is_on_path else "'/my python' -m cookiecutter"
    command += " 'gh:org/secure flask' --replay"
    command += f" --checkout {checkout}" if checkout else ""
    file = os.path.join(os.environ["HOME"], ".cookiecutter_replay", "secure-flask.json")
    said = pre_gen_project.again({**answers, "_checkout": checkout})
    expected = AGAIN.format(file=file, command=f"{command} --output-dir /srv/apps")
    assert said.replace(os.sep, "/") == expected.replace(os.sep, "/")


def test_a_refusal_ends_with_that(here: Path, answers: dict[str, object]) -> None:
    (replay,) = here.rglob("*.json")
    bad = {**answers, "domain": "no host"}
    replay.write_text(json.dumps({"cookiecutter": bad}))
    with pytest.raises(SystemExit) as refusal:
        pre_gen_project.main(bad)
    assert str(refusal.value).endswith(f"app.example.com\n{pre_gen_project.again(bad)}")
    assert str(replay) in str(refusal.value)


@pytest.mark.parametrize("text", ["{}", '{"cookiecutter": []}', "", "\0", None])
def test_nothing_is_said_of_answers_that_were_not_kept(
    here: Path, answers: dict[str, object], text: str | None
) -> None:
    (replay,) = here.rglob("*.json")
    assert pre_gen_project.again({**answers, "domain": "other.example"}) == ""
    assert pre_gen_project.again(answers)
    if text is None:
        replay.unlink()
    else:
        replay.write_text(text)
    assert pre_gen_project.again(answers) == ""
