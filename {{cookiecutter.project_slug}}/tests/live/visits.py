"""Every page that a person can meet here, in every state, as a browser comes to it.

What has an address is found by the routes; what a route does not tell is named here.
"""

import importlib
import secrets
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from flask import Flask, abort
from werkzeug.exceptions import HTTPException
from werkzeug.serving import make_server

from app import config, errors
from tests.conftest import Browser
from tests.production import HOST, ORIGIN

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

# An address for each route with a variable part: "/article/<int:number>": "/article/1"
EXAMPLES: Mapping[str, str] = {}
NO_PAGES = ("/api/", "/static/", "/refused/")

HAS_LOGIN = "LOGIN_SESSION_IDLE_S" in config.SETTINGS
COOKIE = "__Host-session"
SEE_OTHER = 303
DESKTOP = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 26_1 like Mac OS X) Version/26.1 Safari/605.1.15"

# Of a hundred letters, of 254 (RFC 5321), and of as many as are kept; none has a blank.
LONG_NAME = ("Donaudampfschifffahrtsgesellschaft" * 3)[:100]
LONG_EMAIL = f"{'a' * 64}@{'b' * 63}.{'c' * 63}.{'d' * 53}.example"
LONG_AGENT = "Mozilla/5.0(X11;Linux)" * 9

Come = Callable[[], object]


