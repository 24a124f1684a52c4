"""The collections of docs/postman/, as Postman runs them: newman calls, and sees each refusal."""

import importlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app import config
from tests.live import stack as production
from tests.live.stack import Stack
from tests.production import ASKED, FRONT_END

DIRECTORY = config.ROOT / "docs" / "postman"
ENVIRONMENT = DIRECTORY / "environment.json"
COLLECTIONS = sorted(set(DIRECTORY.glob("*.json")) - {ENVIRONMENT})
EMAIL, PASSWORD = "ada@example.com", "seven quiet lanterns"
INSTALL = "README.md says how"
RUN_S = 120

# What the collections expect, whatever settings.toml says today.
EXPECTED = {
    "APP_RATELIMIT_DEFAULT": "120 per minute",
    "APP_RATELIMIT_STRICT": "5 per minute",
    "APP_MAX_CONTENT_LENGTH": "1000000",
    "APP_CORS_ALLOWED_ORIGINS": FRONT_END,
}


def newman() -> list[str]:
    """Return the command: of this project's node_modules, or the system's."""
    if found := shutil.which("newman"):
        return [found]
    return [production.node(), str(production.package("newman", INSTALL) / "bin" / "newman.js")]


@pytest.fixture(scope="module")
def fresh() -> Iterator[Stack]:
    """Yield a stack of our own: newman has but one address, whose limits nobody else spends."""
    pytest.importorskip("gunicorn", reason="gunicorn does not exist on Windows")
    users = [(EMAIL, PASSWORD)] if "LOGIN_REGISTER" in config.SETTINGS else []
    if ASKED:
        importlib.import_module("tests.login.by_oidc").provider()  # which asks nobody who they are
    try:
        newman()
        with production.running(None, None, users, **EXPECTED, **ASKED) as running:
            yield running
    except production.Missing as missing:
        pytest.skip(str(missing))


def requests(items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield every request of a collection, those in folders among them."""
    for item in items:
        yield from requests(item["item"]) if "item" in item else [item]


@pytest.mark.parametrize("path", COLLECTIONS, ids=lambda path: path.stem)
def test_newman_calls_and_sees_each_refusal(path: Path, fresh: Stack) -> None:
    deployment = fresh.deployment
    variables = {
        "base": deployment.https,
        "http": deployment.http or "",
        "host": deployment.host,
        "front_end": FRONT_END,
        "email": EMAIL,
        "password": PASSWORD,
    }
    command = [*newman(), "run", str(path), "--environment", str(ENVIRONMENT)]
    command += [word for pair in variables.items() for word in ("--env-var", "=".join(pair))]
    command += ["--ssl-extra-ca-certs", str(deployment.ca), "--color", "off"]
    done = subprocess.run(  # noqa: S603  our own words
        command, capture_output=True, text=True, timeout=RUN_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sent = re.findall(r"^(?:→|↳) (.+)\n  [A-Z]+ ", done.stdout, re.MULTILINE)
    collection = json.loads(path.read_text("utf-8"))
    over_http = set() if deployment.http else {"A page over http", "Anything else over http"}
    assert set(sent) == {item["name"] for item in requests(collection["item"])} - over_http


@pytest.mark.parametrize("path", COLLECTIONS, ids=lambda path: path.stem)
def test_every_request_says_what_it_expects(path: Path) -> None:
    collection = json.loads(path.read_text("utf-8"))
    given = {value["key"] for value in json.loads(ENVIRONMENT.read_text("utf-8"))["values"]}
    for item in requests(collection["item"]):
        (lines,) = [one["script"]["exec"] for one in item["event"] if one["listen"] == "test"]
        assert "pm.test(" in "\n".join(lines), item["name"]
    used = set(re.findall(r"\{\{(\w+)\}\}", path.read_text("utf-8"))) - {"http"}
    made = set(re.findall(r"\.set\('(\w+)'", path.read_text("utf-8")))
    assert used - given == used & made
