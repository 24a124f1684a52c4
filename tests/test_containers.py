"""The image holds the application alone; compose starts it so that nobody can do more with it."""

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
import trustme
import yaml  # type: ignore[import-untyped]  # cookiecutter's own

from tests.checkout import CHOICES, CLEAN
from tests.conftest import Project, said_by

BEHIND = ("nginx", "caddy", "cdn-nginx")  # a proxy of ours is the way in
PROXIES, SOURCES = CHOICES["proxy"], CHOICES["secret_key_source"]
PAIRS = [(proxy, SOURCES[0], "memory", "none") for proxy in PROXIES]
PAIRS += [(PROXIES[0], name, "redis", "password") for name in SOURCES[1:]]
PAIRS += [("none", "file", "memory", "password")]
# What a proxy is given back: to open a low port, and nginx to become its workers.
CAPABILITIES = {
    "app": set(),
    "caddy": {"NET_BIND_SERVICE"},
    "certbot": {"NET_BIND_SERVICE"},
    "migrate": set(),
    "valkey": set(),
    "nginx": {"CHOWN", "NET_BIND_SERVICE", "SETGID", "SETUID"},
}
VARIABLE = re.compile(r"\$\{(\w+)(:?[-?][^}]+|:-)?\}")
START_S, LONG_S = 20, 600


def instructions(project: Project) -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions, in order, each with its argument in one line."""
    lines = (project.path / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    joined = text.replace("\\\n", "").splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined if line]


def arguments(project: Project, name: str) -> list[str]:
    return [argument for instruction, argument in instructions(project) if instruction == name]


def compose(project: Project) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((project.path / "compose.yaml").read_text())
    return parsed


def port(project: Project) -> str:
    """Return the port that gunicorn listens on."""
    settings = tomllib.loads((project.path / "settings.toml").read_text())
    return str(settings["BIND"]).rpartition(":")[2]


def free_ports() -> tuple[str, str]:
    """Return two ports of loopback that nobody listens on."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1]), str(two.getsockname()[1])


def certificate(directory: Path) -> None:
    """Write fullchain.pem and privkey.pem for localhost, as certbot names them."""
    issued = trustme.CA().issue_cert("localhost")
    directory.mkdir(parents=True)
    issued.private_key_pem.write_to_path(directory / "privkey.pem")
    for pem in issued.cert_chain_pems:
        pem.write_to_path(directory / "fullchain.pem", append=True)