@contextmanager
def served(app: Flask, port: int, tls: tuple[str, str]) -> Iterator[None]:
    """Serve an application of this process over https until the block ends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*tls)
    server = make_server("127.0.0.1", port, app, threaded=True)
    # A handshake on connect would be the listener's, and a browser connects ahead of need.
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    server.ssl_context = context  # so that the application knows its scheme
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def refusals() -> list[type[HTTPException]]:
    """Return the refusals that have a class of their own in app/, in which a page may differ."""
    found, todo = [], [HTTPException]
    while todo:
        kinds = todo.pop().__subclasses__()
        found += [kind for kind in kinds if kind.__module__.startswith("app.") and kind.code]
        todo += kinds
    return sorted(found, key=lambda kind: kind.__name__)


def refuse(what: str) -> NoReturn:
    """End a request as the application does: by a status, or by a class of its own."""
    if what.isdecimal():
        abort(int(what))
    raise {kind.__name__: kind for kind in refusals()}[what]


class Visits:
    """A browser, an application that it visits, and what both need for the next visit."""

    def __init__(self, app: Flask, page: "Page") -> None:
        self.app, self.page = app, page
        app.add_url_rule("/refused/<what>", "refused", refuse)
        app.test_client_class = Browser

    def states(self) -> Iterator[tuple[str, Come]]:
        """Yield the name of each state of each page, and what brings the browser to it."""
        with self.setting(LOGIN_REGISTER=True):
            for name, path, is_open in self._pages():
                yield name, partial(self._open, path, is_open=is_open)
                if self._form().count():
                    yield f"{name}-sent-empty", self._send
        with self.setting(SITE_NAME=LONG_NAME):
            yield "home-long-name", partial(self._open, "/")
        long = {"name": "W" * 101, "email": LONG_EMAIL * 2, "message": "W" * 2_001}
        yield "contact-long-words", partial(self._contact, **long)
        yield "contact-sent", partial(self._contact, name="Ada")
        yield "contact-sent-long-name", partial(self._contact, name="W" * 100)
        for what in (*map(str, errors.SENTENCES), *(kind.__name__ for kind in refusals())):
            yield f"refused-{what}", partial(self._open, f"/refused/{what}")
        if HAS_LOGIN:
            yield "home-signed-in", partial(self._open, "/", is_open=False)
            yield "account-only-session", partial(self._open, "/account", is_open=False, agents=())
            many = {"email": LONG_EMAIL, "agents": (LONG_AGENT, "", PHONE)}
            yield "account-long-words", partial(self._open, "/account", is_open=False, **many)
            yield "account-session-ended", partial(self._press, "End this session")
            yield "logged-out-just-now", partial(self._press, "Sign out")
        if "LOGIN_REGISTER" in config.SETTINGS:
            yield "login-closed", partial(self._open, "/login")
            yield "login-for-more", partial(self._open, "/login", is_open=False)
        if "OIDC_ISSUER" in config.SETTINGS:
            yield "login-again", partial(self._open, "/login?again=yes")

    def routes(self) -> list[str]:
        """Return the routes that answer GET, but for data and files."""
        rules = self.app.url_map.iter_rules()
        found = (rule.rule for rule in rules if "GET" in (rule.methods or ()))
        return [route for route in found if not route.startswith(NO_PAGES)]

    @contextmanager
    def setting(self, **settings: object) -> Iterator[None]:
        """Change settings that this project has, until the block ends."""
        before = {name: self.app.config[name] for name in settings if name in config.SETTINGS}
        self.app.config.update({name: settings[name] for name in before})
        yield
        self.app.config.update(before)

    def _pages(self) -> Iterator[tuple[str, str, bool]]:
        """Yield the name and the address of each page, and whether anybody may see it."""
        stranger = self.app.test_client()
        for route in self.routes():
            path = EXAMPLES.get(route, route)
            self.forget_limits()
            answer = stranger.get(path)
            is_open = answer.status_code != SEE_OTHER
            if not is_open and answer.location.startswith("/login") and HAS_LOGIN:
                answer = self.somebody().get(path)
            if answer.status_code != SEE_OTHER and answer.mimetype == "text/html":
                yield path.strip("/").replace("/", "-") or "home", path, is_open

    def forget_limits(self) -> None:
        """Let nobody come too often."""
        self.app.extensions["rate_limits"].reset()

    def _open(self, path: str, *, is_open: bool = True, **known: Any) -> None:  # noqa: ANN401
        """Come to an address, as a stranger or as somebody who is signed in."""
        self.forget_limits()
        context = self.page.context
        context.clear_cookies()
        if not is_open:
            cookie = self.somebody(**known).get_cookie(COOKIE, domain=HOST)
            context.add_cookies([{"name": COOKIE, "value": cookie.value, "url": ORIGIN}])
        self.page.goto(ORIGIN + path)

    def somebody(self, email: str = "", agents: Sequence[str] = (PHONE,)) -> Any:  # noqa: ANN401
        """Return a client in which somebody is signed in, who also is with other agents."""
        # Not there in every project.
        login = importlib.import_module("tests.login")
        models = importlib.import_module("app.login.models")
        db = importlib.import_module("app.db").db
        email = email or login.EMAIL
        self.forget_everybody()
        with self.app.app_context():
            number = login.add(self.app, email)
            at = models.now() - 5 * 3_600
            times = {"created_at": at, "seen_at": at, login.PROVED_AT: at}
            for agent in agents:
                known = {"token_hash": secrets.token_hex(32), "address": "203.0.113.7", **times}
                db.session.add(models.LoginSession(user_id=number, agent=agent, **known))
            db.session.commit()
        return login.signed_in(self.app, email, DESKTOP)

    def forget_everybody(self) -> None:
        """Leave no account to other tests, which share the database, if the project has one."""
        if HAS_LOGIN:
            models = importlib.import_module("app.login.models")
            db = importlib.import_module("app.db").db
            with self.app.app_context():
                db.session.execute(models.User.__table__.delete())
                db.session.commit()

    def _form(self) -> "Locator":
        """Return the button of the form that the page sends to itself, if it has one."""
        path = urlsplit(self.page.url).path
        form = f'main form[method=post]:is([action="{path}"], [action^="{path}?"])'
        return self.page.locator(f"{form} [type=submit]")

    def _send(self) -> None:
        self._form().click()

    def _contact(self, **values: str) -> None:
        """Send the form, with good values where none are given."""
        self._open("/contact")
        for name, value in {"email": "ada@example.com", "message": "Hello", **values}.items():
            self.page.locator(f"[name={name}]").fill(value)
        self._send()

    def _press(self, name: str) -> None:
        """Press a button of one's own account, the last one of its name."""
        self._open("/account", is_open=False)
        self.page.get_by_role("button", name=name).last.click()
