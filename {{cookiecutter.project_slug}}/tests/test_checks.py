"""Every fault has its id, its place and its way out, in each form, and none hides another."""

import ast
import json
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask import Flask

from app import checks, commands, config, create_app
from app.findings import Finding, as_github
from app.problem import Problem
from tests.production import KEY

HERE = Path(__file__).parent
TODAY = datetime.now(UTC).date()
GOOD: Mapping[str, object] = {
    "SITE_NAME": "Mine",
    "SECURITY_CONTACT": "mailto:security@example.com",
    "SECURITY_TXT_EXPIRES": f"{TODAY + timedelta(days=300)}",
    "TRUSTED_HOSTS": ["app.example.com"],
    "PROXY_HOPS": 1,
}


class Project:
    """A project that could start, and the faults that a test puts into it."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root, self._patch = root, patch
        self.write(".env", f"SECRET_KEY={KEY}\n")
        self.has()

    def has(self, **settings: object) -> None:
        """Write settings.toml."""
        lines = [f"{name} = {json.dumps(value)}" for name, value in {**GOOD, **settings}.items()]
        self.write("settings.toml", "\n".join([*lines, ""]))

    def write(self, name: str, text: str) -> None:
        """Write a file that nobody else can read."""
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)

    def is_given(self, **variables: str) -> None:
        """Set variables of the environment."""
        for name, value in variables.items():
            self._patch.setenv(name, value)

    def check(self, *options: str) -> Result:
        """Run `flask check`."""
        return CliRunner().invoke(commands.check, options)

    def found(self) -> list[dict[str, Any]]:
        """Return what `flask check` finds."""
        listed: list[dict[str, Any]] = json.loads(self.check("--format", "json").output)
        return listed


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return a project without a fault."""
    monkeypatch.setattr(config, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path, monkeypatch)


def is_tracked(project: Project) -> None:
    for words in ("init --quiet", "add --force .env"):
        subprocess.run(["git", *words.split()], cwd=project.root, check=True)  # noqa: S603, S607


def unreadable(project: Project) -> None:
    (project.root / ".env").unlink()
    (project.root / ".env").write_bytes(b"SECRET_KEY=\xff\n")
    (project.root / ".env").chmod(0o600)


def behind_nginx(project: Project, **settings: object) -> None:
    project.write("deploy/nginx.conf", "")
    project.has(**settings)


def old_library(project: Project) -> None:
    project.write("pyproject.toml", '[project]\ndependencies = ["flask>=99"]\n')


def fallback(project: Project, key: str) -> None:
    project.write(".env", f"SECRET_KEY={KEY}\nSECRET_KEY_FALLBACKS={key}\n")


