"""A key is added to .env where there is none, and nothing in it is ever lost."""

import os
import stat
from pathlib import Path

import pytest
from dotenv import dotenv_values

from app import env_file

FULL = "# mine\nOTHER='two words' # why\n\nSECRET_KEY=kept\n"


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such mode")
def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    assert env_file.create(str(tmp_path / ".env"))
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


def test_two_keys_are_never_the_same(tmp_path: Path) -> None:
    for name in ("a", "b"):
        env_file.create(str(tmp_path / name))
    first, second = (dotenv_values(tmp_path / name)["SECRET_KEY"] for name in ("a", "b"))
    assert first != second
    assert len(first or "") == 64


@pytest.mark.parametrize("text", [FULL, "SECRET_KEY=kept", "export SECRET_KEY = 'kept'\r\n"])
def test_a_key_that_is_there_stays(tmp_path: Path, text: str) -> None:
    file = tmp_path / ".env"
    file.write_bytes(text.encode())
    assert not env_file.create(str(file))
    assert file.read_bytes() == text.encode()


@pytest.mark.parametrize(
    "text",
    [
        "OTHER=1",
        "OTHER=1\n",
        "# SECRET_KEY=no\n",
        "SECRET_KEY=\n",
        "SECRET_KEY=''\n",
        "MY_SECRET_KEY=x",
    ],
)
def test_a_missing_key_is_added_after_everything_else(tmp_path: Path, text: str) -> None:
    file = tmp_path / ".env"
    file.write_text(text)
    file.chmod(0o640)
    assert env_file.create(str(file))
    assert file.read_text().startswith(text)
    assert len(dotenv_values(file)["SECRET_KEY"] or "") == 64
    assert stat.S_IMODE(file.stat().st_mode) == 0o640 or os.name != "posix"
