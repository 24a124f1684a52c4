"""What the pages say to type, typed: for keys, accounts, the database, a provider, the template."""

import json
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import commands
from tests.checkout import CHOICES, CLEAN
from tests.combinations import wrong_files
from tests.conftest import Project, said_by
from tests.reader import QUICK, Reader
from tests.test_mistakes import free_port, stack
from tests.test_postgresql import API, EMAIL, PASSWORD, Client

OTHER = "eleven loud herons"
TABLE = commands.read(commands.TABLE.read_text("utf-8"))
IN_CONTAINERS = next(reason for reason in TABLE["not typed"] if "by test_the_database" in reason)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")


@pytest.fixture
def reads(tmp_path: Path, typed: set[str]) -> Callable[[Path], Reader]:
    """Return a function that makes a reader of a project."""
    (tmp_path / "programs").mkdir()
    return lambda path: Reader(path, tmp_path / "programs", typed)


def contained(program: str) -> str:
    """Return what operating.md has a container do, from the program on."""
    (line,) = [line for line in TABLE["not typed"][IN_CONTAINERS] if f" {program} " in line]
    found = re.search(rf"(?:app|migrate) ({program} .*?)(?: && docker .*)?$", line)
    assert found
    return found[1]


def test_keys_and_accounts(
    bake: Callable[..., Project], reads: Callable[[Path], Reader], tmp_path: Path
) -> None:
    project = bake(login="password").path
    reader, log, port = reads(project), tmp_path / "log", free_port()
    reader.variables["APP_BIND"] = f"127.0.0.1:{port}"
    (project / ".env").unlink()  # as in a fresh clone
    assert "A new SECRET_KEY is in" in reader.types("uv run flask secret-key create")
    assert stat.S_IMODE((project / ".env").stat().st_mode) == 0o600
    assert reader.types("uv run flask check").startswith("Nothing found")
    assert "the old one counts until" in reader.types("uv run flask secret-key rotate")
    assert "FALLBACKS 1" in reader.types("uv run flask secret-key fingerprint")
    assert "the old one is gone" in reader.types("uv run flask secret-key rotate --compromised")
    assert "FALLBACKS" not in reader.types("uv run flask secret-key fingerprint")

    reader.types("uv run flask db upgrade")
    said = reader.answers("uv run flask user create ada@example.com", PASSWORD, PASSWORD)
    assert f"{EMAIL} can sign in." in said
    assert PASSWORD not in said
    assert reader.types("uv run flask user list") == f"{EMAIL}\n"
    here = f"http://127.0.0.1:{port}"
    with reader.leaves("uv run --no-dev gunicorn", log=log, url=f"{here}/healthz"):
        client = Client(here)
        assert client.status(API) == 200
        assert reader.types("uv run flask user sessions").startswith(f"{EMAIL}  ")
        said = reader.types("uv run flask user sessions --forget-expired")
        assert said.startswith("0 sessions that were over are gone.")
        reader.types("flask user sessions ADDRESS --end", ADDRESS=EMAIL)
        assert client.status(API) == 401
        client = Client(here)
        assert "1 sessions have ended." in reader.types("uv run flask user sessions --end")
        assert client.status(API) == 401
        client = Client(here)
        said = reader.answers("uv run flask user password ada@example.com", OTHER, OTHER)
        assert "has a new password; 1 sessions have ended." in said
        assert client.status(API) == 401
        reader.types("uv run flask user disable ada@example.com")
        assert reader.types("uv run flask user list") == f"{EMAIL}  (disabled)\n"


def test_keys_from_elsewhere(bake: Callable[..., Project], reads: Callable[[Path], Reader]) -> None:
    reader = reads(bake(**{"login": "none", "secret_key_source": "environment"}).path)
    command = 'python3 -c "import secrets; print(secrets.token_urlsafe(48))"'
    reader.variables["SECRET_KEY"] = reader.types(command).strip()
    assert reader.types("uv run flask check").startswith("Nothing found")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or bool(os.geteuid()), reason="root alone gives files away"
)
def test_a_key_in_a_file(tmp_path: Path, reads: Callable[[Path], Reader]) -> None:
    key = tmp_path / "key"
    key.touch()
    reads(tmp_path).types("chown 10001 FILE && chmod 400 FILE", FILE=str(key))
    assert (key.stat().st_uid, stat.S_IMODE(key.stat().st_mode)) == (10001, 0o400)


