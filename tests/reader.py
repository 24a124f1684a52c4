"""Somebody who types what a page says, with a shell, a terminal, and uv that installs nothing."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.checkout import CLEAN
from tests.conftest import said_by

# uv itself would install what is there already.
UV = """#!/usr/bin/env bash
[ "$1" = run ] && shift || exit 0
while [[ "$1" == --* ]]; do [ "$1" = --no-dev ] || shift; shift; done
exec "$@"
"""
UVX = '#!/usr/bin/env bash\nexec "$@"\n'
# Plugins of ours that a project has not.
QUICK = "-q -p no:cacheprovider -p no:xdist -p no:cookies -p no:hypothesispytest"
WAIT_S = 60
WHOLE_SUITE_S = 1_200


class Reader:
    """Somebody in a project who types what its pages say."""

    def __init__(self, path: Path, programs: Path, typed: set[str]) -> None:
        self.path, self._typed = path, typed
        for name, text in {"uv": UV, "uvx": UVX}.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        search = [str(programs), str(Path(sys.executable).parent), CLEAN["PATH"]]
        self.variables = {
            **CLEAN,
            "PATH": os.pathsep.join(search),
            "PYTHONPATH": str(path),
            "PYTHONDONTWRITEBYTECODE": "",
        }

    def types(self, command: str, *more: str, **other: str) -> str:
        """Type a command, with what is other here and options of ours; return what it printed."""
        return said_by(
            *self._line(command, more, other),
            cwd=self.path,
            env=self.variables,
            timeout_s=WHOLE_SUITE_S,
        )

    def answers(self, command: str, *answers: str) -> str:
        """Type a command at a terminal and answer each of its questions; return what it printed."""
        terminal, line = os.openpty()
        name, said = os.ttyname(line), b""
        *shell, typed = self._line(command, (), {})
        process = subprocess.Popen(
            [*shell, f"exec <{name} >{name} 2>&1; {typed}"],
            cwd=self.path,
            env=self.variables,
            start_new_session=True,
        )
        questions = list(answers)
        deadline = time.monotonic() + WAIT_S
        while process.poll() is None or select.select([terminal], [], [], 0)[0]:
            assert time.monotonic() < deadline, said
            if select.select([terminal], [], [], 0.1)[0]:
                said += os.read(terminal, 4096)
            if said.endswith(b": ") and questions:
                os.write(terminal, f"{questions.pop(0)}\n".encode())
                said += b"\n"
        os.close(line)
        os.close(terminal)
        assert process.wait() == 0, said
        assert not questions, said
        return said.decode()

    @contextmanager
    def leaves(self, command: str, *more: str, log: Path, url: str = "") -> Iterator[None]:
        """Leave a command running, from when it answers at an address until the block ends."""
        with log.open("a") as file:
            process = subprocess.Popen(
                self._line(command, more, {}),
                cwd=self.path,
                env=self.variables,
                stdout=file,
                stderr=file,
            )
        try:
            deadline = time.monotonic() + WAIT_S
            while url:
                try:
                    urlopen(url, timeout=10).close()  # noqa: S310  ours, on loopback
                    break
                except URLError:
                    assert process.poll() is None, log.read_text()
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
            yield
        finally:
            process.terminate()
            process.wait(WAIT_S)

    def _line(self, command: str, more: tuple[str, ...], other: dict[str, str]) -> list[str]:
        self._typed.add(command)
        for placeholder, value in other.items():
            assert placeholder in command
            command = command.replace(placeholder, value)
        return ["bash", "-ec", " ".join([command, *more])]
