"""The pictures in docs/ are whole, small, and of the pages as they are (test_projects.py)."""

import json
import struct

import pytest

from scripts.pictures import HEIGHT, PICTURES, SCHEMES, SHOWN, STATES, WIDTH

LARGEST_BYTES = 40_000
NAMES = sorted(f"{name}-{scheme}" for name in STATES for scheme in SCHEMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_picture_is_small(name: str) -> None:
    content = (PICTURES / f"{name}.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", content[16:24]) == (WIDTH, HEIGHT)
    assert len(content) < LARGEST_BYTES


def test_nothing_else_lies_there() -> None:
    files = {path.name for path in PICTURES.iterdir()}
    drawn = "session.svg"  # test_readme.py compares it
    assert files == {SHOWN.name, drawn, *(f"{name}.png" for name in NAMES)}
    assert sorted(json.loads(SHOWN.read_text("utf-8"))) == NAMES
