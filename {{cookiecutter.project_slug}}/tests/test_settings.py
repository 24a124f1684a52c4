"""A setting that is misspelt, misplaced or mistyped stops the start; all of them do at once."""

import errno
from collections.abc import Mapping
from pathlib import Path

import pytest

from app import checks, config
from app.problem import Refusal
from app.security import secret_key

KEY = "production-key-" + "0123456789abcdef" * 3
CONTACT = 'SECURITY_CONTACT = "mailto:a@example.com"\nSECURITY_TXT_EXPIRES = "2100-01-01"\n'
GOOD = f'{CONTACT}TRUSTED_HOSTS = ["app.example.com"]\nPROXY_HOPS = 1\nSITE_NAME = "☃"\n'

# A project whose settings.toml is empty has every protection on, and no loosening.
UNSET: Mapping[str, object] = {
    "SITE_NAME": "My Secure App",
    "SILENCED_CHECKS": {},
    "SECURITY_CONTACT": "",
    "SECURITY_TXT_EXPIRES": "",
    "SECRET_KEY_SOURCE": "dotenv",
    "AWS_SECRET_ID": "",
    "PROXY_HOPS": 0,
    "BIND": "127.0.0.1:8000",
    "TLS_CERT_FILE": "",
    "TLS_KEY_FILE": "",
    "TRUSTED_HOSTS": [],
    "HSTS_INCLUDE_SUBDOMAINS": True,
    "CROSS_ORIGIN_EMBEDDER_POLICY": "require-corp",
    "CSP_EXTRA": {},
    "CORS_ALLOWED_ORIGINS": [],
    "RATELIMIT_DEFAULT": "120 per minute",
    "RATELIMIT_STRICT": "5 per minute",
    "RATELIMIT_STORAGE_URI": "memory://",
    "MAX_CONTENT_LENGTH": 1_000_000,
    "MAX_FORM_MEMORY_SIZE": 100_000,
    "MAX_FORM_PARTS": 100,
    "PERMANENT_SESSION_LIFETIME": 43_200,
}


