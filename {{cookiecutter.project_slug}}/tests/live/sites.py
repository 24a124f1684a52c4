"""Other people's sites: every page of theirs is blank, and a test writes its attack into it."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from tests.production import FRONT_END

SIBLING = "https://sibling.example.com"  # on our site, so that the visitor's cookies go with it
EVIL = "https://evil.example"
SITES = (FRONT_END, SIBLING, EVIL)
SANDBOXED = f"{FRONT_END}/sandboxed"  # its origin is `null`

PAGE = b"<!doctype html><title>blank</title>"


class _Blank(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        if self.path == "/sandboxed":
            self.send_header("Content-Security-Policy", "sandbox allow-scripts allow-forms")
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay silent."""


@contextmanager
def served_blank(certificate: str, key: str) -> Iterator[int]:
    """Serve them all over https until the block ends; yield the port."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Blank) as server:
        # A handshake on connect would be the listener's, and one slow client would stop them all.
        server.socket = tls.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
