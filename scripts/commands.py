"""Write docs/commands.md from tests/commands.toml: the commands of the pages that no test types.

    python scripts/commands.py

tests/test_commands.py sees that every command of every document stands in that table.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
TABLE, PAGE = ROOT / "tests" / "commands.toml", ROOT / "docs" / "commands.md"

INTRODUCTION = """\
# Commands that no test types

A command of a page, here or in a generated project, is typed by a test, or stands below.
`tests/commands.toml` is the source of this page; `python scripts/commands.py` writes it.
"""

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELLS = ("console", "sh", "bash", "powershell")
# What a command of two words or more begins with; a word alone names a program.
PROGRAMS = frozenset(
    "apt-get aws bash cd chmod chown cookiecutter cp cruft curl dig docker export find flask git "
    "gunicorn head mkdir mv mypy newman nox npm npx openssl perl pip pre-commit psql pytest python "
    "python3 rm ruff sh sqlite3 ssh sudo systemctl umask uv uvx".split()
)


def read(text: str) -> dict[str, dict[str, list[str]]]:
    """Return the commands of a table: those that tests type, and the others, by test and reason."""
    return {
        kind: {name: lines.strip("\n").split("\n") for name, lines in groups.items()}
        for kind, groups in tomllib.loads(text).items()
    }


def plain(line: str) -> str:
    """Return a command as the table has it: without `uv run`, and without what is answered."""
    return re.sub(r"^uv run (?!-)", "", re.sub(r" # \d{3}\b.*$", "", line)).strip()


def commands(markdown: str) -> Iterator[str]:
    """Yield each command of a page: the lines of its blocks for a shell, and those in its text."""
    for kind, text in BLOCK.findall(markdown):
        if kind in SHELLS:
            # Where a prompt stands before what is typed, the other lines are printed.
            lines = re.findall(r"^\$ (.+)$", text, re.MULTILINE) or text.splitlines()
            yield from (plain(line) for line in lines if line.strip())
    for span in re.findall(r"`([^`\n]+)`", BLOCK.sub("", markdown)):
        program, *words = re.sub(r"^(?:[A-Z_]+=\S* )+", "", span).split() or [""]
        if words and program in PROGRAMS:
            yield plain(span)


def page(table: dict[str, dict[str, list[str]]]) -> str:
    """Return docs/commands.md as the table has it."""
    parts = [INTRODUCTION]
    for reason, lines in table["not typed"].items():
        listed = "\n".join(f"- `{line}`" for line in lines)
        parts.append(f"\n## {reason}\n\n{listed}\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(read(TABLE.read_text("utf-8"))), "utf-8")