@pytest.mark.parametrize("proxy", PROXIES)
def test_the_image_holds_the_application_and_nobody_owns_it(
    bake: Callable[..., Project], proxy: str
) -> None:
    project = bake(proxy=proxy)
    hadolint = Path(sys.executable).with_name("hadolint")
    judged = subprocess.run(
        [hadolint, "--no-color", project.path / "Dockerfile"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (judged.returncode, judged.stdout) == (0, "")
    assert "hadolint" not in (project.path / "Dockerfile").read_text()

    assert re.fullmatch(r"[1-9]\d{4}:[1-9]\d{4}", arguments(project, "USER")[-1])
    assert [name for name, _ in instructions(project)][-3:] == ["USER", "HEALTHCHECK", "CMD"]
    assert json.loads(arguments(project, "CMD")[0]) == ["gunicorn"]
    assert arguments(project, "ENV")[-1] == f"APP_BIND=0.0.0.0:{port(project)}"
    assert arguments(project, "ADD") == []
    synced = [run for run in arguments(project, "RUN") if "uv sync" in run]
    assert len(synced) == 2
    assert all("uv sync --no-dev" in run for run in synced)

    copied: set[str] = set()
    kept: set[str] = set()
    for argument in arguments(project, "COPY"):
        *sources, _ = argument.split()
        if sources[0] == "--from=build":
            kept.update(source.removeprefix("/srv/") for source in sources[1:])
        else:
            copied.update(sources)
    assert copied - {"uv.loc[k]"} == {"app", "gunicorn.conf.py", "pyproject.toml", "settings.toml"}
    assert kept == {".venv", "app", "gunicorn.conf.py", "settings.toml"}
    for name in copied - {"uv.loc[k]"}:
        assert (project.path / name).exists()
    assert not list((project.path / "app").rglob(".env*"))


@pytest.mark.skipif(os.name != "posix", reason="gunicorn does not exist on Windows")
@pytest.mark.parametrize("proxy", ["load-balancer", "none"])
def test_the_image_is_healthy_while_the_application_answers(
    bake: Callable[..., Project], tmp_path: Path, proxy: str
) -> None:
    project = bake(proxy=proxy, login="none")
    (check,) = arguments(project, "HEALTHCHECK")
    interpreter, *command = json.loads(check.partition("CMD ")[2])
    assert interpreter == "python"
    certificate(tmp_path / "tls")
    number, other = free_ports()
    variables = {"APP_BIND": f"127.0.0.1:{number}"}
    if proxy == "none":
        variables["APP_TLS_CERT_FILE"] = str(tmp_path / "tls" / "fullchain.pem")
        variables["APP_TLS_KEY_FILE"] = str(tmp_path / "tls" / "privkey.pem")

    def is_healthy(**variables: str) -> bool:
        asked = subprocess.run(
            [sys.executable, *command],
            env={**CLEAN, **variables},
            capture_output=True,
            check=False,
        )
        return asked.returncode == 0

    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn"],
        cwd=project.path,
        env={**CLEAN, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + START_S
        while not is_healthy(**variables):
            assert server.poll() is None
            assert time.monotonic() < deadline
        assert is_healthy(PORT=number, APP_BIND=f"127.0.0.1:{other}")
        assert not is_healthy(PORT=other, **variables)
    finally:
        server.terminate()
        server.wait(START_S)
    assert not is_healthy(**variables)


@pytest.mark.parametrize(("proxy", "source", "storage", "login"), PAIRS, ids="-".join)
def test_compose_gives_no_container_more_than_it_needs(
    bake: Callable[..., Project], proxy: str, source: str, storage: str, login: str
) -> None:
    answers = {"proxy": proxy, "rate_limit_storage": storage, "login": login}
    project = bake(secret_key_source=source, **answers)
    project.run("check_jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml")
    parsed = compose(project)
    services = parsed["services"]
    configuration = (project.path / "gunicorn.conf.py").read_text()
    (graceful_s,) = re.findall(r"^graceful_timeout = (\d+)", configuration, re.MULTILINE)
    for name, service in services.items():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert set(service.get("cap_add", [])) == CAPABILITIES[name]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert {"mem_limit", "pids_limit"} <= set(service)
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}
        assert int(service["stop_grace_period"].removesuffix("s")) > int(graceful_s)
        assert not {"privileged", "network_mode", "pid", "devices"} & set(service)
        # Valkey's image would become another user by itself, with rights that it does not get.
        assert re.fullmatch("[1-9]\\d*:[1-9]\\d*", service.get("user", "1:1"))
        assert ("user" in service) == (name == "valkey")
        if name not in ("app", "migrate"):
            assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+(\.\d+|-alpine)", service["image"])
        for mount in service.get("volumes", []):
            mounted, target, *mode = mount.rsplit(":", 2 if mount.endswith(":ro") else 1)
            assert target.startswith("/")
            if mounted.startswith("./"):
                assert (project.path / mounted).exists()
                assert mode == ["ro"]
            elif name != "certbot" and mounted not in ("caddy_data", "caddy_config", "instance"):
                assert mode == ["ro"]
            if re.fullmatch(r"\w+", mounted):
                assert mounted in parsed["volumes"]


@pytest.mark.parametrize("proxy", PROXIES)
def test_there_is_one_way_in(bake: Callable[..., Project], proxy: str) -> None:
    project = bake(proxy=proxy)
    services = compose(project)["services"]
    assert not services.pop("migrate")["ports"]
    app = services.pop("app")
    if proxy not in BEHIND:
        assert not services
        # Nothing is published on every address of the machine.
        (published,) = app["ports"]
        assert re.fullmatch(rf"\$\{{PRIVATE_ADDRESS:\?.+\}}(:{port(project)}){{2}}", published)
        return
    assert "ports" not in app
    services.pop("certbot", None)
    ((name, service),) = services.items()
    assert service["ports"] == ["80:80", "443:443"]
    assert service["depends_on"] == {"app": {"condition": "service_healthy"}}
    (edge,) = (mount for mount in service["volumes"] if re.search("nginx.conf:|Caddyfile:", mount))
    configuration = (project.path / edge.partition(":")[0]).read_text()
    assert f"app:{port(project)}" in configuration
    if name == "nginx":
        (files,) = re.findall(r"worker_rlimit_nofile (\d+);", configuration)
        assert service["ulimits"] == {"nofile": int(files)}
        # Its network has IPv6 for visitors; gunicorn listens on IPv4.
        assert compose(project)["networks"]["default"]["enable_ipv6"]
        assert re.findall(r"resolver 127\.0\.0\.11 .*\bipv6=off\b", configuration)


def test_limits_are_counted_in_a_container_that_nobody_else_reaches(
    bake: Callable[..., Project],
) -> None:
    for source in SOURCES:
        project = bake(rate_limit_storage="redis", secret_key_source=source)
        parsed = compose(project)
        store, app = parsed["services"]["valkey"], parsed["services"]["app"]
        name = "APP" if source == "dotenv" else "PRODUCTION"  # of .env, or none that stands there
        uri = app["environment"]["APP_RATELIMIT_STORAGE_URI"]
        assert uri == f"${{{name}_RATELIMIT_STORAGE_URI:-redis://valkey:6379}}"
        assert f"{name}_RATELIMIT_STORAGE_URI" in (project.path / "docs/operating.md").read_text()
    assert "ports" not in store
    assert app["depends_on"]["valkey"] == {"condition": "service_healthy"}
    assert store["command"][-2:] == ["--maxmemory-policy", "noeviction"]
    assert "valkey" not in compose(bake())["services"]


@pytest.mark.parametrize("proxy", PROXIES)
def test_the_schema_is_brought_up_to_date_once_before_the_application(
    bake: Callable[..., Project], proxy: str
) -> None:
    project = bake(proxy=proxy, **{"secret_key_source": "environment"})
    services = compose(project)["services"]
    app, migrate = services["app"], services["migrate"]
    assert app["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert migrate["command"] == ["flask", "db", "upgrade"]
    assert (migrate["restart"], migrate["depends_on"]) == ("no", [])
    assert migrate["environment"] == app["environment"]
    assert migrate["volumes"] == app["volumes"]
    assert "instance:/srv/instance" in app["volumes"]
    assert app["environment"]["DATABASE_URL"] == "${PRODUCTION_DATABASE_URL:-}"
    (owner,) = re.findall("install -d (.*) instance", (project.path / "Dockerfile").read_text())
    assert owner == "-o 10001 -g 10001 -m 700"
    parsed = compose(bake(proxy=proxy, login="none"))
    assert "migrate" not in parsed["services"]
    assert "instance" not in parsed.get("volumes", {})
    assert "migrate" not in parsed["services"]["app"].get("depends_on", {})


@pytest.mark.parametrize("source", SOURCES)
def test_the_key_comes_from_where_the_answer_says(
    bake: Callable[..., Project], source: str
) -> None:
    project = bake(secret_key_source=source)
    text = (project.path / "compose.yaml").read_text()
    parsed = compose(project)
    app = parsed["services"]["app"]
    given = {name for name in app["environment"] if name.startswith(("SECRET", "APP_", "AWS"))}
    aws = {"AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
    expected = {
        "dotenv": {"APP_SECRET_KEY_SOURCE"},
        "environment": {"SECRET_KEY", "SECRET_KEY_FALLBACKS"},
        "file": {"SECRET_KEY_FILE", "SECRET_KEY_FALLBACKS"},
        "aws-secrets-manager": aws,
    }
    assert given == expected[source]
    assert ("env_file" in app) == (source == "dotenv")
    assert ("secrets" in app) == ("secrets" in parsed) == (source == "file")
    if source == "file":
        assert app["secrets"] == list(parsed["secrets"])
        assert app["environment"]["SECRET_KEY_FILE"] == f"/run/secrets/{app['secrets'][0]}"

    # Compose fills variables in from .env: what development has there must not reach production.
    asked = dict(VARIABLE.findall(text))
    example = (project.path / ".env.example").read_text()
    development = set(re.findall(r"^(?:# )?([A-Z_]+)=", example, re.MULTILINE))
    assert development == {"SECRET_KEY", "SECRET_KEY_FALLBACKS", "DATABASE_URL"}
    assert not development & set(asked)
    assert all(asked.values())  # a default, or a sentence that says what is missing


@contextmanager
def up(project: Project, **variables: str) -> Iterator[Callable[..., str]]:
    """Build and start the compose project; yield a function that asks compose."""

    def ask(*command: str) -> str:
        env = {**CLEAN, **variables}
        return said_by("docker", "compose", *command, cwd=project.path, env=env, timeout_s=LONG_S)

    try:
        ask("up", "--build", "--detach", "--wait")
        yield ask
    finally:
        ask("down", "--volumes", "--rmi", "local")


@pytest.fixture
def engine() -> None:
    """Skip where no container engine answers."""
    if not shutil.which("docker"):
        pytest.skip("there is no docker")
    for command in ("docker info", "docker compose version"):
        if subprocess.run(command.split(), capture_output=True, check=False).returncode:
            pytest.skip(f"no container engine: `{command}` fails")


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("proxy", PROXIES)
def test_compose_up_is_a_production_run(
    bake: Callable[..., Project], tmp_path: Path, proxy: str
) -> None:
    answers = {"proxy": proxy, "secret_key_source": "environment", "domain": "localhost"}
    project = bake(**answers)
    certificate(tmp_path / "live" / "localhost")
    way_in, inside = ("app", port(project)) if proxy not in BEHIND else (proxy[-5:], "443")
    # Only on loopback, on a port that is free, and with a certificate for localhost.
    override = ["services:", f"  {way_in}:", f"    ports: !override ['127.0.0.1::{inside}']"]
    if way_in == "nginx":
        override.append(f"    volumes: ['{tmp_path}:/etc/letsencrypt:ro']")
    if proxy == "cdn-nginx":
        networks = project.path / "deploy" / "cdn-networks.conf"
        networks.write_text("set_real_ip_from 0.0.0.0/0;\n")
    (project.path / "compose.override.yaml").write_text("\n".join([*override, ""]))
    if proxy == "none":
        for pem in (tmp_path / "live" / "localhost").iterdir():
            pem.chmod(0o644)
    variables = {
        "COMPOSE_PROJECT_NAME": f"test-{proxy}",  # and nobody else's containers
        "PRODUCTION_SECRET_KEY": "a-production-key-" + "0123456789abcdef" * 2,
        "PRIVATE_ADDRESS": "127.0.0.1",
        "TLS_DIRECTORY": str(tmp_path / "live" / "localhost"),
    }
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with up(project, **variables) as ask:
        address = ask("port", way_in, inside).strip().replace("127.0.0.1", "localhost")
        scheme = "http" if proxy == "load-balancer" else "https"
        url = f"{scheme}://{address}/healthz"
        for _ in range(8):  # every address of the application has its turn
            request = Request(url, headers={"X-Forwarded-For": "203.0.113.9"})  # noqa: S310
            with urlopen(request, timeout=10, context=context) as answer:  # noqa: S310
                assert json.load(answer) == {"status": "ok"}
        written = "import pathlib; pathlib.Path('/srv/app/written').touch()"
        with pytest.raises(AssertionError, match="Read-only file system"):
            ask("exec", "-T", "app", "python", "-c", written)
        ask("exec", "-T", "app", "flask", "check")
        begun = time.monotonic()
        ask("stop", "app")
        assert time.monotonic() - begun < 30  # it hears the signal and is not killed
