"""Judge every combination of answers: nox -s matrix.

Each is baked, then judged by its files, format, lint, types, start-up, commands and own tests; and
by tests/live each proxy with each way to sign in and each storage, in as few as every two meet.
Judges see bytes: where they have seen the same ones, with the same tools, the verdict is the same
and is not asked for again. Verdicts are kept in .matrix/, so that a run that was stopped goes on
where it was, and after a change what it does not touch is not judged again.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from cookiecutter.main import cookiecutter

from tests.checkout import CHOICES, CLEAN, PROVIDER, ROOT, tracked
from tests.combinations import COMBINATIONS, Answers, name_of, wrong_files

KEPT = ROOT / ".matrix"
LONGEST_S = 1_200
KEY = "matrix-key-" + "0123456789abcdef" * 3
PYTEST = ("pytest", "-q", "-ra", *(f"-pno:{name}" for name in ("cacheprovider", "xdist")))
PYTEST += ("-pno:hypothesispytest", "-pno:cookies")
STARTS = "import app; assert app.create_app().test_client().get('/healthz').status_code == 200"


# What the production stack is made of, and those who ask it.
SEEN_LIVE = ("app/", "deploy/", "docs/postman/", "tests/", "gunicorn.conf.py")


class Baked(NamedTuple):
    """A project, with the answers that it was made from."""

    answers: Answers
    path: Path

    @property
    def name(self) -> str:
        """Return what the combination is called."""
        return name_of(self.answers)

    def files(self) -> Iterator[str]:
        """Yield every file but the key's, which is another one each time."""
        for path in sorted(self.path.rglob("*")):
            if path.is_file() and path.name != ".env":
                yield path.relative_to(self.path).as_posix()


def every(_: Answers) -> bool:
    """Return that each combination is judged."""
    return True


def topology(answers: Answers) -> bool:
    """Return whether it is one of those in which every two of proxy, log-in and storage meet."""
    place = {question: CHOICES[question].index(answer) for question, answer in answers.items()}
    alternates = (place["proxy"] + place["login"]) % 2 == place["rate_limit_storage"]
    return alternates and place["secret_key_source"] == 0  # a stack brings a key of its own


class Judge(NamedTuple):
    """Commands that all have to succeed, what of a project they can see, and whom they judge."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    sees: Callable[[Baked], Iterator[tuple[str, bytes]]]
    judges: Callable[[Answers], bool] = every


def code(baked: Baked) -> Iterator[tuple[str, bytes]]:
    """Yield what ruff and mypy look at: Python, and their settings."""
    for name in baked.files():
        if name.endswith(".py"):
            yield name, (baked.path / name).read_bytes()
    tools = tomllib.loads((baked.path / "pyproject.toml").read_text())["tool"]
    yield "pyproject.toml", json.dumps([tools["ruff"], tools["mypy"]]).encode()


def attacked(baked: Baked) -> Iterator[tuple[str, bytes]]:
    """Yield what a project's attacks look at: its code, whatever settings.toml says today."""
    for name in baked.files():
        if name.startswith(("app/", "tests/")) or name in ("gunicorn.conf.py", "docs/checks.md"):
            yield name, (baked.path / name).read_bytes()
    yield from code(baked)


def everything(baked: Baked) -> Iterator[tuple[str, bytes]]:
    """Yield every file."""
    for name in baked.files():
        yield name, (baked.path / name).read_bytes()


def running(baked: Baked) -> Iterator[tuple[str, bytes]]:
    """Yield what the production stack runs; it brings a key of its own."""
    for name in baked.files():
        if name.startswith(SEEN_LIVE):
            yield name, (baked.path / name).read_bytes()
    yield "settings.toml", (baked.path / "settings.toml").read_bytes()


JUDGES = (
    Judge("tests", ((*PYTEST, "--ignore=tests/live"),), attacked),  # the longest first
    Judge("live", ((*PYTEST, "tests/live"),), running, topology),
    Judge("types", (("mypy", "--strict", "."),), code),
    Judge("lint", (("ruff", "format", "--check", "."), ("ruff", "check", ".")), code),
    Judge("start", (("flask", "check", "--fail-level", "warning"), ("-c", STARTS)), everything),
    Judge(
        "commands", ((*PYTEST, "tests/test_commands.py", "tests/test_development.py"),), everything
    ),
)


def checkout(directory: Path) -> Path:
    """Copy what git tracks, and settings for cookiecutter that leave nothing in HOME."""
    copy = directory / "checkout"
    for path in tracked():
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    settings = {"replay_dir": str(directory), "cookiecutters_dir": str(directory)}
    (directory / "cookiecutter.json").write_text(json.dumps(settings))
    return copy


def installed() -> list[str]:
    """Return the name and the version of everything that is installed, as its directory says."""
    return sorted(
        found.name for place in sys.path if place for found in Path(place).glob("*.dist-info")
    )


