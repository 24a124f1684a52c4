"""Tell monitors and load balancers that this process answers, whatever Host and scheme they use.

They ask by address and over plain http, so these paths are answered before the protections,
and recognised by path: with an untrusted Host, Flask finds no endpoint.
"""

import time
from collections.abc import Callable

from flask import Flask, Response, current_app, jsonify, request

from .security import rate_limits

KEPT_S = 1
# A part that needs something else to be there adds it, as app/login does with its database.
DEPENDENCIES: dict[str, Callable[[], bool]] = {"limit storage": rate_limits.store_answers}


def init_app(app: Flask) -> None:
    """Answer the health paths ahead of every protection; call this before them."""
    answers = {"/healthz": healthz, "/readyz": readyz}

    @app.before_request
    def answer_monitors() -> Response | None:
        if request.path in answers and request.method in ("GET", "HEAD"):
            return answers[request.path]()
        return None

    for path, answer in answers.items():
        app.add_url_rule(path, view_func=answer)


def healthz() -> Response:
    """Answer that the process is alive; touch nothing else."""
    return jsonify(status="ok")


def readyz() -> Response:
    """Answer 200 or 503, one line per dependency; the answer is kept for a second."""
    kept: tuple[float, list[str]] | None = current_app.extensions.get("readyz")
    if kept is None or kept[0] < time.monotonic():
        lines = [
            f"{name}: {'ok' if answers() else 'down'}" for name, answers in DEPENDENCIES.items()
        ]
        kept = current_app.extensions["readyz"] = (time.monotonic() + KEPT_S, lines)
    status = 200 if all(line.endswith("ok") for line in kept[1]) else 503
    return Response("\n".join([*kept[1], ""]), status, mimetype="text/plain")
