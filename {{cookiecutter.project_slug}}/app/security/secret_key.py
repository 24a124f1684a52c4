"""Sign sessions and tokens with a key that only this deployment knows.

Whoever can guess the key can sign in as anyone.
Production reads the one source that SECRET_KEY_SOURCE names and falls back to no other:
a key from somewhere else is a key that somebody else may have (ASVS 13.3.1).
"""

import logging
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path

from flask import Config, Flask

from ..problem import Problem

NAMES = ("SECRET_KEY", "SECRET_KEY_FILE", "SECRET_KEY_FALLBACKS")
SHORTEST_CHARACTERS = 32
FEWEST_DISTINCT_CHARACTERS = 10
# No blank, quote, #, $, comma or colon: .env would cut or expand it, a list of fallbacks split it.
ALPHABET = re.compile(r"[A-Za-z0-9_+/=.~-]*")

MAKE_A_KEY = "python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
HOW_TO_GIVE_A_KEY: Mapping[str, str] = {
    "dotenv": "Type: uv run flask secret-key create",
    "environment": (
        f"Set SECRET_KEY in the environment of the server, to what this prints: {MAKE_A_KEY}"
    ),
    "file": "Name the file that holds it: SECRET_KEY_FILE=/run/secrets/secret_key",
    "aws-secrets-manager": (
        'Name the secret, whose text is the key: AWS_SECRET_ID = "my-app/secret-key"; '
        "region and credentials come from the AWS environment"
    ),
}

# A key counts as published whatever its case, blanks and punctuation.
PUNCTUATION = re.compile(r"[\W_]+")
PUBLISHED = frozenset(
    PUNCTUATION.sub("", line).casefold()
    for line in Path(__file__).with_name("published_keys.txt").read_text("utf-8").splitlines()
    if not line.startswith("# ")
)
PUBLISHED_PREFIX = "django-insecure-"
AWS_TIMEOUT_S = 3


def read(
    source: object,
    given: Mapping[str, str],
    dotenv: Mapping[str, str],
    aws_secret_id: str,
    found: list[Problem],
) -> dict[str, object]:
    """Return SECRET_KEY and SECRET_KEY_FALLBACKS as the source has them.

    `source` is one of HOW_TO_GIVE_A_KEY; `given` holds the variables of the process,
    `dotenv` those of this project's .env; what is wrong is added to `found`.
    An empty value counts as missing.
    """
    if source == "aws-secrets-manager":
        versions = _from_aws(aws_secret_id, found) if aws_secret_id else []
        return {
            "SECRET_KEY": versions[0] if versions else None,
            "SECRET_KEY_FALLBACKS": versions[1:],
        }
    values = dotenv if source == "dotenv" else given
    key = values.get("SECRET_KEY") or None
    if source == "file":
        key = _from_file(given.get("SECRET_KEY_FILE", ""), found)
    elif source == "dotenv" and given.get("SECRET_KEY") not in (None, "", key):
        found.append(
            Problem(
                "secret-key-ambiguous",
                "SECRET_KEY is set in the environment, and SECRET_KEY_SOURCE says dotenv.",
                'Unset it, or say which one counts: SECRET_KEY_SOURCE = "environment"',
            )
        )
    fallbacks = _unexpired(values.get("SECRET_KEY_FALLBACKS", ""), found)
    return {"SECRET_KEY": key, "SECRET_KEY_FALLBACKS": fallbacks}


def init_app(app: Flask) -> None:
    """Let Flask-WTF accept the keys that Flask accepts: it does not know fallbacks by itself."""
    # Signs with the last. https://itsdangerous.palletsprojects.com/en/stable/concepts/#key-rotation
    fallbacks = app.config["SECRET_KEY_FALLBACKS"]
    app.config["WTF_CSRF_SECRET_KEY"] = [*fallbacks, app.config["SECRET_KEY"]]