@pytest.mark.removal  # a quarter of a minute
def test_the_database(
    bake: Callable[..., Project], reads: Callable[[Path], Reader], tmp_path: Path
) -> None:
    project = bake(login="password").path
    reader, log, port = reads(project), tmp_path / "log", free_port()
    reader.variables["APP_BIND"] = f"127.0.0.1:{port}"
    here = f"http://127.0.0.1:{port}"
    reader.types("uv run flask db upgrade")
    reader.answers("uv run flask user create ada@example.com", PASSWORD, PASSWORD)

    # The copy is whole while somebody writes, and comes back.
    with reader.leaves("uv run --no-dev gunicorn", log=log, url=f"{here}/healthz"):
        client = Client(here)
        reader.types(f"umask 077 && {contained('python')}")
        assert stat.S_IMODE((project / "backup.sqlite3").stat().st_mode) == 0o600
        reader.types("git init --quiet")
        assert "backup" not in reader.types("git ls-files --others --exclude-standard")
        reader.types("uv run flask user disable ada@example.com")
        status, headers, _ = client.ask("/account")
        asked = [client.ask("/contact", {"a": 1})[0] for _ in range(8)]
        assert asked[-1] == 429
    reader.types(contained("sh"))
    assert reader.types("uv run flask user list") == f"{EMAIL}\n"
    with reader.leaves("uv run --no-dev gunicorn", log=log, url=f"{here}/healthz"):
        assert client.status(API) == 200
        reader.types("uv run flask user sessions --end")
        assert client.status(API) == 401

    # Each line of the log that operating.md looks for is one of these.
    looks = [line for line in TABLE["not typed"][IN_CONTAINERS] if "| grep" in line]
    assert len(looks) == 2
    for look in looks:
        words = {"THE-ID": headers["X-Request-ID"]} if "THE-ID" in look else {}
        (found, *_) = reader.types(f"cat {log} |{look.partition('|')[2]}", **words).splitlines()
        assert json.loads(found)["client"] == "198.51.100.1"
    assert status == 303

    # A column more, and back.
    models = project / "app/login/models.py"
    before = models.read_text()
    column = "    nickname: Mapped[str | None] = mapped_column(String(50))\n"
    models.write_text(re.sub("(    disabled: .*\n)", rf"\1{column}", before, count=1))
    with pytest.raises(AssertionError, match="nickname"):
        reader.types("uv run flask db check")
    reader.types('uv run flask db revision "what has changed"')
    assert len(list((project / "app/migrations").glob("*what_has_changed.py"))) == 1
    reader.types("uv run flask db upgrade")
    reader.types("uv run flask db check")
    reader.types(contained("flask"))
    with pytest.raises(AssertionError, match="database-behind"):
        reader.types("uv run flask user list")


@pytest.mark.removal
def test_a_provider_for_development(
    bake: Callable[..., Project], reads: Callable[[Path], Reader], tmp_path: Path
) -> None:
    project = bake(login="oidc").path
    reader, log, port, provider = reads(project), tmp_path / "log", free_port(), free_port()
    here, issuer = f"http://localhost:{port}", f"http://127.0.0.1:{provider}"
    jar = f"--silent --location --cookie {tmp_path}/jar --cookie-jar {tmp_path}/jar"
    begin = "uv run python -m tests.provider --email ada@example.com"
    lines = tmp_path / "lines"
    look = f"{issuer}/.well-known/openid-configuration"
    with reader.leaves(begin, f"--port {provider}", log=lines, url=look):
        page = (project / "docs/providers.md").read_text()
        (ask,) = [line for line in commands.commands(page) if line.startswith("curl ")]
        said = reader.types(ask, ISSUER=issuer)
        assert said.startswith(f"issuer {issuer}\n")
        assert "backchannel_logout_supported True" in said
        assert len(lines.read_text().splitlines()) == 3
        with (project / ".env").open("a") as file:
            file.write(lines.read_text())
        development = "uv run flask run --debug"
        with reader.leaves(development, f"--no-reload --port {port}", log=log, url=here):
            visit = f"curl {jar} {here}/login"
            assert EMAIL in reader.types(visit)
            assert reader.types("uv run flask user list") == f"{EMAIL}\n"
            for command in (
                "uv run flask user sessions ada@example.com --end",
                "flask user sessions ADDRESS-OR-SUBJECT --end",
            ):
                assert EMAIL in reader.types(visit)
                words = {"ADDRESS-OR-SUBJECT": EMAIL} if "ADDRESS" in command else {}
                assert "1 sessions have ended." in reader.types(command, **words)
                assert reader.types("uv run flask user sessions") == ""
            reader.types("uv run flask user disable ada@example.com")
            assert EMAIL not in reader.types(visit)


