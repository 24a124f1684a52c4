"""A change of key signs nobody out, loses no line of .env, and shows no key."""

import os
import stat
import subprocess
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from shutil import which

import pytest
from click.testing import CliRunner
from dotenv import dotenv_values
from flask.testing import FlaskClient

from app import commands, config, create_app, env_file, rotation
from tests.conftest import Browser, csrf_token
from tests.production import HOST, KEY, SETTINGS, VARIABLES

TODAY, UNTIL = date(2027, 1, 30), date(2027, 1, 31)
OLD = "old-key-" + "0123456789abcdef" * 3
# Production reads .env here, as it does on one host.
DOTENV = {**VARIABLES, "APP_SECRET_KEY_SOURCE": "dotenv", "SECRET_KEY": ""}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a .env that somebody has written in."""
    file = tmp_path / ".env"
    file.write_text(
        f"# mine\nexport OTHER='a \"b\"' # why\n\nSECRET_KEY = '{KEY}' # prod\r\n"
        f'SECRET_KEY_FALLBACKS={OLD}:2027-01-29\nLAST="two\nlines"\n'
    )
    file.chmod(0o640)
    return file


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the root of a project without a .env, in the place of this one."""
    (tmp_path / "settings.toml").write_text("")
    monkeypatch.setattr(config, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def project(bare: Path) -> Path:
    """Return the root of a project with a .env, in the place of this one."""
    env_file.create(str(bare / ".env"))
    return bare


def rotate(file: Path, *, compromised: bool = False, prune: bool = False) -> rotation.Rotated:
    """Rotate with fixed days."""
    return rotation.rotate(str(file), TODAY, UNTIL, compromised=compromised, prune=prune)


def test_the_old_key_counts_until_its_day_is_over(file: Path) -> None:
    assert rotate(file) == (UNTIL, 0)
    values = dotenv_values(file)
    assert values["SECRET_KEY"] != KEY
    assert len(values["SECRET_KEY"] or "") == 64
    assert values["SECRET_KEY_FALLBACKS"] == f"{KEY}:2027-01-31,{OLD}:2027-01-29"


def test_everything_else_stays_to_the_byte(file: Path) -> None:
    before = file.read_bytes().decode()
    rotate(file)
    values = dotenv_values(file)
    after = file.read_bytes().decode()
    after = after.replace(values["SECRET_KEY"] or "?", KEY)
    after = after.replace(f"{KEY}:2027-01-31,", "")
    assert after == before
    assert stat.S_IMODE(file.stat().st_mode) == 0o640 or os.name != "posix"


def test_a_compromised_key_counts_no_longer(file: Path) -> None:
    rotate(file)  # by somebody who did not know yet
    assert KEY in file.read_text()
    assert rotate(file, compromised=True) == (None, 0)
    assert KEY not in file.read_text()
    assert not dotenv_values(file)["SECRET_KEY_FALLBACKS"]


def test_fallbacks_past_their_day_go_when_asked(file: Path) -> None:
    assert rotate(file, prune=True) == (UNTIL, 1)
    assert OLD not in file.read_text()


def test_a_key_that_could_be_guessed_is_no_fallback(file: Path) -> None:
    file.write_text("SECRET_KEY=dev\nSECRET_KEY_FALLBACKS=''\n")
    assert rotate(file) == (None, 0)
    assert not dotenv_values(file)["SECRET_KEY_FALLBACKS"]


@pytest.mark.parametrize("fallbacks", ["", "SECRET_KEY_FALLBACKS=\n", "SECRET_KEY_FALLBACKS=''\n"])
def test_the_first_fallback_finds_its_place(file: Path, fallbacks: str) -> None:
    file.write_text(f"{fallbacks}SECRET_KEY={KEY}")
    rotate(file)
    assert dotenv_values(file)["SECRET_KEY_FALLBACKS"] == f"{KEY}:2027-01-31"


@pytest.mark.parametrize("text", ["", "OTHER=1\n", "SECRET_KEY=\n"])
def test_without_a_key_nothing_changes(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(rotation.CannotRotateError, match="secret-key create"):
        rotate(file)
    assert file.read_text() == text


def test_what_cannot_be_changed_safely_is_left_alone(file: Path) -> None:
    text = f'SECRET_KEY="{KEY[:20]}\\n{KEY[20:]}"\n'
    file.write_text(text)
    with pytest.raises(rotation.CannotRotateError, match="by hand"):
        rotate(file)
    assert file.read_text() == text


@pytest.mark.skipif(os.name != "posix", reason="Windows needs a privilege for links")
def test_a_link_stays_a_link(file: Path) -> None:
    real = file.rename(file.with_name("real"))
    file.symlink_to(real)
    rotate(file)
    assert file.is_symlink()
    assert KEY in real.read_text()


@pytest.mark.parametrize(("lifetime_s", "days"), [(1, 1), (86_400, 1), (86_401, 2)])
def test_the_day_is_when_the_last_session_has_ended(lifetime_s: int, days: int) -> None:
    assert rotation.last_day(TODAY, lifetime_s) == TODAY + timedelta(days=days)


def test_sessions_and_open_forms_live_through_it(project: Path) -> None:
    def browser() -> FlaskClient:
        app = create_app(**{**SETTINGS, "SECRET_KEY_SOURCE": "dotenv"})
        app.test_client_class = Browser
        return app.test_client()

    visitor = browser()
    data = {"name": "Ada", "email": "ada@example.com", "message": "Hello"}
    data["csrf_token"] = csrf_token(visitor.get("/contact"))
    cookie = visitor.get_cookie("__Host-session", HOST)
    assert cookie
    before = (project / ".env").read_text()
    for options, status in (((), 303), (("--compromised",), 400)):
        (project / ".env").write_text(before)
        result = CliRunner().invoke(commands.secret_key, ["rotate", *options], env=DOTENV)
        assert result.exit_code == 0, result.output
        client = browser()
        client.set_cookie("__Host-session", cookie.value, domain=HOST, secure=True)
        assert client.post("/contact", data=data).status_code == status


@pytest.fixture
def command(bare: Path) -> Callable[..., str]:
    """Return a function that runs a command on a project without a .env; it returns all output."""

    def invoke(*arguments: str, **variables: str) -> str:
        result = CliRunner().invoke(commands.secret_key, arguments, env={**DOTENV, **variables})
        assert result.exit_code == 0, result.output
        return result.output

    return invoke


def test_no_command_shows_a_key(command: Callable[..., str], tmp_path: Path) -> None:
    said = ""
    keys = set()
    for arguments in (("create",), ("rotate",), ("rotate", "--prune"), ("fingerprint",)):
        said += command(*arguments)
        values = dotenv_values(tmp_path / ".env")
        keys |= {values["SECRET_KEY"] or "?"}
        keys |= {entry[:64] for entry in (values.get("SECRET_KEY_FALLBACKS") or "").split(",")}
    said += CliRunner().invoke(commands.check, env=DOTENV).output
    assert len(keys - {""}) == 3
    assert not [key for key in keys - {""} if key in said or key[:12] in said]
    assert f"counts until {datetime.now(UTC).date() + timedelta(days=1)}" in said


def test_what_cannot_be_done_is_told(project: Path) -> None:
    def told(name: str, **variables: str) -> str:
        result = CliRunner().invoke(commands.secret_key, [name], env={**DOTENV, **variables})
        assert result.exit_code == 1
        return result.output

    before = (project / ".env").read_text()
    too_long = {"APP_PERMANENT_SESSION_LIFETIME": "999999999999"}
    assert "[session-lifetime]" in told("rotate", **too_long)
    assert (project / ".env").read_text() == before
    (project / ".env").unlink()
    (project / ".env").mkdir()
    assert told("create").startswith("Error: ")


def test_a_fingerprint_tells_two_keys_apart(command: Callable[..., str]) -> None:
    def shown(key: str) -> str:
        variables = {**VARIABLES, "SECRET_KEY": key, "SECRET_KEY_FALLBACKS": OLD}
        return command("fingerprint", **variables)

    first, again, other = shown(KEY), shown(KEY), shown(f"{KEY}x")
    assert first == again
    assert first.splitlines()[0] != other.splitlines()[0]
    assert first.splitlines()[1] == other.splitlines()[1]


@pytest.mark.parametrize("source", rotation.STEPS)
def test_another_source_is_told_the_steps(command: Callable[..., str], source: str) -> None:
    settings = {"APP_SECRET_KEY_SOURCE": source, "SECRET_KEY": KEY}
    output = command("rotate", **settings)
    assert output.startswith("1. ")
    assert "A compromised key: " in output
    assert KEY not in output


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such mode")
def test_check_names_a_dotenv_that_others_can_read(project: Path) -> None:
    (project / ".env").chmod(0o604)
    result = CliRunner().invoke(commands.check, env=DOTENV)
    assert result.exit_code == 1
    assert "[dotenv-readable]" in result.output
    create_app(**{**SETTINGS, "SECRET_KEY_SOURCE": "dotenv"})


@pytest.mark.skipif(not which("git"), reason="needs git")
def test_check_names_a_dotenv_that_git_tracks(project: Path) -> None:
    for arguments in (["init", "--quiet"], ["add", "--force", ".env"]):
        subprocess.run(["git", *arguments], cwd=project, check=True)  # noqa: S603, S607
    result = CliRunner().invoke(commands.check, env=DOTENV)
    assert result.exit_code == 1
    assert "[dotenv-tracked]" in result.output
