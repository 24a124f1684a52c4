"""Answer only for our own names.

With any Host believed, a visitor can be sent a link of ours that leads elsewhere,
and a page of another site can read ours after rebinding its own name to our address.
"""

import re
from collections.abc import Iterator
from importlib.metadata import version
from urllib.parse import urlsplit

from flask import Config, Flask, request
from packaging.version import Version
from werkzeug.exceptions import SecurityError

from ..problem import Problem

HOST = r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?"
NAME = re.compile(rf"\.?{HOST}")
SAFE_WERKZEUG = Version("3.1.9")  # from here on it checks the characters of Host
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def init_app(app: Flask) -> None:
    """Refuse, with 400 and before anything else, a Host that is not in TRUSTED_HOSTS.

    https://flask.palletsprojects.com/en/stable/config/#TRUSTED_HOSTS
    """
    trusted = app.config["TRUSTED_HOSTS"]
    if app.config["DEBUG"]:
        # Werkzeug cuts a trusted name at its first colon, so [::1] can never be one.
        app.config["TRUSTED_HOSTS"] = None

    @app.before_request
    def refuse_unknown_host() -> None:
        if isinstance(request.routing_exception, SecurityError):
            raise request.routing_exception
        if app.config["DEBUG"] and _name(request.host) not in (*trusted, *LOOPBACK):
            raise SecurityError


def problems(config: Config) -> Iterator[Problem]:
    """Yield an empty list, which means every host, names that never match, and a bad library."""
    if Version(version("werkzeug")) < SAFE_WERKZEUG:
        yield Problem(
            "werkzeug-known-bad",
            f"Werkzeug {version('werkzeug')} does not check which characters Host has.",
            f"Type: uv add 'werkzeug>={SAFE_WERKZEUG}'",
        )
    if not config["TRUSTED_HOSTS"]:
        yield Problem(
            "hosts-empty",
            "TRUSTED_HOSTS is empty: every Host header would be believed.",
            'Name the hosts to answer for: TRUSTED_HOSTS = ["app.example.com"]',
        )
    for host in config["TRUSTED_HOSTS"]:
        if not NAME.fullmatch(host):
            yield Problem(
                "host-never-matches",
                f"TRUSTED_HOSTS: {host!r} is not a host name.",
                "Lower case, no scheme, port, path, blank or wildcard; "
                'a leading dot for all subdomains: "app.example.com", ".example.com"',
            )


def _name(host: str) -> str | None:
    return urlsplit(f"//{host}").hostname
