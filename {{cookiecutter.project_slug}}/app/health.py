"""Tell monitors and load balancers that this process answers, whatever Host and scheme they use.

They ask by address and over plain http, so these paths are answered before the protections,
and recognised by path: with an untrusted Host, Flask finds no endpoint.
"""

from flask import Flask, Response, jsonify, request


def init_app(app: Flask) -> None:
    """Answer the health paths ahead of every protection; call this before them."""
    answers = {"/healthz": healthz, "/readyz": readyz}

    @app.before_request
    def answer_monitors() -> Response | None:
        if request.method in ("GET", "HEAD") and request.path in answers:
            return answers[request.path]()
        return None

    for path, answer in answers.items():
        app.add_url_rule(path, view_func=answer)


def healthz() -> Response:
    """Answer that the process is alive; touch nothing else."""
    return jsonify(status="ok")


def readyz() -> Response:
    """Answer whether visitors can be served; this application depends on nothing else yet."""
    return Response("ready\n", mimetype="text/plain")
