"""The rules the template keeps, so that what is read here is what every user runs."""

import hashlib
import io
import itertools
import json
import re
import tomllib
import urllib.request
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from fnmatch import fnmatch
from typing import Any

import pytest

from hooks import post_gen_project as hook
from tests.checkout import ROOT, TEMPLATE
from tests.combinations import ALWAYS, JINJA, copied
from tests.conftest import Project

# The only Python that may depend on an answer: where the optional log-in is wired, and its tables.
WIRED = {
    "app/__init__.py",
    "app/login/__init__.py",
    "app/login/models.py",
    "app/migrations/0001_accounts.py",
    "tests/login/__init__.py",
}


def test_python_does_not_depend_on_answers() -> None:
    python = [name for name in ALWAYS if name.endswith(".py")]
    wired = {name for name in python if JINJA.search((TEMPLATE / name).read_text())}
    assert wired <= WIRED
    assert set(python) - set(copied()) == WIRED


def test_no_pattern_matches_a_directory() -> None:
    directories = {parent for name in ALWAYS for parent in map(str, (TEMPLATE / name).parents)}
    patterns = json.loads((ROOT / "cookiecutter.json").read_text())["_copy_without_render"]
    for directory, pattern in itertools.product(directories, patterns):
        assert not fnmatch(directory.removeprefix(f"{TEMPLATE}/"), pattern)


def test_nothing_lies_in_the_template_that_git_does_not_track() -> None:
    found = {
        path.relative_to(TEMPLATE).as_posix() for path in TEMPLATE.rglob("*") if path.is_file()
    }
    assert found - ALWAYS == set()


def test_answers_arrive_in_the_settings(bake: Callable[..., Project]) -> None:
    project = bake(
        allowed_origins=" https://a.example ,https://b.example:8443",
        rate_limit="7 per hour",
        strict_rate_limit="2/minute;9/day",
        security_contact="https://example.com/security?a=b",
    )
    settings = tomllib.loads((project.path / "settings.toml").read_text())
    assert settings["CORS_ALLOWED_ORIGINS"] == ["https://a.example", "https://b.example:8443"]
    assert settings["RATELIMIT_DEFAULT"] == "7 per hour"
    assert settings["RATELIMIT_STRICT"] == "2/minute;9/day"
    assert settings["SECURITY_CONTACT"] == "https://example.com/security?a=b"
    days = date.fromisoformat(settings["SECURITY_TXT_EXPIRES"]) - datetime.now(UTC).date()
    assert 364 <= days.days <= 365
    said = project.run("flask", "check", "--fail-level", "note")
    assert said.startswith("Nothing found: every protection is on.\n")
    assert "7 per hour over everything, 2/minute;9/day for contact" in project.run(
        "flask", "limits"
    )
    for nobody in ("", "none"):
        project = bake(allowed_origins=nobody)
        settings = tomllib.loads((project.path / "settings.toml").read_text())
        assert settings["CORS_ALLOWED_ORIGINS"] == []


def test_no_secret_is_in_the_context_of_an_image(bake: Callable[..., Project]) -> None:
    project = bake()
    patterns = (project.path / ".dockerignore").read_text().splitlines()
    for name in (".env", ".env.new", ".env.local", ".env.rej"):
        assert any(fnmatch(name, pattern) for pattern in patterns)
    assert [pattern for pattern in patterns if pattern.startswith("!")] == ["!.env.example"]


def test_packages_come_from_one_index_as_they_were_locked(bake: Callable[..., Project]) -> None:
    project = bake()
    places = re.compile(
        r"index-url|extra-index|--index\b(?! --)|find-links|tool\.uv\.(index|sources)|@ (git|http)"
    )
    for name in project.files():
        if name.endswith((".toml", ".yaml", ".yml", ".md")) or name == "Dockerfile":
            assert not places.search((project.path / name).read_text()), name
    dockerfile = (project.path / "Dockerfile").read_text()
    assert "if [ -e uv.lock ]; then set -- --locked; fi; uv sync" in dockerfile
    assert "uv sync --no-dev --locked" in dockerfile


