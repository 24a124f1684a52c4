"""What a project's own suite costs, and what the matrix adds to the bake and the judges' commands.

nox -s bench -- suite

CPU time in one environment for all; `start` is the judge, since the others do the same and longer.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import measure
from tests.production import KEY

ROUNDS = 7
NAME = "memory-nginx-dotenv-none"
ANSWERS = dict(
    zip(("rate_limit_storage", "proxy", "secret_key_source", "login"), NAME.split("-"), strict=True)
)
STARTS = "import app; assert app.create_app().test_client().get('/healthz').status_code == 200"


def judged(directory: Path) -> float:
    """Let the matrix bake and judge the combination; return the CPU time of all of it."""
    shutil.rmtree(directory / ".matrix", ignore_errors=True)  # what it has seen before
    words = ["-m", "tests.matrix", "-k", NAME, "--judges", "start", "--jobs", "1"]
    return taken(directory, directory, *words)


def by_hand(project: Path, template: str) -> float:
    """Bake and run the commands; return the CPU time."""
    shutil.rmtree(project)  # into a project that is there, nothing is removed
    before = measure.children_s()
    measure.bake(project.parent, template, **ANSWERS)
    baking = measure.children_s() - before
    (project / ".env").unlink()  # as the matrix does: it brings a key of its own
    check = ("-m", "flask", "check", "--fail-level", "warning")
    return baking + taken(project, project, *check) + taken(project, project, "-c", STARTS)


def taken(directory: Path, path: Path, *words: str) -> float:
    """Run Python to its end; return the CPU time of it and its children."""
    before = measure.children_s()
    secret = {"SECRET_KEY": KEY, "APP_SECRET_KEY_SOURCE": "environment"}
    subprocess.run(  # noqa: S603
        [sys.executable, *words],
        cwd=directory,
        env={**measure.VARIABLES, **secret, "PYTHONPATH": str(path)},
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=measure.LONG_S,
    )
    return measure.children_s() - before


def attacked(template: str, login: str) -> tuple[float, float]:
    """Let a project attack itself; return the CPU time, and how many attacks there were."""
    plugins = [f"-pno:{name}" for name in ("cacheprovider", "cookies", "hypothesispytest", "xdist")]
    words = ["-m", "pytest", "-q", *plugins, "--ignore=tests/live"]
    with measure.baked(template, login=login) as project:
        before = measure.children_s()
        done = subprocess.run(  # noqa: S603
            [sys.executable, *words],
            cwd=project,
            env={**measure.VARIABLES, "PYTHONPATH": str(project)},
            capture_output=True,
            text=True,
            check=True,
            timeout=measure.LONG_S,
        )
        (passed,) = re.findall(r"(\d+) passed", done.stdout)
        return measure.children_s() - before, float(passed)


def main() -> None:
    """Measure."""
    chosen = measure.options(__doc__).parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        measure.baked(chosen.template, **ANSWERS) as project,
    ):
        copy = Path(measure.tracked(chosen.template, Path(name) / "copy"))
        cases = {
            "bake and commands": partial(by_hand, project, str(copy)),
            "the matrix": partial(judged, copy),
        }
        for once in cases.values():
            once()
        found = {"matrix, CPU": measure.interleaved(cases, ROUNDS)}
        suites = {login: attacked(str(copy), login) for login in ("none", "password", "oidc")}
        found["suite, CPU"] = {login: spent for login, (spent, _) in suites.items()}
        found["suite, tests"] = {login: tests for login, (_, tests) in suites.items()}
    values = found["matrix, CPU"]
    measure.keep(chosen.keep, found)
    beyond = values["the matrix"] - values["bake and commands"]
    print(f"beyond the bake and the commands: {beyond:.2f} s")


if __name__ == "__main__":
    main()
