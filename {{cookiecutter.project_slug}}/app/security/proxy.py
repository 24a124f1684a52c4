"""Believe X-Forwarded-For and X-Forwarded-Proto only from a counted number of proxies.

A client can send these headers as well as a proxy can.
Count one proxy too many, and the client chooses the address that limits and logs see;
count one too few, and every visitor is the same proxy (ASVS 4.1.3).
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Config, Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from ..problem import Problem

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MOST_HOPS = 5
BIND = re.compile(r"unix:/\S+|([\w.-]+|\[[0-9a-f:]+\]):\d{1,5}", re.ASCII)
# Azure's gateways write the client's port behind its address.
WITH_PORT = re.compile(r"([0-9.]+):\d+|\[([0-9A-Fa-f:.]+)\](?::\d+)?")


def init_app(app: Flask) -> None:
    """Take the visitor's address and scheme from the proxies, then hide what they sent."""
    wsgi_app = _without_forwarded(app.wsgi_app)
    if hops := app.config["PROXY_HOPS"]:
        # The address is counted from the right. The scheme is what the nearest proxy says: it
        # overwrites the header. Host comes as Host; a client could reach x_host, _port, _prefix.
        wsgi_app = ProxyFix(wsgi_app, x_for=hops, x_proto=1, x_host=0, x_port=0, x_prefix=0)
    app.wsgi_app = wsgi_app  # type: ignore[assignment,method-assign]


def problems(config: Config) -> Iterator[Problem]:
    """Yield a number of hops that cannot be counted, and half a certificate."""
    hops = config["PROXY_HOPS"]
    if hops == 0 and not config["DEBUG"]:
        yield Problem(
            "proxy-none",
            "PROXY_HOPS is 0: gunicorn ends TLS itself, has no http port beside it, "
            "and no defence against slow clients.",
            "For a private network. On the internet put nginx, Caddy or a load balancer in front, "
            "and count it: PROXY_HOPS = 1",
            level="note",
        )
    if not BIND.fullmatch(config["BIND"]):
        yield Problem(
            "bind-unreadable",
            f"BIND is {config['BIND']!r}, which is no address and port.",
            'An address and a port, or a socket: BIND = "127.0.0.1:8000", "unix:/run/app.sock"',
        )
    if not 0 <= hops <= MOST_HOPS:
        yield Problem(
            "proxy-hops",
            f"PROXY_HOPS is {hops}; between 0 and {MOST_HOPS} proxies stand in front.",
            "Count the proxies between the visitor and this application: PROXY_HOPS = 1",
        )
    files = {name: config[name] for name in ("TLS_CERT_FILE", "TLS_KEY_FILE")}
    for name, path in files.items():
        if path and not Path(path).is_file():
            yield Problem(
                "tls-file-missing",
                f"{name}: there is no file {path}.",
                f'Name the PEM file: {name} = "/etc/ssl/private/app.pem"',
            )
        elif not path and any(files.values()):
            yield Problem(
                "tls-file-unnamed",
                f"{name} is empty, and the other TLS file is not.",
                "Name both TLS_CERT_FILE and TLS_KEY_FILE, or neither.",
            )


def _without_forwarded(wsgi_app: "WSGIApplication") -> "WSGIApplication":
    """Drop the headers before the application: Talisman believes X-Forwarded-Proto by itself.

    What ProxyFix has taken from them stays, as an address without a port.
    """

    def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        for name in [n for n in environ if n.startswith(("HTTP_X_FORWARDED", "HTTP_FORWARDED"))]:
            del environ[name]
        if found := WITH_PORT.fullmatch(environ.get("REMOTE_ADDR", "")):
            environ["REMOTE_ADDR"] = found[1] or found[2]
        return wsgi_app(environ, start_response)

    return application
