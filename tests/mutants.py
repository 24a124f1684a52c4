"""Make every mistake of mutations.py once, and see a test notice: nox -s mutants.

Each is judged by the quick tests that reach its line, in a project, or for the hooks by those of
this repository; what is read when a module is imported is judged by all of them. Verdicts are kept
in .mutants/, so that a run that was stopped goes on where it was. A kept one counts for as long as
the module is the same, and the file of the test that noticed; or, if none did, those of all tests.
What no test notices stands in survivors.toml, each with the reason.
"""

import argparse
import ast
import gc
import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import time
import tomllib
import warnings
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from importlib.metadata import distributions
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import coverage
import pytest

from tests.checkout import CLEAN, ROOT
from tests.matrix import bake, checkout, silence
from tests.mutations import Mutant, mutants

KEPT = ROOT / ".mutants"
SURVIVORS = ROOT / "tests" / "survivors.toml"
# Who notices is enough; what a failure says costs more than most tests.
OPTIONS: tuple[str, ...] = ("-x", "-q", "--no-header", "--tb=no", "--assert=plain", "-oaddopts=")
OPTIONS += ("-pno:cacheprovider", "-pno:xdist")
IMPORTED = ""  # the context of lines that run in no test
# Who else notices, or that nobody does.
IMPORT, TOO_LONG, THE_END, NOBODY = "the import", "the clock", "the end of the process", ""
# Tests of a module's own that are not called like it.
NEAR = {"config": "settings", "pre_gen_project": "answers", "post_gen_project": "hooks"}
NEAR |= {"by_oidc": "oidc_visits", "by_password": "accounts", "pages": "sessions"}
NEAR |= {"cli": "accounts", "models": "database"}
SPARE_S, LONGEST_S = 30, 1_200


class Court(NamedTuple):
    """Where mutants are judged: what is mutated there, and which tests are asked."""

    name: str
    modules: tuple[str, ...]
    tests: tuple[str, ...]
    too_slow: str
    options: tuple[str, ...] = ()


# Whoever is asked thousands of times has to be quick. What these notice, a quicker one has to, too.
SLOW = "^tests/(live/|test_(commands|development|gunicorn))|slow_pattern"
SLOW += "|login/test_(database.*(no_schema_but_its_own|gunicorn)|provider|.*takes_too_long_signs)"
SECURITY, LOGIN = ("app/config.py", "app/security/*.py"), ("app/login/*.py",)
COURTS = {
    court.name: court
    for court in (
        Court("none", SECURITY, ("tests",), SLOW),
        Court("password", LOGIN, ("tests",), SLOW),
        Court("oidc", LOGIN, ("tests",), SLOW),
        Court(
            "template",
            ("hooks/*.py",),
            tuple(f"tests/test_{name}.py" for name in ("answers", "hooks", "secrets")),
            "never_sees_the_key",
            ("-ppytest_cookies.plugin", "-p_hypothesis_pytestplugin"),
        ),
    )
}


class Baseline(NamedTuple):
    """What a court's tests do with nothing changed: seconds of each, and the lines they reach."""

    spent: dict[str, float]
    reached: dict[str, dict[str, list[str]]]
    imported: list[str]

    def asked(self, module: str, lines: range, *, first: bool) -> list[str]:
        """Return who can notice a change of these lines; who is likely and quick comes first.

        What no test reaches by itself is a matter for all tests, but of the first court alone.
        """
        reached = self.reached.get(module, {})
        by_line = {name for line in lines for name in reached.get(str(line), ())}
        by_module = {name for names in reached.values() for name in names}
        by_all = first and (not by_line or IMPORTED in by_line)
        stem = Path(module).stem
        near = f"test_{NEAR.get(stem, stem)}.py"

        def unlikely(name: str) -> tuple[bool, bool, bool, float]:
            return near not in name, name not in by_line, name not in by_module, self.spent[name]

        return sorted(self.spent if by_all else by_line - {IMPORTED}, key=unlikely)