# Each id with the fault that has it, and nothing else wrong.
FAULTS: dict[str, Callable[[Project], None]] = {
    "bind-unreadable": lambda p: p.has(BIND="everywhere"),
    "coep-unknown": lambda p: p.has(CROSS_ORIGIN_EMBEDDER_POLICY="none"),
    "cors-origin": lambda p: p.has(CORS_ALLOWED_ORIGINS=["*"]),
    "csp-extra-directive": lambda p: p.is_given(APP_CSP_EXTRA='{"default-src": ["https://x.org"]}'),
    "csp-extra-open": lambda p: p.is_given(APP_CSP_EXTRA='{"script-src": ["*"]}'),
    "debug-outside-development": lambda p: p.is_given(FLASK_DEBUG="1"),
    "debug-pin-off": lambda p: p.is_given(WERKZEUG_DEBUG_PIN="off"),
    "dependency-version": old_library,
    "dotenv-readable": lambda p: (p.root / ".env").chmod(0o644),
    "dotenv-tracked": is_tracked,
    "host-never-matches": lambda p: p.has(TRUSTED_HOSTS=["app.example.com:443"]),
    "hosts-empty": lambda p: p.has(TRUSTED_HOSTS=[]),
    "proxy-hops": lambda p: p.has(PROXY_HOPS=9),
    "proxy-hops-topology": lambda p: behind_nginx(p, PROXY_HOPS=2),
    "proxy-none": lambda p: p.has(PROXY_HOPS=0),
    "rate-limit-store-per-process": lambda p: p.is_given(WEB_CONCURRENCY="2"),
    "rate-limit-store-unknown": lambda p: p.has(RATELIMIT_STORAGE_URI="mongodb://x"),
    "rate-limit-store-unreadable": lambda p: p.has(RATELIMIT_STORAGE_URI="redis://[::1"),
    "rate-limit-unreadable": lambda p: p.has(RATELIMIT_STRICT="often"),
    "request-size": lambda p: p.has(MAX_CONTENT_LENGTH=0),
    "secret-in-settings": lambda p: p.has(SECRET_KEY=KEY),
    "secret-key-ambiguous": lambda p: p.is_given(SECRET_KEY=KEY[::-1]),
    "secret-key-fallback-date": lambda p: fallback(p, f"{KEY[::-1]}:soon"),
    "secret-key-fallback-weak": lambda p: fallback(p, "short"),
    "secret-key-missing": lambda p: p.write(".env", ""),
    "secret-key-published": lambda p: p.write(".env", "SECRET_KEY=your-secret-key\n"),
    "secret-key-source-unknown": lambda p: p.is_given(**{"APP_SECRET_KEY_SOURCE": "magic"}),
    "secret-with-prefix": lambda p: p.is_given(APP_SECRET_KEY=KEY),
    "security-contact": lambda p: p.has(SECURITY_CONTACT="me"),
    "security-txt-expires": lambda p: p.has(SECURITY_TXT_EXPIRES="soon"),
    "security-txt-expires-soon": lambda p: p.has(
        SECURITY_TXT_EXPIRES=f"{TODAY + timedelta(days=29)}"
    ),
    "session-lifetime": lambda p: p.has(PERMANENT_SESSION_LIFETIME=0),
    "setting-type": lambda p: p.has(HSTS_INCLUDE_SUBDOMAINS=1),
    "setting-unknown": lambda p: p.has(PROXY_HOP=1),
    "silenced-check": lambda p: p.is_given(APP_SILENCED_CHECKS='{"x": ["why", "2100-01-01"]}'),
    "tls-file-missing": lambda p: p.has(TLS_CERT_FILE="/no.pem", TLS_KEY_FILE="settings.toml"),
    "tls-file-unnamed": lambda p: p.has(TLS_CERT_FILE="settings.toml"),
    "variable-misspelt": lambda p: p.is_given(APP_PROXY_HOP="1"),
    "workers-unreadable": lambda p: p.is_given(WEB_CONCURRENCY="many"),
}
if "LOGIN_FRESH_S" in config.SETTINGS:
    FAULTS |= {
        "database-url": lambda p: p.is_given(DATABASE_URL="mysql://x/y"),
        "login-idle": lambda p: p.has(LOGIN_SESSION_IDLE_S=43_201),
        "login-lifetime": lambda p: p.has(LOGIN_FRESH_S=0),
    }
if "LOGIN_ACCOUNT_LIMIT" in config.SETTINGS:
    FAULTS |= {
        "login-account-limit": lambda p: p.has(LOGIN_ACCOUNT_LIMIT="often"),
        "login-account-limit-high": lambda p: p.has(LOGIN_ACCOUNT_LIMIT="5 per minute"),
    }
if "OIDC_ISSUER" in config.SETTINGS:
    NEEDS_EMAIL = {"APP_OIDC_ALLOWED_DOMAINS": "example.com", "APP_OIDC_SCOPES": "openid"}
    FAULTS |= {
        "oidc-domains": lambda p: p.is_given(APP_OIDC_ALLOWED_DOMAINS="@example.com"),
        "oidc-domains-email": lambda p: p.is_given(**NEEDS_EMAIL),
        "oidc-incomplete": lambda p: p.is_given(OIDC_CLIENT_SECRET=""),
        "oidc-issuer": lambda p: p.is_given(APP_OIDC_ISSUER="http://login.example.com"),
        "oidc-loopback": lambda p: p.is_given(APP_OIDC_ISSUER="http://localhost:9000"),
        "oidc-max-age": lambda p: p.is_given(APP_OIDC_MAX_AGE_S="-1"),
        "oidc-offline": lambda p: p.is_given(APP_OIDC_SCOPES="openid,offline_access"),
        "oidc-open": lambda p: p.is_given(APP_OIDC_ISSUER="https://accounts.google.com"),
        "oidc-scopes": lambda p: p.is_given(APP_OIDC_SCOPES="email"),
    }
