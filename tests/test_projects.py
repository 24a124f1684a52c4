"""Every combination of answers makes a project that passes every judge unrepaired."""

import os
from collections.abc import Callable
from hashlib import sha256

import pytest

from tests.conftest import Project
from tests.test_template import COMBINATIONS, name_of


def code_of(project: Project) -> str:
    """Return a digest of what ruff and mypy read."""
    names = sorted(name for name in project.files() if name.endswith((".py", ".toml")))
    judged = [name for name in names if name != "settings.toml"]
    return sha256(b"".join((project.path / name).read_bytes() for name in judged)).hexdigest()


@pytest.mark.parametrize("answers", COMBINATIONS, ids=name_of)
def test_a_project_passes_every_judge(
    bake: Callable[..., Project],
    answers: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    project = bake(**answers)
    verdict = tmp_path_factory.getbasetemp().parent / f"judged-{code_of(project)}"
    if not verdict.exists():  # the same bytes, the same verdict
        project.run("ruff", "format", "--check", ".")
        project.run("ruff", "check", ".")
        mypy_cache = tmp_path_factory.getbasetemp() / "mypy"
        project.run("mypy", "--strict", ".", MYPY_CACHE_DIR=str(mypy_cache))
        verdict.touch()
    # What is in tests/live meets the same bytes in every project: one browser is enough.
    left_out = [] if answers == COMBINATIONS[0] else ["--ignore=tests/live"]
    summary = project.run("pytest", "-q", "-ra", "-p", "no:cacheprovider", *left_out)
    assert " passed" in summary.splitlines()[-1]
    if os.environ.get("CI"):  # .ci/run installs what a test could miss
        assert "SKIPPED" not in summary
    given = {"SECRET_KEY": "k" * 8 + "0123456789abcdef" * 3}
    if answers["secret_key_source"] == "aws-secrets-manager":  # test_aws.py has the manager
        given["APP_SECRET_KEY_SOURCE"] = "environment"
    elif answers["secret_key_source"] == "file":
        key = project.path.parent / "mounted-key"
        key.write_text(given["SECRET_KEY"])
        given = {"SECRET_KEY_FILE": str(key)}
    elif answers["secret_key_source"] == "dotenv":
        given = {}
    assert project.run("flask", "check", **given) == "Nothing found: every protection is on.\n"
