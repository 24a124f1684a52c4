"""Two workers and PostgreSQL: every test of the log-in, and a server that goes and comes back."""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from sqlalchemy import create_engine, text

from tests.conftest import Project
from tests.reader import QUICK, Reader
from tests.test_mistakes import free_port, stack
from tests.test_projects import attacks_itself

if sys.platform == "win32":
    pytest.skip("Debian has this PostgreSQL", allow_module_level=True)

import pwd

pytestmark = pytest.mark.postgresql
WAIT_S = 30
ANSWERS = {"login": "password", "rate_limit_storage": "redis"}
EMAIL, PASSWORD = "ada@example.com", "seven quiet lanterns"
SESSION, PAGE, API = "/api/auth/session", "/account", "/api/account"


class Server:
    """Debian's PostgreSQL on loopback; it refuses root, who runs it as somebody else."""

    def __init__(self, directory: Path) -> None:
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not programs:
            pytest.skip("needs PostgreSQL: apt-get install postgresql")
        self._programs, self._directory = programs[-1].parent, directory
        self._port, self._password = free_port(), f"{secrets.token_urlsafe(32)} :/@%"
        self._owner = _owner()
        password = directory / "password"
        password.touch(mode=0o600)
        password.write_text(self._password)
        for path in (directory, password):
            if self._owner:
                os.chown(path, self._owner.pw_uid, self._owner.pw_gid)
        options = ("--auth=scram-sha-256", "--pwfile=password", "--encoding=UTF8", "--no-sync")
        self._process = self._begin("initdb", "--pgdata=data", "--username=app", *options)
        assert self._process.wait(WAIT_S) == 0, self._said()

    @property
    def url(self) -> str:
        """Return where it is, as platforms write it."""
        password = quote(self._password, safe="")
        return f"postgres://app:{password}@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Start it with what it knew; wait until it answers."""
        options = (f"--port={self._port}", "--listen_addresses=127.0.0.1", "--fsync=off")
        self._process = self._begin("postgres", "-D", "data", "-k", str(self._directory), *options)
        ready = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self._port)]
        deadline = time.monotonic() + WAIT_S
        while subprocess.run(ready, timeout=WAIT_S, check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(self._said())
            time.sleep(0.1)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT ends every connection in order, SIGQUIT is a crash."""
        self._process.send_signal(how)
        try:
            self._process.wait(WAIT_S)
        finally:
            self._process.kill()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it and to all that it has forked."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        for pid in [self._process.pid, *map(int, children.read_text().split())]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _begin(self, name: str, *options: str) -> "subprocess.Popen[bytes]":
        with (self._directory / "log").open("ab") as log:
            return subprocess.Popen(
                [self._programs / name, *options],
                cwd=self._directory,
                stdout=log,
                stderr=log,
                user=self._owner.pw_uid if self._owner else None,
                group=self._owner.pw_gid if self._owner else None,
                extra_groups=[] if self._owner else None,
            )

    def _said(self) -> str:
        return (self._directory / "log").read_text(errors="replace")


def _owner() -> pwd.struct_passwd | None:
    """Return whom root runs it as."""
    if os.geteuid():
        return None
    users = {user.pw_name: user for user in pwd.getpwall()}
    return users.get("postgres") or users["nobody"]


@pytest.fixture
def server() -> Iterator[Server]:
    """Yield a server that runs; where pytest puts its files, nobody but root may look."""
    with tempfile.TemporaryDirectory(prefix="postgresql-") as directory:
        server = Server(Path(directory))
        try:
            server.start()
            yield server
        finally:
            server.stop()


class Client:
    """Somebody who has signed in, from behind the proxy."""

    def __init__(self, app: str) -> None:
        self._port = urlsplit(app).port
        self._headers = {
            "Host": "app.example.com",
            "Origin": "https://app.example.com",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-For": "198.51.100.1",
            "Content-Type": "application/json",
        }
        for body in (None, {"email": EMAIL, "password": PASSWORD}):
            status, headers, said = self.ask(SESSION, body)
            assert status == 200, said
            self._headers["Cookie"] = headers["Set-Cookie"].partition(";")[0]
            self._headers["X-CSRFToken"] = json.loads(said)["csrf_token"]

    def ask(self, path: str, body: object = None) -> tuple[int, Mapping[str, str], str]:
        """Ask for a path, or send it something; return status, headers and body."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=WAIT_S)
        try:
            text = json.dumps(body) if body else None
            connection.request("POST" if body else "GET", path, text, self._headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode()
        finally:
            connection.close()

    def status(self, path: str) -> int:
        """Ask for a path; return the status."""
        return self.ask(path)[0]


@pytest.mark.parametrize(
    ("login", "tests"),
    [("password", ()), ("oidc", ("tests/login", "tests/test_commands.py"))],
    ids=["password", "oidc"],
)
def test_a_project_passes_its_tests(
    bake: Callable[..., Project],
    server: Server,
    login: str,
    tests: tuple[str, ...],
    tmp_path: Path,
    typed: set[str],
) -> None:
    project = bake(**{**ANSWERS, "login": login})
    if tests:
        attacks_itself(project, *tests, TEST_DATABASE_URL=server.url)
        return
    reader = Reader(project.path, tmp_path, typed)
    command = "TEST_DATABASE_URL=postgresql://… uv run --with 'psycopg[binary]' pytest"
    said = reader.types(command, QUICK, **{"postgresql://…": server.url})
    assert re.search(r"^\d{3,} passed", said, re.MULTILINE)


def test_two_workers_outlive_the_database(bake: Callable[..., Project], server: Server) -> None:
    variables = {
        "DATABASE_URL": server.url,
        "WEB_CONCURRENCY": "2",
        "APP_RATELIMIT_DEFAULT": "100000 per hour",
    }
    project, account = bake(**ANSWERS).path, f"--user={EMAIL}:{PASSWORD}"
    with stack(project, variables, account) as running, ThreadPoolExecutor(8) as clients:
        client = Client(running["app"])
        for how in (signal.SIGINT, signal.SIGQUIT):
            assert set(clients.map(client.status, [PAGE, API] * 50)) == {200}
            meanwhile = clients.map(client.status, [PAGE, API] * 200)
            server.stop(how)
            assert set(meanwhile) <= {200, 503}
            assert set(clients.map(client.status, [PAGE, API] * 50)) == {503}
            assert client.ask(SESSION, {"email": EMAIL, "password": PASSWORD})[0] == 503
            assert client.ask(PAGE)[1]["Content-Type"].startswith("text/html")
            assert client.ask(API)[1]["Content-Type"] == "application/problem+json"
            assert client.status("/healthz") == 200
            server.start()
            assert set(clients.map(client.status, [PAGE, API] * 50)) == {200}
        engine = create_engine(server.url.replace("postgres:", "postgresql+psycopg:"))
        waiting = text("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%'")
        with engine.connect() as connection:
            assert connection.scalar(waiting) == 0
        engine.dispose()