# What `flask check` cannot see, or what brings another fault along, and who shows it.
ELSEWHERE = {
    "csrf-exempt": "test_checks.py",
    "database-ahead": "login/test_database.py",
    "database-behind": "login/test_database.py",
    "database-library": "login/test_database.py",
    "database-unreachable": "login/test_database.py",
    "debug-on-a-network": "test_development.py",
    "development-server-without-debug": "test_development.py",
    "dotenv-unreadable": "test_checks.py",
    "rate-limit-store-library": "security/test_rate_limits.py",
    "secret-key-aws": "test_checks.py",
    "secret-key-aws-library": "test_checks.py",
    "secret-key-fallbacks-not-a-list": "security/test_secret_key.py",
    "secret-key-file-unreadable": "security/test_secret_key.py",
    "secret-key-weak": "security/test_secret_key.py",
    "settings-unreadable": "test_settings.py",
    "tls-missing": "test_gunicorn.py",
    "werkzeug-known-bad": "test_checks.py",
}


def ids_in_code() -> set[str]:
    """Return every id that this project's code gives a problem."""
    found = set()
    for path in [*(HERE.parent / "app").rglob("*.py"), HERE.parent / "gunicorn.conf.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Problem":
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    found.add(str(first.value))
    return found


def test_every_id_is_shown_by_a_project_that_has_the_fault() -> None:
    here = {n: file for n, file in ELSEWHERE.items() if (HERE / file).exists()}
    assert set(FAULTS) | set(here) == ids_in_code()
    assert not set(FAULTS) & set(ELSEWHERE)
    for number, file in here.items():
        assert number in (HERE / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("number", FAULTS)
def test_a_project_with_one_fault_is_told_that_one(project: Project, number: str) -> None:
    FAULTS[number](project)
    (found,) = project.found()
    assert found["id"] == number
    assert found["hint"]
    assert KEY not in json.dumps(found)
    shown = project.check()
    assert f"{found['level']}: {found['sentence']}  [{number}]" in shown.output
    assert shown.exit_code == (0 if found["level"] == "note" else 1)
    assert project.check("--fail-level", "note").exit_code == 1
    refuses = bool(found["level"] == "error")
    assert project.check("--fail-level", "error").exit_code == refuses


def test_nothing_is_found_in_a_project_without_a_fault(project: Project) -> None:
    shown = project.check("--fail-level", "note")
    assert (shown.exit_code, project.found()) == (0, [])
    assert shown.output.startswith("Nothing found: every protection is on.\n")
    assert re.search(r"^Exempt from CSRF: .*reports\.csp_report", shown.output, re.MULTILINE)


def test_an_unreadable_dotenv_is_told_with_the_key_that_is_missing(project: Project) -> None:
    unreadable(project)
    assert [one["id"] for one in project.found()] == ["dotenv-unreadable", "secret-key-missing"]


class FakeError(Exception):
    """What AWS's library raises."""


def fails(*_: object, **__: object) -> None:
    raise FakeError("no region")


@pytest.mark.parametrize("number", ["secret-key-aws-library", "secret-key-aws"])
def test_a_secret_that_cannot_be_fetched_is_told_with_the_key_that_is_missing(
    project: Project, monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    library = {
        "boto3": SimpleNamespace(client=fails),
        "botocore.config": SimpleNamespace(Config=dict),
        "botocore.exceptions": SimpleNamespace(BotoCoreError=FakeError, ClientError=FakeError),
    }
    for name, module in library.items():
        monkeypatch.setitem(sys.modules, name, module if number == "secret-key-aws" else None)
    project.has(SECRET_KEY_SOURCE="aws-secrets-manager", AWS_SECRET_ID="app/key")  # noqa: S106
    assert [one["id"] for one in project.found()] == [number, "secret-key-missing"]


def test_everything_is_told_the_worst_first(project: Project) -> None:
    behind_nginx(project, PROXY_HOPS=0, MAX_FORM_PARTS=0)
    levels = [one["level"] for one in project.found()]
    assert levels == ["error", "warning", "note"]
    assert "3 found: 1 error, 1 warning, 1 note." in project.check().output


@pytest.mark.parametrize(
    ("fault", "place"),
    [
        (lambda p: p.has(PROXY_HOPS=9), ("settings.toml", 5)),
        (lambda p: p.is_given(APP_PROXY_HOPS="9"), (None, None)),
        (lambda p: p.write(".env", f"SECRET_KEY={KEY}\n\nAPP_PROXY_HOPS=9\n"), (".env", 3)),
        (lambda p: p.write(".env", "# ours\nSECRET_KEY=dev\n"), (".env", 2)),
        (lambda p: p.write("settings.toml", "PROXY_HOPS = 1\nX = \n"), ("settings.toml", 2)),
        (lambda p: (p.root / ".env").chmod(0o644), (".env", None)),
        (lambda p: p.has(MAX_FORM_PARTS=0, PERMANENT_SESSION_LIFETIME=1), ("settings.toml", 6)),
    ],
)
def test_a_fault_has_a_place(
    project: Project, fault: Callable[[Project], None], place: tuple[str | None, int | None]
) -> None:
    fault(project)
    first = project.found()[0]
    assert (first["file"], first["line"]) == place


def test_sarif_and_github_tell_the_same(project: Project) -> None:
    project.has(PROXY_HOPS=9, SITE_NAME="100 %\n::error::forged")
    log = json.loads(project.check("--format", "sarif").output)
    (run,) = log["runs"]
    (result,) = run["results"]
    assert (log["version"], result["ruleId"], result["level"]) == ("2.1.0", "proxy-hops", "error")
    place = result["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "settings.toml"}, "region": {"startLine": 5}}
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["proxy-hops"]
    said = project.check("--format", "github").output
    assert said.startswith("::error file=settings.toml,line=5,title=proxy-hops::PROXY_HOPS is 9;")
    assert said.count("\n") == 1


def test_no_setting_forges_a_workflow_command() -> None:
    problem = Problem("x", "X is '%\n::error::forged'.", "\r\nDo")
    assert as_github([Finding(problem, "a,b:c")]) == (
        "::error file=a%2Cb%3Ac,title=x::X is '%25%0A::error::forged'. %0D%0ADo\n"
    )


def silenced(project: Project, *words: str, number: str = "proxy-hops-topology") -> list[str]:
    """Silence an id; return the ids that are told."""
    behind_nginx(project, PROXY_HOPS=2)
    text = (project.root / "settings.toml").read_text()
    line = f"SILENCED_CHECKS.{number} = {json.dumps(words)}\n"
    project.write("settings.toml", text + line)
    return [one["id"] for one in project.found()]


def test_a_warning_is_silenced_for_a_while_and_a_reason(project: Project) -> None:
    assert silenced(project, "a CDN in front", f"{TODAY}") == []
    shown = project.check()
    assert "silenced: [proxy-hops-topology] a CDN in front" in shown.output
    assert shown.exit_code == 0


@pytest.mark.parametrize(
    "words",
    [
        ["a CDN in front", f"{TODAY - timedelta(days=1)}"],
        ["", f"{TODAY}"],
        ["a CDN in front"],
        ["a CDN in front", "soon"],
        [],
    ],
)
def test_a_silence_that_is_over_or_says_not_why_is_none(project: Project, words: list[str]) -> None:
    assert silenced(project, *words) == ["proxy-hops-topology", "silenced-check"]


def test_an_error_is_not_silenced(project: Project) -> None:
    project.is_given(APP_MAX_FORM_PARTS="0")
    told = silenced(project, "we know", f"{TODAY}", number="request-size")
    assert told == ["request-size", "proxy-hops-topology", "silenced-check"]


def test_an_exemption_without_a_reason_is_told(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made() -> Flask:
        app = create_app()

        @app.post("/hook")
        def hook() -> str:
            return ""

        app.extensions["csrf"].exempt(hook)
        return app

    monkeypatch.setattr(commands, "create_app", made)
    views = made().extensions["csrf"]._exempt_views
    try:
        (found,) = project.found()
    finally:
        views.discard(f"{__name__}.hook")
    assert found["id"] == "csrf-exempt"
    assert found["sentence"].startswith("hook is exempt")


def test_a_werkzeug_that_believes_any_host_stops_the_start(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.security.hosts.version", lambda _name: "3.1.8")
    (found,) = project.found()
    assert (found["id"], found["level"]) == ("werkzeug-known-bad", "error")


def test_the_topology_agrees_with_what_is_shipped(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    assert list(checks.topology(tmp_path, 3)) == []
    (tmp_path / "deploy" / "nginx.conf").touch()
    assert [len(list(checks.topology(tmp_path, hops))) for hops in range(4)] == [1, 0, 1, 1]
    (tmp_path / "deploy" / "cdn-networks.conf").touch()
    assert [len(list(checks.topology(tmp_path, hops))) for hops in range(4)] == [1, 1, 0, 1]


def test_every_id_is_documented() -> None:
    text = (HERE.parent / "docs" / "checks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (error|warning|note) \|", text, re.MULTILINE)
    if "cookiecutter.login" in text:  # as it lies in the template, with the rows of every answer
        return
    assert {number for number, _ in rows} == ids_in_code()
