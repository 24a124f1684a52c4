"""What holds for every address, those that you add among them (ASVS 2.2, 3.3, 4.1, 4.2)."""

import json
import re
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from flask import Flask, Response, request
from flask.testing import FlaskClient
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from app import create_app
from tests.conftest import UNSAFE_METHODS, Browser, api_token, csrf_token
from tests.production import HOST, KEY, SETTINGS

OFTEN = "100000 per minute"
# They take nothing: whatever is sent along is not read.
TAKES_NOTHING = {"login.logout", "login_api.end", "login.end_session", "login.end_other_sessions"}
TYPED = {
    "name": "Ada",
    "email": "ada@example.com",
    "message": "Hello",
    "password": "seven quiet lanterns",
    "new_password": "seven quiet lanterns",
    "confirm_password": "seven quiet lanterns",
}


@pytest.fixture(scope="module")
def site() -> Flask:
    """Return an application that answers as often as it is asked."""
    limits = {"RATELIMIT_DEFAULT": OFTEN, "RATELIMIT_STRICT": OFTEN}
    app = create_app(**{**SETTINGS, "SECRET_KEY": KEY, **limits})
    app.test_client_class = Browser
    app.add_url_rule("/asked", "asked", view_func=lambda: Response(request.args["q"]))
    app.add_url_rule(
        "/told", "told", view_func=lambda: Response("told", headers={"X-Told": request.args["q"]})
    )
    return app


def path_of(rule: Rule) -> str:
    """Return an address that a rule answers."""
    path = rule.rule.replace("<path:filename>", "style.css").replace("<int:number>", "1")
    assert "<" not in path, "a path with a variable needs a value here"
    return path


def rules(site: Flask) -> Iterator[tuple[Rule, str]]:
    """Yield every rule but the two of this file, and an address of it."""
    for rule in site.url_map.iter_rules():
        if rule.rule not in ("/asked", "/told"):
            yield rule, path_of(rule)


@pytest.fixture(scope="module")
def answers(site: Flask) -> list[TestResponse]:
    """Return what each address answers to each kind of method, and what unknown ones do."""
    paths = {path for _, path in rules(site)} | {"/static/icon.svg", "/nowhere", "/api/nowhere"}
    return [
        site.test_client().open(path, method=method)
        for path in sorted(paths)
        for method in ("GET", "HEAD", "OPTIONS", "POST", "TRACE")
    ]


def test_every_answer_says_what_and_how_long_it_is(answers: list[TestResponse]) -> None:
    for answer in answers:
        asked = (answer.request.method, answer.request.path, answer.status_code)
        if answer.request.method == "HEAD" or answer.status_code in (204, 304):
            assert answer.data == b"", asked
            continue
        assert int(answer.headers["Content-Length"]) == len(answer.data), asked
        if answer.data:
            kind = answer.headers["Content-Type"]
            is_text = kind.startswith("text/") or "+xml" in kind
            assert kind == f"{answer.mimetype}; charset=utf-8" if is_text else kind, asked


def test_no_script_holds_what_is_somebodys(answers: list[TestResponse]) -> None:
    assert [
        answer.request.path
        for answer in answers
        if "javascript" in str(answer.mimetype) and not answer.request.path.startswith("/static/")
    ] == []


def test_no_address_sets_another_kind_of_cookie(answers: list[TestResponse]) -> None:
    seen = 0
    for answer in answers:
        for cookie in answer.headers.getlist("Set-Cookie"):
            named, *attributes = cookie.split("; ")
            name, _, value = named.partition("=")
            assert name.startswith("__Host-"), answer.request.path
            assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= set(attributes)
            assert len(named) <= 4096
            assert not value or value not in answer.text
            seen += 1
    assert seen


def test_no_address_takes_a_method_that_it_does_not_name(site: Flask) -> None:
    client = site.test_client()
    for _, path in rules(site):
        takes = {
            method
            for other, where in rules(site)
            if where == path
            for method in other.methods or ()
        }
        for method in {"PUT", "DELETE", "TRACE", "FOO"} - takes:
            answer = client.open(path, method=method)
            assert answer.status_code == 405, (method, path)
            assert set(answer.headers["Allow"].split(", ")) == takes
        overridden = client.get(path, headers={"X-HTTP-Method-Override": "DELETE"})
        assert (overridden.status_code == 405) == ("GET" not in takes), path


