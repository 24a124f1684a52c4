"""Start projects, each in a fork of one process that has their libraries already.

A line of JSON on stdin names a project: where it is, its variables, its host, its name and the
origins that it allows. A line on stdout answers with what is wrong with it, or with an empty text.
"""

import importlib
import json
import os
import sys
import traceback
from contextlib import suppress
from typing import Any

from markupsafe import escape

LIBRARIES = (
    "argon2 authlib.integrations.requests_client authlib.jose boto3 dotenv email_validator "
    "flask_alembic flask_cors flask_limiter flask_sqlalchemy_lite flask_talisman flask_wtf "
    "joserfc.jwt limits packaging.requirements redis sqlalchemy.orm"
).split()


def start(path: str, host: str, name: str, origins: list[str], *, upgrade: bool) -> None:
    """Build the application, and ask it as a visitor and as the front ends would."""
    os.chdir(path)
    sys.path.insert(0, path)
    create_app = importlib.import_module("app").create_app
    if upgrade:
        from flask.cli import FlaskGroup

        FlaskGroup(create_app=create_app).main(["db", "upgrade"], standalone_mode=False)
    client = create_app().test_client()
    here = f"https://{host}"
    page = client.get("/", base_url=here)
    assert page.status_code == 200, page.text
    assert f"<h1>{escape(name)}</h1>" in page.text, page.text
    # From here on, a request may be one too many for a small limit.
    assert client.post("/contact", base_url=here).status_code in (400, 403, 429)
    for origin in origins:
        answer = client.get("/api/ping", base_url=here, headers={"Origin": origin})
        assert answer.status_code in (200, 429)
        assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert client.get("/.well-known/security.txt", base_url=here).status_code in (200, 429)


def forked(project: dict[str, Any]) -> str:
    """Start a project in a child; return what it failed with."""
    if sys.platform == "win32":
        raise NotImplementedError
    reader, writer = os.pipe()
    if child := os.fork():
        os.close(writer)
        with open(reader) as pipe:
            said = pipe.read()
        _, status = os.waitpid(child, 0)
        return said or (f"ended with {status}" if status else "")
    said = ""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        os.environ.update(project.pop("variables"))
        start(**project)
    except BaseException:
        said = traceback.format_exc()
    with open(writer, "w", errors="backslashreplace") as pipe:
        pipe.write(said)
    os._exit(0)


if __name__ == "__main__":
    for library in LIBRARIES:
        with suppress(ImportError):  # a project that needs it says so
            importlib.import_module(library)
    for line in sys.stdin:
        print(json.dumps(forked(json.loads(line))), flush=True)
