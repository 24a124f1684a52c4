"""What git tracks of the template, what it asks, and what an environment may hold."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
TEMPLATE = ROOT / "{{cookiecutter.project_slug}}"
ANSWERS: dict[str, Any] = {
    question: default
    for question, default in json.loads((ROOT / "cookiecutter.json").read_text()).items()
    if not question.startswith("_")
}
CHOICES: dict[str, list[str]] = {
    question: options for question, options in ANSWERS.items() if isinstance(options, list)
}
# What a project that signs in at a provider needs to start; nothing asks this one.
PROVIDER = {
    "APP_OIDC_ISSUER": "https://login.example.com",
    "APP_OIDC_CLIENT_ID": "my-secure-app",
    "OIDC_CLIENT_SECRET": "0123456789abcdef" * 2,
}
LEFT_BY_TOOLS = ("__pycache__", ".venv", ".nox", ".*_cache", "*.egg-info", "uv.lock", "instance")

# What the developer's shell or CI holds must not decide what a baked project does.
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("APP_", "FLASK_", "OIDC_CLIENT", "SECRET_KEY", "PYTEST_"))
}


def tracked() -> list[Path]:
    """Return what git tracks; where there is no git, all that no tool left behind."""
    if shutil.which("git") and (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "-z"],  # noqa: S607
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return [
            ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()
        ]
    ignore = shutil.ignore_patterns(*LEFT_BY_TOOLS)
    found = []
    for directory, names, files in os.walk(ROOT):
        names[:] = set(names) - ignore(directory, names) - {".git"}
        found += [Path(directory, name) for name in set(files) - ignore(directory, files)]
    return found