class Case(NamedTuple):
    """A mutant, and the courts that look at it, one after the other, until somebody notices."""

    module: str
    mutant: Mutant
    courts: tuple[str, ...]


def base(nodeid: str) -> str:
    """Return a test without its parameters, which a mutant may change."""
    return nodeid.partition("[")[0]


class Watching:
    """Note for each test how long it takes and which lines of a module it reaches."""

    def __init__(self, root: Path, court: Court) -> None:
        self.root, self.too_slow = root, re.compile(court.too_slow)
        self.spent: dict[str, float] = defaultdict(float)
        self.users: dict[str, set[str]] = defaultdict(set)
        patterns = [str(root / pattern) for pattern in court.modules]
        self.coverage = coverage.Coverage(data_file=None, config_file=False, include=patterns)
        self.coverage.start()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out what is too slow."""
        items[:] = [item for item in items if not self.too_slow.search(item.nodeid)]
        for item in items:
            for name in getattr(item, "fixturenames", ()):
                self.users[f"fixture {name}"].add(base(item.nodeid))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Count lines for the test."""
        self.nodeid = item.nodeid
        self.coverage.switch_context(base(item.nodeid))
        begun = time.monotonic()
        try:
            return (yield)
        finally:
            self.spent[base(item.nodeid)] += time.monotonic() - begun
            self.coverage.switch_context(IMPORTED)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        """Count lines for every test that uses what is made once for many."""
        if fixturedef.scope == "function":
            return (yield)
        self.coverage.switch_context(f"fixture {fixturedef.argname}")
        try:
            return (yield)
        finally:
            self.coverage.switch_context(base(self.nodeid))

    def noted(self, status: int) -> Baseline:
        """Return it."""
        if status:
            raise RuntimeError(f"pytest ended with status {status}")
        self.coverage.stop()
        data = self.coverage.get_data()
        reached = {
            Path(path).relative_to(self.root).as_posix(): data.contexts_by_lineno(path)
            for path in data.measured_files()
        }
        imported = [
            name
            for name, module in sys.modules.items()
            if not str(getattr(module, "__file__", "")).startswith(str(self.root))
        ]
        return Baseline(
            self.spent,
            {
                path: {
                    str(line): sorted({n for name in names for n in self.users.get(name, {name})})
                    for line, names in lines.items()
                }
                for path, lines in reached.items()
            },
            imported,
        )


class Judging:
    """Run the tests that are asked, in their order, and note which one notices."""

    def __init__(self, asked: list[str]) -> None:
        self.place = {name: place for place, name in enumerate(asked)}
        self.noticed_by = NOBODY

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out who is not asked."""
        found = [item for item in items if base(item.nodeid) in self.place]
        items[:] = sorted(found, key=lambda item: self.place[base(item.nodeid)])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the first test that fails."""
        if report.failed:
            self.noticed_by = self.noticed_by or base(report.nodeid)

    def noted(self, status: int) -> str:
        """Return who noticed: a test, or Python, that could not even import the module."""
        silent = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        return self.noticed_by or (NOBODY if status in silent else IMPORT)


