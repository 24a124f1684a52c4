"""Every page as its readers have it: those of the repository, and a project's with every answer."""

import json
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache

from cookiecutter.environment import StrictEnvironment
from cookiecutter.prompt import prompt_for_config
from jinja2 import Environment, Template

from hooks import post_gen_project as hook
from tests.checkout import ROOT, TEMPLATE, tracked
from tests.combinations import COMBINATIONS, Answers

CONTEXT = json.loads((ROOT / "cookiecutter.json").read_text("utf-8"))
DEFAULTS = prompt_for_config({"cookiecutter": CONTEXT}, no_input=True)
JINJA: Environment = StrictEnvironment(
    context={"cookiecutter": CONTEXT}, keep_trailing_newline=True, **CONTEXT["_jinja2_env_vars"]
)


@cache
def template(name: str) -> Template:
    """Return a file of the template, ready to be rendered."""
    return JINJA.from_string((TEMPLATE / name).read_text("utf-8"))


def rendered(name: str, choices: Answers) -> str:
    """Return a project's file as these choices make it; the other questions have their defaults."""
    if any(fnmatch(name, pattern) for pattern in CONTEXT["_copy_without_render"]):
        return (TEMPLATE / name).read_text("utf-8")
    return template(name).render(cookiecutter={**DEFAULTS, **choices})


def pages() -> Iterator[tuple[str, str, Answers]]:
    """Yield path and text of every page, and the choices that make it: none for the repository.

    A text that other choices make as well comes once.
    """
    for path in sorted(path for path in tracked() if path.suffix == ".md"):
        if TEMPLATE not in path.parents:
            yield path.relative_to(ROOT).as_posix(), path.read_text("utf-8"), {}
            continue
        name, texts = path.relative_to(TEMPLATE).as_posix(), dict[str, Answers]()
        for choices in COMBINATIONS:
            if name not in hook.ruled_out(choices):
                texts.setdefault(rendered(name, choices), choices)
        for text, choices in texts.items():
            yield name, text, choices
