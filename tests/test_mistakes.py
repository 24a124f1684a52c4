"""Every mistake between a visitor and the application is named by the tests that users run."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

import pytest

from tests.checkout import CLEAN, TEMPLATE
from tests.conftest import Project

pytest.importorskip("gunicorn", reason="gunicorn does not exist on Windows")

CONF = "deploy/nginx.conf"
PROTO = "proxy_set_header X-Forwarded-Proto $scheme;"
HOST = "proxy_set_header Host $http_host;"
KEPT = 'map $http_x_forwarded_{0} $kept {{ "" ${1}; default $http_x_forwarded_{0}; }}\n'
MAPS = "    # -- Who is asking\n"  # after what holds for every map
REDIRECT = "http2 on; if ($scheme = http) { return 301 https://$host$request_uri; }"
# What `flask check --url` shows, by a client whose allowance the tests below do not spend.
LOOK = """
import sys
from app import config
from app.outside import deployment, probes
https, http, ca = (word or None for word in sys.argv[1:])
settings, _ = config.read({})
seen = deployment.Deployment.at(https, http, ca, settings["TRUSTED_HOSTS"])
for row in probes.look(seen._replace(source="127.0.0.7"), settings):
    print(row.mistake, *row, sep=" | ")
"""
CACHE = """
    proxy_cache_path cache keys_zone=cache:1m;
    proxy_cache cache;
    proxy_cache_valid 200 1m;
    proxy_ignore_headers Cache-Control Set-Cookie Vary;
"""


class Wrong(NamedTuple):
    """A deployment that differs from the project by one mistake."""

    name: str
    proxy: str = "nginx"
    edit: tuple[str, str] = ("", "")
    variables: Mapping[str, str] = {}

    def __str__(self) -> str:
        return "-".join([self.name, self.proxy, *self.variables.values()])


def hops(name: str, proxy: str, number: int) -> Wrong:
    return Wrong(name, proxy, variables={"APP_PROXY_HOPS": str(number)})


WRONG = (
    Wrong("unanswered"),
    Wrong("certificate"),
    # One more and one fewer than there are; where that is none, the start refuses (below).
    hops("hops-wrong", "nginx", 2),
    hops("hops-wrong", "caddy", 2),
    hops("hops-too-many", "load-balancer", 2),
    hops("hops-wrong", "cdn-nginx", 1),
    hops("hops-wrong", "cdn-nginx", 3),
    hops("hops-too-many", "none", 1),
    Wrong("hops-too-many", edit=("-For $remote_addr;", "-For $http_x_forwarded_for;")),
    Wrong("scheme-lost", edit=(PROTO, "")),
    Wrong("scheme-forged", edit=(PROTO, PROTO.replace("scheme", "kept"))),
    Wrong("host-lost", edit=(HOST, "proxy_set_header Host app;")),
    Wrong("host-any", edit=(HOST, "proxy_set_header Host app.example.com;")),
    Wrong("link-forged", edit=(HOST, HOST.replace("http_host", "kept"))),
    Wrong("http-answered", edit=(PROTO, PROTO.replace("$scheme", "https"))),
    Wrong("http-redirected", edit=("http2 on;", REDIRECT)),
    Wrong("headers-changed", edit=("http2 on;", "http2 on; add_header X-Frame-Options DENY;")),
    Wrong("headers-changed", edit=("63072000; includeSubDomains", "63072000")),  # of static files
    Wrong("request-changed", edit=(PROTO, f'{PROTO} proxy_set_header Origin "";')),
    Wrong("settings-other", variables={"APP_RATELIMIT_DEFAULT": "60 per minute"}),
    Wrong("readyz-outside", edit=("location = /readyz", "location = /elsewhere")),
    Wrong("port-outside"),
    Wrong(
        "tls-old",
        edit=(
            "ssl_protocols TLSv1.2 TLSv1.3;\n    ssl_ciphers ",
            "ssl_protocols TLSv1 TLSv1.1 TLSv1.2;\n    ssl_ciphers @SECLEVEL=0:ALL:",
        ),
    ),
    Wrong("version-told", edit=("server_tokens off;", "")),
    Wrong(
        "body-unbounded",
        edit=("client_max_body_size 1m;", "client_max_body_size 9m;"),
        variables={"APP_MAX_CONTENT_LENGTH": "9000000", "APP_MAX_FORM_MEMORY_SIZE": "9000000"},
    ),
    Wrong("cached", edit=("# -- The application\n", CACHE)),
)


SHOWN = ("hops-wrong-nginx-2",)


def when(wrong: Wrong) -> tuple[pytest.MarkDecorator, ...]:
    """Leave what takes minutes to `nox -s removals`, but for one proxy more and one fewer."""
    return () if str(wrong) in SHOWN else (pytest.mark.removal,)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def stack(project: Path, variables: Mapping[str, str], *options: str) -> Iterator[dict[str, str]]:
    """Run a project's stack, as it is, until the block ends; yield its one line."""
    with TemporaryFile("a+") as said:  # a pipe that nobody reads would stop it
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.live.stack", *options],
            cwd=project,
            env={**CLEAN, "PYTHONPATH": str(project), **variables},
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                said.seek(0)
                raise RuntimeError(said.read())
            yield json.loads(line)
        finally:
            process.terminate()
            process.communicate(timeout=60)


