"""gunicorn believes nothing that a client can send, and does not start when we refuse."""

import re
from collections.abc import Iterator

import pytest

from tests.production import HOST, VARIABLES
from tests.servers import ask, free_port, run, served

pytest.importorskip("gunicorn", reason="gunicorn does not exist on Windows")

OWN = {"Host": HOST}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Yield the port of gunicorn with the project's own configuration, behind one proxy: us."""
    port = free_port()
    # PORT would listen on every address of this machine, and the key of VARIABLES is known.
    with served(port, "gunicorn", "--bind", f"127.0.0.1:{port}", variables=VARIABLES):
        yield port


def test_a_page_over_https_says_the_proxy(port: int) -> None:
    status, headers, _ = ask(port, "GET", "/", {**OWN, "X-Forwarded-Proto": "https"})
    assert status == 200
    assert not re.search(r"\d", headers["Server"])
    assert headers["Strict-Transport-Security"].startswith("max-age=63072000")


@pytest.mark.parametrize(
    "forged",
    [
        {},
        {"X-Forwarded-Ssl": "on"},
        {"X-Forwarded-Protocol": "ssl"},
        {"X-Forwarded-Proto": "http", "X-Forwarded-Ssl": "on"},
    ],
)
def test_gunicorn_itself_believes_no_scheme(port: int, forged: dict[str, str]) -> None:
    status, headers, _ = ask(port, "GET", "/", {**OWN, **forged})
    assert status == 308
    assert headers["Location"] == "https://app.example.com/"


@pytest.mark.parametrize("name", ["SCRIPT_NAME", "Script-Name", "PATH_INFO"])
def test_gunicorn_takes_no_path_from_a_header(port: int, name: str) -> None:
    forged = {**OWN, "X-Forwarded-Proto": "https", name: "/contact"}
    status, _, page = ask(port, "GET", "/", forged)
    assert status == 200
    assert "<form" not in page


def test_there_is_no_way_in_beside_the_port() -> None:
    _, output = run("gunicorn", "--print-config", variables=VARIABLES)
    assert re.search(r"^control_socket_disable += True$", output, re.MULTILINE)


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"SECRET_KEY": "dev"}, "secret-key-published"),
        ({"APP_PROXY_HOPS": "0"}, "tls-missing"),
        ({"APP_PROXY_HOPS": "9"}, "proxy-hops"),
        ({"WEB_CONCURRENCY": "2"}, "rate-limit-store-per-process"),
    ],
)
def test_it_refuses_once_and_ends(variables: dict[str, str], problem: str) -> None:
    bind = f"127.0.0.1:{free_port()}"
    status, output = run("gunicorn", "--bind", bind, variables={**VARIABLES, **variables})
    assert status == 1
    assert output.count(f"[{problem}]") == 1
    assert "Traceback" not in output
    assert "Booting worker" not in output
