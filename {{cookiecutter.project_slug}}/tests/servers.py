"""Start this project's servers as a user would, on a free port of loopback, and stop them."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from app import config

START_S = 60  # bounds for a busy machine: nobody waits for them to pass
REFUSE_S = 60


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def copy(directory: Path) -> Path:
    """Copy this project there as a fresh clone, without its .env; return the directory."""
    left_out = (".env", ".venv", ".git", "node_modules", "__pycache__", ".*_cache")
    return shutil.copytree(config.ROOT, directory, ignore=shutil.ignore_patterns(*left_out))


def run(*command: str, variables: Mapping[str, str], root: Path = config.ROOT) -> tuple[int, str]:
    """Run a module's command in a project to its end; return its status and what it printed."""
    with _started(command, variables, root, subprocess.PIPE) as process:
        output, _ = process.communicate(timeout=REFUSE_S)
        return process.returncode, output


@contextmanager
def served(
    port: int, *command: str, variables: Mapping[str, str], root: Path = config.ROOT
) -> Iterator[None]:
    """Run a project's server until the block ends; raise what it printed if it does not come up."""
    with TemporaryFile("w+") as output, _started(command, variables, root, output) as server:
        deadline = time.monotonic() + START_S
        while not _listens(port):
            if server.poll() is not None or time.monotonic() > deadline:
                output.seek(0)
                raise RuntimeError(output.read())
            time.sleep(0.05)
        yield


@contextmanager
def _started(
    command: tuple[str, ...], variables: Mapping[str, str], root: Path, output: "IO[str] | int"
) -> Iterator["subprocess.Popen[str]"]:
    """Start a module's command; at the end of the block nothing of it runs any more."""
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", *command],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), **variables},
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # Flask's reloader has a child
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=START_S)
        except subprocess.TimeoutExpired:
            process.kill()
        if sys.platform != "win32":
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def listening(port: int, within_s: float = START_S) -> None:
    """Wait until somebody listens on a port of loopback; raise TimeoutError if nobody does."""
    deadline = time.monotonic() + within_s
    while not _listens(port):
        if time.monotonic() > deadline:
            raise TimeoutError(port)
        time.sleep(0.05)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ask(
    port: int,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: str | None = None,
) -> tuple[int, dict[str, str], str]:
    """Send one request over a real socket; return status, headers and body."""
    connection = HTTPConnection("127.0.0.1", port, timeout=START_S)
    try:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def field(page: str, name: str) -> str:
    """Return the value of a hidden field of a page."""
    found = re.search(rf'name="{name}"[^>]* value="([^"]+)"', page)
    if not found:
        raise LookupError(page)
    return found[1]
