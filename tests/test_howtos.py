"""The how-tos, followed to the letter in a fresh project, which still passes."""

import json
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import pytest

from tests.checkout import CHOICES, CLEAN, ROOT
from tests.conftest import Project, said_by
from tests.reader import Reader
from tests.test_mistakes import free_port

HOWTOS = ("page", "endpoint", "assets")
ADDED = ("tests/test_feedback.py", "tests/test_quotes.py", "tests/test_gallery.py")
MEETS = (
    "tests/test_code.py",
    "tests/test_wire.py",
    "tests/test_pages.py",
    "tests/security/test_csrf.py::test_what_is_exempt_reads_no_session",
    "tests/security/test_rate_limits.py::test_every_endpoint_is_limited_or_named_as_free",
    "tests/login/test_sessions.py::test_what_is_not_named_as_public_is_for_the_signed_in",
)
PLAIN = (
    "-p",
    "no:cacheprovider",
    "-p",
    "no:xdist",
    "-p",
    "no:cookies",
    "-p",
    "no:hypothesispytest",
)

BLOCK = re.compile(r"(?:^([^\n`]*)`([^`\n]+)`([^\n]*)\n\n)?^```(\w+)\n(.*?)^```$", re.M | re.S)

# What a browser makes of it: a front end elsewhere, and the script with its nonce.
IN_A_BROWSER = """
from pathlib import Path

from tests.production import FRONT_END, HOST, ORIGIN

def test_a_browser_does_what_the_howtos_promise(page, gunicorn):
    images = '{"img-src": ["https://images.example.com"]}'
    with gunicorn(HOST, APP_CSP_EXTRA=images, APP_RATELIMIT_STRICT="3 per minute"):
        page.goto(FRONT_END)
        script = Path("../quote.js").read_text()
        tried = "[3, 0, 1, 1].map((number) => () => quote(number).catch((error) => error.message))"
        loop = "const all = []; for (const one of " + tried + ") all.push(await one()); return all;"
        told = page.evaluate("async () => {" + script + loop + "}")
        assert told[0] == "29.70"
        assert told[1].startswith("quantity: give a whole number")
        assert told[2] == "9.90"
        assert told[3].startswith("Ask again in ")
        page.goto(ORIGIN + "/gallery")
        page.locator("#hide").click()
        assert page.locator("#cat").is_hidden()
"""


class Step(NamedTuple):
    """One block of a how-to, with the file that the sentence before it names first."""

    said: str
    path: str
    kind: str
    text: str


def steps(markdown: str) -> Iterator[Step]:
    """Yield what a how-to says to do, in its order; a block without a file is about the last."""
    path = said = ""
    for before, name, after, kind, text in BLOCK.findall(markdown):
        if name:
            path, said = name, before + after
        yield Step(said, path, kind, text)


def edited(text: str, diff: str) -> str:
    """Return a text with one place changed; fail if that is not exactly one."""
    lines = diff.splitlines(keepends=True)
    assert {line[:1] for line in lines} <= {" ", "+", "-", "\n"}
    before = "".join(line[1:] or line for line in lines if line[0] != "+")
    after = "".join(line[1:] or line for line in lines if line[0] != "-")
    assert f"\n{text}".count(f"\n{before}") == 1, f"{before!r} is not in it, or twice"
    return f"\n{text}".replace(f"\n{before}", f"\n{after}")[1:]


def replaces(step: Step) -> bool:
    """Return whether a sentence says that a file is another one from now on."""
    return " instead of " in step.said


def follow(root: Path, markdown: str) -> Iterator[str]:
    """Do what a how-to says in a project; yield the commands for the caller to run."""
    for step in steps(markdown):
        path = root / step.path
        if step.kind == "console":
            yield from step.text.splitlines()
        elif step.said.startswith("In the front end"):
            (root.parent / step.path).write_text(step.text)
        elif step.said.startswith("Where people sign in") and not path.exists():
            continue
        elif step.kind == "diff":
            path.write_text(edited(path.read_text(), step.text))
        elif "to the end of" in step.said:
            path.write_text(path.read_text() + "\n" + step.text)
        else:
            if not replaces(step):
                assert not path.exists(), f"{step.path} is there already"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(step.text)


def done(project: Project, *names: str) -> list[str]:
    """Follow how-tos in a project; return the commands that they end with, each once."""
    commands: dict[str, None] = {}
    for name in names:
        text = (project.path / "docs" / "howto" / f"{name}.md").read_text()
        commands |= dict.fromkeys(follow(project.path, text))
    return list(commands)


