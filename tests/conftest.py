"""Bakes: in process, from what git tracks, with answers that the template asks for."""

import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from scripts import commands
from tests.checkout import ANSWERS, CHOICES, CLEAN, ROOT, tracked

LONG_S = 300


def said_by(*command: str, cwd: Path, env: Mapping[str, str], timeout_s: float = LONG_S) -> str:
    """Run a command to its end; return what it printed, or fail with it."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


class Project(NamedTuple):
    """A baked project, or the refusal to bake one."""

    path: Path
    status: int
    said: str

    def run(self, *command: str, **variables: str) -> str:
        """Run a Python module's command in the project; return its output, or fail with it."""
        # Here, unlike in the template, bytecode may be left: the next command needs it.
        clean = {name: CLEAN[name] for name in CLEAN if name != "PYTHONDONTWRITEBYTECODE"}
        env = {**clean, "PYTHONPATH": str(self.path), **variables}
        return said_by(sys.executable, "-m", *command, cwd=self.path, env=env)

    def files(self) -> set[str]:
        """Return every file of the project, as paths with slashes."""
        paths = (path for path in self.path.rglob("*") if path.is_file())
        return {path.relative_to(self.path).as_posix() for path in paths}


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of what a user gets from git."""
    copy = tmp_path_factory.mktemp("checkout") / "cookiecutter-secure-flask"
    for path in tracked():
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    return copy


class CommandLine:
    """The cookiecutter command, in a HOME of its own."""

    def __init__(self, checkout: Path, home: Path) -> None:
        self.checkout, self.home = checkout, home
        self.project = home / "my-secure-app"

    def __call__(
        self,
        *options: str,
        template: str = "",
        where: Path | None = None,
        status: int = 0,
        answers: Mapping[str, str] = {},
    ) -> str:
        """Run it, in HOME unless told otherwise; return all that it printed."""
        given = [f"{question}={answer}" for question, answer in answers.items()]
        done = subprocess.run(
            [sys.executable, "-m", "cookiecutter", *options, template or self.checkout, *given],
            cwd=where or self.home,
            env={**CLEAN, "HOME": str(self.home), "USERPROFILE": str(self.home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout


@pytest.fixture
def command_line(checkout: Path, tmp_path: Path) -> CommandLine:
    """Return the command line of somebody whose HOME is empty."""
    return CommandLine(checkout, tmp_path)


@pytest.fixture
def bake(
    cookies: Any,  # noqa: ANN401  pytest-cookies has no types
    checkout: Path,
    capfd: pytest.CaptureFixture[str],
) -> Callable[..., Project]:
    """Return a function that makes a project from answers, or says why there is none."""

    def make(**answers: str) -> Project:
        unknown = set(answers) - set(ANSWERS)
        assert not unknown, f"the template does not ask for {unknown}"
        capfd.readouterr()
        result = cookies.bake(extra_context=answers, template=str(checkout))
        said = "".join(capfd.readouterr())
        return Project(result.project_path, result.exit_code, said)

    return make


@pytest.fixture
def typed(request: pytest.FixtureRequest) -> Iterator[set[str]]:
    """Yield a set for the commands that a test types: all that the table has under its name."""
    typed: set[str] = set()
    failed = request.session.testsfailed
    yield typed
    if request.session.testsfailed > failed:
        return  # before it came to the rest
    _, _, name = request.node.nodeid.rpartition("/")
    promised = commands.read(commands.TABLE.read_text("utf-8"))["typed"].get(name, [])
    assert set(promised) <= set(map(commands.plain, typed))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what became of answer sets, and which combinations were left out."""
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    counts = [dict(report.user_properties).get("answer sets", {}) for report in reports]
    refused, made = (sum(count.get(name, 0) for count in counts) for name in ("refused", "made"))
    if refused + made:
        terminalreporter.write_line(
            f"{refused + made} answer sets were tried: {refused} were refused in sentences, with "
            f"no file on disk, {made} made projects that parse and start."
        )
    names = {report.nodeid for report in reports if "passes_every_judge" in report.nodeid}
    if names:
        every = math.prod(map(len, CHOICES.values()))
        terminalreporter.write_line(
            f"{len(names)} of {every} combinations of answers were judged, in which every two "
            f"answers meet; nox -s matrix judges the other {every - len(names)} too."
        )


HEAVY = re.compile("first_hour|without_uv|production_shape|at_a_provider|every_judge.*(oidc|none)")
WORKERS = 3  # as in pyproject.toml: each begins with its share of the items, in their order


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let every worker begin with what takes minutes, so that none is left with it at the end."""
    heavy = [item for item in items if HEAVY.search(item.name)]
    light = [item for item in items if item not in set(heavy)]
    shares = [heavy[n::WORKERS] + light[n::WORKERS] for n in range(WORKERS)]
    items[:] = [item for share in shares for item in share]
