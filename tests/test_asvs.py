"""The proof against ASVS 5.0 names what exists, and says no more than the table has."""

import ast
from functools import cache
from pathlib import Path

import pytest

from scripts import asvs
from scripts.asvs import Row
from tests.checkout import ROOT, TEMPLATE

ROWS = asvs.read(asvs.TABLE.read_text("utf-8"))
PROMISED = [row for row in ROWS if row.is_promised]
OPTIONS = {"password", "oidc", "login", "redis", "secrets-store"}
NEVER = {"jwt-api", "mail", "mfa", "upload"}


@cache
def functions(path: Path) -> set[str]:
    """Return the names of a file's functions."""
    tree = ast.parse(path.read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_requirement_stands_there_once() -> None:
    sections: dict[tuple[int, ...], list[int]] = {}
    for row in ROWS:
        sections.setdefault(row.place[:2], []).append(row.place[2])
    for section, numbers in sections.items():
        assert len(numbers) == len(set(numbers)), section
    assert {row.place[0] for row in ROWS} <= set(asvs.CHAPTERS)
    assert len(ROWS) == 345


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_row_says_what_its_class_needs(row: Row) -> None:
    assert row.level in asvs.LEVELS
    assert row.kind in asvs.CLASSES
    assert row.requirement
    assert bool(row.module and row.tests) == row.is_promised
    assert bool(row.document) == (row.kind == "C")
    assert bool(row.reason) == (row.kind in ("D", "E"))
    assert not row.guard or row.is_promised
    assert not row.unmet or row.kind == "D"
    if row.kind == "not offered":
        assert row.option in NEVER
    elif row.kind == "B":
        assert row.option in OPTIONS
    else:
        assert row.option in {"", *OPTIONS}


@pytest.mark.parametrize("row", PROMISED, ids=lambda row: row.id)
def test_what_is_promised_has_a_module_and_a_test(row: Row) -> None:
    assert (TEMPLATE / row.module).exists()
    for test in row.tests:
        path, _, name = test.removeprefix("template:").partition("::")
        root = ROOT if test.startswith("template:") else TEMPLATE
        assert name.startswith("test_")
        assert name in functions(root / path)


def test_what_a_document_answers_has_its_heading() -> None:
    documents = [row.document for row in ROWS if row.document]
    assert len(documents) == sum(row.kind == "C" for row in ROWS)
    for path, _, heading in (document.partition("#") for document in documents):
        assert f"\n## {heading}\n" in (TEMPLATE / path).read_text("utf-8"), (path, heading)


def test_the_page_is_what_the_script_makes() -> None:
    text = asvs.PAGE.read_text("utf-8")
    assert text == asvs.page(ROWS), "python scripts/asvs.py"
    introduction, _, tables = text.partition("### ")
    assert introduction.count("\n") < 100
    assert all(f"\n| {row.number} | {row.level} | " in tables for row in ROWS)