def problems(config: Config) -> Iterator[Problem]:
    """Yield what makes a key guessable, or leaves us without one."""
    source = config["SECRET_KEY_SOURCE"]
    if source not in HOW_TO_GIVE_A_KEY:
        yield Problem(
            "secret-key-source-unknown",
            f"SECRET_KEY_SOURCE is {source!r}.",
            f'Choose one of {", ".join(HOW_TO_GIVE_A_KEY)}: SECRET_KEY_SOURCE = "dotenv"',
        )
        return
    how = HOW_TO_GIVE_A_KEY["dotenv" if config["DEBUG"] else source]
    if not config["SECRET_KEY"]:
        yield Problem("secret-key-missing", "SECRET_KEY is missing.", how)
    elif is_published(config["SECRET_KEY"]):
        yield Problem(
            "secret-key-published",
            "SECRET_KEY is published: it stands in a tutorial, a template or documentation.",
            f"Make a new one. {how}",
        )
    elif weak := weakness(config["SECRET_KEY"]):
        yield Problem("secret-key-weak", f"SECRET_KEY {weak}.", f"Make a new one. {how}")
    fallbacks = config["SECRET_KEY_FALLBACKS"]
    if not isinstance(fallbacks, list):
        yield Problem(
            "secret-key-fallbacks-not-a-list",
            "SECRET_KEY_FALLBACKS is not a list: each of its characters would be a key.",
            'Give a list: SECRET_KEY_FALLBACKS=["the-old-key"]',
        )
        return
    for place, fallback in enumerate(fallbacks, 1):
        if weak := weakness(fallback):
            yield Problem(
                "secret-key-fallback-weak",
                f"SECRET_KEY_FALLBACKS: key {place} {weak}.",
                "Take it out; what it signed is then refused, as it should be.",
            )


def _from_file(path: str, found: list[Problem]) -> str | None:
    """Return the key in a mounted file (Docker, Kubernetes, systemd), without its line end."""
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        found.append(
            Problem(
                "secret-key-file-unreadable",
                f"SECRET_KEY_FILE: {path} cannot be read: {reason}.",
                "Mount it and let the user that runs the application read it.",
            )
        )
        return None


def _from_aws(secret_id: str, found: list[Problem]) -> list[str]:
    """Return the current version of a secret and, where there is one, the previous.

    https://docs.aws.amazon.com/secretsmanager/latest/userguide/whats-in-a-secret.html
    """
    try:
        import boto3
        from botocore.config import Config as Options
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        found.append(
            Problem(
                "secret-key-aws-library",
                "SECRET_KEY_SOURCE is aws-secrets-manager, and boto3 is not installed.",
                "Type: uv add boto3",
            )
        )
        return []
    versions = []
    options = Options(
        connect_timeout=AWS_TIMEOUT_S, read_timeout=AWS_TIMEOUT_S, retries={"total_max_attempts": 2}
    )
    try:
        client = boto3.client("secretsmanager", config=options)
        for stage in ("AWSCURRENT", "AWSPREVIOUS"):
            try:
                answer = client.get_secret_value(SecretId=secret_id, VersionStage=stage)
            except client.exceptions.ResourceNotFoundException:
                if stage == "AWSCURRENT":
                    raise
                break  # a secret that never changed has no previous version
            versions.append(answer.get("SecretString", "").strip())
    except (BotoCoreError, ClientError) as error:
        found.append(
            Problem(
                "secret-key-aws",
                f"AWS_SECRET_ID: {secret_id} cannot be read: {type(error).__name__}: {error}",
                "Give the process a region (AWS_DEFAULT_REGION) and the permission "
                "secretsmanager:GetSecretValue for it.",
            )
        )
        return []
    return versions


def _unexpired(text: str, found: list[Problem]) -> list[str]:
    """Return the keys of `key` and `key:YYYY-MM-DD` entries whose day (UTC) is not over."""
    keys = []
    for place, entry in enumerate(filter(None, map(str.strip, text.split(","))), 1):
        key, _, day = entry.partition(":")
        try:
            last_day = date.fromisoformat(day) if day else date.max
        except ValueError:
            found.append(
                Problem(
                    "secret-key-fallback-date",
                    f"SECRET_KEY_FALLBACKS: what follows the colon of key {place} is not a day.",
                    "Write the last day on which it counts: SECRET_KEY_FALLBACKS=key:2027-01-31",
                )
            )
            continue
        if last_day < datetime.now(UTC).date():
            logging.getLogger(__name__).warning(
                "SECRET_KEY_FALLBACKS: key %d is past its day, %s, and dropped.", place, day
            )
        else:
            keys.append(key)
    return keys


def is_published(key: object) -> bool:
    """Return whether the key stands in a tutorial, a template, a course or documentation."""
    if not isinstance(key, str):
        return False
    return key.startswith(PUBLISHED_PREFIX) or PUNCTUATION.sub("", key).casefold() in PUBLISHED


def weakness(key: object) -> str | None:
    """Return what is weak about a key, as the end of a sentence that does not show it."""
    if not isinstance(key, str):
        return "is not text"
    if is_published(key):
        return "is published"
    if len(key) < SHORTEST_CHARACTERS:
        return f"has fewer than {SHORTEST_CHARACTERS} characters"
    if len(set(key)) < FEWEST_DISTINCT_CHARACTERS:
        return f"has fewer than {FEWEST_DISTINCT_CHARACTERS} different characters"
    if not ALPHABET.fullmatch(key):
        return "has characters that are cut or changed on their way: use A-Z a-z 0-9 _ - + / = . ~"
    return None