def make_wrong(project: Path, wrong: Wrong) -> None:
    """Put the mistake into the project's files."""
    old, new = wrong.edit
    if not old:
        return
    conf = project / CONF
    text = conf.read_text()
    assert text.count(old) == 1
    if "$kept" in new:
        kind = ("proto", "scheme") if "Proto" in old else ("host", "http_host")
        text = text.replace(MAPS, KEPT.format(*kind) + MAPS)
    conf.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    "wrong", [pytest.param(wrong, id=str(wrong), marks=when(wrong)) for wrong in WRONG]
)
def test_the_mistake_is_named(bake: Callable[..., Project], tmp_path: Path, wrong: Wrong) -> None:
    right = bake(proxy=wrong.proxy, project_slug="right")
    deployed = bake(proxy=wrong.proxy, project_slug="deployed")
    make_wrong(deployed.path, wrong)
    with stack(deployed.path, wrong.variables) as running:
        port = running["app"].rpartition(":")[2] if wrong.name == "port-outside" else free_port()
        https = f"https://127.0.0.1:{port}" if wrong.name == "unanswered" else running["https"]
        http = running["http"] or ""
        ca = "" if wrong.name == "certificate" else running["ca"]
        env = {**CLEAN, "PYTHONPATH": str(right.path), "APP_BIND": f"127.0.0.1:{port}"}

        def said(*command: str) -> tuple[int, str]:
            done = subprocess.run(
                [sys.executable, *command],
                cwd=right.path,
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=200,
                check=False,
            )
            return done.returncode, done.stdout

        looked, rows = said("-c", LOOK, https, http, ca)
        # With a blank in the place of =, pytest would look for its settings beside that file.
        options = [f"--base-url={https}", *([f"--ca-file={ca}"] if ca else [])]
        options += [f"--http-url={http}"] if http else []
        attacked, text = said("-m", "pytest", "-xqp", "no:cacheprovider", "tests/live", *options)
    assert attacked == 1, text
    assert f"[{wrong.name}]" in text, text
    assert looked == 0, rows
    assert wrong.name in {line.partition(" | ")[0] for line in rows.splitlines()}, rows


@pytest.mark.parametrize(
    "proxy",
    [
        "nginx",
        *(pytest.param(name, marks=pytest.mark.removal) for name in ("caddy", "load-balancer")),
    ],
)
def test_no_proxy_counted_does_not_start(bake: Callable[..., Project], proxy: str) -> None:
    project = bake(proxy=proxy).path
    with pytest.raises(RuntimeError, match="tls-missing"), stack(project, {"APP_PROXY_HOPS": "0"}):
        pytest.fail("it started")


def test_every_mistake_is_made_here_and_has_its_row() -> None:
    source = (TEMPLATE / "app" / "outside" / "mistakes.py").read_text()
    names = re.findall(r'^    "([a-z-]+)": ', source, re.MULTILINE)
    assert set(names) == {wrong.name for wrong in WRONG}
    page = (TEMPLATE / "docs" / "proxy.md").read_text()
    assert re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE) == names
