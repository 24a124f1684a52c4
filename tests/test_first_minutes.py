"""A stranger's first minutes: the README's commands, in an empty HOME, from a fresh checkout."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.checkout import CLEAN
from tests.conftest import LONG_S, said_by


def commands(readme: Path) -> list[str]:
    """Return the command lines of a README, in order."""
    blocks = re.findall(r"```console\n(.*?)```", readme.read_text(), re.DOTALL)
    return "".join(blocks).splitlines()


def uv_cache() -> dict[str, str]:
    """Return where uv keeps packages on this machine: they need not come twice."""
    if not shutil.which("uv"):
        return {}
    said = subprocess.run(
        ["uv", "cache", "dir"],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    )
    return {"UV_CACHE_DIR": said.stdout.strip()}


class Stranger:
    """Someone with a shell, Python and an empty HOME."""

    def __init__(self, home: Path) -> None:
        left_out = ("VIRTUAL_ENV", "UV_", "PYTHON", "NOX_", "RUFF_")
        variables = {name: value for name, value in CLEAN.items() if not name.startswith(left_out)}
        # The interpreter of a virtual environment is not what a fresh machine has.
        path = os.pathsep.join(
            part
            for part in CLEAN["PATH"].split(os.pathsep)
            if not (Path(part).parent / "pyvenv.cfg").exists()
        )
        self.variables = {**variables, **uv_cache(), "HOME": str(home), "PATH": path}

    def types(self, command: str, where: Path) -> str:
        """Run a command line to its end; return what it printed, or fail with it."""
        return said_by("bash", "-c", command, cwd=where, env=self.variables)

    @contextmanager
    def serves(self, command: str, where: Path, url: str) -> Iterator[str]:
        """Leave a command line running and yield the page it serves; then end it."""
        server = subprocess.Popen(
            ["bash", "-c", command],  # noqa: S607
            cwd=where,
            env=self.variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + LONG_S
            while True:
                try:
                    with urlopen(url, timeout=10) as page:  # noqa: S310  ours, on loopback
                        yield page.read().decode()
                    break
                except URLError:
                    assert server.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.2)
        finally:
            if sys.platform != "win32":
                os.killpg(server.pid, signal.SIGTERM)  # SIGINT may be ignored where this runs
            server.wait(30)


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
@pytest.mark.parametrize("with_uv", [True, False], ids=["uv", "pip"])
def test_from_nothing_to_a_page_and_a_green_suite(
    checkout: Path,
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    with_uv: bool,
    typed: set[str],
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    here = shutil.copytree(checkout, tmp_path / "somewhere" / "checkout")
    stranger = Stranger(home)
    make, *_ = commands(here / "README.md")
    said = stranger.types(make, here)
    assert "my-secure-app is ready" in said
    project = here.parent / "my-secure-app"
    install, run_uv, test_uv, run_pip, test_pip, *_ = commands(project / "README.md")
    if with_uv:
        stranger.types(install, project)
        run, test = (f"{install} && {command}" for command in (run_uv, test_uv))
    else:
        run, test = run_pip, test_pip
    with socket.socket() as probe:  # somebody else may sit on 5000
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with stranger.serves(f"{run} --port {port}", project, f"http://localhost:{port}") as page:
        assert "<h1>My Secure App</h1>" in page
    typed |= {make, install, run_uv, test_uv} if with_uv else {run_pip, test_pip}
    some = "" if with_uv else " tests/test_development.py"
    summary = stranger.types(f"{test} -q{some}", project).splitlines()[-1]
    assert re.search(r"\d+ passed", summary)
    assert "failed" not in summary
    if with_uv:  # what the generated CI and an editor would say, without the optional group
        # What the same libraries are was found out by other tests, of the same bytes elsewhere.
        mypy_cache = tmp_path_factory.getbasetemp().parent / "mypy"
        stranger.variables["MYPY_CACHE_DIR"] = str(mypy_cache)
        stranger.types(f"{install} && uv run ruff check . && uv run mypy --strict .", project)
