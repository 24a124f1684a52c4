"""Read the settings: settings.toml, then APP_* variables, then the caller.

Every mistake is reported at once, none is skipped: a misspelt setting is a protection that is off.
"""

import json
import logging
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from dotenv import dotenv_values, find_dotenv
from flask import Config

from . import development
from .problem import Problem
from .security import secret_key

ROOT = Path(__file__).parent.parent
PREFIX = "APP_"

# Every setting, with the value it has when nobody sets it; its type is the setting's type.
# Add yours here, then to settings.toml. app/login adds its own: checks.add().
SETTINGS: dict[str, object] = {
    "SITE_NAME": "My Secure App",
    # app/findings.py
    "SILENCED_CHECKS": {},
    # app/security_txt.py
    "SECURITY_CONTACT": "",
    "SECURITY_TXT_EXPIRES": "",
    # app/security/secret_key.py
    "SECRET_KEY_SOURCE": "dotenv",
    "AWS_SECRET_ID": "",
    # app/security/proxy.py
    "PROXY_HOPS": 0,
    "BIND": "127.0.0.1:8000",
    "TLS_CERT_FILE": "",
    "TLS_KEY_FILE": "",
    # app/security/hosts.py
    "TRUSTED_HOSTS": [],
    # app/security/headers.py
    "HSTS_INCLUDE_SUBDOMAINS": True,
    "CROSS_ORIGIN_EMBEDDER_POLICY": "require-corp",
    "CSP_EXTRA": {},
    # app/security/cors.py
    "CORS_ALLOWED_ORIGINS": [],
    # app/security/rate_limits.py
    "RATELIMIT_DEFAULT": "120 per minute",
    "RATELIMIT_STRICT": "5 per minute",
    "RATELIMIT_STORAGE_URI": "memory://",
    # app/security/request_size.py
    "MAX_CONTENT_LENGTH": 1_000_000,
    "MAX_FORM_MEMORY_SIZE": 100_000,
    "MAX_FORM_PARTS": 100,
    # app/security/sessions.py
    "PERMANENT_SESSION_LIFETIME": 43_200,
}

# Never in settings.toml, and without the prefix: variables of the environment or of .env.
SECRETS: set[str] = set(secret_key.NAMES)

EXAMPLES: Mapping[type, str] = {
    str: '"text"',
    bool: "true",
    int: "1",
    list: '["first", "second"]',
    dict: '{"img-src": ["https://images.example.com"]}',
}

# Of a URL, whatever it is made of; what is a port and a path with an @ in it is none.
PASSWORD = re.compile(r"://(?::|[^/@:\s]+:(?!\d+/))\S+@")

# A name this close to a known one is a slip of the finger, not a platform's own variable.
SLIP_LETTERS = 2


class Environment(NamedTuple):
    """Variables by where they came from: given to this process, or written in our own .env."""

    given: Mapping[str, str]
    dotenv: Mapping[str, str]


def read(overrides: Mapping[str, object]) -> tuple[Config, list[Problem]]:
    """Return the settings and everything that is wrong with reading them.

    `overrides` maps names of settings or secrets to values and wins over every other source.
    A setting that cannot be read keeps its default, so that the protections can go on
    to say what is wrong with the rest.
    """
    found = list(development.problems())
    unreadable: list[Problem] = []
    environment = _environment(unreadable)
    config = Config(ROOT, SETTINGS)
    config.update(_known_and_of_type(_settings_file(found), "settings.toml", found))
    config["DEBUG"] = development.running()
    source = _source(config, environment, overrides)
    variables = dict(environment.given)
    if source == "dotenv":
        found += unreadable
        variables |= {n: v for n, v in environment.dotenv.items() if not variables.get(n)}
    config.update(_prefixed(variables, found))
    secrets = {name: value for name, value in overrides.items() if name in SECRETS}
    settings = {name: value for name, value in overrides.items() if name not in SECRETS}
    config.update(_known_and_of_type(settings, "create_app()", found))
    given = {} if config["DEBUG"] else environment.given
    config.update(
        secret_key.read(source, given, environment.dotenv, config["AWS_SECRET_ID"], found)
    )
    config.update({n: variables.get(n, "") for n in SECRETS.difference(secret_key.NAMES)})
    config.update(secrets)
    return config, found


def given() -> Mapping[str, str]:
    """Return the variables that this process was given, without those of any .env file."""
    return _environment([]).given


def _source(config: Config, environment: Environment, overrides: Mapping[str, object]) -> object:
    """Return where the key comes from; development reads .env, the source is production's."""
    if config["DEBUG"]:
        return "dotenv"
    name = "SECRET_KEY_SOURCE"
    return overrides.get(name) or environment.given.get(PREFIX + name) or config[name]


