"""No answer of ours leaves without the headers that bind the browser."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from flask import Flask, Response, abort
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from app.problem import Refusal
from app.security import headers
from tests.conftest import Browser, MakeApp
from tests.production import HOST, KEY, SETTINGS

ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Permitted-Cross-Domain-Policies": "none",
    "X-DNS-Prefetch-Control": "off",
}
ABSENT = (
    "X-XSS-Protection Expect-CT Public-Key-Pins Feature-Policy Pragma X-Powered-By Server "
    "Clear-Site-Data"
).split()
NO_STORE = "no-store, max-age=0"
DATA_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
)
PAGE_POLICY = {
    "default-src 'none'",
    "style-src 'self'",
    "img-src 'self'",
    "font-src 'self'",
    "connect-src 'self'",
    "manifest-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "object-src 'none'",
    "frame-ancestors 'none'",
    "upgrade-insecure-requests",
    "report-uri /csp-report",
    "report-to csp",
}
STATUSES = (400, 401, 403, 404, 405, 413, 415, 422, 429, 500, 503)


def assert_headers(answer: TestResponse, scheme: str = "https") -> None:
    """Check what every answer of that scheme, kind and status has to carry."""
    headers = answer.headers
    assert {name: headers.get(name) for name in ALWAYS} == ALWAYS
    assert [name for name in ABSENT if name in headers] == []
    features = headers["Permissions-Policy"].split(", ")
    assert "camera=()" in features
    assert [feature for feature in features if not re.fullmatch(r"[a-z-]+=\(\)", feature)] == []
    transport = "max-age=63072000; includeSubDomains" if scheme == "https" else None
    assert headers.get("Strict-Transport-Security") == transport
    policy = headers["Content-Security-Policy"]
    if answer.mimetype == "text/html":
        directives = {part.strip() for part in policy.split(";")}
        assert directives >= PAGE_POLICY
        scripts = r"script-src 'strict-dynamic'( 'nonce-[\w-]{22,}')?"
        assert any(re.fullmatch(scripts, part) for part in directives)
    else:
        assert policy == DATA_POLICY
    is_page = answer.mimetype == "text/html"
    assert headers.get("Reporting-Endpoints") == ('csp="/csp-report"' if is_page else None)
    embedder = "require-corp" if is_page or answer.status_code < 400 else None
    assert headers.get("Cross-Origin-Embedder-Policy") == embedder
    if answer.request.path.startswith("/static/") and answer.status_code == 200:
        assert headers["Cache-Control"] == "no-cache"
    else:
        assert headers["Cache-Control"] == NO_STORE
    assert all(len(headers.getlist(name)) == 1 for name, _ in headers if name != "Vary")


def broken() -> str:
    raise RuntimeError("the attack")


def every_kind() -> Flask:
    """Return an application that can be made to answer in every way."""
    app = create_app(**{**SETTINGS, "SECRET_KEY": KEY})
    app.test_client_class = Browser
    app.add_url_rule("/broken", view_func=broken)
    app.add_url_rule("/json", view_func=lambda: {"a": 1})
    for prefix in ("", "/api"):
        app.add_url_rule(f"{prefix}/abort/<int:code>", prefix, view_func=abort)
    return app


@pytest.fixture(scope="module")
def talkative() -> Flask:
    """Return one such application for all who only ask."""
    return every_kind()


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/contact", 200),
        ("GET", "/json", 200),
        ("GET", "/healthz", 200),
        ("GET", "/static/style.css", 200),
        ("POST", "/contact", 400),
        ("GET", "/nowhere", 404),
        ("GET", "/static/nowhere", 404),
        ("GET", "/api/nowhere", 404),
        ("DELETE", "/contact", 405),
        ("POST", "/api/ping", 400),
        ("POST", "/csp-report", 415),
        ("GET", "/.well-known/security.txt", 200),
        ("GET", "/broken", 500),
        *(
            ("GET", f"{prefix}/abort/{status}", status)
            for prefix in ("", "/api")
            for status in STATUSES
        ),
    ],
)
def test_every_kind_of_answer(
    talkative: Flask, method: str, path: str, status: int, scheme: str
) -> None:
    talkative.extensions["rate_limits"].reset()
    answer = talkative.test_client().open(path, method=method, base_url=f"{scheme}://{HOST}")
    if scheme == "https" or path == "/healthz":
        assert answer.status_code == status
    assert_headers(answer, scheme)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("path", ["/", "/json", "/api/ping"])
def test_an_after_request_that_raises_takes_no_header_away(path: str, scheme: str) -> None:
    app = every_kind()

    @app.after_request
    def raises(response: Response) -> Response:
        raise RuntimeError("the attack")

    answer = app.test_client().get(path, base_url=f"{scheme}://{HOST}")
    assert answer.status_code == 500
    assert_headers(answer, scheme)


def test_every_page_has_a_nonce_of_its_own(make_app: MakeApp) -> None:
    app = make_app()
    app.add_url_rule(
        "/page", view_func=cast("Callable[[], str]", app.jinja_env.globals["csp_nonce"])
    )
    nonces = set()
    for _ in range(3):
        answer = app.test_client().get("/page")
        policy = answer.headers["Content-Security-Policy"]
        assert f"'nonce-{answer.text}'" in re.search("script-src[^;]*", policy)[0]  # type: ignore[index]
        assert len(answer.text) >= 22  # 128 bits
        nonces.add(answer.text)
    assert len(nonces) == 3


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_no_two_processes_draw_the_same(make_app: MakeApp) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows does not fork")
    client = make_app().test_client()

    def draw() -> str:
        headers = client.get("/").headers
        nonce = re.search(r"'nonce-([\w-]+)'", headers["Content-Security-Policy"])
        return f"{nonce and nonce[1]} {headers['X-Request-ID']} "

    drawn = draw().split()  # before the fork, as gunicorn --preload does
    for _ in range(4):
        reader, writer = os.pipe()
        if not (child := os.fork()):
            os.write(writer, "".join(draw() for _ in range(20)).encode())
            os._exit(0)
        os.waitpid(child, 0)
        drawn += os.read(reader, 65_536).decode().split()
        os.close(reader)
        os.close(writer)
    assert len(set(drawn)) == len(drawn) == 2 * 81


@pytest.mark.parametrize(("path", "page"), [("/", True), ("/api/ping", False)])
def test_every_header_is_as_it_is_promised(client: FlaskClient, path: str, page: bool) -> None:
    promised = headers.promised({**SETTINGS, "CSP_EXTRA": {}}, page=page)
    sent = client.get(path).headers
    assert {name: re.sub(r" 'nonce-[^']*'", "", sent[name]) for name in promised} == promised
    bound = {"Content-Security-Policy", "Cross-Origin-Embedder-Policy", "Strict-Transport-Security"}
    assert {*ALWAYS, *bound, "Permissions-Policy"} <= set(promised)
    assert ("Reporting-Endpoints" in promised) is page


def test_what_has_no_type_is_no_page(make_app: MakeApp) -> None:
    app = make_app()

    def untyped() -> Response:
        response = Response("<script>")
        del response.headers["Content-Type"]
        return response

    app.add_url_rule("/untyped", view_func=untyped)
    answer = app.test_client().get("/untyped")
    assert answer.status_code == 200
    assert answer.headers["Content-Security-Policy"] == DATA_POLICY


def test_what_a_view_says_of_https_is_not_said_twice(make_app: MakeApp) -> None:
    app = make_app()
    own = {"Strict-Transport-Security": "max-age=1"}
    app.add_url_rule("/own", view_func=lambda: ("", own))
    assert app.test_client().get("/own").headers.getlist(*own) == ["max-age=1"]


def test_a_server_is_told_what_broke_after_the_headers(make_app: MakeApp) -> None:
    app, told = make_app(), []

    def broken(_environ: object, start_response: Callable[..., object]) -> list[bytes]:
        try:
            raise RuntimeError("the attack")
        except RuntimeError:
            start_response("500 INTERNAL SERVER ERROR", [], sys.exc_info())
        return []

    app.wsgi_app = broken  # type: ignore[assignment,method-assign]
    environ = {"wsgi.url_scheme": "https"}
    headers._floor(app, {})(environ, lambda *given: told.extend(given))  # type: ignore[arg-type]
    assert told[0] == "500 INTERNAL SERVER ERROR"
    assert told[2][0] is RuntimeError  # PEP 3333: else the server could not know


def test_a_refused_form_has_a_nonce_too(client: FlaskClient) -> None:
    policy = client.post("/contact").headers["Content-Security-Policy"]
    assert re.search(r"script-src[^;]* 'nonce-[\w-]{22,}'", policy)


def test_a_second_application_changes_nothing_for_the_first(make_app: MakeApp) -> None:
    first = make_app()
    make_app(HSTS_INCLUDE_SUBDOMAINS=False, CSP_EXTRA={"img-src": ["https://images.example.com"]})
    answer = first.test_client().get("/contact")
    assert_headers(answer)
    assert "images.example.com" not in answer.headers["Content-Security-Policy"]
    assert "; Secure;" in answer.headers["Set-Cookie"]


def test_each_loosening_is_one_setting(make_app: MakeApp) -> None:
    app = make_app(
        HSTS_INCLUDE_SUBDOMAINS=False,
        CROSS_ORIGIN_EMBEDDER_POLICY="credentialless",
        CSP_EXTRA={
            "img-src": ["https://images.example.com"],
            "frame-src": ["https://a.example"],
            "script-src": ["https://b.example"],
        },
    )
    for path in ("/", "/nowhere"):
        headers = app.test_client().get(path).headers
        assert headers["Strict-Transport-Security"] == "max-age=63072000"
        assert headers["Cross-Origin-Embedder-Policy"] == "credentialless"
        directives = headers["Content-Security-Policy"].split("; ")
        assert "img-src 'self' https://images.example.com" in directives
        assert "frame-src https://a.example" in directives
        scripts = r"script-src 'strict-dynamic' https://b\.example 'nonce-[\w-]{22,}'"
        assert any(re.fullmatch(scripts, directive) for directive in directives)


@pytest.mark.parametrize("path", ["/contact", "/api/csrf", "/account"])
@pytest.mark.parametrize("file", ["/x.css", ";x.css", "%2fx.css", ".css", "%00.css", "/..%2fx.css"])
def test_a_page_that_is_asked_for_as_a_file_is_not_kept(
    client: FlaskClient, path: str, file: str
) -> None:
    answer = client.get(f"{path}{file}")
    assert answer.status_code == 404
    assert answer.headers["Cache-Control"] == NO_STORE


def test_a_file_with_a_hash_in_its_name_is_kept(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app()
    app.static_folder = str(tmp_path)
    app.add_url_rule("/report.3f9a2c1b.html", view_func=lambda: "what only you may read")
    (tmp_path / "style.3f9a2c1b.css").write_text("")
    answer = app.test_client().get("/static/style.3f9a2c1b.css")
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    missing = app.test_client().get("/static/missing.3f9a2c1b.css")
    assert (missing.status_code, missing.headers["Cache-Control"]) == (404, NO_STORE)
    answer = app.test_client().get("/report.3f9a2c1b.html")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, NO_STORE)


@pytest.mark.parametrize(
    ("directive", "source"),
    [
        ("script-src", "'unsafe-inline'"),
        ("script-src", "'UNSAFE-EVAL'"),
        ("script-src", "*"),
        ("script-src", "data:"),
        ("script-src", "BLOB:"),
        ("script-src", "filesystem:"),
        ("script-src", "https:"),
        ("worker-src", "data:"),
        ("img-src", "http:"),
        ("style-src", "'unsafe-inline'"),
        ("img-src", "*"),
        ("img-src", "HTTPS://*"),
        ("img-src", "*:*"),
        ("img-src", "*:443"),
        ("connect-src", "wss:"),
        ("connect-src", "ws://*/"),
        ("form-action", "https://*:*"),
        ("img-src", "https://例え.example"),
        ("img-src", "https://a.example; script-src *"),
        ("img-src", ""),
    ],
)
def test_a_source_that_lets_everyone_in_is_refused(
    make_app: MakeApp, directive: str, source: str
) -> None:
    with pytest.raises(Refusal, match="csp-extra-open"):
        make_app(CSP_EXTRA={directive: [source]})


@pytest.mark.parametrize(
    ("directive", "source"),
    [
        ("img-src", "data:"),
        ("font-src", "data:"),
        ("script-src", "https://a.example"),
        ("worker-src", "https://a.example"),
    ],
)
def test_a_source_that_is_named_is_accepted(make_app: MakeApp, directive: str, source: str) -> None:
    assert make_app(CSP_EXTRA={directive: [source]}).config["CSP_EXTRA"] == {directive: [source]}


@pytest.mark.parametrize("policy", ["require-corp", "credentialless", "unsafe-none"])
def test_a_known_embedder_policy_is_sent(make_app: MakeApp, policy: str) -> None:
    answer = make_app(CROSS_ORIGIN_EMBEDDER_POLICY=policy).test_client().get("/")
    assert answer.headers["Cross-Origin-Embedder-Policy"] == policy


@pytest.mark.parametrize("directive", ["default-src", "base-uri", "frame-ancestors", "img_src"])
def test_a_directive_that_must_stay_closed_is_refused(make_app: MakeApp, directive: str) -> None:
    with pytest.raises(Refusal, match="csp-extra-directive"):
        make_app(CSP_EXTRA={directive: ["https://a.example"]})


def test_an_unknown_embedder_policy_is_refused(make_app: MakeApp) -> None:
    with pytest.raises(Refusal, match="coep-unknown"):
        make_app(CROSS_ORIGIN_EMBEDDER_POLICY="none")
