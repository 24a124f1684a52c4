"""What README draws is what is printed, and what is answered."""

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from app.security import CONTROLS

from tests.checkout import CLEAN, ROOT, TEMPLATE
from tests.conftest import Project, said_by

README = (ROOT / "README.md").read_text()
MOST_BYTES = 60_000
# uv itself would install what is there already.
UV = '#!/usr/bin/env bash\nshift\nexec "$@"\n'


@pytest.mark.skipif(sys.platform == "win32", reason="needs a terminal of POSIX")
def test_the_picture_of_a_session_shows_what_is_printed(checkout: Path, tmp_path: Path) -> None:
    from scripts import session  # which Windows has no terminal for

    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text(UV)
    uv.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    here = [str(uv.parent), str(Path(sys.executable).parent), CLEAN["PATH"]]
    env = {**CLEAN, "PATH": os.pathsep.join(here), "PYTHONPATH": str(home / "lamps")}
    lines = list(session.session(checkout, home, env))
    picture = session.PICTURE.read_text("utf-8")
    assert session.words(lines) == session.told_by(picture), "type python scripts/session.py"
    drawn = session.svg(lines)
    assert session.told_by(drawn) == session.words(lines)
    # Only what the picture itself brings: a page that shows it lends it neither font nor colour.
    assert not re.search(r"url\(|@import|href|<image|<script", picture)
    assert re.search(
        r'<svg [^>]*aria-labelledby="title desc">\n<title id="title">\S.*\n<desc', picture
    )
    assert "prefers-color-scheme: dark" in picture
    assert len(picture.encode()) < MOST_BYTES
    assert f"]({session.PICTURE.relative_to(ROOT).as_posix()})" in README


# -- The way of a request

NODE = re.compile(r'^    (\w+)\["<b>(.+?)</b>', re.MULTILINE)
STEP = re.compile(r"^    (\w+)\S.* --> (\w+)", re.MULTILINE)
REFUSAL = re.compile(r'^    (\w+) -\. "(.+)" \.-> refused$', re.MULTILINE)
# Run in a project without accounts: one attack on each protection that refuses, all others on.
ATTACKS = """
import json
from app import create_app
from tests.production import FRONT_END, KEY, ORIGIN, SETTINGS

def answers(*requests, **changed):
    settings = {**SETTINGS, "PROXY_HOPS": 0, "SECRET_KEY": KEY, **changed}
    client = create_app(**settings).test_client()
    return [
        client.open(**{"path": "/contact", "base_url": ORIGIN, **request}).status_code
        for request in requests
    ]

HTTP = ORIGIN.replace("https:", "http:")
ours = {"method": "POST", "headers": {"Origin": ORIGIN}}
print(json.dumps({
    "hosts": answers({"base_url": "https://elsewhere.example"}),
    "https": answers({"base_url": HTTP}, {**ours, "base_url": HTTP}),
    "rate_limits": answers({}, {}, RATELIMIT_DEFAULT="1 per day")[1:],
    "request_size": answers({**ours, "data": b"x" * 101}, MAX_CONTENT_LENGTH=100),
    "csrf": answers({**ours, "headers": {"Origin": FRONT_END}}, ours),
}))
"""


def drawing() -> str:
    """Return README's drawing."""
    (found,) = re.findall(r"```mermaid\n(.*?)```", README, re.DOTALL)
    return str(found)


def refusals() -> dict[str, str]:
    """Return what is drawn of each protection that refuses."""
    return dict(REFUSAL.findall(drawing()))


def test_the_way_of_a_request_is_the_order_of_the_protections() -> None:
    names = dict(NODE.findall(drawing()))
    steps = dict(STEP.findall(drawing()))
    way = ["request"]
    for _ in steps:
        way.append(steps.get(way[-1], ""))
    assert way[-1] == "view"
    assert set(way) == {"request", *names, "view"}
    protections = [name for node in way[2:-1] for name in names[node].split(", ")]
    assert protections == [
        str(vars(control)["__name__"]).rpartition(".")[2] for control in CONTROLS
    ]


def test_each_protection_refuses_with_the_status_that_is_drawn(
    bake: Callable[..., Project],
) -> None:
    project = bake(login="none")
    env = {**CLEAN, "PYTHONPATH": str(project.path)}
    said = said_by(sys.executable, "-c", ATTACKS, cwd=project.path, env=env)
    drawn = {name: [int(n) for n in re.findall(r"\d+", text)] for name, text in refusals().items()}
    in_front = drawn.pop("front")
    assert drawn == json.loads(said.splitlines()[-1])
    nginx = (TEMPLATE / "deploy" / "nginx.conf").read_text()
    (own,) = re.findall(r"^    error_page ([\d ]+) /\.own/page;", nginx, re.MULTILINE)
    assert set(map(str, in_front)) <= set(own.split())
    caddy = (TEMPLATE / "deploy" / "Caddyfile").read_text()
    assert f"{{err.status_code}} == {in_front[0]}" in caddy
