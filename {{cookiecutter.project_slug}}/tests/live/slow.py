"""The application with a page that takes its time, and one that breaks off."""

import time
from collections.abc import Iterator

from flask import Flask, Response

from app import create_app

SLOW_S = 2
MORE_THAN_A_PROXY_KEEPS = 2_000_000  # bytes


def build() -> Flask:
    """Return the application with /slow, which answers after two seconds, and /broken."""
    app = create_app()

    @app.get("/slow")
    def slow() -> str:
        app.logger.warning("slow has begun")
        time.sleep(SLOW_S)
        return "done"

    @app.get("/broken")
    def broken() -> Response:
        def parts() -> Iterator[bytes]:
            yield b"x" * MORE_THAN_A_PROXY_KEEPS
            raise ConnectionError

        return Response(parts())

    return app