def test_a_link_changes_nothing(site: Flask) -> None:
    for rule, path in rules(site):
        if not set(UNSAFE_METHODS) & (rule.methods or set()):
            continue
        client = site.test_client()
        token = api_token(client)["X-CSRFToken"]
        query = {**TYPED, "current_password": TYPED["password"], "csrf_token": token}
        with client.session_transaction(base_url=f"https://{HOST}") as session:
            before = dict(session)
        for method in ("GET", "HEAD", "OPTIONS"):
            client.open(path, method=method, query_string=query)
        with client.session_transaction(base_url=f"https://{HOST}") as session:
            assert dict(session) == before, path
        # A token in an address is none: addresses stand in histories and logs.
        answer = client.post(path, query_string=query)
        assert answer.status_code in (400, 405, 415), path


def wrong_bodies() -> Iterator[dict[str, Any]]:
    """Yield what nobody's form and no front end sends."""
    for shape in ([TYPED], "text", None):
        yield {"data": json.dumps(shape), "content_type": "application/json"}
    for value in (None, ["ada@example.com"], {"$ne": ""}, 7, "x" * 10_000):
        body = json.dumps(dict.fromkeys(TYPED, value))
        yield {"data": body, "content_type": "application/json"}
    yield {"data": "<a/>", "content_type": "application/xml"}
    yield {"data": {}}
    yield {"data": dict.fromkeys(TYPED, "")}
    yield {"data": dict.fromkeys(TYPED, "x" * 10_000)}
    yield {"data": {f"{name}[]": [value] for name, value in TYPED.items()}}
    yield {"data": b"\xff\xfe=\x00", "content_type": "application/x-www-form-urlencoded"}
    yield {"data": b"--x", "content_type": "multipart/form-data; boundary=x"}


def test_what_has_another_shape_is_refused_everywhere(site: Flask) -> None:
    for rule, path in rules(site):
        for method in set(UNSAFE_METHODS) & (rule.methods or set()):
            if rule.endpoint in TAKES_NOTHING:
                continue
            client = site.test_client()
            token = api_token(client)
            for body in wrong_bodies():
                status = client.open(path, method=method, headers=token, **body).status_code
                signed_out = status == 303 and path.startswith("/account")
                assert signed_out or 400 <= status < 500, (method, path, body)


def test_a_file_is_no_text(site: Flask) -> None:
    for rule, path in rules(site):
        for method in set(UNSAFE_METHODS) & (rule.methods or set()):
            client = site.test_client()
            token = api_token(client)
            for name in TYPED:
                body = {**TYPED, name: (BytesIO(b"text"), "a.txt")}
                answer = client.open(path, method=method, headers=token, data=body)
                assert answer.status_code < 500, (method, path, name)


def test_what_is_sent_twice_encoded_is_decoded_once(site: Flask) -> None:
    client = site.test_client()
    assert client.get("/asked?q=%252e%253Cb%253E").text == "%2e%3Cb%3E"
    assert client.get("/static/%252e%252e/%252e%252e/settings.toml").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/static/../config.py",
        "/static/..%2fconfig.py",
        "/static/%2e%2e/config.py",
        "/static/..%5cconfig.py",
        "/static/../../.env",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/style.css%00.html",
        "/static/",
    ],
)
def test_no_path_leads_out_of_the_static_files(site: Flask, path: str) -> None:
    answer = site.test_client().get(path, follow_redirects=True)
    assert answer.status_code == 404
    assert "SECRET_KEY" not in answer.text


def test_a_template_in_an_address_is_text(site: Flask) -> None:
    expression = "{" * 2 + "7*7" + "}" * 2
    client = site.test_client()
    for path in (f"/{expression}", f"/api/{expression}", f"/contact?name={expression}"):
        assert "49" not in re.sub(
            r'[0-9a-f]{32}|value="[^"]*"|nonce-\S+', "", client.get(path).text
        )


@pytest.mark.parametrize("name", ["callback", "jsonp", "cb"])
def test_no_json_is_a_script(client: FlaskClient, name: str) -> None:
    answer = client.get("/api/ping", query_string={name: "alert"})
    assert answer.content_type == "application/json"
    assert answer.get_json() == {"message": "pong"}


def test_a_line_break_makes_no_header(site: Flask) -> None:
    answer = site.test_client().get("/told", query_string={"q": "x\r\nX-Forged: 1"})
    assert answer.status_code == 500
    assert "X-Forged" not in answer.headers


def test_what_is_typed_stays_in_its_attribute(client: FlaskClient) -> None:
    typed = "\"' onfocus=x <b>" + "x" * 100  # too long, so that it is shown again
    data = {"name": typed, "csrf_token": csrf_token(client.get("/contact"))}
    page = client.post("/contact", data=data).text
    assert 'value="&#34;&#39; onfocus=x &lt;b&gt;x' in page
