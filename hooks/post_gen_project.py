"""Remove what the answers rule out, make .env, say what to do next.

Cookiecutter renders this file to a temporary one and runs it in the project, so it imports
the standard library alone. The answers enter once, as data, at the bottom; the key never does.
"""

import os
import sys

if __name__ == "__main__":  # beside it, where others may write, may lie a json.py of theirs
    sys.path = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]

import json
import runpy
import shlex
import shutil
from collections.abc import Iterator, Mapping

NEW_PROJECT = ".new-project"

# Who is asking: the pages, the sessions, the database and their tests.
LOGIN = (
    "app/db.py",
    "app/login/__init__.py",
    "app/login/api.py",
    "app/login/cli.py",
    "app/login/models.py",
    "app/login/pages.py",
    "app/login/sessions.py",
    "app/migrations/0001_accounts.py",
    "app/migrations/script.py.mako",
    "app/templates/login/account.html",
    "app/templates/login/logged_out.html",
    "app/templates/login/nav.html",
    "docs/security/sign-in.md",
    "tests/login/__init__.py",
    "tests/login/conftest.py",
    "tests/login/test_database.py",
    "tests/login/test_sessions.py",
)
PASSWORD = (
    "app/login/accounts.py",
    "app/login/by_password.py",
    "app/login/common_passwords.txt",
    "app/login/passwords.py",
    "app/templates/login/login.html",
    "app/templates/login/password.html",
    "app/templates/login/password_link.html",
    "app/templates/login/register.html",
    "docs/postman/sign-in.json",
    "tests/live/test_login.py",
    "tests/login/by_password.py",
    "tests/login/test_accounts.py",
    "tests/login/test_new_passwords.py",
    "tests/login/test_passwords.py",
)
OIDC = (
    "app/login/by_oidc.py",
    "app/login/oidc.py",
    "app/login/oidc_http.py",
    "app/templates/login/again.html",
    "app/templates/login/provider_link.html",
    "docs/postman/provider.json",
    "docs/providers.md",
    "tests/live/certified.py",
    "tests/live/provider.mjs",
    "tests/live/test_oidc.py",
    "tests/login/by_oidc.py",
    "tests/login/refusals.py",
    "tests/login/test_oidc.py",
    "tests/login/test_oidc_answers.py",
    "tests/login/test_oidc_http.py",
    "tests/login/test_oidc_logout.py",
    "tests/login/test_oidc_visits.py",
    "tests/login/test_provider.py",
    "tests/provider/__init__.py",
    "tests/provider/__main__.py",
    "tests/provider/faults.py",
)
EDGES = ("deploy/nginx.conf", "deploy/Caddyfile", "deploy/cdn-networks.conf")

# Files, never directories; a directory that is left empty goes with its last file.
RULED_OUT: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("proxy", "nginx"): ("deploy/Caddyfile", "deploy/cdn-networks.conf", "Procfile"),
    ("proxy", "caddy"): ("deploy/nginx.conf", "deploy/cdn-networks.conf", "Procfile"),
    ("proxy", "cdn-nginx"): ("deploy/Caddyfile", "Procfile"),
    ("proxy", "load-balancer"): EDGES,
    ("proxy", "none"): (*EDGES, "Procfile"),
    ("login", "password"): OIDC,
    ("login", "oidc"): PASSWORD,
    ("login", "none"): (*LOGIN, *PASSWORD, *OIDC),
}

IGNORED = (".env*", "!.env.example")

READY = "\n{slug} is ready; its secret key is in .env, and only there."
HERE_BEFORE = "It was here before, so nothing was removed. Your answers rule out:"
NO_UV = "uv is not installed: README.md begins with the line that does it."
# The last words are three commands, without comments: zsh and cmd would take those for arguments.
NEXT = """
Run it, open http://localhost:5000, end it with Ctrl-C, and attack it:

  cd {directory}
  uv run flask run --debug
  uv run pytest
"""


def ruled_out(answers: Mapping[str, str]) -> Iterator[str]:
    """Yield each generated file that the answers rule out."""
    for (question, answer), paths in RULED_OUT.items():
        if answers[question] == answer:
            yield from paths


def remove(path: str) -> None:
    """Delete a file, and its directory if that was the last in it."""
    os.remove(path)
    directory = os.path.dirname(path)
    if directory and not os.listdir(directory):
        os.removedirs(directory)


def ignore_secrets(path: str = ".gitignore") -> None:
    """Make sure that git ignores .env before there is one, whatever .gitignore was kept."""
    with open(path, "a+", encoding="utf-8") as file:
        file.seek(0)
        text = file.read()
        missing = [line for line in IGNORED if line not in text.splitlines()]
        if missing:
            end = "" if text.endswith("\n") or not text else "\n"
            file.write(end + "".join(f"{line}\n" for line in missing))


def quoted(path: str, system: str = sys.platform) -> str:
    """Return a path as the user's shell reads it; on Windows, PowerShell and cmd both do."""
    return f'"{path}"' if system == "win32" else shlex.quote(path)


def say(text: str) -> None:
    """Print it, even where a name cannot be encoded: a hook that fails undoes the project."""
    encoding = sys.stdout.encoding
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def main(answers: Mapping[str, str]) -> None:
    """Finish the project in the current directory."""
    unwanted = [path for path in ruled_out(answers) if os.path.exists(path)]
    is_new = os.path.exists(NEW_PROJECT)
    if is_new:
        os.remove(NEW_PROJECT)
        for path in unwanted:
            remove(path)
    ignore_secrets()
    runpy.run_path("app/env_file.py")["create"]()
    say(READY.format(slug=answers["project_slug"]))
    if unwanted and not is_new:
        say("\n".join([HERE_BEFORE, *(f"  {path}" for path in unwanted)]))
    if not shutil.which("uv"):
        say(NO_UV)
    say(NEXT.format(directory=quoted(os.getcwd())))


if __name__ == "__main__":
    main(json.loads(r"""{{ cookiecutter | tojson }}"""))