@pytest.mark.removal
def test_a_deployment_is_looked_at(
    bake: Callable[..., Project], reads: Callable[[Path], Reader]
) -> None:
    project = bake(login="none", proxy="caddy").path
    reader = reads(project)
    with stack(project, {}) as running:
        options = (f"--ca-file={running['ca']}", f"--http-url={running['http']}")
        for command in (
            "uv run flask check --url https://app.example.com",
            "uv run pytest tests/live --base-url https://app.example.com",
        ):
            address = {"https://app.example.com": running["https"]}
            said = reader.types(command, *options, **address)
            assert re.search(r"answers are as promised|\d passed", said)


@pytest.mark.removal
def test_the_suite_with_everything_that_is_here(
    bake: Callable[..., Project], reads: Callable[[Path], Reader]
) -> None:
    said = reads(bake().path).types("uv run --group live pytest", QUICK)
    assert re.search(r"^\d{3,} passed", said, re.MULTILINE)


@pytest.mark.removal
def test_the_template_is_named_in_every_way(
    checkout: Path, tmp_path: Path, typed: set[str]
) -> None:
    here, repository = tmp_path / "here", tmp_path / "srv" / "git" / checkout.name
    here.mkdir()
    reader = Reader(here, here, typed)
    reader.variables["HOME"] = str(tmp_path)
    for place in (repository, tmp_path / checkout.name):
        shutil.copytree(checkout, place)
    git = "git -c user.name=A -c user.email=a@example.com"
    begin = f"git init -q && git add . && {git} commit -qm x && git tag 2026.11.23"
    said_by("bash", "-ec", begin, cwd=repository, env=CLEAN)
    shutil.make_archive(str(here / checkout.name), "zip", checkout.parent, checkout.name)
    defaults = {question: options[0] for question, options in CHOICES.items()}
    for command in (
        "cookiecutter ../cookiecutter-secure-flask",
        "cookiecutter cookiecutter-secure-flask.zip",
        "cookiecutter git+file:///srv/git/cookiecutter-secure-flask --checkout 2026.11.23",
    ):
        other = {"///srv": f"//{tmp_path}/srv"} if "///srv" in command else {}
        reader.types(command, "< <(yes '')", **other)  # each question by its default
        assert wrong_files(here / "my-secure-app", defaults) == set()
        shutil.rmtree(here / "my-secure-app")
    reader.path = tmp_path / checkout.name
    reader.types("cookiecutter . --replay --output-dir ..")
    assert wrong_files(tmp_path / "my-secure-app", defaults) == set()


@pytest.mark.removal
def test_a_contributor_makes_a_project(
    checkout: Path, reads: Callable[[Path], Reader], tmp_path: Path
) -> None:
    reader = reads(checkout)
    reader.variables["HOME"] = str(tmp_path)
    elsewhere = {"/tmp": str(tmp_path)}  # noqa: S108  what is typed
    reader.types("uvx cookiecutter --no-input -f -o /tmp . login=oidc", **elsewhere)
    where = reader.types("cd /tmp/my-secure-app", "&& pwd", **elsewhere).strip()
    reader.path, reader.variables["PYTHONPATH"] = Path(where), where
    assert re.search(r"^\d{3,} passed", reader.types("uv run pytest", QUICK), re.MULTILINE)


def test_a_contributor_writes_pages_and_releases(
    checkout: Path, tmp_path: Path, typed: set[str]
) -> None:
    here = shutil.copytree(checkout, tmp_path / "here")
    reader = Reader(here, tmp_path, typed)
    reader.variables |= {"HOME": str(tmp_path), "PYTHONPATH": ""}
    for name in ("asvs", "commands"):
        page = here / "docs" / f"{name}.md"
        before = page.read_text()
        page.write_text("")
        reader.types(f"python scripts/{name}.py")
        assert page.read_text() == before
    origin = tmp_path / "origin"
    git = "git -c user.name=A -c user.email=a@example.com"
    begin = f"git init -q --bare {origin} && git init -q && git remote add origin {origin}"
    begin += f" && git add . && {git} commit -qm x"
    said_by("bash", "-ec", begin, cwd=here, env=reader.variables)
    reader.types("git tag 2026.12.1")
    reader.types("git push origin 2026.12.1")
    assert said_by("git", "tag", cwd=origin, env=reader.variables) == "2026.12.1\n"
