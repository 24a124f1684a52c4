"""Every combination of the choice questions, and the few in which every two answers meet."""

import filecmp
import itertools
import json
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from hooks import post_gen_project as hook
from tests.checkout import CHOICES, ROOT, TEMPLATE, tracked

JINJA = re.compile(r"(?<!\$)\{\{|\{%|\{#|^\s*# %", re.MULTILINE)  # ${{ is GitHub's
ALWAYS = {path.relative_to(TEMPLATE).as_posix() for path in tracked() if TEMPLATE in path.parents}

Answers = dict[str, str]

COMBINATIONS: list[Answers] = [
    dict(zip(CHOICES, options, strict=True)) for options in itertools.product(*CHOICES.values())
]


def pairs(answers: Answers) -> set[tuple[tuple[str, str], ...]]:
    """Return every two answers of a combination."""
    return set(itertools.combinations(answers.items(), 2))


def pairwise() -> list[Answers]:
    """Return combinations in which every two answers meet, the default one first."""
    chosen = [COMBINATIONS[0]]
    missing = set().union(*map(pairs, COMBINATIONS)) - pairs(chosen[0])
    while missing:
        chosen.append(max(COMBINATIONS, key=lambda answers: len(pairs(answers) & missing)))
        missing -= pairs(chosen[-1])
    return chosen


def name_of(answers: Answers) -> str:
    """Return what a combination is called."""
    return "-".join(answers.values())


def copied() -> Iterator[str]:
    """Yield the files that are copied without being rendered."""
    patterns = json.loads((ROOT / "cookiecutter.json").read_text())["_copy_without_render"]
    for name in ALWAYS:
        if any(fnmatch(name, pattern) for pattern in patterns):
            yield name


def wrong_files(project: Path, answers: Answers) -> set[str]:
    """Return what is missing, there and ruled out, left half rendered, or not ours to change."""
    found = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}
    wrong = found ^ (ALWAYS - set(hook.ruled_out(answers)) | {".env"})
    rendered = found - set(copied())
    wrong |= {name for name in rendered if JINJA.search((project / name).read_text())}
    modules = [path.name for path in (TEMPLATE / "app/security").glob("*.py")]
    ours, theirs = TEMPLATE / "app/security", project / "app/security"
    return wrong.union(*filecmp.cmpfiles(ours, theirs, modules, shallow=False)[1:])