def _environment(unreadable: list[Problem]) -> Environment:
    """Tell what this process was given from what was read from a file.

    Flask's command line copies the nearest .env and .flaskenv, from here upwards, into the
    environment before any of our code runs; a server does not. What equals a value of such a file
    counts as coming from it, so that `flask check` judges what the server will see,
    and a stranger's .env in a parent directory changes nothing.
    """
    ours = ROOT / ".env"
    given = dict(os.environ)
    nearest = (find_dotenv(name, usecwd=True) for name in (".flaskenv", ".env"))
    for path in {*filter(None, nearest), str(ours)}:
        for name, value in _dotenv_file(Path(path), []).items():
            if given.get(name) == value:
                del given[name]
    return Environment(given, _dotenv_file(ours, unreadable))


def _dotenv_file(path: Path, unreadable: list[Problem]) -> dict[str, str]:
    """Return the non-empty values of a .env file; one that is not there has none."""
    if not path.exists():
        return {}
    try:
        return {name: value for name, value in dotenv_values(path).items() if value}
    except (OSError, UnicodeDecodeError) as error:
        unreadable.append(
            Problem(
                "dotenv-unreadable",
                f".env cannot be read: {_reason(error)}.",
                "Make it readable for the user that runs the application: chown USER .env",
            )
        )
        return {}


def _settings_file(found: list[Problem]) -> dict[str, object]:
    path = ROOT / "settings.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        found.append(
            Problem(
                "settings-unreadable",
                f"settings.toml cannot be read: {_reason(error)}.",
                "Mend that line; a setting looks like this: PROXY_HOPS = 1",
            )
        )
        return {}


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _known_and_of_type(
    values: Mapping[str, object], origin: str, found: list[Problem]
) -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if name in SECRETS or PASSWORD.search(str(value)):
            found.append(
                Problem(
                    "secret-in-settings",
                    f"{name} is a secret and stands in {origin}, which is committed.",
                    "Take it out, make a new one, and give it as a variable: "
                    f"{PREFIX if name in SETTINGS else ''}{name}=…",
                )
            )
        elif name not in SETTINGS:
            nearest = min(SETTINGS, key=lambda known: _distance(name, known))
            found.append(
                Problem(
                    "setting-unknown",
                    f"{name} in {origin} is not a setting; the nearest one is {nearest}.",
                    "Mend the name, or add yours to SETTINGS in app/config.py.",
                )
            )
        elif not _same_type(value, SETTINGS[name]):
            found.append(_wrong_type(name, origin))
        else:
            yield name, value


def _prefixed(variables: Mapping[str, str], found: list[Problem]) -> Iterator[tuple[str, object]]:
    for variable, text in variables.items():
        if not variable.startswith(PREFIX):
            continue
        name = variable.removeprefix(PREFIX)
        if name in SETTINGS:
            if not text and not isinstance(SETTINGS[name], list):
                continue  # an empty variable counts as missing; only a list can be empty
            try:
                yield name, _from_text(text, SETTINGS[name])
            except ValueError:
                found.append(_wrong_type(name, f"the variable {variable}"))
        elif name in SECRETS:
            found.append(
                Problem(
                    "secret-with-prefix",
                    f"{variable} is not read: secrets have no prefix.",
                    f"Name it {name}.",
                )
            )
        else:
            nearest = min(SETTINGS, key=lambda known: _distance(name, known))
            if _distance(name, nearest) <= SLIP_LETTERS:
                found.append(
                    Problem(
                        "variable-misspelt",
                        f"{variable} is not a setting, but almost one.",
                        f"Name it {PREFIX}{nearest}, or take it away.",
                    )
                )
            else:
                logging.getLogger(__name__).warning("%s is not a setting; ignored.", variable)


def _from_text(text: str, default: object) -> object:
    """Return a variable's text as a value of the default's type; raise ValueError if it is none."""
    value: object
    match default:
        case bool():
            value = {"true": True, "1": True, "false": False, "0": False}.get(text.lower())
        case int():
            value = int(text)
        case list():
            parts = (part.strip() for part in text.split(","))
            value = json.loads(text) if text.startswith("[") else [p for p in parts if p]
        case dict():
            value = json.loads(text)
        case _:
            value = text
    if not _same_type(value, default):
        raise ValueError(text)
    return value


def _same_type(value: object, default: object) -> bool:
    match default:
        case list():
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        case dict():
            return isinstance(value, dict) and all(_same_type(item, []) for item in value.values())
        case _:
            return type(value) is type(default)


def _wrong_type(name: str, origin: str) -> Problem:
    example = EXAMPLES[type(SETTINGS[name])]
    return Problem(
        "setting-type",
        f"{name} in {origin} is not of the right type.",
        f"Write it like this: {name} = {example}",
    )


def _distance(left: str, right: str) -> int:
    """Return how many letters must be added, dropped or changed (Levenshtein)."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        previous, row = row, [i]
        for j, b in enumerate(right, 1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (a != b)))
    return row[-1]
