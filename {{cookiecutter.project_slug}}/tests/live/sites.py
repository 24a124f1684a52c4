"""Other people's sites: every page of theirs is blank, and a test writes its attack into it."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

from tests.production import FRONT_END

if TYPE_CHECKING:
    from playwright.sync_api import Page

SIBLING = "https://sibling.example.com"  # on our site, so that the visitor's cookies go with it
EVIL = "https://evil.example"
SITES = (FRONT_END, SIBLING, EVIL)
SANDBOXED = f"{FRONT_END}/sandboxed"  # its origin is `null`

ASK = """async ([url, options]) => {
    try {
        const answer = await fetch(url, {credentials: "include", ...options});
        const headers = Object.fromEntries(answer.headers);
        return {status: answer.status, headers, body: await answer.json()};
    } catch (error) {
        return String(error);
    }
}"""
PAGE = b"<!doctype html><title>blank</title>"


def ask(page: "Page", url: str, **options: object) -> Any:  # noqa: ANN401
    """Fetch with cookies from where a page is; return the answer, or why there is none."""
    return page.evaluate(ASK, [url, options])


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
