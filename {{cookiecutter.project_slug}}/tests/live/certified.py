"""A certified OpenID provider that a test starts and stops: the npm package oidc-provider.

Others wrote it, so it finds what a stand-in of our own would get wrong in the same way. It needs
Node.js, which the group `live` brings, and the package, which INSTALL puts into `node_modules/` of
this project, where git and the image leave it out; for another place there is NODE_PACKAGES.
"""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.live import stack
from tests.servers import START_S, listening

STOP_S = 10
MFA = "urn:example:mfa"  # the one level that it knows: asked for, and a box ticked

INSTALL = (
    "uv run --group live npm install --prefix . "
    "--no-save --no-package-lock --ignore-scripts oidc-provider@9 newman@6"
)
# The package calls the first two, which Node.js 18 does not have. The last is node itself: what is
# called so may be a script that starts it, and would not hand on a signal.
ASK_NODE = "URL.parse.name && crypto.hash.name && process.execPath"


def node() -> str:
    """Return the path of a Node.js that is new enough; raise stack.Missing if there is none."""
    path = stack.node()
    done = subprocess.run(  # noqa: S603
        [path, "-p", ASK_NODE], capture_output=True, text=True, timeout=START_S, check=False
    )
    if done.returncode:
        raise stack.Missing(f"needs a newer node than {path}: uv run --group live")
    return done.stdout.strip()


def modules() -> Path:
    """Return the directory that has node_modules with the package; raise stack.Missing if none."""
    return stack.package("oidc-provider", INSTALL).parent.parent


class Account(NamedTuple):
    """Somebody who can sign in there."""

    sub: str
    email: str
    password: str
    email_verified: bool = True


class Client(NamedTuple):
    """What it knows of the application (OpenID Connect Dynamic Client Registration 1.0, 2)."""

    client_id: str
    client_secret: str
    redirect_uris: Sequence[str]
    post_logout_redirect_uris: Sequence[str]
    backchannel_logout_uri: str


class Tls(NamedTuple):
    """Files of a certificate for 127.0.0.1 and of its key, and of the CA of ours and the client's.

    The CA is what its logout tokens are delivered by: the application's certificate is of it too.
    """

    cert: Path
    key: Path
    ca: Path


class Certified:
    """The provider on loopback; its keys, sessions and grants end with it.

    Its issuer is an address and not a name, for Chromium and the application's Python have to
    reach it under the same URL, and no resolver of Python's can be told about a name of ours.
    """

    def __init__(
        self,
        directory: Path,
        port: int,
        tls: Tls,
        client: Client,
        accounts: Sequence[Account],
        application_port: int,
    ) -> None:
        """Prepare it, with a directory for its log.

        `application_port` is where on loopback the client answers for the host of its
        backchannel_logout_uri, whatever that is.
        """
        self.port, self.issuer = port, f"https://127.0.0.1:{port}"
        self.log = directory / "provider.log"
        self._settings = {
            "issuer": self.issuer,
            "port": port,
            **{name: str(path) for name, path in tls._asdict().items()},
            "client": client._asdict(),
            "accounts": [account._asdict() for account in accounts],
            "acr_values": [MFA],
            "application_port": application_port,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, knowing nobody's session, with a new key.

        Raises stack.Missing if Node.js or the package is not there, RuntimeError with what it said
        if it does not listen.
        """
        program = node()
        given = json.dumps({**self._settings, "modules": str(modules())})
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [program, str(Path(__file__).with_name("provider.mjs"))],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        assert self._process.stdin
        with self._process.stdin as stdin:
            stdin.write(given.encode())
        deadline = time.monotonic() + START_S
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                listening(self.port, 0.2)
                return
        self.stop()
        raise RuntimeError(self.log.read_text())

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._process:
            self._process.send_signal(number)

    def stop(self) -> None:
        """End it, frozen or not; whom it knew is gone."""
        if self._process:
            if sys.platform != "win32":
                self.send(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
