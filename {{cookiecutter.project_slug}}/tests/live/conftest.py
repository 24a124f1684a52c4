"""The production stack or a deployment, a real Chromium, and https.

Where they are missing, what needs them is skipped and says so.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from app import config
from app.outside.deployment import Deployment
from tests.live import stack as production
from tests.live.sites import SITES, served_blank
from tests.live.store import Store
from tests.production import HOST, VARIABLES
from tests.servers import free_port, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

Gunicorn = Callable[..., AbstractContextManager[None]]

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
NEEDS = "uv run --group live pytest"
APART = "apart.example.com"  # ours as well, for a test that serves it with other settings


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Attack a deployment with what harms none, and with nothing else."""
    is_test = collection_path.name.startswith("test_")
    if config.getoption("--base-url") and is_test:
        return collection_path.name != "test_deployment.py"
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is about another proxy than the one in front of this project."""
    in_front = production.topology()
    other = [
        item
        for item in items
        if (marker := item.get_closest_marker("behind")) and in_front not in marker.args
    ]
    items[:] = [item for item in items if item not in other]
    config.hook.pytest_deselected(items=other)


@pytest.fixture(scope="session")
def stack() -> Iterator[production.Stack]:
    """Yield this project in its production shape, on loopback."""
    pytest.importorskip("gunicorn", reason="gunicorn does not exist on Windows")
    try:
        with production.running() as running:
            yield running
    except production.Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def deployment(request: pytest.FixtureRequest) -> Deployment:
    """Return what to attack: --base-url, or the stack."""
    option = request.config.getoption
    if not option("--base-url"):
        running: production.Stack = request.getfixturevalue("stack")
        return running.deployment
    hosts = config.read({})[0]["TRUSTED_HOSTS"]
    try:
        return Deployment.at(option("--base-url"), option("--http-url"), option("--ca-file"), hosts)
    except ValueError as error:
        raise pytest.UsageError(f"--base-url: {error}") from None


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Yield a store that runs."""
    store = Store(tmp_path)
    try:
        store.start()
    except production.Missing as missing:
        pytest.skip(str(missing))
    yield store
    store.stop()


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return the files of a certificate for every name, and of its key; ca.pem is beside them."""
    trustme = pytest.importorskip("trustme", reason=f"needs a certificate: {NEEDS}")
    names = [HOST, APART, "127.0.0.1", *(urlsplit(site).hostname for site in SITES)]
    authority = trustme.CA()
    issued = authority.issue_cert(*names)
    directory = tmp_path_factory.mktemp("tls")
    authority.cert_pem.write_to_path(directory / "ca.pem")
    issued.cert_chain_pems[0].write_to_path(directory / "cert.pem")
    issued.private_key_pem.write_to_path(directory / "key.pem")
    return str(directory / "cert.pem"), str(directory / "key.pem")


@pytest.fixture(scope="session")
def ports(tls: tuple[str, str]) -> Iterator[Mapping[str, int]]:
    """Yield the port of loopback behind each name; on those of other sites somebody answers."""
    with served_blank(*tls) as blank:
        others = {str(urlsplit(site).hostname): blank for site in SITES}
        yield {HOST: free_port(), APART: free_port(), **others}


@pytest.fixture(scope="session")
def gunicorn(ports: Mapping[str, int], tls: tuple[str, str]) -> Gunicorn:
    """Return a function that has gunicorn serve a name of ours, ending TLS itself."""

    def serve(name: str, *arguments: str, **settings: str) -> AbstractContextManager[None]:
        variables = {
            **VARIABLES,
            "APP_PROXY_HOPS": "0",
            "APP_TLS_CERT_FILE": tls[0],
            "APP_TLS_KEY_FILE": tls[1],
            "APP_TRUSTED_HOSTS": name,
            **settings,
        }
        # PORT would listen on every address of this machine, and the key of VARIABLES is known.
        bind = f"127.0.0.1:{ports[name]}"
        return served(ports[name], "gunicorn", "--bind", bind, *arguments, variables=variables)

    return serve


@pytest.fixture(scope="session")
def chromium(ports: Mapping[str, int]) -> Iterator["Browser"]:
    """Yield the system's Chromium, headless; it finds our names and nothing beyond loopback."""
    api = pytest.importorskip("playwright.sync_api", reason=f"needs a browser: {NEEDS}")
    path = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if path is None:
        pytest.skip("needs a browser: apt-get install chromium")
    rules = [f"MAP {name}:443 127.0.0.1:{port}" for name, port in ports.items()]
    hosts = (HOST, *config.read({})[0]["TRUSTED_HOSTS"])
    rules += [f"MAP {host.removeprefix('.')} 127.0.0.1" for host in hosts]
    rules += ["MAP * ~NOTFOUND", "EXCLUDE localhost", "EXCLUDE 127.0.0.1"]
    arguments = [
        *QUIET,
        f"--host-resolver-rules={', '.join(rules)}",
        "--ignore-certificate-errors",  # it has never heard of who issued ours
        "--short-reporting-delay",  # a report waits for a minute otherwise
    ]
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0  # Chromium's sandbox refuses root
    if is_root:
        arguments.append("--no-sandbox")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: "Browser") -> Iterator["BrowserContext"]:
    """Yield a fresh profile."""
    context = chromium.new_context()
    yield context
    context.close()


@pytest.fixture
def page(context: "BrowserContext") -> Iterator["Page"]:
    """Yield a page; fail if the browser complained about anything of ours."""
    complaints: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    page.close()
    # Chromium also notes every answer of 400 and up, which the tests ask for, and a sign-out.
    notes = ("Failed to load resource", "Clear-Site-Data header on")
    assert [text for text in complaints if not text.startswith(notes)] == []
