"""The curl lines of a generated README, as typed: each is answered with what stands beside it."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.checkout import CLEAN
from tests.conftest import Project, said_by

LINE = re.compile(r"^(.+) # (\d{3})\b(.*)$", re.MULTILINE)
STATUS = re.compile(r"HTTP/[\d.]+ (\d{3})")
STOP_S = 60


@contextmanager
def production(project: Project, *options: str) -> Iterator[dict[str, Any]]:
    """Leave a project running in its production shape; yield what it printed about itself."""
    env = {**CLEAN, "PYTHONPATH": str(project.path)}
    stack = subprocess.Popen(
        [sys.executable, "-m", "tests.live.stack", *options],
        cwd=project.path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert stack.stdout
        with stack.stdout as stdout:  # it prints a line, or ends, within a bounded time
            yield json.loads(stdout.readline())
    finally:
        stack.terminate()
        stack.wait(STOP_S)


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl: apt-get install curl")
@pytest.mark.parametrize(
    ("login", "proxy"),
    [
        ("password", "nginx"),
        pytest.param("oidc", "none", marks=pytest.mark.removal),  # minutes, for few other lines
        pytest.param("none", "caddy", marks=pytest.mark.removal),
    ],
)
def test_each_line_is_answered_as_it_says(
    bake: Callable[..., Project], login: str, proxy: str, typed: set[str]
) -> None:
    pytest.importorskip("gunicorn", reason="gunicorn does not exist on Windows")
    project = bake(login=login, proxy=proxy)
    section = (project.path / "README.md").read_text().split("## Call it\n")[1].split("\n## ")[0]
    first, *others = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    definitions, lines = first.split("\n\n")
    promised = LINE.findall("".join([lines, *others]))
    assert len(promised) == {"password": 17, "oidc": 14, "none": 13}[login]
    script = [definitions]
    for number, (command, _, _) in enumerate(promised):
        script += [f"printf '\\n# %s\\n' {number}", command]
    (stack,) = re.findall(r"`(uv run --group live python -m tests\.live\.stack.*?)`", section)
    typed |= {stack, "export CURL_HOME=", *definitions.splitlines()}
    typed |= {command for command, _, _ in promised}
    with production(project, *stack.split()[7:]) as running:
        env = {**CLEAN, "CURL_HOME": str(Path(running["ca"]).parent)}
        said = said_by("bash", "-c", "\n".join(script), cwd=project.path, env=env)
    _, *answers = re.split(r"^# \d+$", said, flags=re.MULTILINE)
    for (command, status, _), answer in zip(promised, answers, strict=True):
        assert (command, STATUS.findall(answer)[-1:]) == (command, [status])
    assert re.search(r"^retry-after: \d+", answers[-1], re.MULTILINE | re.IGNORECASE)