def silence() -> None:
    """Let the hooks of every bake of this process talk to nobody."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def bake(template: Path, answers: Answers) -> Baked:
    """Make a project, beside those of other answers."""
    output, settings = template.parent / name_of(answers), template.parent / "cookiecutter.json"
    made = cookiecutter(
        str(template), None, True, answers, output_dir=str(output), config_file=str(settings)
    )
    return Baked(answers, Path(made))


def key_of(judge: Judge, baked: Baked, tools: str) -> str:
    """Return a digest of everything that the verdict depends on."""
    digest = hashlib.sha256(f"{judge} {tools}".encode())
    for name, content in judge.sees(baked):
        digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def judged(judge: Judge, baked: Baked, directory: Path) -> str:
    """Return what a judge has to complain about; an empty text is its consent."""
    cache = directory / "mypy" / f"{os.getpid()}-{baked.answers['login']}"
    variables = {**CLEAN, "PYTHONPATH": str(baked.path), "MYPY_CACHE_DIR": str(cache)}
    variables |= {"DATABASE_URL": f"sqlite:///{directory / baked.name}.sqlite3", "CI": "1"}
    if judge.name == "start":
        variables |= {"SECRET_KEY": KEY, "APP_SECRET_KEY_SOURCE": "environment", **PROVIDER}
        (baked.path / ".env").unlink(missing_ok=True)
    commands = judge.commands
    if judge.name == "start" and baked.answers["login"] != "none":
        commands = (("flask", "db", "upgrade"), *commands)
    for command in commands:
        words = command if command[0] == "-c" else ("-m", *command)
        done = subprocess.run(
            [sys.executable, *words],
            cwd=baked.path,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )
        skipped = judge.name == "live" and sys.platform == "linux" and "SKIPPED" in done.stdout
        if done.returncode or skipped:  # what was skipped was not judged
            return f"{' '.join(command)}\n{done.stdout}"
    return ""


def main() -> None:
    """Judge what is asked for; end with status 1 if a judge complains."""
    parser = argparse.ArgumentParser(prog="nox -s matrix --", description=main.__doc__)
    parser.add_argument("-k", metavar="REGEX", default="", help="combinations whose name has it")
    parser.add_argument("--judges", default=",".join(judge.name for judge in JUDGES))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    names = {judge.name for judge in JUDGES}
    if unknown := sorted(set(options.judges.split(",")) - names):
        parser.error(f"--judges: no {unknown}; there are {','.join(sorted(names))}")
    judges = [judge for judge in JUDGES if judge.name in options.judges.split(",")]
    wanted = [answers for answers in COMBINATIONS if re.search(options.k, name_of(answers))]
    if not wanted:
        parser.error(f"-k {options.k}: no such combination; -k {name_of(COMBINATIONS[0])} is one")
    tools = json.dumps([sys.version, *installed()])
    KEPT.mkdir(exist_ok=True)
    begun, refused, ran = time.monotonic(), Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="matrix-") as name:
        directory = Path(name)
        template = checkout(directory)
        with ProcessPoolExecutor(options.jobs, initializer=silence) as bakers:
            projects = list(bakers.map(bake, [template] * len(wanted), wanted))
        print(f"{len(projects)} baked, {time.monotonic() - begun:.0f} s", flush=True)
        for baked in projects:
            if wrong := wrong_files(baked.path, baked.answers):
                refused["files"] += 1
                print(f"files {baked.name}: refused\n{sorted(wrong)}")
        todo: dict[str, tuple[Judge, Baked]] = {}
        for judge in judges:
            for baked in projects:
                if judge.judges(baked.answers):
                    todo.setdefault(key_of(judge, baked, tools), (judge, baked))
        known = {key for key in todo if (KEPT / key).exists()}
        total = Counter(judge.name for judge, _ in todo.values())
        with ThreadPoolExecutor(options.jobs) as workers:
            asked = {
                workers.submit(judged, *todo[key], directory): key
                for key in todo
                if key not in known
            }
            for number, future in enumerate(as_completed(asked), 1):
                judge, baked = todo[asked[future]]
                said, spent = future.result(), time.monotonic() - begun
                ran[judge.name] += 1
                if said:
                    refused[judge.name] += 1
                else:
                    (KEPT / asked[future]).write_text(f"{judge.name} {baked.name}\n")
                line = f"[{number}/{len(asked)}] {judge.name} {baked.name}"
                verdict = f"refused, {spent:.0f} s\n{said}" if said else f"passed, {spent:.0f} s"
                print(f"{line}: {verdict}", flush=True)
    print(
        f"\n{len(projects)} of {len(COMBINATIONS)} combinations, {time.monotonic() - begun:.0f} s"
    )
    print("| judge | projects | different bytes | judged now | known already | refused |")
    print("| --- | --- | --- | --- | --- | --- |")
    print("| " + " | ".join(["files", *[str(len(projects))] * 3, "0", f"{refused['files']} |"]))
    for judge in judges:
        name, all_ = judge.name, total[judge.name]
        meant = sum(judge.judges(baked.answers) for baked in projects)
        known_ = all_ - ran[name]
        print(f"| {name} | {meant} | {all_} | {ran[name]} | {known_} | {refused[name]} |")
    sys.exit(refused.total() > 0)


if __name__ == "__main__":
    main()
