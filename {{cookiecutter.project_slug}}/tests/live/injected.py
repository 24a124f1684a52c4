"""Our application with a hole in it: one more page, into which somebody wrote a script."""

from collections.abc import Callable
from typing import cast

from flask import Flask

import app

INJECTED = """<!doctype html><title>ours</title>
<script>document.title = "owned"</script>
<body onload="document.title = 'owned'">
"""
OURS = """<!doctype html><title>blank</title>
<script nonce="%s">document.title = "ours"</script>
"""


def create_app() -> Flask:
    """Return the application, and beside the hole a page whose script is our own."""
    application = app.create_app()
    application.add_url_rule("/injected", "injected", lambda: INJECTED)
    nonce = cast("Callable[[], str]", application.jinja_env.globals["csp_nonce"])
    application.add_url_rule("/ours", "ours", lambda: OURS % nonce())
    return application
