"""What CI runs and what you run: lint, types, tests; the others by themselves."""

import json
import os
import sys
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2026.10.20"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.download_python = "never"  # an interpreter that is not here is skipped, and said

TEMPLATE = "{{cookiecutter.project_slug}}"
# What runs inside the unbaked template leaves nothing there: it would be baked.
CLEAN = {"PYTHONDONTWRITEBYTECODE": "1", "RUFF_NO_CACHE": "true"}
# What takes minutes has a session of its own.
EVERY_RUN = "not removal and not answers and not postgresql and not windows"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")  # as the documents promise: 3.11 or later


@nox.session
def lint(session: nox.Session) -> None:
    """Format and lint the repository, and the template as it lies there."""
    session.install("--group", "lint")
    for directory in (".", TEMPLATE):
        with session.chdir(directory):
            session.run("ruff", "format", "--check", ".", env=CLEAN)
            session.run("ruff", "check", ".", env=CLEAN)


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the repository; those of projects are judged baked."""
    install_with_a_project(session, "types", "test", "mutants")
    cache = {**CLEAN, "MYPY_CACHE_DIR": str(Path(session.create_tmp()).absolute() / "mypy")}
    session.run("mypy", env=cache)


@nox.session
def tests(session: nox.Session) -> None:
    """Bake projects of every kind, judge them, and let them attack themselves."""
    install_with_a_project(session, "test")
    variables = {**outside(session), **packages(session)}
    session.run("pytest", "-m", EVERY_RUN, *session.posargs, env=variables)


@nox.session(python=PYTHONS)
def pythons(session: nox.Session) -> None:
    """Run the tests with every Python that is promised and on this machine."""
    tests(session)


@nox.session(venv_backend="uv")  # pip knows no lowest
@nox.parametrize("end", ["lowest", "highest"])
def ranges(session: nox.Session, end: str) -> None:
    """Run the tests with the lowest, or the highest, version of all that is depended on."""
    install_with_a_project(session, "test", end=end)
    variables = {**outside(session), **packages(session)}
    session.run("pytest", "-m", EVERY_RUN, *session.posargs, env=variables)


@nox.session
def windows(session: nox.Session) -> None:
    """Judge by the types and the packages of other systems, without what Windows lacks."""
    install_with_a_project(session, "types", "test")
    session.install("uv")  # knows what could be installed there
    session.run("pytest", "-m", "windows", *session.posargs, env=outside(session))


@nox.session
def removals(session: nox.Session) -> None:
    """Take every protection out once and see its attack get through."""
    install_with_a_project(session, "test")
    variables = {**outside(session), **packages(session)}
    session.run("pytest", "-m", "removal", *session.posargs, env=variables)


@nox.session
def matrix(session: nox.Session) -> None:
    """Judge every combination of answers: nox -s matrix, or nox -s matrix -- -k caddy."""
    install_with_a_project(session, "test")
    variables = {**outside(session), **packages(session)}
    session.run("python", "-m", "tests.matrix", *session.posargs, env=variables)


@nox.session
def mutants(session: nox.Session) -> None:
    """Make every small mistake once and see a test notice; nox -s mutants -- -k csrf for some."""
    install_with_a_project(session, "test", "mutants")
    path = {"PYTHONPATH": str(Path(TEMPLATE).absolute())}
    session.run("python", "-m", "tests.mutants", *session.posargs, env={**outside(session), **path})


@nox.session
def answers(session: nox.Session) -> None:
    """Make projects of thousands of answer sets, other ones each time, or see them refused."""
    install_with_a_project(session, "test")
    session.run("pytest", "-m", "answers", *session.posargs, env=outside(session))


@nox.session
def pictures(session: nox.Session) -> None:
    """Take pictures of the pages, in light and dark, for docs/pictures/."""
    install_with_a_project(session, "test")
    session.install("pillow>=13.0.0,<14")
    project = str(Path(session.create_tmp()).absolute() / "shared")
    session.run("python", "-m", "scripts.pictures", project, env=outside(session))


@nox.session
def postgresql(session: nox.Session) -> None:
    """Two workers and PostgreSQL: a throw-away server of Debian's runs the log-in's tests."""
    install_with_postgresql(session)
    session.run("pytest", "-m", "postgresql", "-n", "0", *session.posargs, env=outside(session))


@nox.session
def soak(session: nox.Session) -> None:
    """Load, faults and bad bytes for an hour: nox -s soak, or nox -s soak -- --minutes 5."""
    install_with_postgresql(session)
    path = {**outside(session), **CLEAN, "PYTHONPATH": str(Path(TEMPLATE).absolute())}
    session.run("python", "-m", "tests.soak", *session.posargs, env=path)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure: nox -s bench -- request; without a name, say what can be measured."""
    names = sorted({path.stem for path in Path("bench").glob("*.py")} - {"measure"})
    if not session.posargs:
        session.skip(f"name one of {', '.join(names)}: nox -s bench -- request")
    install_with_a_project(session, "test")
    session.install("pip")  # fetches a peer
    name, *options = session.posargs
    path = {**CLEAN, "PYTHONPATH": str(Path(TEMPLATE).absolute())}
    path["TMPDIR"] = tempfile.gettempdir()  # elsewhere, git would say that it is in the checkout
    session.run("python", f"bench/{name}.py", *options, env=path)


