"""The how-tos, followed to the letter in a fresh project, which still passes."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import CHOICES, Project

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
    bake: Callable[..., Project], tmp_path_factory: pytest.TempPathFactory
) -> None:
    project = bake()
    commands = done(project, *HOWTOS)
    caches = {"MYPY_CACHE_DIR": str(tmp_path_factory.getbasetemp().parent / "mypy")}
    assert "uv run pytest" in commands
    for command in commands:
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
