"""What somebody who makes a project is asked, and told when it is made or refused."""

import json
import os
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.checkout import ANSWERS, CHOICES, CLEAN, ROOT
from tests.conftest import CommandLine, Project, said_by

PROMPTS = json.loads((ROOT / "cookiecutter.json").read_text())["__prompts__"]
COLUMNS = 80
NUMBERED = len("    1 - ")


def test_every_question_is_a_sentence() -> None:
    assert list(PROMPTS) == list(ANSWERS)
    for question, prompt in PROMPTS.items():
        text = prompt if isinstance(prompt, str) else prompt["__prompt__"]
        assert re.match(r"(What|Which|At which|Where|How) .{15,}\?", text), question
    assert "Enter takes" in next(iter(PROMPTS.values()))


@pytest.mark.parametrize("question", CHOICES)
def test_every_choice_says_in_one_line_what_it_costs(question: str) -> None:
    _, *options = PROMPTS[question].items()
    assert [name for name, _ in options] == CHOICES[question]
    for _, text in options:
        assert len(text) <= COLUMNS - NUMBERED
        assert re.search(r": \w|no accounts", text), f"{text}: for whom, or at what price?"


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_a_refusal_says_how_to_keep_the_other_answers(command_line: CommandLine) -> None:
    bad = {"project_name": "Ada's", "proxy": "caddy", "domain": "https://ada.example"}
    output = command_line.home / "here and there"
    said = command_line("--no-input", "-o", str(output), status=1, answers=bad)
    file, command = re.findall(r"^  (.+)$", said.partition("No answer has to")[2], re.M)[:2]
    replay = Path(file)
    replay.write_text(replay.read_text().replace("https://ada.example", "ada.example"))
    env = {**CLEAN, "HOME": str(command_line.home)}
    said = said_by("bash", "-ec", command, cwd=command_line.home, env=env)
    assert "ada-s is ready" in said
    settings = tomllib.loads((output / "ada-s" / "settings.toml").read_text())
    assert settings["TRUSTED_HOSTS"] == ["ada.example"]
    assert (output / "ada-s" / "deploy" / "Caddyfile").exists()


@pytest.mark.parametrize("has_uv", [True, False])
def test_the_last_words_are_the_next_three_commands(
    bake: Callable[..., Project], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, has_uv: bool
) -> None:
    uv = tmp_path / "bin" / ("uv.exe" if os.name == "nt" else "uv")
    uv.parent.mkdir()
    uv.touch(0o755)
    monkeypatch.setenv("PATH", str(uv.parent) if has_uv else str(tmp_path))
    project = bake(project_name="Ada & Bo")
    go, run, test = project.said.rstrip("\n").splitlines()[-3:]
    assert shlex.split(go) == ["cd", str(project.path)]
    assert (run, test) == ("  uv run flask run --debug", "  uv run pytest")
    assert "http://localhost:5000" in project.said
    assert ("uv is not installed: README.md begins with" in project.said) == (not has_uv)
    readme = (project.path / "README.md").read_text()
    first, *typed = "".join(re.findall(r"```console\n(.*?)```", readme, re.DOTALL)).splitlines()
    assert "install --quiet uv" in first
    assert typed[:2] == [run.strip(), test.strip()]
    assert shutil.which("uv") == (str(uv) if has_uv else None)