@pytest.fixture
def settings_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the settings.toml of a project that could start."""
    monkeypatch.setattr(config, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(f"SECRET_KEY={KEY}\n")
    file = tmp_path / "settings.toml"
    file.write_text(GOOD, encoding="utf-8")
    return file


def problem_ids() -> list[str]:
    """Return the ids of all that is wrong with the project."""
    return [problem.id for problem in checks.examine({})[1]]


@pytest.mark.parametrize("name", UNSET)
def test_what_nobody_sets_is_safe(name: str) -> None:
    assert config.SETTINGS[name] == UNSET[name]


def test_the_file_is_read(settings_file: Path) -> None:
    settings = checks.settings({})
    assert settings["PROXY_HOPS"] == 1
    assert settings["SITE_NAME"] == "☃"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("PROXY_HOPS", "2", 2),
        ("HSTS_INCLUDE_SUBDOMAINS", "false", False),
        ("HSTS_INCLUDE_SUBDOMAINS", "1", True),
        ("TRUSTED_HOSTS", "a.example, b.example", ["a.example", "b.example"]),
        ("TRUSTED_HOSTS", '["a.example"]', ["a.example"]),
        ("CSP_EXTRA", '{"img-src": ["https://a.example"]}', {"img-src": ["https://a.example"]}),
        ("SITE_NAME", "Another", "Another"),
        ("PROXY_HOPS", "", 1),
        ("HSTS_INCLUDE_SUBDOMAINS", "TRUE", True),
        ("HSTS_INCLUDE_SUBDOMAINS", "0", False),
        ("TRUSTED_HOSTS", "a.example,,", ["a.example"]),
    ],
)
def test_a_variable_overrides_the_file(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object
) -> None:
    monkeypatch.setenv(f"APP_{name}", text)
    assert checks.settings({})[name] == value


def test_the_caller_overrides_the_variable(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_PROXY_HOPS", "2")
    assert checks.settings({"PROXY_HOPS": 3})["PROXY_HOPS"] == 3


def test_the_callers_key_is_the_key(settings_file: Path) -> None:
    assert checks.settings({"SECRET_KEY": KEY[::-1]})["SECRET_KEY"] == KEY[::-1]


def test_a_variable_says_where_the_key_comes_from(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_SECRET_KEY_SOURCE", "environment")
    monkeypatch.setenv("SECRET_KEY", KEY[::-1])
    assert checks.settings({})["SECRET_KEY"] == KEY[::-1]


def test_the_secret_that_is_named_is_asked_for(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"my-app/secret-key": [KEY[::-1], KEY]}
    monkeypatch.setattr(secret_key, "_from_aws", lambda secret_id, _found: keys[secret_id])
    source = 'SECRET_KEY_SOURCE = "aws-secrets-manager"\nAWS_SECRET_ID = "my-app/secret-key"\n'
    settings_file.write_text(f"{GOOD}{source}", encoding="utf-8")
    settings = checks.settings({})
    assert settings["SECRET_KEY"] == KEY[::-1]
    assert settings["SECRET_KEY_FALLBACKS"] == [KEY]


def test_a_secret_of_ones_own_is_a_variable_or_empty(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "SECRETS", {*config.SECRETS, "MAIL_ACCOUNT"})
    assert checks.settings({})["MAIL_ACCOUNT"] == ""
    monkeypatch.setenv("MAIL_ACCOUNT", "given")
    assert checks.settings({})["MAIL_ACCOUNT"] == "given"


def test_what_is_wrong_with_the_key_is_said(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", KEY[::-1])
    assert problem_ids() == ["secret-key-ambiguous"]


@pytest.mark.usefixtures("development")
def test_development_reads_its_key_from_dotenv_whatever_the_source(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", KEY[::-1])
    monkeypatch.setenv("APP_SECRET_KEY_SOURCE", "environment")
    settings = checks.settings({})
    assert settings["DEBUG"] is True
    assert settings["SECRET_KEY"] == KEY


def test_an_empty_list_is_no_missing_one(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_TRUSTED_HOSTS", "")
    assert problem_ids() == ["hosts-empty"]


@pytest.mark.parametrize(
    ("name", "text", "example"),
    [
        ("PROXY_HOPS", "one", "1"),
        ("HSTS_INCLUDE_SUBDOMAINS", "perhaps", "true"),
        ("TRUSTED_HOSTS", "[1]", '["first", "second"]'),
        ("TRUSTED_HOSTS", "[broken", '["first", "second"]'),
        ("CSP_EXTRA", "img-src", '{"img-src": ["https://images.example.com"]}'),
        ("CSP_EXTRA", '["img-src"]', '{"img-src": ["https://images.example.com"]}'),
        (
            "CSP_EXTRA",
            '{"img-src": "https://a.example"}',
            '{"img-src": ["https://images.example.com"]}',
        ),
    ],
)
def test_a_variable_of_the_wrong_type_is_refused_with_a_right_one(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, example: str
) -> None:
    monkeypatch.setenv(f"APP_{name}", text)
    with pytest.raises(Refusal) as refusal:
        checks.settings({})
    assert f"{name} in the variable APP_{name} is not of the right" in str(refusal.value)
    assert f"{name} = {example}" in str(refusal.value)


@pytest.mark.parametrize("name", [".env", ".flaskenv"])
def test_what_flask_copied_from_a_strangers_file_was_given_by_nobody(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    elsewhere = settings_file.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (elsewhere / name).write_text("APP_PROXY_HOPS=2\nAPP_SITE_NAME=Theirs\n")
    monkeypatch.setenv("APP_PROXY_HOPS", "2")
    monkeypatch.setenv("APP_SITE_NAME", "Given")
    monkeypatch.setenv("SECRET_KEY", KEY)
    settings = checks.settings({})
    assert (settings["PROXY_HOPS"], settings["SITE_NAME"]) == (1, "Given")
    assert {"APP_PROXY_HOPS", "SECRET_KEY"}.isdisjoint(config.given())
    assert config.given()["APP_SITE_NAME"] == "Given"


def test_an_empty_variable_hides_no_other(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_BIND", "")
    monkeypatch.setenv("APP_PROXY_HOPS", "2")
    assert checks.settings({})["PROXY_HOPS"] == 2


def test_our_dotenv_says_what_no_variable_does(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings_file.parent / ".env").write_text(
        f"SECRET_KEY={KEY}\nAPP_PROXY_HOPS=2\nAPP_SITE_NAME=File\nAPP_BIND=\nAPP_TRUSTED_HOSTS=\n"
    )
    monkeypatch.setenv("APP_PROXY_HOPS", "")
    monkeypatch.setenv("APP_SITE_NAME", "Given")
    settings = checks.settings({})
    assert (settings["PROXY_HOPS"], settings["SITE_NAME"]) == (2, "Given")
    assert settings["TRUSTED_HOSTS"] == ["app.example.com"]


@pytest.mark.parametrize(
    ("line", "problem", "names"),
    [
        ("PROXY_HOP = 1", "setting-unknown", "PROXY_HOP in settings.toml is not a setting; the "),
        ("PROXY_HOP = 1", "setting-unknown", "the nearest one is PROXY_HOPS"),
        ("WTF_CSRF_ENABLED = false", "setting-unknown", "WTF_CSRF_ENABLED"),
        ("SESSION_COOKIE_SECURE = false", "setting-unknown", "SESSION_COOKIE_SECURE"),
        ("DEBUG = true", "setting-unknown", "DEBUG"),
        ("HSTS_INCLUDE_SUBDOMAINS = 1", "setting-type", "HSTS_INCLUDE_SUBDOMAINS = true"),
        ("BIND = 8000", "setting-type", "BIND in settings.toml is not of the right type."),
        ("BIND = 8000", "setting-type", 'BIND = "text"'),
        (f'SECRET_KEY = "{KEY}"', "secret-in-settings", "SECRET_KEY is a secret"),
        ('RATELIMIT_STORAGE_URI = "redis://:pass@h"', "secret-in-settings", "is a secret"),
        ('RATELIMIT_STORAGE_URI = "redis://:9/pass@h"', "secret-in-settings", "is a secret"),
        ('RATELIMIT_STORAGE_URI = "redis://me:pa/ss@h"', "secret-in-settings", "is a secret"),
        ("PROXY_HOPS = ", "settings-unreadable", "line 6"),
        ('SITE_NAME = "\\ud800"', "settings-unreadable", "line 6"),
    ],
)
def test_a_line_that_cannot_mean_anything_is_refused(
    settings_file: Path, line: str, problem: str, names: str
) -> None:
    settings_file.write_text(f"{GOOD}{line}\n".replace('SITE_NAME = "☃"\n', "\n"), encoding="utf-8")
    with pytest.raises(Refusal) as refusal:
        checks.settings({})
    assert f"[{problem}]" in str(refusal.value)
    assert names in str(refusal.value)
    assert KEY not in str(refusal.value)


def test_no_file_is_named(settings_file: Path) -> None:
    settings_file.unlink()
    first = checks.examine({})[1][0]
    assert first.id == "settings-unreadable"
    assert first.sentence == "settings.toml cannot be read: No such file or directory."


@pytest.mark.parametrize(
    ("variable", "problem"),
    [
        ("APP_PROXY_HOP", "variable-misspelt"),
        ("APP_PROXY_HO", "variable-misspelt"),
        ("APP_PROXXY_HAPS", "variable-misspelt"),
        ("APP_TRUSTED_HOTS", "variable-misspelt"),
        ("APP_SECRET_KEY", "secret-with-prefix"),
        ("APP_SECRET_KEY_FILE", "secret-with-prefix"),
        ("APP_SECRET_KEY_FALLBACKS", "secret-with-prefix"),
    ],
)
def test_a_slip_of_the_finger_is_refused(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch, variable: str, problem: str
) -> None:
    monkeypatch.setenv(variable, "x")
    assert problem_ids() == [problem]


def test_a_platforms_own_variable_is_one_line_of_warning(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("ENVIRONMENT_ID", "PROXY_H"):  # the second is three letters away
        monkeypatch.setenv(f"APP_{name}", "x")
    assert problem_ids() == []
    assert sorted(caplog.messages) == [
        "APP_ENVIRONMENT_ID is not a setting; ignored.",
        "APP_PROXY_H is not a setting; ignored.",
    ]


@pytest.mark.parametrize(
    ("left", "right", "letters"),
    [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2)],
)
def test_a_slip_is_counted_in_letters(left: str, right: str, letters: int) -> None:
    assert config._distance(left, right) == letters


def test_what_the_caller_misspells_is_refused(settings_file: Path) -> None:
    with pytest.raises(Refusal, match=r"PROXY_HOP in create_app\(\) .* PROXY_HOPS"):
        checks.settings({"PROXY_HOP": 1})


def test_everything_is_said_at_once(settings_file: Path) -> None:
    settings_file.write_text(
        CONTACT + "PROXY_HOPS = 9\nPROXY_HOP = 1\nPERMANENT_SESSION_LIFETIME = 0\n"
    )
    (settings_file.parent / ".env").write_text("SECRET_KEY=dev\n")
    assert problem_ids() == [
        "setting-unknown",
        "secret-key-published",
        "proxy-hops",
        "hosts-empty",
        "session-lifetime",
    ]


def test_debug_outside_development_is_refused(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASK_DEBUG", "1")
    monkeypatch.setenv("FLASK_RUN_FROM_CLI", "true")
    assert problem_ids() == ["debug-outside-development"]


def test_a_dotenv_that_is_not_ours_to_read_is_named(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(config, "dotenv_values", denied)
    assert problem_ids() == ["dotenv-unreadable", "secret-key-missing"]
