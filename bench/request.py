"""What each protection costs a request: CPU time against bare Flask with the same routes.

nox -s bench -- request
nox -s bench -- request --instructions    all protections, by valgrind: some minutes more

Each layer on top of those before it, in the order of CONTROLS: in process, through the WSGI
interface, and through gunicorn; then what a request asks Valkey and the database.
"""

import io
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

import measure
from app import checks, create_app, errors, health, request_id, security
from flask import Blueprint, Flask, jsonify, redirect, render_template, request
from flask.typing import ResponseReturnValue
from itsdangerous import URLSafeTimedSerializer
from jinja2 import DictLoader
from rate_limits import database, valkey
from redis import Redis
from tests.production import HOST, KEY, ORIGIN, SETTINGS, VARIABLES
from tests.servers import free_port, listening
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

ROUNDS, REQUESTS = 21, 150
WIRE_ROUNDS, WIRE_REQUESTS = 7, 300
GUNICORN_ROUNDS, GUNICORN_S, CLIENTS = 9, 2, 4
FEW, MANY = 50, 250  # requests whose instructions are compared
OFTEN = "1000000 per minute"  # a limit that counts like any other and refuses nobody here
OVERRIDES: Mapping[str, object] = {
    **SETTINGS,
    "SECRET_KEY": KEY,
    "SECRET_KEY_SOURCE": "environment",
    "RATELIMIT_DEFAULT": OFTEN,
    "RATELIMIT_STRICT": OFTEN,
}
STATUS = {"JSON GET": "200", "HTML GET": "200", "POST": "303"}
KINDS = tuple(STATUS)
CONTROLS: tuple[Any, ...] = security.CONTROLS
LAYERS = [control.__name__.rpartition(".")[2] for control in CONTROLS]
BARE, WHOLE = "bare Flask", "request_id, errors, health"
PROXIED = {"Host": HOST, "X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7"}
PAGE = """<!doctype html>
<title>{{ config.SITE_NAME }}</title>
<form method="post" action="/measured">
  <input type="hidden" name="csrf_token" value="{{ csrf_token() if csrf_token else "" }}">
  <input name="message"><button>Send</button>
</form>
"""

routes = Blueprint("measured", __name__)


@routes.get("/api/ping")
def data() -> ResponseReturnValue:
    """Answer JSON, as the project does at this address."""
    return jsonify(message="pong")


@routes.get("/measured")
def page() -> ResponseReturnValue:
    """Show a form."""
    return render_template("measured.html")


@routes.post("/measured")
@security.rate_limits.strict("measured")
def form() -> ResponseReturnValue:
    """Take the form."""
    return redirect(f"/measured?{len(request.form['message'])}", 303)


def application(layers: int) -> Flask:
    """Return an application with so many of the protections; one more adds what is around them."""
    app = Flask("app")
    app.config.from_mapping(checks.settings(OVERRIDES))
    if layers > len(LAYERS):
        health.init_app(app)
    for control in CONTROLS[:layers]:
        control.init_app(app)
    if layers > len(LAYERS):
        request_id.init_app(app)
        errors.init_app(app)
    app.jinja_loader = DictLoader({"measured.html": PAGE})
    app.register_blueprint(routes)
    return app


