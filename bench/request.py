"""What each protection costs a request: CPU time against bare Flask with the same routes.

nox -s bench -- request
nox -s bench -- request --instructions    all protections, by valgrind: some minutes more

In process, through the WSGI interface, each layer on top of those before it, in the order of
CONTROLS; then through gunicorn, and what a request asks Valkey and the database.
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
from contextlib import ExitStack, contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
KINDS = ("JSON GET", "HTML GET", "POST")
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


def sent(app: Flask, kind: str) -> tuple["WSGIEnvironment", bytes]:
    """Return a request as a proxy hands it on; the cookie holds the same for every application."""
    secret = "5f" * 20
    headers = {**PROXIED, "Accept": "*/*", "Accept-Encoding": "gzip", "Accept-Language": "en"}
    headers["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
    data = None
    if kind != "JSON GET":
        interface: Any = app.session_interface
        cookie = interface.get_signing_serializer(app).dumps({"csrf_token": secret})
        headers["Cookie"] = f"{app.config['SESSION_COOKIE_NAME']}={cookie}"
    if kind == "POST":
        headers["Origin"] = ORIGIN
        token = URLSafeTimedSerializer(KEY, salt="wtf-csrf-token").dumps(secret)
        data = {"message": "Good morning", "csrf_token": token}
    method, path = ("POST" if data else "GET"), ("/api/ping" if kind[0] == "J" else "/measured")
    environ = EnvironBuilder(path, method=method, headers=Headers(headers), data=data).get_environ()
    return environ, environ["wsgi.input"].read()


def answered(app: Flask, environ: "WSGIEnvironment", body: bytes) -> str:
    """Send a request, read its answer to the end, return the status."""
    told: list[str] = []

    def start(status: str, *_: object) -> Callable[[bytes], object]:
        told.append(status)
        return io.BytesIO().write

    answer: Any = app.wsgi_app({**environ, "wsgi.input": io.BytesIO(body)}, start)
    b"".join(answer)
    answer.close()
    return told[0][:3]


def cost_us(app: Flask, environ: "WSGIEnvironment", body: bytes) -> float:
    """Return the CPU time of a request, in microseconds."""
    begun = time.process_time()
    for _ in range(REQUESTS):
        answered(app, environ, body)
    return (time.process_time() - begun) / REQUESTS * 1e6


def in_process() -> measure.Results:
    """Return the CPU time of each kind of request through each number of layers."""
    apps = {name: application(count) for count, name in enumerate([BARE, *LAYERS, WHOLE])}
    found = {}
    for kind in KINDS:
        cases = {}
        for name, app in apps.items():
            status = answered(app, *sent(app, kind))
            assert status == ("303" if kind == "POST" else "200"), (name, status)  # noqa: S101
            cases[name] = partial(cost_us, app, *sent(app, kind))
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


def cpu_s(process: int) -> float:
    """Return the CPU time that a process has had."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def asked(port: int) -> int:
    """Let four clients ask for JSON for two seconds; return how many answers they got."""
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
    return sum(answers)


def through_gunicorn(template: str) -> measure.Results:
    """Return requests a second and the worker's CPU time of one, of both, interleaved."""
    spent: dict[str, list[float]] = {BARE: [0, 0], "the project": [0, 0]}

    def run(name: str, port: int, worker: int) -> float:
        before = cpu_s(worker)
        answers = asked(port)
        spent[name][0] += cpu_s(worker) - before
        spent[name][1] += answers
        return answers / GUNICORN_S

    with ExitStack() as running:
        project = running.enter_context(measure.baked(template, login="none"))
        here = f"{Path(__file__).parent}{os.pathsep}{os.environ['PYTHONPATH']}"
        # What runs in the unbaked template leaves no bytecode there.
        leaves = {"PYTHONPATH": here, "PYTHONDONTWRITEBYTECODE": "1"}
        bare = served(Path(tempfile.gettempdir()), "request:application(0)", **leaves)
        whole = served(project, PYTHONPATH=str(project))
        places = {BARE: running.enter_context(bare), "the project": running.enter_context(whole)}
        cases = {name: partial(run, name, *place) for name, place in places.items()}
        rates = measure.interleaved(cases, GUNICORN_ROUNDS)
    costs = {name: cpu / answers * 1e6 for name, (cpu, answers) in spent.items()}
    return {"gunicorn, requests a second": rates, "gunicorn, CPU of a request": costs}


def questions() -> measure.Results:
    """Return how often a request asks Valkey, by the reads that Valkey counts."""
    found = {}
    with valkey() as uri:
        app = create_app(**{**OVERRIDES, "RATELIMIT_STORAGE_URI": uri})
        app.register_blueprint(routes)
        app.jinja_loader = DictLoader({"measured.html": PAGE})
        server: Any = Redis.from_url(uri)
        for kind in KINDS:
            answered(app, *sent(app, kind))  # connects, and sends the script
            before = server.info("stats")["total_reads_processed"]
            answered(app, *sent(app, kind))
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
        for _ in range(requests):
            answered(app, *asked)
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
            found = {**in_process(), **questions(), **statements()}
        found |= through_gunicorn(chosen.template)
    measure.keep(chosen.keep, found)
    for what, values in found.items():
        first = next(iter(values.values()))
        ratios = {name: round(value / first, 2) for name, value in values.items()}
        print(what, json.dumps(ratios))


if __name__ == "__main__":
    main()
