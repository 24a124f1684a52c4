"""Nobody can fill our memory, nor hide an oversized form behind a missing token."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import pytest
from flask.testing import FlaskClient

from app.problem import Refusal
from tests.conftest import MakeApp, api_token

FORM = "application/x-www-form-urlencoded"
BOUNDS = {
    "MAX_CONTENT_LENGTH": 104_857_600,
    "MAX_FORM_MEMORY_SIZE": 10_485_760,
    "MAX_FORM_PARTS": 10_000,
}
SMALL = {"MAX_CONTENT_LENGTH": 2_000, "MAX_FORM_MEMORY_SIZE": 500, "MAX_FORM_PARTS": 3}


def chunked(body: bytes, headers: Mapping[str, str] = {}) -> dict[str, Any]:
    """Return what sends a body without its length."""
    return {
        "input_stream": BytesIO(body),
        "headers": {**headers, "Transfer-Encoding": "chunked"},
        "environ_overrides": {"wsgi.input_terminated": True},
    }


@pytest.fixture
def small(make_app: MakeApp) -> FlaskClient:
    """Return a browser on an application with small bounds."""
    return make_app(**SMALL).test_client()


@pytest.mark.parametrize("content_type", [FORM, "application/json", "text/plain", ""])
@pytest.mark.parametrize("path", ["/contact", "/api/ping"])
def test_a_large_body_is_refused_before_the_token(
    small: FlaskClient, path: str, content_type: str
) -> None:
    assert small.post(path, data=b"x" * 2_001, content_type=content_type).status_code == 413


@pytest.mark.parametrize("length", [2_001, 20_000])
@pytest.mark.parametrize("content_type", [FORM, "application/json", ""])
def test_a_body_that_does_not_say_how_large_it_is_is_refused_too(
    small: FlaskClient, content_type: str, length: int
) -> None:
    body = chunked(b"x" * length)
    assert small.post("/api/ping", content_type=content_type, **body).status_code == 413


@pytest.mark.parametrize("error", [ValueError, RuntimeError])  # Werkzeug knows the first
def test_what_the_server_cannot_read_is_the_clients_mistake(
    small: FlaskClient, error: type[Exception]
) -> None:
    class Broken(BytesIO):
        def read(self, _size: int | None = -1, /) -> bytes:
            raise error("no chunk")

        readinto = read  # type: ignore[assignment]

    answer = small.post(
        "/contact",
        input_stream=Broken(),
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
        origin="https://evil.example",
    )
    assert answer.status_code == 400


def test_a_length_that_lies_is_not_believed(small: FlaskClient) -> None:
    answer = small.post(
        "/contact", data=b"", content_type=FORM, environ_overrides={"CONTENT_LENGTH": "9" * 30}
    )
    assert answer.status_code == 413


def test_a_large_field_is_refused_before_the_token(small: FlaskClient) -> None:
    for data in ({"message": "x" * 501}, {"message": (BytesIO(b"x"), "a"), "name": "x" * 501}):
        assert small.post("/contact", data=data).status_code == 413


def test_many_parts_are_refused_before_the_token(small: FlaskClient) -> None:
    parts = {f"file{number}": (BytesIO(b""), "a") for number in range(4)}
    assert small.post("/contact", data=parts).status_code == 413


def test_what_is_too_large_is_read_no_further_wherever_it_comes_from(small: FlaskClient) -> None:
    for path in ("/contact", "/nowhere"):
        parts = {f"file{number}": (BytesIO(b""), "a") for number in range(4)}
        answer = small.post(path, data=parts, origin="https://evil.example")
        assert answer.status_code == 413


def test_a_report_is_small(client: FlaskClient) -> None:
    report = b'{"csp-report": {}}'
    for length, status in ((16_384, 204), (16_385, 413)):
        body = report.ljust(length)
        for how in ({"data": body}, chunked(body)):
            answer = client.post("/csp-report", content_type="application/csp-report", **how)
            assert answer.status_code == status


def test_what_is_within_the_bounds_is_read(small: FlaskClient) -> None:
    body = {"message": "x" * 200}
    assert small.post("/api/ping", json=body, headers=api_token(small)).get_json() == body


def test_a_bound_is_the_last_that_is_read(small: FlaskClient) -> None:
    token = api_token(small)
    body = b'{"message": "%s"}' % (b"x" * 200)
    for most in (len(body), len(body) - 1):
        client = small
        client.application.config["MAX_CONTENT_LENGTH"] = most
        status = 200 if most == len(body) else 413
        for how in ({"data": body, "headers": token}, chunked(body, token)):
            answer = client.post("/api/ping", content_type="application/json", **how)
            assert answer.status_code == status


def test_a_field_at_its_bound_is_read(small: FlaskClient) -> None:
    for length, status in ((500, 400), (501, 413)):
        data = b"message=" + b"x" * (length - len("message="))
        assert small.post("/contact", data=data, content_type=FORM).status_code == status


@pytest.mark.parametrize(("name", "most"), BOUNDS.items())
def test_a_bound_has_bounds_itself(make_app: MakeApp, name: str, most: int) -> None:
    for value in (1, most):
        make_app(**{name: value})
    with pytest.raises(Refusal, match="request-size"):
        make_app(**{name: most + 1})


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("value", [0, -1, 10**12])
def test_a_bound_that_bounds_nothing_is_refused(make_app: MakeApp, name: str, value: int) -> None:
    with pytest.raises(Refusal, match="request-size"):
        make_app(**{name: value})