def run(root: Path, court: Court, *paths: str, plugin: Any) -> Any:  # noqa: ANN401
    """Return what a plugin notes when pytest runs in this process, which was forked for it."""
    os.setsid()
    with open(root.with_suffix(".said"), "w") as said:
        for stream in (1, 2):
            os.dup2(said.fileno(), stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(root)
    path = [str(root), str(root / "{{cookiecutter.project_slug}}")]
    os.environ.clear()
    os.environ.update({**CLEAN, "PYTHONPATH": os.pathsep.join(path)})
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.environ["CI"] = "1"  # hypothesis then tries the same each time, however long it takes
    sys.path[:] = [*path, *(name for name in sys.path if name not in ("", str(ROOT)))]
    for name in list(sys.modules):
        if name.partition(".")[0] in ("app", "hooks", "tests"):
            del sys.modules[name]
    options = [*OPTIONS, *court.options, f"--basetemp={root.with_suffix('.tmp')}"]
    made = plugin()
    return made.noted(int(pytest.main([*options, *paths], plugins=[made])))


def forked(root: Path, court: Court, *paths: str, plugin: Any, timeout_s: float) -> Any:  # noqa: ANN401
    """Let a process of its own run pytest; return what it noted, or that it took too long."""
    answer = root.with_suffix(".json")
    answer.unlink(missing_ok=True)
    sys.stdout.flush()
    child = os.fork()
    if not child:
        try:
            answer.write_text(json.dumps(run(root, court, *paths, plugin=plugin)))
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(0)
    deadline, noted = time.monotonic() + timeout_s, None
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            noted = TOO_LONG
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        time.sleep(0.005)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what its tests left behind
    if noted:
        return noted
    return json.loads(answer.read_text()) if answer.exists() else None


class Judge:
    """A process that has imported everything but what is mutated, with copies of its own."""

    baselines: dict[str, Baseline]
    masters: Path
    likeliest: int

    @classmethod
    def prepare(cls, masters: Path, baselines: dict[str, Baseline], likeliest: int) -> None:
        """Import what tests import; a mutant is judged in a fork."""
        silence()
        warnings.simplefilter("ignore")  # of who is imported sooner than usual
        cls.masters, cls.baselines, cls.likeliest = masters, baselines, likeliest
        for name in sorted({name for found in baselines.values() for name in found.imported}):
            if name.partition(".")[0] not in ("app", "hooks", "tests", "conftest", "__main__"):
                with suppress(Exception):
                    import_module(name)
        gc.freeze()

    @classmethod
    def judge(cls, case: Case) -> str:
        """Return who notices, with the court."""
        for place, name in enumerate(case.courts):
            root = cls.masters / f"{os.getpid()}" / name
            if not root.exists():
                shutil.copytree(cls.masters / name, root)
            asked = cls.baselines[name].asked(case.module, case.mutant.lines, first=place == 0)
            asked = asked[: cls.likeliest]
            if not asked:
                continue
            source = root / case.module
            before, stat = source.read_bytes(), source.stat()
            source.write_text(case.mutant.text, encoding="utf-8")
            stamp = 1_000_000_000 + int(
                time.monotonic() * 100
            )  # so that no other one's bytecode is run
            os.utime(source, (stamp, stamp))
            # Mostly the first file has one who notices; the others need not be imported.
            likely = asked[0].partition("::")[0]
            near = [test for test in asked if test.startswith(f"{likely}::")]
            try:
                for tests in (near, [test for test in asked if test not in near]):
                    if tests and (noticed_by := cls.noticed_by(root, COURTS[name], tests)):
                        return f"{name} {noticed_by}"
            finally:
                source.write_bytes(before)
                os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        return NOBODY

    @classmethod
    def noticed_by(cls, root: Path, court: Court, tests: list[str]) -> str:
        """Return which of the tests notices, asked in their order."""
        noted = forked(
            root,
            court,
            *dict.fromkeys(test.partition("::")[0] for test in tests),
            plugin=lambda: Judging(tests),
            timeout_s=SPARE_S + 5 * sum(cls.baselines[court.name].spent[test] for test in tests),
        )
        return THE_END if noted is None else str(noted)


def watched(root: Path, court: Court) -> Baseline:
    """Return what the court's tests do with nothing changed, kept while all is the same."""
    digest = hashlib.sha256(f"{court}{sys.version}".encode())
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.name != ".env":
            digest.update(f"\0{path.relative_to(root)}\0".encode() + path.read_bytes())
    kept = KEPT / f"baseline-{court.name}.json"
    if kept.exists():
        key, *fields = json.loads(kept.read_text())
        if key == digest.hexdigest():
            return Baseline(*fields)
    plugin = lambda: Watching(root, court)  # noqa: E731
    noted = forked(root, court, *court.tests, plugin=plugin, timeout_s=LONGEST_S)
    if not isinstance(noted, list):
        sys.exit(f"{court.name}: {root.with_suffix('.said').read_text()}")
    kept.write_text(json.dumps([digest.hexdigest(), *noted]))
    return Baseline(*noted)


def cases(masters: Path, wanted: str) -> Iterator[Case]:
    """Yield every mutant once: modules that are the same in several courts are judged by all."""
    courts: dict[tuple[str, str], list[str]] = defaultdict(list)
    for court in COURTS.values():
        root = masters / court.name
        for path in sorted(path for pattern in court.modules for path in root.glob(pattern)):
            name = path.relative_to(root).as_posix()
            if re.search(wanted, name):
                courts[name, path.read_text("utf-8")].append(court.name)
    for (name, text), names in sorted(courts.items()):
        for mutant in mutants(text):
            yield Case(name, mutant, tuple(names))


def innocent(masters: Path, module: str, courts: tuple[str, ...]) -> Case:
    """Return a module as it is, before the courts of its mutants."""
    text = (masters / courts[0] / module).read_text("utf-8")
    return Case(module, Mutant(text, "", range(1, len(text.splitlines()) + 1)), courts)


@lru_cache
def tests_in(path: Path) -> dict[str, str]:
    """Return the source of each function of a file of tests, with its decorators."""
    text = path.read_text("utf-8") if path.exists() else ""
    lines = text.splitlines()
    return {
        node.name: "\n".join(
            lines[
                min((d.lineno for d in node.decorator_list), default=node.lineno)
                - 1 : node.end_lineno
            ]
        )
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef)
    }