def test_all_of_them_leave_a_project_that_passes(
    bake: Callable[..., Project], tmp_path_factory: pytest.TempPathFactory, typed: set[str]
) -> None:
    project = bake()
    commands = done(project, *HOWTOS)
    caches = {"MYPY_CACHE_DIR": str(tmp_path_factory.getbasetemp().parent / "mypy")}
    assert "uv run pytest" in commands
    for command in commands:
        typed.add(command)
        program, *words = command.removeprefix("uv run ").split()
        if program == "pytest":
            words = ["-q", *PLAIN, *MEETS, *ADDED]
            # For a browser, after the judges of Python: this is no file of theirs.
            (project.path / "tests/live/test_howtos.py").write_text(IN_A_BROWSER)
            words += ["tests/live/test_howtos.py"]
        said = project.run(program, *words, **caches)
        if words == ["check"]:
            assert said.startswith("Nothing found: every protection is on.\n")
    for spends in ("for feedback", "for quotes"):
        assert spends in said


@pytest.mark.removal  # a whole suite for each
@pytest.mark.parametrize("login", CHOICES["login"][::2])
@pytest.mark.parametrize("name", HOWTOS)
def test_each_leaves_a_project_whose_whole_suite_passes(
    bake: Callable[..., Project], name: str, login: str
) -> None:
    project = bake(login=login)
    for command in done(project, name):
        program, *words = command.removeprefix("uv run ").split()
        plain = ["-q", *PLAIN, "--ignore=tests/live"] if program == "pytest" else []
        project.run(program, *words, *plain)


# -- An app that was there before

EXISTING = ROOT / "docs" / "existing-app.md"
USED_BEFORE = """
from shop import app
answer = app.test_client().post("/api/stock", json={"article": "tea"}, base_url="https://x.example")
print(answer.status_code, answer.get_json())
"""


def installed(shop: Path, place: Path) -> None:
    """Let flask find the shop's commands, as an install does, in the place of our projects'."""
    declared = tomllib.loads((shop / "pyproject.toml").read_text())["project"]["entry-points"]
    lines = [f"{name} = {where}" for name, where in declared["flask.commands"].items()]
    ours = {
        command.dist.name
        for command in entry_points(group="flask.commands")
        if command.dist and command.value.startswith("app.")
    }
    for name in ours | {"shop"}:
        metadata = place / f"{name.replace('-', '_')}-9.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9\n")
        (metadata / "entry_points.txt").write_text("\n".join(["[flask.commands]", *lines, ""]))


@pytest.mark.skipif(os.name != "posix", reason="needs links and a POSIX shell")
def test_an_existing_app_is_attacked_as_a_new_one_is(
    checkout: Path, tmp_path: Path, typed: set[str]
) -> None:
    shop = tmp_path / "shop"
    (tmp_path / checkout.name).symlink_to(checkout)
    before, after = EXISTING.read_text().split("\n## Take it over\n")
    assert list(follow(shop, before)) == []
    page = said_by(sys.executable, "-c", USED_BEFORE, cwd=shop, env={**CLEAN, "SECRET_KEY": "dev"})
    assert page.endswith("200 {'article': 'tea', 'left': 7}\n")  # from anywhere, with any key
    config = tmp_path / "cookiecutter.json"
    config.write_text(json.dumps({"replay_dir": str(tmp_path), "cookiecutters_dir": str(tmp_path)}))
    here = {
        **CLEAN,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), CLEAN["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "installed"), str(shop)]),
        "COOKIECUTTER_CONFIG": str(config),
    }
    said = ""
    for command in follow(shop, after):
        typed.add(command)
        if command.startswith("uv run "):
            if not (tmp_path / "installed").exists():
                installed(shop, tmp_path / "installed")
            words = command.removeprefix("uv run ").split()
            words += ["-q", *PLAIN] if words == ["pytest"] else []
            said = said_by(sys.executable, "-m", *words, cwd=shop, env=here)
            if words == ["flask", "check"]:
                assert said.startswith("Nothing found: every protection is on.\n")
            if words[-1] == "limits":
                assert "/order " in said
        else:
            said_by("bash", "-ec", command, cwd=shop, env=here)
    develop, serve = re.findall(r"`(uv run (?:flask [^`]* run .*?|gunicorn))`", after)
    reader, port = Reader(shop, tmp_path, typed), free_port()
    reader.variables |= {**here, "PATH": reader.variables["PATH"], "APP_BIND": f"127.0.0.1:{port}"}
    healthy = f"http://127.0.0.1:{port}/healthz"
    for command, *more in ((develop, f"--no-reload --port {port}"), (serve,)):
        with (
            reader.leaves(command, *more, log=tmp_path / "log", url=healthy),
            urlopen(healthy, timeout=10) as answer,
        ):
            assert json.load(answer) == {"status": "ok"}
    (passed,) = re.findall(r"^(\d+) passed in", said, re.MULTILINE)
    assert int(passed) > 500
    assert said_by("git", "-C", str(shop), "init", "-q", cwd=shop, env=here) == ""
    assert ".env\n" not in said_by(
        "git", "ls-files", "-o", "--exclude-standard", cwd=shop, env=here
    )
