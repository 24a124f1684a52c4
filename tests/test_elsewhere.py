"""What Windows and macOS would say to a checkout and to a project, as far as rules can tell here.

The repository's workflow runs the tests there.
"""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from hooks.pre_gen_project import DEVICES
from tests.checkout import CHOICES, ROOT, tracked
from tests.conftest import Project

LONGEST = 260  # characters of a path on Windows, unless somebody allows more
LONGEST_HOME = len(r"C:\Users\a-name-of-20-letters\Documents\projects") + len("a" * 50)


def names() -> list[PurePosixPath]:
    """Return every tracked file, as it is in the repository."""
    return [PurePosixPath(path.relative_to(ROOT).as_posix()) for path in tracked()]


def test_every_name_can_be_checked_out_everywhere() -> None:
    folded = [str(name).casefold() for name in names()]
    assert len(set(folded)) == len(folded)  # Windows and macOS know one of README and readme
    for name in names():
        for part in name.parts:
            assert part.isascii(), name  # macOS writes an é as two
            assert not re.search(r'[<>:"\\|?*\x00-\x1f]|[. ]$', part), name
            assert not DEVICES.fullmatch(part.partition(".")[0].lower()), name
        below = len(str(name).removeprefix("{{cookiecutter.project_slug}}"))
        assert LONGEST_HOME + below < LONGEST, name


def test_nothing_depends_on_a_mode_or_a_link() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--stage"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    modes = {line.split("\t")[1]: line.split()[0] for line in listed.stdout.splitlines()}
    assert {name for name, mode in modes.items() if mode != "100644"} == {".ci/run"}


@pytest.mark.parametrize("login", CHOICES["login"])
def test_every_line_ends_as_on_linux(bake: Callable[..., Project], login: str) -> None:
    project = bake(login=login)
    texts = [*tracked(), *(project.path / name for name in project.files())]
    assert [path for path in texts if b"\r" in path.read_bytes()] == []
    for root in (ROOT, project.path):  # git on Windows would end them otherwise
        assert "* text=auto eol=lf" in (root / ".gitattributes").read_text().splitlines()


@pytest.mark.windows
@pytest.mark.parametrize("login", CHOICES["login"])
def test_types_of_windows_do_not_object(bake: Callable[..., Project], login: str) -> None:
    bake(login=login).run("mypy", "--strict", "--platform", "win32", ".")


@pytest.mark.windows
def test_types_of_windows_do_not_object_to_the_template() -> None:
    judged = ("hooks", "scripts", "tests", "noxfile.py")
    mypy = [sys.executable, "-m", "mypy", "--platform", "win32", "--cache-dir", "/dev/null"]
    subprocess.run([*mypy, *judged], cwd=ROOT, check=True)


@pytest.mark.windows
@pytest.mark.parametrize("login", CHOICES["login"])
def test_a_project_is_tested_without_what_windows_lacks(
    bake: Callable[..., Project], tmp_path: Path, login: str
) -> None:
    ours = tmp_path / "windows.py"  # loaded before the tests
    ours.write_text("import sys\nsys.modules['gunicorn'] = None\n")
    project = bake(login=login)
    paths = f"{project.path}:{tmp_path}"
    without = ("cacheprovider", "cookies", "hypothesispytest", "xdist")
    options = ("-q", "-ra", "-pwindows", *(f"-pno:{name}" for name in without))
    ascii_alone = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # nor UTF-8
    summary = project.run("pytest", *options, PYTHONPATH=paths, **ascii_alone)
    assert "gunicorn does not exist on Windows" in summary
    assert re.search(r"\d+ passed", summary.splitlines()[-1])


def test_every_file_is_opened_with_an_encoding(bake: Callable[..., Project]) -> None:
    project = bake()
    rule = ("--preview", "--select", "PLW1514", "--ignore-noqa")
    project.run("ruff", "check", *rule, "app", "gunicorn.conf.py")
    ruff = [sys.executable, "-m", "ruff", "check", *rule, "hooks"]
    subprocess.run(ruff, cwd=ROOT, check=True)
