"""A Valkey server that a test starts, freezes and stops."""

import signal
import subprocess
import sys
from pathlib import Path

from tests.live import stack
from tests.servers import free_port, listening


class Store:
    """A Valkey server on loopback that a test starts, freezes and stops; it saves nothing."""

    def __init__(self, directory: Path) -> None:
        self._directory, self.port = directory, free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """Return where it is."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def patient_uri(self) -> str:
        """Return where it is, for exact counts: on a busy machine half a second is no answer."""
        return f"{self.uri}?socket_timeout=10&socket_connect_timeout=10"

    def start(self) -> None:
        """Start it, empty."""
        options = ("--bind", "127.0.0.1", "--port", str(self.port), "--save", "")
        self._process = subprocess.Popen(  # noqa: S603
            [stack.valkey(), *options], cwd=self._directory, stdout=subprocess.DEVNULL
        )
        listening(self.port)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._process:
            self._process.send_signal(number)

    def stop(self) -> None:
        """End it, frozen or not; what it knew is gone."""
        if self._process:
            if sys.platform != "win32":
                self.send(signal.SIGCONT)
            self._process.terminate()
            self._process.wait(10)
            self._process = None
