"""Whatever somebody has in .env survives us, two rotations at once and a process that is killed."""

import io
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from datetime import date
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from app import env_file, rotation
from dotenv import dotenv_values
from hypothesis import example, given, settings
from hypothesis import strategies as st

TODAY, UNTIL = date(2027, 1, 30), date(2027, 1, 31)
KEY = "the-present-key-" + "0123456789abcdef" * 3

# Lines as people write them, and as nobody should.
NAMES = st.sampled_from(
    ["A", "SECRET_KEY", "SECRET_KEY_FALLBACKS", "MY_SECRET_KEY", "'SECRET_KEY'"]
)
VALUES = st.one_of(
    st.sampled_from(["", "''", '""', KEY, f"'{KEY}'", f'"{KEY}" # why', "#x", "'two\nlines'", "'"]),
    st.text(alphabet="ab'\"#=$\\ \t", max_size=8),
)
ASSIGNMENTS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", " ", "export "]),
    NAMES,
    st.sampled_from(["=", " = "]),
    VALUES,
)
LINES = st.one_of(ASSIGNMENTS, st.text(max_size=12), st.sampled_from(["", "# SECRET_KEY=no", "="]))
FILES = st.builds(
    lambda lines, end, last: end.join(lines) + last,
    st.lists(LINES, max_size=6),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["", "\n"]),
).filter(lambda text: "\ufeff" not in text and text.isprintable() is not None)


def values(text: str) -> dict[str, str | None]:
    """Return what python-dotenv reads in a text."""
    return dotenv_values(stream=io.StringIO(text, newline=""), interpolate=False)


def write(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "surrogateescape"))


@settings(deadline=None, max_examples=200)
@given(FILES)
@example("SECRET_KEY=#x")
@example("A='\nSECRET_KEY=in a text of two lines\n'")
def test_a_key_is_added_and_all_else_survives(text: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, ".env")
        write(path, text)
        has_key = bool(values(text).get("SECRET_KEY"))
        added = env_file.create(str(path), lambda text: bool(values(text).get("SECRET_KEY")))
        after = env_file.read(str(path))
        assert added != has_key
        assert after.startswith(text) or not text
        if added and "SECRET_KEY" in values(after):
            assert {**values(after), "SECRET_KEY": None} == {**values(text), "SECRET_KEY": None}


@settings(deadline=None, max_examples=200)
@given(FILES)
def test_the_hook_never_overrides_a_key_that_counts(text: str) -> None:
    if values(text).get("SECRET_KEY"):
        assert env_file.seems_to_have_key(text)


@settings(deadline=None, max_examples=200)
@given(FILES, st.booleans(), st.booleans())
def test_a_rotation_changes_two_values_or_nothing(
    text: str, compromised: bool, prune: bool
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, ".env")
        write(path, text)
        try:
            rotation.rotate(str(path), TODAY, UNTIL, compromised=compromised, prune=prune)
        except rotation.CannotRotateError:
            assert env_file.read(str(path)) == text
            return
        before, after = values(text), values(env_file.read(str(path)))
        assert after["SECRET_KEY"] != before["SECRET_KEY"]
        ours = {"SECRET_KEY", "SECRET_KEY_FALLBACKS"}
        assert {n: v for n, v in after.items() if n not in ours} == {
            n: v for n, v in before.items() if n not in ours
        }
        if before["SECRET_KEY"] == KEY:
            kept = f"{KEY}:{UNTIL}" in str(after.get("SECRET_KEY_FALLBACKS"))
            assert kept != compromised
            assert not (compromised and after.get("SECRET_KEY_FALLBACKS"))


def rotate_once(path: str) -> None:
    rotation.rotate(path, TODAY, UNTIL, compromised=False, prune=False)


PROCESSES, TIMES = 3, 8


def rotate_with_others(path: str, together: Barrier) -> None:
    together.wait(60)
    for _ in range(TIMES):
        rotate_once(path)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such lock")
def test_rotations_at_once_lose_no_key(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    write(path, f"# mine\nSECRET_KEY={KEY}\n")
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(PROCESSES)
    processes = [
        context.Process(target=rotate_with_others, args=(str(path), together))
        for _ in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    after = values(path.read_text())
    assert len(str(after["SECRET_KEY_FALLBACKS"]).split(",")) == PROCESSES * TIMES
    assert path.read_text().startswith("# mine\n")


def killed_at(moment: int, work: Callable[[], object]) -> bool:
    """Do the work in a process that dies before its nth bytecode of env_file; return if it did.

    What is in a buffer dies with it, so every state that the file can be left in is seen.
    """
    if sys.platform == "win32":
        raise NotImplementedError
    child = os.fork()
    if child == 0:
        count = 0

        def trace(frame: FrameType, event: str, _argument: object) -> Any:  # noqa: ANN401
            nonlocal count
            if frame.f_code.co_filename != env_file.__file__:
                return None
            frame.f_trace_opcodes = True
            count += event == "opcode"
            if count == moment:
                os._exit(9)
            return trace

        sys._getframe().f_trace_opcodes = True  # what asks after settrace, 3.12 may not hear
        sys.settrace(trace)
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.skipif(os.name != "posix", reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("text", [f"# mine\nSECRET_KEY={KEY}\nA=1\n", "# mine\nA=1\n", ""])
def test_whoever_is_killed_leaves_a_whole_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / ".env"
    write(path, text)

    def work() -> None:
        if KEY in text:
            rotate_once(str(path))
        else:
            env_file.create(str(path))

    moment, changed = 1, 0
    while killed_at(moment, work):
        after = path.read_text()
        if after != text:
            assert len(str(values(after)["SECRET_KEY"])) == 64
            assert values(after).get("A") == values(text).get("A")
            write(path, text)
            changed += 1
        moment += 1
        assert moment < 2_000
    assert moment > 100
    assert changed
    assert len(str(values(path.read_text())["SECRET_KEY"])) == 64
    assert {file.name for file in tmp_path.iterdir()} == {".env"}
