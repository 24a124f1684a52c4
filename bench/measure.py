"""What the benchmarks share: interleaved rounds, baked projects, instructions, results."""

import argparse
import gc
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results.json"
LONG_S = 600
Results = dict[str, dict[str, float]]

# Bytecode is kept, as it is where a project runs.
VARIABLES = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def options(description: str | None) -> argparse.ArgumentParser:
    """Return the options that every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--keep", metavar="NAME", help="keep what is found in bench/results.json")
    parser.add_argument("--template", default=str(ROOT), help="another checkout of the template")
    return parser


def keep(name: str | None, found: Results) -> None:
    """Print what was found; keep it under that name if there is one."""
    print(json.dumps(found, indent=2))
    if name:
        kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        kept.setdefault(name, {}).update(found)
        RESULTS.write_text(json.dumps(kept, indent=2) + "\n")


def interleaved(cases: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Run every case once a round; return the median of each.

    What disturbs the machine for a while then disturbs all of them.
    """
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, run in cases.items():
            gc.collect()
            taken[name].append(run())
    return {name: statistics.median(values) for name, values in taken.items()}


@contextmanager
def baked(template: str, **answers: str) -> Iterator[Path]:
    """Yield a project made from a template with these answers; nothing is left in HOME."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        yield Path(directory) / bake(Path(directory), template, **answers)


def bake(directory: Path, template: str, *before: str, **answers: str) -> str:
    """Make a project there, by cookiecutter's command after others; return what was printed."""
    settings = directory / "cookiecutter.json"
    settings.write_text(
        json.dumps({"replay_dir": str(directory), "cookiecutters_dir": str(directory)})
    )
    words = ["-m", "cookiecutter", "--no-input", "--overwrite-if-exists"]
    words += ["--config-file", str(settings), "--output-dir", str(directory), template]
    words += [f"{name}={answer}" for name, answer in answers.items()]
    done = subprocess.run(  # noqa: S603
        [*before, sys.executable, *words],
        # Hooks import beside themselves, in TMPDIR: what else lies there would be measured too.
        env={**VARIABLES, "TMPDIR": str(directory)},
        capture_output=True,
        text=True,
        check=True,
        timeout=LONG_S,
    )
    return done.stderr if before else answers.get("project_slug", "my-secure-app")


def tracked(template: str, directory: Path) -> str:
    """Copy what git tracks of a template, as a user gets it; return where it is."""
    words = ["git", "checkout-index", "--all", f"--prefix={directory}/"]
    subprocess.run(words, cwd=template, check=True, timeout=LONG_S)  # noqa: S603
    return str(directory)


def children_s() -> float:
    """Return the CPU time that all ended children have had, in seconds."""
    times = os.times()
    return times.children_user + times.children_system


# Instructions depend on no clock and on nobody else on the machine.
COUNTED = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")


def can_count() -> bool:
    """Return whether instructions can be counted here."""
    return shutil.which("valgrind") is not None


def counted(said: str) -> int:
    """Return the instructions that valgrind has counted, of all processes together."""
    found = re.findall(r"I *refs: *([0-9,]+)", said)
    return sum(int(number.replace(",", "")) for number in found)
