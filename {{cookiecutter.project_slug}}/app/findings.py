"""Say what `flask check` has found: where it stands, what is silenced, in four forms."""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NamedTuple

from .problem import LEVELS, Level, Problem

NAME = re.compile(r"[A-Z][A-Z_]{2,}")
AT_LINE = re.compile(r"at line (\d+)")  # of tomllib's messages
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


class Finding(NamedTuple):
    """A problem, and the file and line that it is about; None where it is in no file."""

    problem: Problem
    file: str | None = None
    line: int | None = None

    def place(self) -> str:
        """Return where to look."""
        return f"{self.file}:{self.line}" if self.line else self.file or "the environment"


def located(problems: Iterable[Problem], root: Path, given: Mapping[str, str]) -> list[Finding]:
    """Return each problem with its place: a sentence begins with a setting's or a file's name.

    `given` are the variables of this process; what they set stands in no file.
    """
    files = {
        name: (root / name).read_text("utf-8", "replace").splitlines()
        for name in (".env", "settings.toml")  # in the order in which they win
        if os.access(root / name, os.R_OK)
    }
    return [_located(problem, files, given) for problem in problems]


def _located(problem: Problem, files: Mapping[str, list[str]], given: Mapping[str, str]) -> Finding:
    first = problem.sentence.split()[0].rstrip(":")
    if first in (*files, "pyproject.toml"):
        at = AT_LINE.search(problem.sentence)
        return Finding(problem, first, int(at[1]) if at else None)
    name = NAME.match(first)
    if not name or name[0] in given or f"APP_{name[0]}" in given:
        return Finding(problem)
    setting = re.compile(rf"\s*(export\s+)?(APP_)?{name[0]}\b")
    for file, lines in files.items():
        for number, line in enumerate(lines, 1):
            if setting.match(line):
                return Finding(problem, file, number)
    return Finding(problem, "settings.toml" if "settings.toml" in files else None)


def silence(
    findings: Sequence[Finding], silenced: Mapping[str, Sequence[str]], today: date
) -> tuple[list[Finding], list[tuple[Finding, str]]]:
    """Return what is to be told, and what is silenced with the reason.

    `silenced` maps ids to a reason and the last day on which it counts (UTC), both as text.
    An error is never silenced: the application refuses to start on it. A silence that is over,
    that cannot be read or that silences nothing is told as well.
    """
    told: list[Finding] = []
    quiet: list[tuple[Finding, str]] = []
    used: set[str] = set()
    wrong: list[Problem] = []
    for number, words in silenced.items():
        try:
            reason, until = words
            good = bool(reason.strip()) and date.fromisoformat(until) >= today
        except ValueError:
            good = False
        if not good:
            used.add(number)
            wrong.append(_bad_silence(number, "is over, or has no reason or no last day"))
    bad = set(used)
    for finding in findings:
        number = finding.problem.id
        if number in silenced and number not in bad and finding.problem.level != "error":
            quiet.append((finding, silenced[number][0]))
            used.add(number)
        else:
            told.append(finding)
    for number in set(silenced) - used:
        wrong.append(_bad_silence(number, "silences nothing: an error cannot be silenced"))
    return told + [Finding(problem, "settings.toml") for problem in wrong], quiet


def _bad_silence(number: str, why: str) -> Problem:
    return Problem(
        "silenced-check",
        f"SILENCED_CHECKS.{number} {why}.",
        f'A reason and the last day it counts: SILENCED_CHECKS.{number} = ["why", "2027-01-31"]',
        level="warning",
    )


def fails(findings: Iterable[Finding], level: Level) -> bool:
    """Return whether anything is of this level or worse."""
    least = LEVELS.index(level)
    return any(LEVELS.index(finding.problem.level) >= least for finding in findings)


def as_text(findings: Sequence[Finding]) -> str:
    """Return what a person reads, the worst first."""
    return "".join(
        f"{finding.problem.level}: {finding.problem.sentence}  [{finding.problem.id}]\n"
        f"    {finding.place()}\n    {finding.problem.hint}\n"
        for finding in _worst_first(findings)
    )


def as_json(findings: Sequence[Finding]) -> str:
    """Return a JSON list of objects: id, level, sentence, hint, file, line."""
    listed = [
        {**finding.problem._asdict(), "file": finding.file, "line": finding.line}
        for finding in _worst_first(findings)
    ]
    return json.dumps(listed, indent=2) + "\n"


def as_sarif(findings: Sequence[Finding]) -> str:
    """Return a SARIF 2.1.0 log, which code hosts show beside the line."""
    results = [
        {
            "ruleId": finding.problem.id,
            "level": finding.problem.level,
            "message": {"text": f"{finding.problem.sentence} {finding.problem.hint}"},
            "locations": [_location(finding)] if finding.file else [],
        }
        for finding in _worst_first(findings)
    ]
    rules = [{"id": number} for number in sorted({f.problem.id for f in findings})]
    driver = {"name": "flask check", "rules": rules}
    log = {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }
    return json.dumps(log, indent=2) + "\n"


def as_github(findings: Sequence[Finding]) -> str:
    """Return workflow commands, which GitHub shows beside the line."""
    kinds = {"error": "error", "warning": "warning", "note": "notice"}
    lines = []
    for finding in _worst_first(findings):
        where = {"file": finding.file, "line": finding.line, "title": finding.problem.id}
        given = ",".join(f"{name}={_escaped(value)}" for name, value in where.items() if value)
        text = f"{finding.problem.sentence} {finding.problem.hint}"
        # The text may hold what a stranger has typed: no line of it begins another command.
        text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
        lines.append(f"::{kinds[finding.problem.level]} {given}::{text}\n")
    return "".join(lines)


FORMATS: Mapping[str, Callable[[Sequence[Finding]], str]] = {
    "text": as_text,
    "json": as_json,
    "sarif": as_sarif,
    "github": as_github,
}


def today() -> date:
    """Return the day in UTC."""
    return datetime.now(UTC).date()


def _worst_first(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: -LEVELS.index(finding.problem.level))


def _location(finding: Finding) -> dict[str, object]:
    place: dict[str, object] = {"artifactLocation": {"uri": finding.file}}
    if finding.line:
        place["region"] = {"startLine": finding.line}
    return {"physicalLocation": place}


def _escaped(value: object) -> str:
    text = str(value).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C")
