"""What making a project costs, against an empty template of one file.

nox -s bench -- bake

In instructions, of cookiecutter and the hooks together, where valgrind is there; else in CPU time.
The peer is a template that a package index has; others would have to be fetched by git.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import measure

ROUNDS = 7
PEER = "cookiecutter-pypackage==0.3.1"


def empty(directory: Path, *hooks: str) -> str:
    """Write a template of one file, with hooks that do nothing; return where it is."""
    project = directory / "{{cookiecutter.project_slug}}"
    project.mkdir(parents=True)
    (project / "README.md").write_text("# {{cookiecutter.project_slug}}\n")
    (directory / "cookiecutter.json").write_text('{"project_slug": "my-secure-app"}')
    for hook in hooks:
        (directory / "hooks").mkdir(exist_ok=True)
        (directory / "hooks" / f"{hook}_gen_project.py").write_text("")
    return str(directory)


def copied(template: str, directory: Path) -> str:
    """Make a template of the same files that renders none of them; return where it is."""
    measure.tracked(template, directory)
    for hook in directory.glob("hooks/*_gen_project.py"):
        hook.write_text("")
    settings = directory / "cookiecutter.json"
    questions = json.loads(settings.read_text())
    # Every file, but no directory: cookiecutter would not look into it.
    paths = (directory / "{{cookiecutter.project_slug}}").rglob("*")
    ends = {path.suffix or path.name for path in paths if path.is_file()}
    questions["_copy_without_render"] = sorted(f"*{end}" for end in ends)
    settings.write_text(json.dumps(questions))
    return str(directory)


def emptied(template: str, directory: Path) -> str:
    """Make a template of one file with the same questions and hooks; return where it is."""
    measure.tracked(template, directory)
    for path in (directory / "{{cookiecutter.project_slug}}").rglob("*"):
        if path.is_file() and path.name != "env_file.py":  # which the hook runs
            path.unlink()
    return str(directory)


def peer(directory: Path) -> str | None:
    """Return where the peer's template is, or None if it cannot be had."""
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    done = subprocess.run(  # noqa: S603
        [*words, "--target", str(directory), PEER], check=False, timeout=measure.LONG_S
    )
    return str(directory / "cookiecutter_pypackage" / "template") if not done.returncode else None


def cpu_s(directory: Path, template: str) -> float:
    """Bake, and return the CPU time of cookiecutter and the hooks, in seconds."""
    before = measure.children_s()
    measure.bake(directory, template)
    return measure.children_s() - before


def instructions(directory: Path, template: str) -> float:
    """Bake, and return the instructions of cookiecutter and the hooks."""
    counting = (*measure.COUNTED, "--trace-children=yes")
    return measure.counted(measure.bake(directory, template, *counting))


def main() -> None:
    """Measure."""
    chosen = measure.options(__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        root = Path(name)
        templates = {
            "empty": empty(root / "empty"),
            "empty, two empty hooks": empty(root / "hooks", "pre", "post"),
            PEER: peer(root / "peer"),
            "one file, the same hooks": emptied(chosen.template, root / "emptied"),
            "the same files, none rendered, two empty hooks": copied(
                chosen.template, root / "copied"
            ),
            "this template": measure.tracked(chosen.template, root / "this"),
        }
        cases: dict[str, Callable[[], float]] = {}
        for case, template in templates.items():
            if template:
                directory = root / f"made from {case}"
                directory.mkdir()
                measure.bake(directory, template)  # leaves bytecode of what is imported
                cost = instructions if measure.can_count() else cpu_s
                cases[case] = partial(cost, directory, template)
        found = {"bake": measure.interleaved(cases, 1 if measure.can_count() else ROUNDS)}
    measure.keep(chosen.keep, found)
    values = found["bake"]
    print(json.dumps({case: round(value / values["empty"], 2) for case, value in values.items()}))


if __name__ == "__main__":
    main()
