"""What a start costs: CPU time and memory up to the first answer, against bare Flask.

nox -s bench -- start

Where valgrind is there, the instructions of it too, which no neighbour changes.
"""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import measure
from rate_limits import valkey
from tests.production import GIVEN, HOST, KEY

ROUNDS = 11
ANSWERS = """
import resource, sys
{build}
from werkzeug.test import EnvironBuilder
headers = {{"Host": "{host}", "X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7"}}
told = []
environ = EnvironBuilder("/api/ping", headers=list(headers.items())).get_environ()
b"".join(app.wsgi_app(environ, lambda status, *_: told.append(status)))
assert told[0].startswith("200"), told
used = resource.getrusage(resource.RUSAGE_SELF)
pages = open("/proc/self/statm").read().split()[1]
print(used.ru_utime + used.ru_stime, pages)
"""
BARE = """
from flask import Flask, jsonify
app = Flask("app")
app.add_url_rule("/api/ping", view_func=lambda: jsonify(message="pong"))
"""
# The same libraries as people wire them by hand, without anything of ours.
TYPICAL = """
import os
sys.modules["valkey"] = None
from dotenv import load_dotenv
from flask import Flask, jsonify
from flask_cors import CORS
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_talisman import Talisman
from flask_wtf.csrf import CSRFProtect
from werkzeug.middleware.proxy_fix import ProxyFix
load_dotenv()
app = Flask("app")
app.config["SECRET_KEY"] = "2f" * 20
app.wsgi_app = ProxyFix(app.wsgi_app)
CSRFProtect(app)
CORS(app, resources={"/api/*": {"origins": "https://www.example.com"}})
limits = ["120 per minute", "1000 per hour"]
store = os.environ.get("STORE", "memory://")
Limiter(get_remote_address, app=app, default_limits=limits, storage_uri=store, headers_enabled=True)
policy = {"default-src": "'self'"}
Talisman(app, content_security_policy=policy, content_security_policy_nonce_in=["script-src"])
app.add_url_rule("/api/ping", view_func=lambda: jsonify(message="pong"))
"""
# A project installs one of the two libraries; this environment may have both.
PROJECT = 'sys.modules["valkey"] = None; from app import create_app; app = create_app()'


def started(
    directory: Path, build: str, variables: dict[str, str], *before: str
) -> tuple[str, str]:
    """Start, answer once, and return what was printed."""
    done = subprocess.run(  # noqa: S603
        [*before, sys.executable, "-c", ANSWERS.format(build=build, host=HOST)],
        cwd=directory,
        env={**measure.VARIABLES, "PYTHONPATH": str(directory), **variables},
        capture_output=True,
        text=True,
        check=True,
        timeout=measure.LONG_S,
    )
    return done.stdout, done.stderr


def main() -> None:
    """Measure."""
    chosen = measure.options(__doc__).parse_args()
    memory: dict[str, float] = {}

    def run(name: str, place: Path, build: str, variables: dict[str, str]) -> float:
        cpu, pages = started(place, build, variables)[0].split()[-2:]
        memory[name] = int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6
        return float(cpu)

    def count(place: Path, build: str, variables: dict[str, str]) -> float:
        return measure.counted(started(place, build, variables, *measure.COUNTED)[1])

    with ExitStack() as running, tempfile.TemporaryDirectory() as directory:
        redis_url = running.enter_context(valkey())
        variables = {"SECRET_KEY": KEY, "APP_SECRET_KEY_SOURCE": "environment", **GIVEN}
        variables["DATABASE_URL"] = f"sqlite:///{directory}/app.sqlite3"
        cases: dict[str, partial[float]] = {
            name: partial(run, name, Path(directory), build, given)
            for name, build, given in (
                ("bare Flask", BARE, dict[str, str]()),
                ("the libraries alone", TYPICAL, {}),
                ("the libraries alone, Redis", TYPICAL, {"STORE": redis_url}),
            )
        }
        for name, answers in {
            "no accounts": {"login": "none"},
            "no accounts, Redis": {"login": "none", "rate_limit_storage": "redis"},
            "accounts": {"login": "password"},
        }.items():
            project = running.enter_context(measure.baked(chosen.template, **answers))
            given = {**variables}
            if "rate_limit_storage" in answers:
                given["APP_RATELIMIT_STORAGE_URI"] = redis_url
            if name == "accounts":
                migrate = [sys.executable, "-m", "flask", "db", "upgrade"]
                env = {**measure.VARIABLES, **given, "PYTHONPATH": str(project)}
                subprocess.run(migrate, cwd=project, env=env, check=True)  # noqa: S603
            cases[name] = partial(run, name, project, PROJECT, given)
        for once in cases.values():
            once()  # leaves bytecode
        found = {"start, CPU": measure.interleaved(cases, ROUNDS), "start, memory": memory}
        if measure.can_count():
            found["start, instructions"] = {
                name: count(*case.args[1:]) for name, case in cases.items()
            }
    measure.keep(chosen.keep, found)
    for what, values in found.items():
        print(what, json.dumps({n: round(v / values["bare Flask"], 2) for n, v in values.items()}))


if __name__ == "__main__":
    main()
