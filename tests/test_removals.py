"""Each protection is taken out once: its attack must get through, else its test proves nothing."""

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.checkout import CHOICES, CLEAN, ROOT, TEMPLATE
from tests.conftest import Project

REMOVAL_S = 600  # without a time limit, clients wait for their own
REMOVALS = tomllib.loads(Path(__file__).with_name("removals.toml").read_text())


@pytest.mark.parametrize("name", REMOVALS)
def test_every_fix_is_where_the_table_says(name: str) -> None:
    removal = REMOVALS[name]
    text = (ROOT / removal["from"] if "from" in removal else TEMPLATE / removal["file"]).read_text()
    assert text.count(removal["fix"]) == 1
    assert (TEMPLATE / "tests" / removal["noticed_by"]).exists()


@pytest.mark.removal
@pytest.mark.parametrize("name", REMOVALS)
def test_the_attack_gets_through_without_the_fix(bake: Callable[..., Project], name: str) -> None:
    removal = REMOVALS[name]
    answers = {name: removal.get(name, CHOICES[name][0]) for name in ("proxy", "login")}
    copy = bake(**answers).path
    source = copy / removal["file"]
    text = source.read_text()
    source.write_text(text.replace(removal["fix"], removal["without"]))
    options = ("-x", "-q", "-p", "no:cacheprovider", f"tests/{removal['noticed_by']}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=copy,
        env={**CLEAN, "PYTHONPATH": str(copy)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=REMOVAL_S,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert " failed" in done.stdout.splitlines()[-1], done.stdout
