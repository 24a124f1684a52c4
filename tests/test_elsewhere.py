"""What Windows and macOS would say to a checkout and to a project, as far as rules can tell.

The repository's workflow runs the tests there.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest
import yaml  # type: ignore[import-untyped]  # cookiecutter's own

from hooks.pre_gen_project import DEVICES
from tests.checkout import CHOICES, CLEAN, ROOT, tracked
from tests.conftest import LONG_S, Project, said_by
from tests.test_first_minutes import commands, uv_cache

LONGEST = 260  # characters of a path on Windows, unless somebody allows more
LONGEST_HOME = len(r"C:\Users\a-name-of-20-letters\Documents\projects") + len("a" * 50)
PLATFORMS = ("x86_64-pc-windows-msvc", "x86_64-apple-darwin", "aarch64-apple-darwin")


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
    paths = [*tracked(), *(project.path / name for name in project.files())]
    texts = [path for path in paths if path.suffix != ".png"]
    assert [path for path in texts if b"\r" in path.read_bytes()] == []
    for root in (ROOT, project.path):  # git on Windows would end them otherwise
        assert "* text=auto eol=lf" in (root / ".gitattributes").read_text().splitlines()


# -- What is typed


def in_powershell(command: str) -> Iterator[str]:
    """Yield a line of a POSIX shell as lines for PowerShell, which knows no && before 7."""
    for part in command.split(" && "):
        part = re.sub(r"^export PATH=\"(.*):\$PATH\"$", r'$env:PATH = "\1;$env:PATH"', part)
        part = re.sub(r"^python3\b", "py", part)
        # Windows overwrites no program that runs.
        part = re.sub(r"/pip (.*--upgrade pip)$", r"/python -m pip \1", part)
        part = re.sub(r"^~", "& $HOME", part).replace("~", "$HOME")
        yield re.sub(r"\S*\.venv\S*", lambda path: path[0].replace("/", "\\"), part).replace(
            r"\bin", r"\Scripts"
        )


def typed_in_powershell(readme: Path) -> list[str]:
    """Return the lines of a README for PowerShell, in order."""
    blocks = re.findall(r"```powershell\n(.*?)```", readme.read_text("utf-8"), re.DOTALL)
    return "".join(blocks).splitlines()


def test_windows_is_told_the_same_commands(bake: Callable[..., Project]) -> None:
    for readme in (ROOT / "README.md", bake().path / "README.md"):
        # What makes a project; how the template is tested, the workflow types.
        posix = [line for line in commands(readme) if ".venv" in line and "nox" not in line]
        assert posix
        same = [line for command in posix for line in in_powershell(command)]
        assert typed_in_powershell(readme) == same


def test_the_workflow_types_them_on_windows(bake: Callable[..., Project]) -> None:
    steps = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"]
    (step,) = [step for step in steps["elsewhere"]["steps"] if step.get("shell") == "powershell"]
    make = typed_in_powershell(ROOT / "README.md")[:3]
    run = typed_in_powershell(bake().path / "README.md")[3:]
    served = r".venv\Scripts\flask run --debug"  # goes on until somebody ends it
    expected = [*make, r"cd ..\my-secure-app", *(line for line in run if line != served)]
    assert step["run"].splitlines() == expected


# -- What is installed


@pytest.mark.windows
@pytest.mark.parametrize("python", ["3.11", "3.14"])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_everything_can_be_installed(
    bake: Callable[..., Project], platform: str, python: str
) -> None:
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--only-binary", ":all:"]
    command += ["--python-platform", platform, "--python-version", python]
    for answers in ({}, {"proxy": "caddy", "login": "oidc"}):
        pyproject = bake(**answers).path / "pyproject.toml"
        groups = [f"{pyproject}:{name}" for name in ("dev", "live", "scan")]
        groups += [f"{ROOT / 'pyproject.toml'}:{name}" for name in ("lint", "test", "types")]
        named = [option for group in groups for option in ("--group", group)]
        said_by(*command, *named, str(pyproject), cwd=ROOT, env={**os.environ, **uv_cache()})


# -- What is run

LIKE = ("--platform", "win32", "--python-version", "3.14")  # the newest is not on every machine


@pytest.mark.windows
@pytest.mark.parametrize("login", CHOICES["login"])
def test_types_of_windows_do_not_object(bake: Callable[..., Project], login: str) -> None:
    bake(login=login).run("mypy", "--strict", *LIKE, ".")


@pytest.mark.windows
def test_types_of_windows_do_not_object_to_the_template() -> None:
    judged = ("hooks", "scripts", "tests", "noxfile.py")
    # These fork, are a terminal, or need Debian's server; others import them.
    linux = "scripts/session|tests/(mut|reader|soak|test_(commands|first_minutes|postgresql))"
    mypy = [sys.executable, "-m", "mypy", *LIKE, "--cache-dir", "/dev/null"]
    mypy += ["--follow-imports", "silent", "--exclude", linux]
    subprocess.run([*mypy, *judged], cwd=ROOT, check=True)


# Every process of Python's begins with it.
WINDOWS = """\
import sys
sys.modules["gunicorn"] = None
"""


@pytest.mark.windows
@pytest.mark.parametrize("login", CHOICES["login"])
def test_a_project_is_tested_without_what_windows_lacks(
    bake: Callable[..., Project], tmp_path: Path, login: str
) -> None:
    baked = bake(login=login)
    link = tmp_path / "link"
    link.symlink_to(baked.path)  # macOS has one in every path below /tmp
    (baked.path / "sitecustomize.py").write_text(WINDOWS)
    without = ("cacheprovider", "cookies", "hypothesispytest", "xdist")
    suite = [sys.executable, "-m", "pytest", "-q", "-ra", *(f"-pno:{name}" for name in without)]
    suite += [f"--ignore=tests/live/test_{name}.py" for name in ("oidc", "store")]  # ask platform
    ascii_alone = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # nor UTF-8
    env = {**CLEAN, "PYTHONPATH": str(link), **ascii_alone}
    summary = said_by(*suite, cwd=link, env=env, timeout_s=3 * LONG_S)
    assert "gunicorn does not exist on Windows" in summary
    assert re.search(r"\d+ passed", summary.splitlines()[-1])


# A network of its own, whose loopback has one address, as on macOS.
ONE_ADDRESS = """\
ip link set lo up
ip address add 127.0.0.1/32 dev lo
ip address delete 127.0.0.1/8 dev lo
exec "$@"
"""
APART = ("unshare", "--map-root-user", "--net", "sh", "-ec", ONE_ADDRESS, "sh")


@pytest.mark.windows
@pytest.mark.parametrize("proxy", ["nginx", "cdn-nginx"])
def test_a_project_is_attacked_where_loopback_has_one_address(
    bake: Callable[..., Project], proxy: str
) -> None:
    if not shutil.which("ip") or subprocess.run([*APART, "true"], check=False).returncode:
        pytest.skip("needs Linux, iproute2 and a network of its own")
    project = bake(proxy=proxy, login="none").path
    without = [f"-pno:{name}" for name in ("cacheprovider", "cookies", "hypothesispytest", "xdist")]
    attack = [sys.executable, "-m", "pytest", "-q", "-ra", *without, "tests/live"]
    attack += [f"--ignore=tests/live/test_{name}.py" for name in ("browser", "development")]
    said = said_by(*APART, *attack, cwd=project, env={**os.environ, "PYTHONPATH": str(project)})
    assert {
        "nginx": "needs all of 127.0.0.0/8, which Linux has",
        "cdn-nginx": "sudo ifconfig lo0 alias 127.1.0.1",
    }[proxy] in said


def texts_of_no_encoding(source: Path) -> Iterator[str]:
    """Yield where a path's text is read or written; ruff does not know that it is a path's."""
    place = {"read_text": 0, "write_text": 1}  # of the encoding
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        match node:
            case ast.Call(ast.Attribute(attr=verb), args, keywords) if verb in place:
                if len(args) <= place[verb] and "encoding" not in {word.arg for word in keywords}:
                    yield f"{source}:{node.lineno}"


def test_every_file_is_opened_with_an_encoding(bake: Callable[..., Project]) -> None:
    project = bake()
    rule = ("--preview", "--select", "PLW1514", "--ignore-noqa")
    project.run("ruff", "check", *rule, "app", "gunicorn.conf.py")
    ruff = [sys.executable, "-m", "ruff", "check", *rule, "hooks"]
    subprocess.run(ruff, cwd=ROOT, check=True)
    sources = [*project.path.rglob("app/**/*.py"), *ROOT.glob("hooks/*.py")]
    assert len(sources) > 2
    assert [place for source in sources for place in texts_of_no_encoding(source)] == []
