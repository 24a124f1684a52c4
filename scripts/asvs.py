"""Write docs/asvs.md from docs/asvs.toml: for each requirement of ASVS 5.0.0 what proves it.

    python scripts/asvs.py

What stays with the owner comes first. A test sees that the page is what this makes of the table.
"""

import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parent.parent / "docs"
TABLE, PAGE = DOCS / "asvs.toml", DOCS / "asvs.md"
LEVELS = ("L1", "L2", "L3")
CLASSES = ("A", "B", "C", "D", "E", "not offered")
CHAPTERS = {
    1: "Encoding and sanitization",
    2: "Validation and business logic",
    3: "Web frontend",
    4: "API and web service",
    5: "File handling",
    6: "Authentication",
    7: "Session management",
    8: "Authorization",
    9: "Self-contained tokens",
    10: "OAuth and OpenID Connect",
    11: "Cryptography",
    12: "Secure communication",
    13: "Configuration",
    14: "Data protection",
    15: "Secure coding and architecture",
    16: "Logging and error handling",
    17: "WebRTC",
}


class Row(NamedTuple):
    """One requirement; what its class does not need is empty."""

    id: str
    level: str
    kind: str  # one of CLASSES
    requirement: str
    option: str = ""
    module: str = ""
    tests: Sequence[str] = ()
    guard: bool = False
    document: str = ""
    reason: str = ""
    unmet: bool = False

    @property
    def place(self) -> tuple[int, ...]:
        """Return the numbers of the id, by which rows are sorted."""
        return tuple(int(number) for number in self.id.removeprefix("V").split("."))

    @property
    def number(self) -> str:
        """Return the id as it is read in a list."""
        return self.id.removeprefix("V")

    @property
    def is_promised(self) -> bool:
        """Return whether a test has to show it."""
        return self.kind in ("A", "B")


def read(text: str) -> list[Row]:
    """Return the rows of the table, in the order of ASVS; raise TypeError for an unknown key.

    TOML itself refuses an id that stands there twice.
    """
    rows = []
    for chapter, sections in tomllib.loads(text).items():
        for section, requirements in sections.items():
            for requirement, keys in requirements.items():
                tests = keys.pop("test", ())
                rows.append(
                    Row(
                        id=f"{chapter}.{section}.{requirement}",
                        kind=keys.pop("class"),
                        tests=(tests,) if isinstance(tests, str) else tuple(tests),
                        **keys,
                    )
                )
    return sorted(rows, key=lambda row: row.place)


def page(rows: Sequence[Row]) -> str:
    """Return the page: what stays with the owner, figures, documents, then every requirement."""
    return "\n".join([*_introduction(rows), *_tables(rows), ""])


def _introduction(rows: Sequence[Row]) -> Iterator[str]:
    yield "# What answers each requirement of ASVS 5.0"
    yield ""
    yield (
        "Each requirement of OWASP ASVS 5.0.0, in our own words, "
        "with what answers it in a generated project."
    )
    yield "This is no certificate: nobody but this repository's tests has verified anything."
    yield (
        "Logging in with a password alone cannot reach level 2: V6.3.3 wants a second factor, "
        "which signing in at an OpenID Connect provider can demand (`OIDC_REQUIRED_ACR`)."
    )
    yield "`docs/asvs.toml` is the source of this page; `python scripts/asvs.py` writes it."
    yield ""
    yield "## What stays with you"
    yield ""
    for chapter, of_it in _by_chapter([r for r in rows if r.kind == "D" and not r.unmet]):
        listed = "; ".join(f"{row.number} {_small(row.requirement)}" for row in of_it)
        yield f"- V{chapter} {CHAPTERS[chapter]}: {listed}."
    unmet = [row for row in rows if row.unmet]
    yield ""
    yield f"Another {len(unmet)} could be the template's to meet, and are not:"
    yield ""
    for row in unmet:
        only = f", with {row.option}" if row.option else ""
        yield f"- {row.number} ({row.level}{only}) {_small(row.requirement)}: {row.reason}."
    yield ""
    yield "## Figures"
    yield ""
    yield (
        "Proved: a test attacks, and would fail without the protection. "
        "Guarded: true of our code, and a lint keeps it true of the code that you add."
    )
    yield ""
    promised = [row for row in rows if row.is_promised]
    yield f"| requirements | {' | '.join(f'{level} proved | guarded' for level in LEVELS)} |"
    yield f"| --- {'| ---: | ---: ' * len(LEVELS)}|"
    for option in ["", *sorted({row.option for row in promised} - {""})]:
        name = f"with {option}" if option else "always"
        yield f"| {name} | {' | '.join(_figures(r for r in promised if r.option == option))} |"
    yield f"| together | {' | '.join(_figures(promised))} |"
    yield ""
    others = {
        "answered by a document": [row for row in rows if row.kind == "C"],
        "yours": [row for row in rows if row.kind == "D" and not row.unmet],
        "the template's, and not met": unmet,
        "not applicable": [row for row in rows if row.kind == "E"],
        "about what is not offered": [row for row in rows if row.kind == "not offered"],
    }
    yield "| the others | L1 | L2 | L3 |"
    yield "| --- | ---: | ---: | ---: |"
    for name, of_it in others.items():
        counts = (str(sum(row.level == level for row in of_it)) for level in LEVELS)
        yield f"| {name} | {' | '.join(counts)} |"
    yield ""
    yield "## Documents of a generated project"
    yield ""
    files: dict[str, list[str]] = {}
    for row in others["answered by a document"]:
        files.setdefault(row.document.partition("#")[0], []).append(row.number)
    for file, numbers in sorted(files.items()):
        yield f"- `{file}`: {', '.join(numbers)}"
    yield ""
    yield "## Every requirement"


def _tables(rows: Sequence[Row]) -> Iterator[str]:
    for chapter, of_it in _by_chapter(rows):
        yield ""
        yield f"### V{chapter} {CHAPTERS[chapter]}"
        yield ""
        yield "| id | level | requirement | module | test |"
        yield "| --- | --- | --- | --- | --- |"
        for row in of_it:
            module, test = _answer(row)
            cells = (row.number, row.level, row.requirement, module, test)
            yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _answer(row: Row) -> tuple[str, str]:
    """Return the module and the tests of a requirement, or what takes their place."""
    option = f" ({row.option})" if row.option else ""
    match row.kind:
        case "C":
            return f"the document{option}", f"`{row.document}`"
        case "D":
            return "yours" + option, row.reason
        case "E":
            return "not applicable", row.reason
        case "not offered":
            return "-", f"not offered{option}"
    guarded = "guard: " if row.guard else ""
    return f"`{row.module}`{option}", guarded + ", ".join(f"`{test}`" for test in row.tests)


def _figures(rows: Iterable[Row]) -> Iterator[str]:
    """Yield the number of proved and of guarded requirements, level by level."""
    counted = [(row.level, row.guard) for row in rows]
    for level in LEVELS:
        for guard in (False, True):
            yield str(counted.count((level, guard)))


def _by_chapter(rows: Sequence[Row]) -> Iterator[tuple[int, list[Row]]]:
    for chapter in CHAPTERS:
        if of_it := [row for row in rows if row.place[0] == chapter]:
            yield chapter, of_it


def _small(sentence: str) -> str:
    """Return a sentence as the part of another: names and abbreviations stay large."""
    first = sentence.split(maxsplit=1)[0]
    return sentence if first[1:] != first[1:].lower() else sentence[0].lower() + sentence[1:]


if __name__ == "__main__":
    PAGE.write_text(page(read(TABLE.read_text("utf-8"))), "utf-8")
