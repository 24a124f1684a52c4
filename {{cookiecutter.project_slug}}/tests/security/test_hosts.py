"""Nobody can make us answer, redirect or link for a name that is not ours."""

from urllib.parse import unquote

import pytest
from flask.testing import FlaskClient

from app.problem import Refusal
from tests.conftest import MakeApp
from tests.production import HOST

STRANGERS = [
    "evil.example",
    f"{HOST}.evil.example",
    f"evil{HOST}",
    f"{HOST}@evil.example",
    "localhost",
    "127.0.0.1",
    "[::1]",
    "",
]


@pytest.mark.parametrize("host", STRANGERS)
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_strange_host_gets_a_plain_400(
    client: FlaskClient, method: str, scheme: str, host: str
) -> None:
    answer = client.open(
        "/contact", method=method, base_url=f"{scheme}://{HOST}", headers={"Host": host}
    )
    assert answer.status_code == 400
    assert "Location" not in answer.headers
    assert "The request cannot be understood." in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example",
        "//evil.example/contact",
        "///evil.example",
        "//contact",
        "/%2fevil.example",
        "/\\evil.example",
        "/@evil.example",
        "/%0d%0a/contact",
    ],
)
def test_no_path_leads_to_another_site(client: FlaskClient, path: str) -> None:
    for scheme in ("http", "https"):
        answer = client.get("/", base_url=f"{scheme}://{HOST}", environ_overrides=raw(path))
        where = answer.headers.get("Location", f"https://{HOST}/")
        assert where.startswith(f"https://{HOST}/")


def raw(path: str) -> dict[str, str]:
    """Return a path as a server hands it on, which a test client would take for a URL."""
    return {"PATH_INFO": unquote(path), "RAW_URI": path, "REQUEST_URI": path}


def test_a_port_does_not_make_a_host_strange(client: FlaskClient) -> None:
    assert client.get("/", headers={"Host": f"{HOST}:8443"}).status_code == 200


@pytest.mark.usefixtures("development")
def test_development_answers_for_loopback_as_well(make_app: MakeApp) -> None:
    client = make_app().test_client()

    def asked(host: str) -> int:
        return client.get("/", base_url=f"http://{HOST}", headers={"Host": host}).status_code

    assert {asked(host) for host in (HOST, "localhost:5000", "127.0.0.1:5000", "[::1]:5000")} == {
        200
    }
    assert {asked(host) for host in ("evil.example", f"evil{HOST}", "127.0.0.2", "")} == {400}


def test_a_leading_dot_means_subdomains_and_nothing_like_them(
    make_app: MakeApp,
) -> None:
    client = make_app(TRUSTED_HOSTS=[".example.com"]).test_client()
    assert client.get("/", headers={"Host": "a.example.com"}).status_code == 200
    assert client.get("/", headers={"Host": "aexample.com"}).status_code == 400


def test_no_hosts_would_mean_all_hosts(make_app: MakeApp) -> None:
    with pytest.raises(Refusal, match="hosts-empty"):
        make_app(TRUSTED_HOSTS=[])


@pytest.mark.parametrize(
    "host",
    [
        "https://app.example.com",
        "app.example.com:443",
        "App.Example.com",
        "*.example.com",
        "app.example.com/",
        " app.example.com",
        "",
        "[::1]",
    ],
)
def test_a_name_that_never_matches_is_refused(make_app: MakeApp, host: str) -> None:
    with pytest.raises(Refusal, match="host-never-matches"):
        make_app(TRUSTED_HOSTS=[host])
