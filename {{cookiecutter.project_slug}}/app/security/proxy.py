"""Believe X-Forwarded-For and X-Forwarded-Proto only from a counted number of proxies.

A client can send these headers as well as a proxy can.
Count one proxy too many, and the client chooses the address that limits and logs see;
count one too few, and every visitor is the same proxy (ASVS 4.1.3).
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Config, Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from ..problem import Problem

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MOST_HOPS = 5


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
    """Drop the headers before the application: Talisman believes X-Forwarded-Proto by itself."""

    def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        for name in [n for n in environ if n.startswith(("HTTP_X_FORWARDED", "HTTP_FORWARDED"))]:
            del environ[name]
        return wsgi_app(environ, start_response)

    return application
