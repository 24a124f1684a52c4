"""No key that somebody could guess or already has ever signs anything."""

import shlex
import string
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest

from app import checks, config
from app.problem import Refusal
from app.security import secret_key
from tests.conftest import MakeApp
from tests.production import KEY

OLD = "old-key-" + "0123456789abcdef" * 3
STRANGERS_KEY = "key-of-another-project-" + "0123456789abcdef" * 2


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the root of a project with settings and no .env, in a directory of other projects."""
    root = tmp_path / "projects" / "ours"
    root.mkdir(parents=True)
    (root / "settings.toml").write_text(
        'TRUSTED_HOSTS = ["app.example.com"]\nPROXY_HOPS = 1\n'
        'SECURITY_CONTACT = "mailto:security@example.com"\nSECURITY_TXT_EXPIRES = "2100-01-01"\n'
    )
    monkeypatch.setattr(config, "ROOT", root)
    monkeypatch.chdir(root)
    return root


def problem_ids(source: str) -> list[str]:
    """Return the ids of all that is wrong with a project whose key comes from there."""
    _, found = checks.examine({"SECRET_KEY_SOURCE": source})
    return [problem.id for problem in found]


@pytest.mark.parametrize(
    ("weak", "problem"),
    [
        (None, "secret-key-missing"),
        ("", "secret-key-missing"),
        ("dev", "secret-key-published"),
        ("your-secret-key", "secret-key-published"),
        ("Your Secret_Key!", "secret-key-published"),
        ("5791628bb0b13ce0c676dfde280ba245", "secret-key-published"),
        ("8BYkEfBA6O6donzWlSihBXox7C0sKR6b", "secret-key-published"),
        (f"django-insecure-{string.ascii_letters}", "secret-key-published"),
        ("k" * 64, "secret-key-weak"),
        ("changeme" * 8, "secret-key-weak"),
        (string.ascii_letters[:31], "secret-key-weak"),
        (string.ascii_letters + " #cut", "secret-key-weak"),
        (string.ascii_letters + "${HOME}", "secret-key-weak"),
        (string.ascii_letters.encode(), "secret-key-weak"),
    ],
)
def test_a_key_that_can_be_guessed_is_refused(
    make_app: MakeApp, weak: object, problem: str
) -> None:
    with pytest.raises(Refusal, match=rf"\[{problem}\]") as refusal:
        make_app(SECRET_KEY=weak)
    assert not weak or str(weak) not in str(refusal.value)


@pytest.mark.parametrize(
    "strong", [string.ascii_letters[:32], string.digits * 4, "0123456789abcdef" * 2 + "_+/=.~-"]
)
def test_a_key_that_is_strong_enough_is_accepted(make_app: MakeApp, strong: str) -> None:
    assert make_app(SECRET_KEY=strong).config["SECRET_KEY"] == strong


@pytest.mark.parametrize(
    ("key", "what"),
    [
        (None, "is not text"),
        ("dev", "is published"),
        (string.ascii_letters[:31], "has fewer than 32 characters"),
        (string.digits[:9] * 8, "has fewer than 10 different characters"),
        (string.ascii_letters + ":", "has characters that are cut or changed on their way"),
    ],
)
def test_a_weak_key_is_told_why(key: object, what: str) -> None:
    assert str(secret_key.weakness(key)).startswith(what)


def test_the_published_keys_are_many_and_every_one_is_refused() -> None:
    lines = (
        Path(secret_key.__file__).with_name("published_keys.txt").read_text("utf-8").splitlines()
    )
    keys = [line for line in lines if not line.startswith("# ")]
    assert len(secret_key.PUBLISHED) >= 50
    assert all(secret_key.is_published(key) and secret_key.weakness(key) for key in keys)
    assert not any(secret_key.is_published(line) for line in lines if line not in keys)


@pytest.mark.parametrize("fallback", ["", "d", "dev", "k" * 64])
def test_a_weak_fallback_is_refused_as_a_weak_key_is(make_app: MakeApp, fallback: str) -> None:
    with pytest.raises(Refusal, match=r"key 2 .*\[secret-key-fallback-weak\]"):
        make_app(SECRET_KEY_FALLBACKS=[OLD, fallback])


def test_a_fallback_that_is_text_would_be_one_key_a_letter(make_app: MakeApp) -> None:
    with pytest.raises(Refusal, match=r"\[secret-key-fallbacks-not-a-list\]"):
        make_app(SECRET_KEY_FALLBACKS=OLD)


def test_dotenv_is_read(root: Path) -> None:
    (root / ".env").write_text(f"SECRET_KEY={KEY}\nSECRET_KEY_FALLBACKS={OLD}, ,\n")
    settings, found = checks.examine({})
    assert not found
    assert settings["SECRET_KEY"] == KEY
    assert settings["SECRET_KEY_FALLBACKS"] == [OLD]


def test_dotenv_may_hold_settings_where_it_is_the_source(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / ".env").write_text(f"SECRET_KEY={KEY}\nAPP_PROXY_HOPS=2\n")
    assert checks.settings({})["PROXY_HOPS"] == 2
    monkeypatch.setenv("APP_PROXY_HOPS", "3")
    assert checks.settings({})["PROXY_HOPS"] == 3


def test_the_environment_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", KEY)
    assert problem_ids("environment") == []


def test_a_mounted_file_is_read_without_its_line_end(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "mounted").write_text(f"{KEY}\n")
    monkeypatch.setenv("SECRET_KEY_FILE", str(root / "mounted"))
    settings, found = checks.examine({"SECRET_KEY_SOURCE": "file"})
    assert not found
    assert settings["SECRET_KEY"] == KEY


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file or directory"), (f"{KEY}é", "it is not ASCII text")],
)
def test_a_mounted_file_that_cannot_be_read_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, reason: str
) -> None:
    if content:
        (root / "mounted").write_text(content, "utf-8")
    monkeypatch.setenv("SECRET_KEY_FILE", str(root / "mounted"))
    _, found = checks.examine({"SECRET_KEY_SOURCE": "file"})
    assert [problem.id for problem in found] == ["secret-key-file-unreadable", "secret-key-missing"]
    assert found[0].sentence.endswith(f"mounted cannot be read: {reason}.")


@pytest.mark.parametrize("source", ["environment", "file"])
def test_production_falls_back_to_no_dotenv(root: Path, source: str) -> None:
    (root / ".env").write_text(f"SECRET_KEY={KEY}\n")
    assert problem_ids(source) == ["secret-key-missing"]


@pytest.mark.parametrize("source", ["environment", "file"])
def test_what_flask_loaded_from_dotenv_is_no_environment(
    root: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    (root / ".env").write_text(f"SECRET_KEY={KEY}\nAPP_PROXY_HOPS=5\n")
    monkeypatch.setenv("SECRET_KEY", KEY)  # as Flask's command line does
    monkeypatch.setenv("APP_PROXY_HOPS", "5")
    assert problem_ids(source) == ["secret-key-missing"]
    assert config.read({"SECRET_KEY_SOURCE": source})[0]["PROXY_HOPS"] == 1


@pytest.mark.parametrize("name", [".env", ".flaskenv"])
@pytest.mark.parametrize("source", ["dotenv", "environment", "file"])
def test_a_strangers_file_in_a_parent_directory_changes_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, source: str, name: str
) -> None:
    (root.parent / name).write_text(f"SECRET_KEY={STRANGERS_KEY}\nAPP_PROXY_HOPS=5\n")
    monkeypatch.setenv("SECRET_KEY", STRANGERS_KEY)
    monkeypatch.setenv("APP_PROXY_HOPS", "5")
    assert problem_ids(source) == ["secret-key-missing"]
    assert config.read({})[0]["PROXY_HOPS"] == 1


@pytest.mark.parametrize("source", ["dotenv", "environment"])
def test_an_empty_value_counts_as_missing(
    root: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    (root / ".env").write_text("SECRET_KEY=\n")
    monkeypatch.setenv("SECRET_KEY", "")
    assert problem_ids(source) == ["secret-key-missing"]


def test_an_empty_variable_does_not_hide_dotenv(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / ".env").write_text(f"SECRET_KEY={KEY}\n")
    monkeypatch.setenv("SECRET_KEY", "")
    assert problem_ids("dotenv") == []


def test_two_different_keys_are_one_too_many(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / ".env").write_text(f"SECRET_KEY={KEY}\n")
    monkeypatch.setenv("SECRET_KEY", STRANGERS_KEY)
    assert problem_ids("dotenv") == ["secret-key-ambiguous"]


def test_a_dotenv_that_is_no_text_is_named(root: Path) -> None:
    (root / ".env").write_bytes(b"SECRET_KEY=\xff\xfe\n")
    assert problem_ids("dotenv") == ["dotenv-unreadable", "secret-key-missing"]


def test_no_answer_and_no_log_line_shows_a_key(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(SECRET_KEY=KEY, SECRET_KEY_FALLBACKS=[OLD], RATELIMIT_DEFAULT="12 per minute")

    def broken() -> str:
        raise RuntimeError("the attack")

    app.add_url_rule("/broken", view_func=broken)
    app.add_url_rule("/api/broken", "api_broken", view_func=broken)
    client = app.test_client()
    statuses = set()
    shown = ""
    for path in ("/", "/contact", "/api/csrf", "/nowhere", "/broken", "/api/broken") * 3:
        for method in ("GET", "POST"):
            answer = client.open(path, method=method)
            statuses.add(answer.status_code)
            shown += f"{answer.headers}{answer.text}"
    shown += client.get("/", headers={"Host": "evil.example"}).text + caplog.text
    shown += "".join(capfd.readouterr())
    assert statuses >= {200, 400, 404, 405, 429, 500}
    assert "Traceback" in shown  # the log has the trace, and still no key
    assert KEY not in shown
    assert OLD not in shown


class Aws:
    """What stands where boto3 would: a secret with the versions that a test gives it."""

    class ClientError(Exception):
        """AWS said no."""

    class ResourceNotFoundException(ClientError):  # noqa: N818
        """There is no such version."""

    def __init__(self, **versions: dict[str, str]) -> None:
        self.versions, self.asked = versions, list[object]()
        self.exceptions = self

    def client(self, service: str, config: object) -> "Aws":
        """Return this, and note what was asked for."""
        self.asked += [service, config]
        return self

    def get_secret_value(self, **which: str) -> dict[str, str]:
        """Return a version of the secret."""
        self.asked.append(which)
        if which["VersionStage"] not in self.versions:
            raise self.ResourceNotFoundException(which["VersionStage"])
        return self.versions[which["VersionStage"]]


def keys_in(monkeypatch: pytest.MonkeyPatch, aws: Aws | None) -> tuple[object, object, list[str]]:
    """Return the key and the fallbacks that a project reads there, and what it finds wrong."""
    modules = {
        "boto3": aws,
        "botocore.config": SimpleNamespace(Config=lambda **options: options),
        "botocore.exceptions": SimpleNamespace(
            BotoCoreError=ConnectionError, ClientError=Aws.ClientError
        ),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    settings = {"SECRET_KEY_SOURCE": "aws-secrets-manager", "AWS_SECRET_ID": "app/key"}
    config, found = checks.examine(settings)
    ids = [problem.id for problem in found]
    return config["SECRET_KEY"], config["SECRET_KEY_FALLBACKS"], ids


def test_the_versions_of_a_secret_of_aws_are_the_keys(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws = Aws(AWSCURRENT={"SecretString": f"{KEY}\n"}, AWSPREVIOUS={"SecretString": OLD})
    assert keys_in(monkeypatch, aws) == (KEY, [OLD], [])
    assert aws.asked == [
        "secretsmanager",
        {"connect_timeout": 3, "read_timeout": 3, "retries": {"total_max_attempts": 2}},
        {"SecretId": "app/key", "VersionStage": "AWSCURRENT"},
        {"SecretId": "app/key", "VersionStage": "AWSPREVIOUS"},
    ]


def test_a_secret_of_aws_that_never_changed_has_one_key(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert keys_in(monkeypatch, Aws(AWSCURRENT={"SecretString": KEY})) == (KEY, [], [])


@pytest.mark.parametrize(
    ("aws", "problem"),
    [
        (Aws(), ["secret-key-aws", "secret-key-missing"]),
        (Aws(AWSPREVIOUS={"SecretString": OLD}), ["secret-key-aws", "secret-key-missing"]),
        (Aws(AWSCURRENT={"SecretBinary": KEY}), ["secret-key-missing"]),
        (None, ["secret-key-aws-library", "secret-key-missing"]),
    ],
)
def test_without_a_key_in_aws_there_is_none(
    root: Path, monkeypatch: pytest.MonkeyPatch, aws: Aws | None, problem: list[str]
) -> None:
    (root / ".env").write_text(f"SECRET_KEY={KEY}\n")
    key, fallbacks, found = keys_in(monkeypatch, aws)
    assert (key or None, fallbacks, found) == (None, [], problem)


def test_an_aws_that_does_not_answer_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(**_which: str) -> dict[str, str]:
        raise ConnectionError("no route")

    aws = Aws()
    monkeypatch.setattr(aws, "get_secret_value", unreachable)
    assert keys_in(monkeypatch, aws)[2] == ["secret-key-aws", "secret-key-missing"]


def test_a_project_that_names_no_secret_asks_nobody(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert problem_ids("aws-secrets-manager") == ["secret-key-missing"]


@pytest.mark.parametrize("source", ["environment", "file", "aws-secrets-manager"])
def test_whoever_has_no_key_is_told_how_to_give_one_where_they_are(
    root: Path, request: pytest.FixtureRequest, source: str
) -> None:
    def told() -> list[str]:
        return [problem.hint for problem in checks.examine({"SECRET_KEY_SOURCE": source})[1]]

    assert told() == [secret_key.HOW_TO_GIVE_A_KEY[source]]
    request.getfixturevalue("development")
    assert told() == [secret_key.HOW_TO_GIVE_A_KEY["dotenv"]]


def test_the_command_that_makes_a_key_makes_a_good_one() -> None:
    assert secret_key.MAKE_A_KEY in secret_key.HOW_TO_GIVE_A_KEY["environment"]
    program, *options = shlex.split(secret_key.MAKE_A_KEY)
    assert program == "python3"
    command = [sys.executable, *options]
    made = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    assert secret_key.weakness(made.stdout.strip()) is None


def test_an_unknown_source_is_refused(root: Path) -> None:
    assert problem_ids("vault") == ["secret-key-source-unknown"]


@pytest.mark.parametrize("hours", [-12, 0, 14])
def test_a_fallback_counts_until_its_day_is_over(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, hours: int
) -> None:
    # Where the server stands, it may be the day before or the day after already.
    now, there = datetime(2026, 6, 2, 11, tzinfo=UTC), timezone(timedelta(hours=hours))
    clock = SimpleNamespace(now=lambda zone=None: now.astimezone(zone or there))
    monkeypatch.setattr(secret_key, "datetime", clock)
    today, yesterday = "2026-06-02", "2026-06-01"
    (root / ".env").write_text(
        f"SECRET_KEY={KEY}\nSECRET_KEY_FALLBACKS={OLD}:{today},{STRANGERS_KEY}:{yesterday}\n"
    )
    settings, found = checks.examine({})
    assert not found
    assert settings["SECRET_KEY_FALLBACKS"] == [OLD]
    assert f"key 2 is past its day, {yesterday}, and dropped" in caplog.text
    assert STRANGERS_KEY not in caplog.text


def test_a_day_that_is_none_is_refused(root: Path) -> None:
    fallbacks = f"{OLD}:soon,{STRANGERS_KEY}:2026-02-30"
    (root / ".env").write_text(f"SECRET_KEY={KEY}\nSECRET_KEY_FALLBACKS={fallbacks}\n")
    assert problem_ids("dotenv") == ["secret-key-fallback-date"] * 2
