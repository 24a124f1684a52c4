"""How gunicorn serves this application. Type: uv run gunicorn.

https://gunicorn.org/reference/settings/
"""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.http.errors import ParseException

from app import checks, create_app
from app.problem import Problem, Refusal

settings, problems = checks.examine({})
certificates = settings["TLS_CERT_FILE"] and settings["TLS_KEY_FILE"]
counts_per_process = settings["RATELIMIT_STORAGE_URI"].startswith("memory:")

# Threads serve visitors in parallel; more processes need limits that are counted in one place.
count = os.environ.get("WEB_CONCURRENCY") or "1"
workers = int(count) if count.isdecimal() else 0

if not settings["PROXY_HOPS"] and not certificates:
    problems.append(
        Problem(
            "tls-missing",
            "PROXY_HOPS is 0 and there is no certificate: nobody could reach a page over https.",
            'Set PROXY_HOPS = 1 behind a proxy that ends TLS, or TLS_CERT_FILE = "/path/cert.pem" '
            'and TLS_KEY_FILE = "/path/key.pem".',
        )
    )

wsgi_app = "app:create_app()"
# A platform that sets PORT connects from outside.
bind = f"0.0.0.0:{os.environ['PORT']}" if os.environ.get("PORT") else settings["BIND"]

worker_class = "gthread"
threads = 8

if certificates:
    certfile = settings["TLS_CERT_FILE"]
    keyfile = settings["TLS_KEY_FILE"]
    # For TLS 1.2 those of Mozilla's intermediate: Python's own choice has CBC as well.
    ciphers = "ECDHE+AESGCM:ECDHE+CHACHA20"

# What a client can send, gunicorn must not believe; app/security/proxy.py counts the proxies.
secure_scheme_headers: dict[str, str] = {}
forwarder_headers = ""
# Off: a way in that nothing here needs.
control_socket_disable = True

timeout = 30  # seconds a worker may be silent before it is replaced
graceful_timeout = 30  # seconds for requests in flight at a stop
# A worker is replaced now and then, so that no leak lives long; one whose limits are counted in
# its memory is not: whoever floods it would be given a fresh allowance.
max_requests = 0 if counts_per_process else 20_000
max_requests_jitter = max_requests // 10

accesslog = "-"
logger_class = "app.access_log.AccessLog"

UNREAD_S = 2  # as long as gunicorn lingers over what it reads itself
most_unread = 2 * settings["MAX_CONTENT_LENGTH"]  # bytes; a proxy lets a little over the one pass


def on_starting(server: Arbiter) -> None:
    """Refuse in the first process, once, before a worker is made or a socket opened."""
    asked = server.cfg.workers  # by --workers or GUNICORN_CMD_ARGS, which count more
    found = [*problems, *checks.processes(settings, count if asked == workers else str(asked))]
    if wrong := [problem for problem in found if problem.level == "error"]:
        raise Refusal(wrong)
    create_app()  # it may refuse for what no setting shows, such as a database


def post_request(
    _worker: object, _request: object, environ: Mapping[str, Any], _answer: object
) -> None:
    """Read what nobody has read of a body that was refused, for a moment.

    gunicorn closes after 64 KiB of it: a proxy that is still sending sees its connection broken,
    and answers 503 in the place of our refusal (RFC 9112, 9.6).
    """
    if not (connection := environ.get("gunicorn.socket")):
        return  # there was no request
    usual_s, until, left = connection.gettimeout(), time.monotonic() + UNREAD_S, most_unread
    with suppress(OSError, ParseException):
        while left > 0 and (rest_s := until - time.monotonic()) > 0:
            connection.settimeout(rest_s)
            if not (read := len(environ["wsgi.input"].read(min(left, 65_536)))):
                break
            left -= read
    with suppress(OSError):  # it has been closed
        connection.settimeout(usual_s)
