"""The application with one more page, which takes its time: for tests of reload and stop."""

import time

from flask import Flask

from app import create_app

SLOW_S = 2


def build() -> Flask:
    """Return the application with /slow, which answers after two seconds."""
    app = create_app()

    @app.get("/slow")
    def slow() -> str:
        app.logger.warning("slow has begun")
        time.sleep(SLOW_S)
        return "done"

    return app
