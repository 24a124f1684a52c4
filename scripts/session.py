"""Draw docs/pictures/session.svg: a project is made, attacked and set up wrongly, in a terminal.

    PATH=~/.venvs/cookiecutter/bin:~/.venvs/uv/bin:$PATH python3 scripts/session.py

It types the lines in a terminal of its own, in an empty HOME, and draws what that shows.
What differs each time is left out: how long the tests took, and what uv installs at first.
A test types the same, and sees that the picture has the words that are printed now.
"""

import fcntl
import html
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "pictures" / "session.svg"
TEMPLATE = "cookiecutter-secure-flask"

COLUMNS, ROWS = 92, 50
MAKE = f"cookiecutter {TEMPLATE}"
ANSWERS = ["Lamps", *[""] * 8, "2", "", ""]
THEN = (
    "uv run pytest -q tests/security/test_csrf.py",
    "uv run flask check",
    "APP_TRUSTED_HOSTS= uv run flask check",
)
# From a line that begins like this up to one that begins like that: told by a sign alone.
LEFT_OUT = (("  [3/12]", "  [10/12]"), ("  [11/12]", ""))

QUESTION = re.compile(rb"\)(\x1b\[0m)?: $")
STYLE = re.compile(r"\x1b\[([\d;]*)m")
OTHER = re.compile(r"\x1b\[[\d;?]*[A-Za-ln-z]|\r")
TOOK = re.compile(r" in \d+\.\d+s\b")

# No stranger has these, and some decide about colours.
OURS = ("APP_", "CI", "FLASK_", "FORCE_COLOR", "NO_COLOR", "PY", "SECRET_KEY", "VIRTUAL_ENV")

CHARACTER, LINE, EDGE = 7.8, 19, 16  # pixels
CLASSES = {"1": "b", "2": "q", "31": "r", "32": "g", "33": "y", "35": "m", "36": "c"}
CSS = """\
rect { fill: #f6f8fa; stroke: #d1d9e0 }
text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #1f2328 }
.b { font-weight: 600 } .q { fill: #59636e } .r { fill: #d1242f } .g { fill: #1a7f37 }
.y { fill: #9a6700 } .m { fill: #8250df } .c { fill: #0969da } .t { font-weight: 600 }
@media (prefers-color-scheme: dark) {
  rect { fill: #151b23; stroke: #3d444d } text { fill: #f0f6fc } .q { fill: #9198a1 }
  .r { fill: #f85149 } .g { fill: #3fb950 } .y { fill: #d29922 } .m { fill: #ab7df8 }
  .c { fill: #4493f8 }
}
"""
DESCRIPTION = (
    "Cookiecutter asks twelve questions and makes a project; its own attacks are run and pass; "
    "flask check finds nothing, then refuses an empty list of hosts."
)


def typed(command: str, answers: Iterable[str], where: Path, env: Mapping[str, str]) -> str:
    """Type a command in a terminal, and an answer after each question; return what it shows."""
    waiting = list(answers)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    shell = subprocess.Popen(  # noqa: S603  our own words
        ["bash", "-c", command],  # noqa: S607
        cwd=where,
        env={**env, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LC_ALL": "C.UTF-8"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    with open(ours, "r+b", buffering=0) as terminal:
        while True:
            try:
                some = terminal.read(65_536)
            except OSError:  # how Linux says that nobody writes any more
                break
            if not some:
                break
            shown += some
            if waiting and QUESTION.search(shown):
                terminal.write(f"{waiting.pop(0)}\n".encode())
    shell.wait()
    return shown.decode()


def session(checkout: Path, home: Path, env: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of the session, with their colours, in an empty directory that is HOME."""
    left_out = shutil.ignore_patterns(".git", ".nox", ".*_cache", "__pycache__")
    shutil.copytree(checkout, home / TEMPLATE, ignore=left_out)
    env = {**env, "HOME": str(home)}
    project = home / ANSWERS[0].lower()

    def shown(command: str, answers: Iterable[str], where: Path) -> Iterator[str]:
        yield f"$ {command}"
        text = OTHER.sub("", typed(command, answers, where, env))
        yield from TOOK.sub("", text.replace(str(home), "/home/ada")).rstrip().split("\n")

    yield from _without(shown(MAKE, ANSWERS, home))
    yield from ("", f"$ cd {project.name}")
    subprocess.run(["uv", "run", "flask", "--version"], cwd=project, env=env, check=True)  # noqa: S607
    for command in THEN:
        yield from shown(command, (), project)


def _without(lines: Iterable[str]) -> Iterator[str]:
    """Leave out what LEFT_OUT names."""
    pairs, until = list(LEFT_OUT), None
    for line in lines:
        plain = STYLE.sub("", line)
        if until is not None and not (plain.startswith(until) if until else not plain):
            continue
        until = None
        if pairs and plain.startswith(pairs[0][0]):
            _, until = pairs.pop(0)
            yield "  \u22ee"
        else:
            yield line


def words(lines: Iterable[str]) -> list[str]:
    """Return the words of a session, without colours and wherever lines end."""
    return " ".join(STYLE.sub("", line) for line in lines).split()


def told_by(picture: str) -> list[str]:
    """Return the words that a picture shows."""
    texts = re.findall(r"<text[^>]*>(.*?)</text>", picture)
    return html.unescape(" ".join(re.sub(r"<[^>]+>", "", text) for text in texts)).split()


def svg(lines: Iterable[str]) -> str:
    """Return the picture of a session: it brings its background, so that any page may show it."""
    rows = [row for line in lines for row in _rows(line)]
    width, height = round(COLUMNS * CHARACTER) + 2 * EDGE, len(rows) * LINE + 2 * EDGE
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'aria-labelledby="title desc">',
        '<title id="title">The first minute with cookiecutter-secure-flask</title>',
        f'<desc id="desc">{DESCRIPTION}</desc>',
        f"<style>\n{CSS}</style>",
        f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
    ]
    for number, row in enumerate(rows):
        if parts := "".join(_part(text, style) for text, style in row):
            length = sum(len(text) for text, _ in row) * CHARACTER
            baseline = EDGE + number * LINE + 14
            drawn.append(
                f'<text x="{EDGE}" y="{baseline}" textLength="{length:.1f}" '
                f'xml:space="preserve">{parts}</text>'
            )
    return "\n".join([*drawn, "</svg>", ""])


def _rows(line: str) -> list[list[tuple[str, str]]]:
    """Return a line's texts and their classes, cut where the terminal's edge is."""
    rows: list[list[tuple[str, str]]] = [[]]
    style, left = "", COLUMNS
    if line.startswith("$ "):
        return [[(line, "t")]]
    for number, text in enumerate(STYLE.split(line)):
        if number % 2:
            codes = text.split(";")
            style = " ".join(CLASSES[code] for code in codes if code in CLASSES)
            continue
        while len(text) > left:
            rows[-1].append((text[:left], style))
            text, left = text[left:], COLUMNS
            rows.append([])
        if text:
            rows[-1].append((text, style))
            left -= len(text)
    return rows


def _part(text: str, style: str) -> str:
    escaped = html.escape(text, quote=False)
    return f'<tspan class="{style}">{escaped}</tspan>' if style else escaped


def main() -> None:
    """Type the session and write the picture."""
    with tempfile.TemporaryDirectory() as directory:
        env = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        PICTURE.write_text(svg(session(ROOT, Path(directory), env)), "utf-8")
    sys.stdout.write(f"{PICTURE}\n")


if __name__ == "__main__":
    main()
