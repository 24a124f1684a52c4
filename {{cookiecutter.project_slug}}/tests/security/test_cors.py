"""Only a site that is named can call the API with the visitor's cookies, or read an answer."""

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.problem import Refusal
from tests.conftest import MakeApp, api_token
from tests.production import FRONT_END, ORIGIN

FOREIGN = [
    "https://evil.example",
    "null",
    "http://www.example.com",
    "https://www.example.com:8443",
    "https://www.example.com.evil.example",
    "https://xwww.example.com",
    "https://wwwxexample.com",
    "https://example.com",
    "https://sibling.example.com",
    "HTTPS://WWW.EXAMPLE.COM.",
]


def ask_first(client: FlaskClient, headers: str) -> TestResponse:
    """Return the answer to an allowed origin's preflight for a POST with those headers."""
    return client.options(
        "/api/ping",
        headers={
            "Origin": FRONT_END,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": headers,
        },
    )


def test_an_allowed_origin_calls_the_api_and_reads_the_answer(client: FlaskClient) -> None:
    preflight = ask_first(client, "content-type, x-csrftoken")
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == FRONT_END
    assert preflight.headers["Access-Control-Allow-Credentials"] == "true"
    methods = set(preflight.headers["Access-Control-Allow-Methods"].split(", "))
    assert methods == {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
    allowed = set(preflight.headers["Access-Control-Allow-Headers"].lower().split(", "))
    assert allowed == {"content-type", "x-csrftoken"}
    assert preflight.headers["Access-Control-Max-Age"] == "600"
    token = api_token(client, FRONT_END)
    answer = client.post("/api/ping", json={"message": "hi"}, headers=token, origin=FRONT_END)
    assert answer.get_json() == {"message": "hi"}
    assert answer.headers["Access-Control-Allow-Origin"] == FRONT_END
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
    assert exposed == {"RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-ID"}


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("path", ["/api/csrf", "/api/ping", "/api/nowhere"])
def test_a_foreign_origin_reads_nothing(client: FlaskClient, path: str, origin: str) -> None:
    for method in ("GET", "OPTIONS", "POST"):
        answer = client.open(
            path,
            method=method,
            headers={"Origin": origin, "Access-Control-Request-Method": "POST"},
        )
        assert not [name for name in answer.headers.keys() if name.startswith("Access-Control")]  # noqa: SIM118


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
def test_a_foreign_origin_changes_nothing(
    client: FlaskClient, content_type: str, origin: str
) -> None:
    token = api_token(client)
    answer = client.post(
        "/api/ping", data="{}", content_type=content_type, headers=token, origin=origin
    )
    assert answer.status_code == 403


@pytest.mark.parametrize("path", ["/apikeys", "/api-internal", "/contact", "/", "/api"])
def test_what_is_not_the_api_is_for_this_site_alone(make_app: MakeApp, path: str) -> None:
    app = make_app()
    app.add_url_rule("/apikeys", view_func=lambda: "keys")
    answer = app.test_client().get(path, headers={"Origin": FRONT_END})
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_an_allowed_origin_cannot_send_our_pages_forms(client: FlaskClient) -> None:
    assert client.post("/contact", headers=api_token(client), origin=FRONT_END).status_code == 403


@pytest.mark.parametrize("origins", [[], [FRONT_END], [FRONT_END, "https://b.example"]])
@pytest.mark.parametrize("origin", [FRONT_END, "https://evil.example", None])
@pytest.mark.parametrize("path", ["/api/ping", "/api/nowhere"])
def test_no_cache_hands_one_origins_answer_to_another(
    make_app: MakeApp, path: str, origin: str | None, origins: list[str]
) -> None:
    client = make_app(CORS_ALLOWED_ORIGINS=origins).test_client()
    answer = client.get(path, headers={"Origin": origin} if origin else {})
    assert answer.headers.getlist("Vary") == ["Origin"]


def test_what_varies_by_more_says_both(make_app: MakeApp) -> None:
    app = make_app()
    app.add_url_rule("/api/hello", view_func=lambda: ("", {"Vary": "Accept-Language"}))
    answer = app.test_client().get("/api/hello")
    assert answer.headers.getlist("Vary") == ["Accept-Language, Origin"]


def test_who_names_no_origin_is_told_of_none(client: FlaskClient) -> None:
    answer = client.get("/api/ping")
    assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]


def test_a_page_does_not_vary_by_origin(client: FlaskClient) -> None:
    assert "Origin" not in client.get("/").headers.get("Vary", "")


def test_no_other_request_header_is_allowed(client: FlaskClient) -> None:
    preflight = ask_first(client, "x-evil, content-type")
    assert "evil" not in preflight.headers.get("Access-Control-Allow-Headers", "").lower()


def test_without_origins_only_this_site_calls(make_app: MakeApp) -> None:
    client = make_app(CORS_ALLOWED_ORIGINS=[]).test_client()
    token = api_token(client)
    assert client.post("/api/ping", json={}, headers=token, origin=ORIGIN).status_code == 200
    answer = client.post("/api/ping", json={}, headers=token, origin=FRONT_END)
    assert answer.status_code == 403
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_refusal_can_be_read_by_an_allowed_origin(make_app: MakeApp) -> None:
    client = make_app(RATELIMIT_DEFAULT="1 per minute").test_client()
    for status in (400, 429):
        answer = client.post("/api/ping", json={}, origin=FRONT_END)
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == FRONT_END


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "https://*.example.com",
        r"https://.*\.example\.com",
        "https://www.example.com/",
        "https://www.example.com ",
        "https://www.example.com/path",
        "https://www.example.com:443",
        "https://WWW.example.com",
        "http://www.example.com",
        "www.example.com",
        "https://user@www.example.com",
        "",
    ],
)
def test_an_origin_that_means_more_than_it_says_is_refused(make_app: MakeApp, origin: str) -> None:
    with pytest.raises(Refusal, match="cors-origin"):
        make_app(CORS_ALLOWED_ORIGINS=[FRONT_END, origin])


@pytest.mark.parametrize(
    "origin", ["https://a.example", "https://a.example:8443", "http://localhost:5173"]
)
def test_an_exact_origin_is_accepted(make_app: MakeApp, origin: str) -> None:
    client = make_app(CORS_ALLOWED_ORIGINS=[origin]).test_client()
    answer = client.get("/api/ping", headers={"Origin": origin})
    assert answer.headers["Access-Control-Allow-Origin"] == origin