class Sent(NamedTuple):
    """A request as a proxy hands it on."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def environ(self) -> "WSGIEnvironment":
        """Return it as a server hands it to an application, without the body."""
        headers = Headers(dict(self.headers))
        builder = EnvironBuilder(self.path, method=self.method, headers=headers)
        return {**builder.get_environ(), "CONTENT_LENGTH": str(len(self.body))}


def sent(app: Flask, kind: str) -> Sent:
    """Return a request; the cookie holds the same for every application."""
    secret = "5f" * 20
    headers = {**PROXIED, "Accept": "*/*", "Accept-Encoding": "gzip", "Accept-Language": "en"}
    headers["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
    if kind == "JSON GET":
        return Sent("GET", "/api/ping", headers, b"")
    interface: Any = app.session_interface
    cookie = interface.get_signing_serializer(app).dumps({"csrf_token": secret})
    headers["Cookie"] = f"{app.config['SESSION_COOKIE_NAME']}={cookie}"
    if kind == "HTML GET":
        return Sent("GET", "/measured", headers, b"")
    token = URLSafeTimedSerializer(KEY, salt="wtf-csrf-token").dumps(secret)
    headers |= {"Origin": ORIGIN, "Content-Type": "application/x-www-form-urlencoded"}
    form = urlencode({"message": "Good morning", "csrf_token": token})
    return Sent("POST", "/measured", headers, form.encode())


def answered(app: Flask, environ: "WSGIEnvironment", body: bytes) -> str:
    """Send a request in process, read its answer to the end, return the status."""
    told: list[str] = []

    def start(status: str, *_: object) -> Callable[[bytes], object]:
        told.append(status)
        return io.BytesIO().write

    answer: Any = app.wsgi_app({**environ, "wsgi.input": io.BytesIO(body)}, start)
    b"".join(answer)
    answer.close()
    return told[0][:3]


def cost_us(app: Flask, asked: Sent) -> float:
    """Return the CPU time of a request, in microseconds."""
    environ = asked.environ()
    begun = time.process_time()
    for _ in range(REQUESTS):
        answered(app, environ, asked.body)
    return (time.process_time() - begun) / REQUESTS * 1e6


def applications() -> dict[str, Flask]:
    """Return an application with each number of layers, by the name of the last."""
    return {name: application(count) for count, name in enumerate([BARE, *LAYERS, WHOLE])}


def in_process() -> measure.Results:
    """Return the CPU time of each kind of request through each number of layers."""
    apps = applications()
    found = {}
    for kind in KINDS:
        cases = {}
        for name, app in apps.items():
            asked = sent(app, kind)
            status = answered(app, asked.environ(), asked.body)
            assert status == STATUS[kind], (name, status)  # noqa: S101
            cases[name] = partial(cost_us, app, asked)
        found[kind] = measure.interleaved(cases, ROUNDS)
    return found


def instructions(kind: str, layers: int) -> float:
    """Return the instructions of a request: the difference of two runs, without the start."""

    def run(requests: int) -> int:
        done = subprocess.run(  # noqa: S603
            [*measure.COUNTED, sys.executable, __file__, "--counted", kind, f"{layers},{requests}"],
            env={**os.environ, "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=True,
            timeout=measure.LONG_S,
        )
        return measure.counted(done.stderr)

    return (run(MANY) - run(FEW)) / (MANY - FEW)


@contextmanager
def served(directory: Path, *words: str, **variables: str) -> Iterator[tuple[int, int]]:
    """Run gunicorn with one worker of eight threads; yield its port and the worker's id."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--threads", "8"]
    command += ["--worker-class", "gthread", "--access-logfile", "-", *words]
    server = subprocess.Popen(  # noqa: S603
        command,
        cwd=directory,
        env={**measure.VARIABLES, **VARIABLES, "APP_RATELIMIT_DEFAULT": OFTEN, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        listening(port)
        time.sleep(1)  # the socket is open before the worker is there
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()
        yield port, int(children.split()[0])
    finally:
        server.terminate()
        server.wait(measure.LONG_S)


def alone(layers: int) -> AbstractContextManager[tuple[int, int]]:
    """Serve an application with so many of the protections."""
    here = f"{Path(__file__).parent}{os.pathsep}{os.environ['PYTHONPATH']}"
    # What runs in the unbaked template leaves no bytecode there.
    leaves = {"PYTHONPATH": here, "PYTHONDONTWRITEBYTECODE": "1"}
    return served(Path(tempfile.gettempdir()), f"request:application({layers})", **leaves)


def cpu_s(process: int) -> float:
    """Return the CPU time that the threads of a process have had."""
    times = Path(f"/proc/{process}/task").glob("*/schedstat")
    return sum(int(path.read_text().split()[0]) for path in times) / 1e9


def cost_on_the_wire_us(asked: Sent, status: str, port: int, worker: int) -> float:
    """Return the CPU time that a worker needs for a request, in microseconds."""
    connection = HTTPConnection("127.0.0.1", port, timeout=measure.LONG_S)
    before = cpu_s(worker)
    for _ in range(WIRE_REQUESTS):
        connection.request(asked.method, asked.path, asked.body or None, dict(asked.headers))
        answer = connection.getresponse()
        answer.read()
        assert answer.status == int(status)  # noqa: S101
    connection.close()
    return (cpu_s(worker) - before) / WIRE_REQUESTS * 1e6


def layers_through_gunicorn() -> measure.Results:
    """Return a worker's CPU time of each kind of request through each number of layers."""
    found = {}
    apps = applications()
    with ExitStack() as running:
        places = {name: running.enter_context(alone(layers)) for layers, name in enumerate(apps)}
        for kind in KINDS:
            cases = {
                name: partial(cost_on_the_wire_us, sent(app, kind), STATUS[kind], *places[name])
                for name, app in apps.items()
            }
            found[f"{kind}, gunicorn"] = measure.interleaved(cases, WIRE_ROUNDS)
    return found


def rate(port: int, _worker: int) -> float:
    """Let four clients ask for JSON for two seconds; return how many answers they got in one."""
    answers = [0] * CLIENTS
    end = time.monotonic() + GUNICORN_S

    def client(number: int) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=GUNICORN_S)
        while time.monotonic() < end:
            connection.request("GET", "/api/ping", headers=PROXIED)
            answer = connection.getresponse()
            answer.read()
            answers[number] += answer.status == 200

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(answers) / GUNICORN_S


def through_gunicorn(template: str) -> measure.Results:
    """Return requests a second of a project and of bare Flask, interleaved."""
    with ExitStack() as running:
        project = running.enter_context(measure.baked(template, login="none"))
        whole = served(project, PYTHONPATH=str(project))
        places = {
            BARE: running.enter_context(alone(0)),
            "the project": running.enter_context(whole),
        }
        cases = {name: partial(rate, *place) for name, place in places.items()}
        return {"gunicorn, requests a second": measure.interleaved(cases, GUNICORN_ROUNDS)}


def questions() -> measure.Results:
    """Return how often a request asks Valkey, by the reads that Valkey counts."""
    found = {}
    with valkey() as uri:
        app = create_app(**{**OVERRIDES, "RATELIMIT_STORAGE_URI": uri})
        app.register_blueprint(routes)
        app.jinja_loader = DictLoader({"measured.html": PAGE})
        server: Any = Redis.from_url(uri)
        for kind in KINDS:
            asked = sent(app, kind)
            answered(app, asked.environ(), asked.body)  # connects, and sends the script
            before = server.info("stats")["total_reads_processed"]
            answered(app, asked.environ(), asked.body)
            found[kind] = server.info("stats")["total_reads_processed"] - before - 1
    return {"questions to Valkey": found}


def statements() -> measure.Results:
    """Return how many statements the database is asked when somebody is signed in."""
    from app.db import db
    from app.login import accounts, sessions
    from sqlalchemy import event

    asked: list[str] = []
    app = create_app(**OVERRIDES)

    def sign_in() -> str:
        user = accounts.find("ada@example.com") or accounts.create(
            "ada@example.com", "seven quiet lanterns"
        )
        assert user  # noqa: S101
        sessions.start(user)
        return ""

    app.add_url_rule("/sign-in", view_func=sign_in)
    client = app.test_client()
    client.get("/sign-in", base_url=ORIGIN, headers=PROXIED)
    with app.app_context():
        event.listen(db.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    answer = client.get("/api/account", base_url=ORIGIN, headers=PROXIED)
    assert answer.status_code == 200, answer.text  # noqa: S101
    return {"statements, signed in": {"JSON GET": len(asked)}}


def main() -> None:
    """Measure."""
    parser = measure.options(__doc__)
    parser.add_argument("--instructions", action="store_true")
    parser.add_argument("--counted", nargs=2, help="for this program itself")
    chosen = parser.parse_args()
    logging.disable(logging.WARNING)
    if chosen.counted:
        kind, numbers = chosen.counted
        layers, requests = map(int, numbers.split(","))
        app = application(layers)
        asked = sent(app, kind)
        environ = asked.environ()
        for _ in range(requests):
            answered(app, environ, asked.body)
        return
    if chosen.instructions:
        found = {
            f"{kind}, instructions": {
                BARE: instructions(kind, 0),
                WHOLE: instructions(kind, len(LAYERS) + 1),
            }
            for kind in KINDS
        }
    else:
        with database():
            found = {**in_process(), **questions(), **statements(), **layers_through_gunicorn()}
        found |= through_gunicorn(chosen.template)
    measure.keep(chosen.keep, found)
    for what, values in found.items():
        first = next(iter(values.values()))
        ratios = {name: round(value / first, 2) for name, value in values.items()}
        print(what, json.dumps(ratios))


if __name__ == "__main__":
    main()