def outside(session: nox.Session) -> dict[str, str]:
    """Return variables that keep what tools write for later out of the template."""
    return {
        "RUFF_NO_CACHE": "true",
        # Compiled once for all the processes that the tests start, wherever the sources lie.
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(Path(session.create_tmp()).absolute() / "bytecode"),
        **({"PYTHONUTF8": "1"} if sys.platform == "win32" else {}),  # for the tests' own reading
        # Ruff judges nothing that lies in a directory called .nox, where nox puts TMPDIR.
        "TMPDIR": tempfile.gettempdir(),
    }


def install_with_a_project(session: nox.Session, *groups: str, end: str = "") -> None:
    """Install the groups and what a generated project needs: one environment for all bakes."""
    session.install("cookiecutter")
    output = Path(session.create_tmp()).absolute()
    settings = output / "cookiecutter.json"  # not the developer's own, and no replay in $HOME
    settings.write_text(json.dumps({"replay_dir": str(output), "cookiecutters_dir": str(output)}))
    arguments = ["--no-input", "--overwrite-if-exists", "--config-file", str(settings)]
    arguments += ["--output-dir", str(output), ".", "project_slug=shared"]
    session.run("cookiecutter", *arguments, silent=True)
    project = output / "shared"
    groups += tuple(f"{project}/pyproject.toml:{group}" for group in ("dev", "live"))
    named = [option for group in groups for option in ("--group", group)]
    named += ["--editable", str(project)]  # for its flask commands
    if end:
        named += ["--upgrade", "--resolution", {"lowest": "lowest-direct"}.get(end, end)]
    session.install(*named)


def install_with_postgresql(session: nox.Session) -> None:
    """Install for the tests and a driver; skip where there is no server, but never in CI."""
    if not any(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        missing = session.error if os.environ.get("CI") else session.skip
        missing("needs PostgreSQL: apt-get install postgresql")
    install_with_a_project(session, "test")
    session.install("psycopg[binary]>=3.3.9,<4")


def packages(session: nox.Session) -> dict[str, str]:
    """Install an OpenID provider and newman with the wheel's npm; return what tells where."""
    directory = str(Path(session.create_tmp()).absolute())
    options = ["--prefix", directory, "--no-save", "--no-package-lock", "--ignore-scripts"]
    options += ["--fetch-retries", "1", "--fetch-timeout", "20000"]  # ms
    # Without npm's network their tests are skipped, with the reason; .ci/run lets none be skipped.
    names = ("oidc-provider@9", "newman@6")
    session.run("npm", "install", *options, *names, silent=True, success_codes=(0, 1))
    return {"NODE_PACKAGES": directory}
