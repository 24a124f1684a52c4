"""The key of a generated project from AWS Secrets Manager, as moto's server answers for it."""

from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest
from app.security import secret_key
from moto.server import ThreadedMotoServer

CURRENT, PREVIOUS = (f"{name}-key-" + "0123456789abcdef" * 3 for name in ("current", "previous"))
NAME = "my-app/secret-key"


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Yield a client of an empty Secrets Manager that every other client finds as well."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(name, value)
    reset = Request(f"http://{host}:{port}/moto-api/reset", method="POST")
    urlopen(reset, timeout=10).close()  # noqa: S310  moto, on loopback
    client = boto3.client("secretsmanager")
    yield client
    client.close()
    server.stop()


def read(name: str = NAME) -> tuple[dict[str, object], list[str]]:
    """Return what the project reads, and the ids of what is wrong."""
    found: list[Any] = []
    values = secret_key.read("aws-secrets-manager", {"SECRET_KEY": "x"}, {}, name, found)
    assert CURRENT not in str(found)
    return values, [problem.id for problem in found]


def test_the_current_version_signs_and_the_previous_still_counts(manager: Any) -> None:  # noqa: ANN401
    manager.create_secret(Name=NAME, SecretString=f"{PREVIOUS}\n")
    assert read() == ({"SECRET_KEY": PREVIOUS, "SECRET_KEY_FALLBACKS": []}, [])
    manager.put_secret_value(SecretId=NAME, SecretString=CURRENT)
    assert read() == ({"SECRET_KEY": CURRENT, "SECRET_KEY_FALLBACKS": [PREVIOUS]}, [])


def test_a_secret_that_is_not_there_is_named(manager: Any) -> None:  # noqa: ANN401
    assert read() == ({"SECRET_KEY": None, "SECRET_KEY_FALLBACKS": []}, ["secret-key-aws"])


def test_no_other_source_takes_its_place(manager: Any) -> None:  # noqa: ANN401
    assert read("") == ({"SECRET_KEY": None, "SECRET_KEY_FALLBACKS": []}, [])


@pytest.mark.parametrize("name", ["AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"])
def test_a_manager_that_cannot_be_reached_is_named(
    manager: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    if name == "AWS_DEFAULT_REGION":
        monkeypatch.delenv("AWS_DEFAULT_REGION")
    else:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert read()[1] == ["secret-key-aws"]
