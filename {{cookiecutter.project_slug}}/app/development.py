"""Tell development from production: a debugger in production runs code for strangers.

Development is `flask run --debug` on a loopback address and nothing else.
FLASK_RUN_FROM_CLI proves nothing: it is set for every flask command.
"""

import ipaddress
from collections.abc import Iterator

import click
from flask.cli import run_command
from flask.helpers import get_debug_flag
from werkzeug.serving import is_running_from_reloader

from .problem import Problem

NOTICE = (
    "Development: https is not required, HSTS and upgrade-insecure-requests are not sent, "
    "the cookie is `session` without Secure, and localhost is a trusted host; "
    "every other protection is on."
)


def running() -> bool:
    """Return whether Flask's development server, in debug mode, on loopback, is starting us."""
    host = _development_server_host()
    return host is not None and get_debug_flag() and _is_loopback(host)


def problems() -> Iterator[Problem]:
    """Yield what only looks like development."""
    host = _development_server_host()
    if host is None:
        if get_debug_flag():
            yield Problem(
                "debug-outside-development",
                "FLASK_DEBUG is set, and this is not Flask's development server.",
                "Unset FLASK_DEBUG (look in .env too); to develop, type: uv run flask run --debug",
            )
    elif not get_debug_flag():
        yield Problem(
            "development-server-without-debug",
            "`flask run` without --debug is neither development nor production.",
            "To develop, type: uv run flask run --debug  In production, type: uv run gunicorn",
        )
    elif not _is_loopback(host):
        yield Problem(
            "debug-on-a-network",
            f"`flask run --debug` on {host} offers a debugger to everyone who can reach it.",
            "Leave out --host and FLASK_RUN_HOST; type: uv run flask run --debug",
        )


def announce() -> None:
    """Say once, on stderr, which protections development goes without."""
    if running() and not is_running_from_reloader():
        click.echo(NOTICE, err=True)


def _development_server_host() -> str | None:
    context = click.get_current_context(silent=True)
    if context is None or context.command is not run_command:
        return None
    return str(context.params["host"])


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