def test_nothing_is_removed_from_a_project_that_was_here_before(
    bake: Callable[..., Project],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    project = bake()
    monkeypatch.chdir(project.path)
    before = project.files()
    hook.main({"project_slug": "my-secure-app", "proxy": "none", "login": "password"})
    assert project.files() == before
    assert "Your answers rule out:\n  deploy/nginx.conf\n" in capfd.readouterr().out


def test_module_entry_settings_attack_and_row_agree() -> None:
    security = TEMPLATE / "app" / "security"
    modules = {path.stem for path in security.glob("[!_]*.py")}
    listed = (security / "__init__.py").read_text().partition("] = (")[2].partition("\n)")[0]
    entries = re.findall(r"^    (\w+),", listed, re.MULTILINE)
    assert set(entries) == modules
    attacks = {path.stem for path in (TEMPLATE / "tests" / "security").glob("test_*.py")}
    assert attacks == {f"test_{module}" for module in modules}

    groups: dict[str, set[str]] = {}
    heading = ""
    settings_toml = (TEMPLATE / "settings.toml").read_text()
    for line in (settings_toml + (ROOT / "templates/oidc/settings.toml").read_text()).splitlines():
        if line.startswith("# -- "):
            heading = line.removeprefix("# -- app/security/").removesuffix(".py")
        elif name := re.match(r"(?:# )?([A-Z_]{4,})(?:\.[a-z-]+)? = ", line):
            groups.setdefault(heading, set()).add(name[1])
    groups.pop("")

    threats = (ROOT / "docs" / "threats.md").read_text()
    rows = re.findall(r"^\| (?!threat|---)(.*) \| (.*) \| (.*) \| (.*) \|$", threats, re.MULTILINE)
    protections = [row for row in rows if "`app/security/" in row[1]]
    assert [re.findall(r"`app/security/(\w+)\.py`", row[1])[0] for row in protections] == entries
    for _, module, settings, test in protections:
        stem = re.findall(r"(\w+)\.py", module)[0]
        assert f"`tests/security/test_{stem}.py`" in test
        assert set(re.findall(r"`([A-Z_]+)`", settings)) == groups.get(stem, set())

    named: set[str] = set()
    for _, module, settings, test in (row for row in rows if row not in protections):
        named |= set(re.findall(r"`([A-Z_]+)`", settings))
        for path in (module, test):
            assert (TEMPLATE / path.strip("`")).exists()
    assert named == groups["# -- app/login"]


def test_the_documented_check_for_stolen_passwords_works(
    bake: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (bake().path / "docs/security/sign-in.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {"hashlib": hashlib, "urllib": urllib, "Iterable": Iterable}
    exec(code, names)  # noqa: S102  our own page
    asked: list[str] = []
    digest = hashlib.sha1(b"stolen", usedforsecurity=False).hexdigest().upper()

    def answer(request: urllib.request.Request, timeout: float) -> io.BytesIO:
        asked.append(request.full_url)
        assert timeout
        return io.BytesIO(f"{'0' * 35}:0\r\n{digest[5:]}:7\r\n".encode())

    def silence(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr("urllib.request.urlopen", answer)
    assert names["_stolen"]("stolen", []).startswith("This password has been stolen")
    assert names["_stolen"]("seven quiet lanterns", []) is None
    assert asked[0].endswith(f"/range/{digest[:5]}")
    monkeypatch.setattr("urllib.request.urlopen", silence)
    assert names["_stolen"]("stolen", []) is None


def test_one_version_everywhere() -> None:
    version = json.loads((ROOT / "cookiecutter.json").read_text())["_version"]
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert pyproject["project"]["version"] == version
    changes = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert changes[0] == version


def test_ci_runs_the_readmes_test_command() -> None:
    readme = (ROOT / "README.md").read_text()
    (command,) = re.findall(r"^python3 .*/nox$", readme, re.MULTILINE)
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()
