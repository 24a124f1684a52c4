"""Over plain http there is nothing to read and nothing to send."""

import pytest
from flask.testing import FlaskClient

from tests.conftest import MakeApp, set_cookie
from tests.production import HOST

HTTP = f"http://{HOST}"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/", "/contact?a=b%20c", "/static/style.css", "/nowhere"])
def test_a_page_is_sent_to_https(client: FlaskClient, method: str, path: str) -> None:
    answer = client.open(path, method=method, base_url=HTTP)
    assert answer.status_code == 308
    assert answer.location.startswith(f"https://{HOST}/")
    assert answer.location.endswith(path)


def test_the_redirect_names_no_port(client: FlaskClient) -> None:
    answer = client.get("/contact", base_url=HTTP, headers={"Host": f"{HOST}:8080"})
    assert answer.location == f"https://{HOST}/contact"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_what_could_carry_something_is_refused(client: FlaskClient, method: str) -> None:
    answer = client.open(
        "/contact",
        method=method,
        base_url=HTTP,
        headers={"Access-Control-Request-Method": "POST", "Origin": f"https://{HOST}"},
    )
    assert answer.status_code == 403
    assert "Location" not in answer.headers
    assert ">This is answered over https only.</p>" in answer.text


@pytest.mark.usefixtures("development")
def test_development_is_on_this_machine_alone(make_app: MakeApp) -> None:
    answer = make_app().test_client().get("/contact", base_url=HTTP)
    assert answer.status_code == 200
    assert set_cookie(answer).startswith("session=")
    assert "Secure" not in set_cookie(answer)
    assert "Strict-Transport-Security" not in answer.headers
    assert "upgrade-insecure-requests" not in answer.headers["Content-Security-Policy"]
    over_https = make_app().test_client().get("/contact", base_url=f"https://{HOST}")
    assert "Strict-Transport-Security" not in over_https.headers


def test_no_cookie_leaves_over_http(client: FlaskClient) -> None:
    assert "Set-Cookie" not in client.get("/contact", base_url=HTTP).headers