def source_of(root: Path, nodeid: str) -> str:
    """Return the source of a test, or nothing if it has gone."""
    path, _, name = nodeid.partition("::")
    return tests_in(root / path).get(name, "")


class Verdicts:
    """Who noticed which mutant, in a file."""

    def __init__(self, masters: Path) -> None:
        self.masters = masters
        self.tools = json.dumps(
            sorted(f"{found.name} {found.version}" for found in distributions())
        )
        self.file = sqlite3.connect(KEPT / "verdicts.sqlite3", timeout=60)
        self.file.execute(
            "CREATE TABLE IF NOT EXISTS verdicts (key TEXT PRIMARY KEY, noticed_by TEXT, seen TEXT)"
        )

    def key(self, case: Case) -> str:
        """Return a digest of what is judged, and with which versions."""
        return self.digest(self.tools, *case.courts, case.module, case.mutant.text)

    def seen(self, case: Case, noticed_by: str) -> str:
        """Return a digest of the tests that have to be the same for the verdict to count."""
        if noticed_by:
            court, _, test = noticed_by.partition(" ")
            return self.digest(source_of(self.masters / court, test) if "::" in test else "")
        roots = [self.masters / name for name in case.courts]
        files = [path for root in roots for path in sorted(root.glob("tests/**/*.py"))]
        return self.digest(*(path.read_text("utf-8") for path in files))

    def digest(self, *texts: str) -> str:
        """Return a digest."""
        return hashlib.sha256("\0".join(texts).encode()).hexdigest()

    def known(self, case: Case) -> str | None:
        """Return who noticed, if that still counts."""
        query = "SELECT noticed_by, seen FROM verdicts WHERE key = ?"
        found = self.file.execute(query, (self.key(case),)).fetchone()
        if not found:
            return None
        noticed_by, seen = found
        return str(noticed_by) if seen == self.seen(case, noticed_by) else None

    def keep(self, case: Case, noticed_by: str) -> None:
        """Keep who noticed."""
        row = (self.key(case), noticed_by, self.seen(case, noticed_by))
        self.file.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?)", row)
        self.file.commit()


def main() -> None:
    """Judge what is asked for; end with status 1 if a survivor is not explained, or has gone."""
    parser = argparse.ArgumentParser(prog="nox -s mutants --", description=main.__doc__)
    parser.add_argument("-k", metavar="REGEX", default="", help="modules whose path has it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument(
        "--likeliest", metavar="TESTS", type=int, help="ask no others; keep no survivor"
    )
    options = parser.parse_args()
    KEPT.mkdir(exist_ok=True)
    begun = time.monotonic()
    noticed: dict[Case, str] = {}
    with TemporaryDirectory(prefix="mutants-") as name:
        directory = Path(name)
        template = checkout(directory)
        masters = directory / "masters"
        shutil.copytree(template, masters / "template")
        with ProcessPoolExecutor(options.jobs, initializer=silence) as bakers:
            logins = ("none", "password", "oidc")
            made = list(bakers.map(bake, [template] * 3, [{"login": login} for login in logins]))
        for login, baked in zip(logins, made, strict=True):
            baked.path.rename(masters / login)
        todo = list(cases(masters, options.k))
        if not todo:
            parser.error(f"-k {options.k}: no such module; -k csrf is app/security/csrf.py")
        needed = {court for case in todo for court in case.courts}
        baselines = {court: watched(masters / court, COURTS[court]) for court in sorted(needed)}
        verdicts = Verdicts(masters)
        for case in todo:
            if (known := verdicts.known(case)) is not None:
                noticed[case] = known
        rest = [case for case in todo if case not in noticed]
        if rest:  # whoever notices where nothing is wrong would notice anything
            judged = sorted({(case.module, case.courts) for case in rest})
            unchanged = [innocent(masters, module, courts) for module, courts in judged]
            rest = [case for case in unchanged if verdicts.known(case) is None] + rest
        print(
            f"{len(todo)} mutants, {len(rest)} to judge, {time.monotonic() - begun:.0f} s",
            flush=True,
        )
        with ProcessPoolExecutor(
            options.jobs,
            initializer=Judge.prepare,
            initargs=(masters, baselines, options.likeliest),
        ) as judges:
            asked = {judges.submit(Judge.judge, case): case for case in rest}
            for number, future in enumerate(as_completed(asked), 1):
                case, by = asked[future], future.result()
                if by and not case.mutant.diff:
                    judges.shutdown(cancel_futures=True)
                    sys.exit(f"{by} fails with nothing changed")
                if by or not options.likeliest:
                    verdicts.keep(case, by)
                if not case.mutant.diff:
                    continue
                noticed[case] = by
                spent = time.monotonic() - begun
                line = f"[{number}/{len(rest)}] {case.module}, {spent:.0f} s"
                if not noticed[case]:
                    print(f"{line}: survived\n{case.mutant.diff}", end="", flush=True)
                elif number % 25 == 0:
                    print(line, flush=True)
    sys.exit(report(noticed, time.monotonic() - begun))


def report(noticed: dict[Case, str], spent_s: float) -> bool:
    """Print survivors and score; return whether one is unexplained, or explained and gone."""
    explained = {
        (entry["module"], entry["diff"]): entry["why"]
        for entry in tomllib.loads(SURVIVORS.read_text("utf-8")).get("survivor", [])
    }
    survivors = {(case.module, case.mutant.diff) for case, by in noticed.items() if not by}
    modules = dict.fromkeys(case.module for case in noticed)
    gone = {key for key in explained if key[0] in modules and key not in survivors}
    for title, keys in (
        ("not explained", survivors - set(explained)),
        ("explained, and gone", gone),
    ):
        for module, diff in sorted(keys):
            print(f"\n== {title}: {module}\n{diff}", end="")
    count: dict[str, Counter[str]] = defaultdict(Counter)
    for case, by in noticed.items():
        verdict = "timed out" if by.endswith(TOO_LONG) else "noticed"
        if not by:
            key = (case.module, case.mutant.diff)
            verdict = "explained" if key in explained else "not explained"
        for name in (case.module, "all"):
            count[name][verdict] += 1
    print(f"\n{spent_s:.0f} s\n")
    columns = ("noticed", "timed out", "explained", "not explained")
    print("| module | mutants | " + " | ".join(columns) + " | score |")
    print("| --- " * (len(columns) + 3) + "|")
    for name in (*modules, "all"):
        total = count[name].total()
        score = (count[name]["noticed"] + count[name]["timed out"]) / total
        cells = " | ".join(str(count[name][column]) for column in columns)
        print(f"| {name} | {total} | {cells} | {score:.1%} |")
    return bool(gone or count["all"]["not explained"])


if __name__ == "__main__":
    main()
