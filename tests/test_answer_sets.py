"""Whatever is answered: sentences and no file, or a project that parses and starts.

Hundreds are rendered in memory and some are baked in every run; nox -s answers bakes thousands,
other ones each time. The last line tells how many were tried, refused and made.
"""

import json
import os
import shutil
import string
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # cookiecutter's own
from app import checks, config
from cookiecutter.exceptions import FailedHookException
from cookiecutter.main import cookiecutter
from cookiecutter.utils import create_env_with_context
from dotenv import dotenv_values
from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from hypothesis import strategies as st
from jinja2 import Environment, FileSystemLoader
from markdown_it import MarkdownIt

from hooks import post_gen_project as removed
from hooks import pre_gen_project as hook
from tests.checkout import ANSWERS, CHOICES, CLEAN, PROVIDER, ROOT, TEMPLATE, tracked
from tests.combinations import ALWAYS

Answers = dict[str, Any]
Texts = st.SearchStrategy[str]

OWN = {
    name: value
    for name, value in json.loads((ROOT / "cookiecutter.json").read_text()).items()
    if name.startswith("_") and name != "__prompts__"
}
KEY = "answered-key-" + "0123456789abcdef" * 3
RENDERED, BAKED = 400, 12  # in every run
SHARES, SHARE = 40, 75  # of nox -s answers

SENTENCES = "\nNo project was made:\n\n"
WORDS = r"""
    My App C# --- === ``` ~~~ <!-- --> ]]> <script> </title> | || # ## * - > 1. [a]: ![ "quotes" '
    \ \n \u0041 \" ''' $HOME ${X} `id` $(id) %(x)s % {0} {} { } & &amp; &lt; http://b @ ; , : = []
    [section] ./.. // /* */ <% %> ?> <? <div> <textarea> <plaintext> yes null ~ !!python on 0x10 1e3
    東京 İ ß مرحبا ñ ñ Ψ نام‌ها 😀 👩‍💻 ﬁ Ⅷ ＜
""".split()


def joined(parts: st.SearchStrategy[Any], *by: str, most: int) -> Texts:
    """Return a strategy for a list as text."""
    several = st.lists(parts.map(str), min_size=1, max_size=most)
    return st.builds(lambda items, between: between.join(items), several, st.sampled_from(by))


LABELS = st.text("abyz0189-", min_size=1, max_size=9).map(lambda text: text.strip("-") or "a")
LONG = ("x" * 63 + ".example", ".".join(["y" * 61] * 4), "z." * 126 + "z")
HOSTS = joined(LABELS, ".", most=4).map("{}.example".format) | st.sampled_from(
    ["localhost", "10.0.0.5", "xn--bcher-kva.example", *LONG]
)
PORTS = st.just("") | st.integers(1024, 65_535).map(":{}".format)
TEXT = (
    st.text(
        st.characters(categories=["L", "N", "P", "S", "M"], include_characters=" "), max_size=100
    )
    | joined(st.sampled_from(WORDS), " ", most=8)
).map(lambda text: text[:100])
LIMIT = st.builds(
    "{}{}{}{}".format,
    st.integers(1, 10**9 - 1),
    st.sampled_from([" per ", "/", "per", "  PER "]),
    st.just("") | st.integers(1, 999).map("{} ".format),
    st.sampled_from("second seconds minute hour day days month year Minutes".split()),
)
PATHS = st.text(string.ascii_letters + "/?=&#-._~%", max_size=20)
NONE = st.sampled_from(["", "none", " none ", "http://localhost:3000", "http://127.0.0.1:5173"])
LIMITS = joined(LIMIT, ";", ", ", " | ", most=3)

# What must be taken as it is.
GOOD: Mapping[str, Texts] = {
    "project_name": TEXT.filter(lambda text: not text.isspace() and any(map(str.isalnum, text))),
    "project_slug": joined(LABELS, "-", most=4)
    .map("a-{}".format)
    .filter(lambda text: "--" not in text),
    "description": TEXT,
    "domain": HOSTS,
    "security_contact": st.builds(
        "mailto:{}@{}".format, st.text("az.+_-", min_size=1, max_size=9), HOSTS
    ).filter(lambda text: len(text) < 255)
    | st.builds("https://a.example{}/{}".format, PORTS, PATHS),
    "allowed_origins": NONE
    | joined(st.builds("https://{}{}".format, HOSTS, PORTS), ",", " , ", most=4),
    "rate_limit": LIMITS,
    "strict_rate_limit": LIMITS,
    **{question: st.sampled_from(options) for question, options in CHOICES.items()},
}

# What may be taken or refused, and looks like an answer.
TRICKY: Mapping[str, Texts] = {
    "project_name": st.sampled_from(
        ["a://b:c@d", "\u200c", "{{ 7 * 7 }}", "{% raw %}", "# % if", ""]
    ),
    "project_slug": st.sampled_from(
        [
            *"app tests json pip uv con nul flask 0 a--b my_app a/b ../b .. . a\\b -a A".split(),
            *("", "x" * 300, "a\0b"),
        ]
    ),
    "description": st.sampled_from(["https://a:b@c.example/", "```", "<!--", "{{", "# % endif"]),
    "domain": st.sampled_from(
        ["1.2.3", "a.123", "0x7f.1", "a.0x1", "10.0.0.05", "256.1.1.1", "A.b"]
    ),
    "security_contact": st.sampled_from(
        ["https://a.example:8443?to=b@c", "https://a.example/?u=ftp://b:c@d", "https://a.1"]
    )
    | st.builds("https://a.example/{}".format, st.text(string.printable.strip(), max_size=15)),
    "allowed_origins": st.builds("https://{}:{}".format, HOSTS, st.integers(0, 99_999))
    | st.sampled_from(
        ["https://a.1", "https://[::1]", "https://a,https://a", "None", "https://a\n"]
    ),
    "rate_limit": st.sampled_from(
        ["1e3 per day", "5 per minute\n", "5\tper\x0cday", "9" * 80 + "/day"]
    ),
    "strict_rate_limit": st.builds(
        "{}/{} years".format, st.integers(0, 10**20), st.integers(0, 10**20)
    ),
    **{
        question: st.sampled_from(["", "None", "apache", *options])
        for question, options in CHOICES.items()
    },
}
CONTROLS = "\n\r\t\0\x0b\x0c\x1b\x7f\x85\xa0\xad\u200c\u200d\u200e\u2028\u202e\u2066\ufeff\ufffe"
NASTY = [*CONTROLS, "\ud800", "\udce9", "\U000e0041", " ", "x" * 300, "a." * 130]
NASTY += "\" ' \\ {{ }} {% %} {# | < > ` $ % # ; / : @ * . .. - _ , é Ж E 0 ~".split()
ODD = st.text(max_size=300) | st.sampled_from([None, 5, True, [], ["memory"], {}, {"a": "b"}, " "])


@st.composite
def near_misses(draw: st.DrawFn, question: str) -> str:
    """Return a good answer with something put in, taken out or put in the place of another."""
    text = draw(GOOD[question])
    for _ in range(draw(st.integers(1, 2))):
        begin = draw(st.integers(0, len(text)))
        end = draw(st.integers(begin, min(begin + 2, len(text))))
        text = text[:begin] + draw(st.sampled_from(["", *NASTY])) + text[end:]
    return draw(st.sampled_from([text, text, text.upper(), f" {text}", f"{text}\n"]))


DOUBTFUL = {question: st.one_of(near_misses(question), TRICKY[question], ODD) for question in GOOD}
COUNTS = st.sampled_from([0, 0, 0, 1, 2, len(GOOD)])
QUESTIONS = st.sampled_from(sorted(GOOD))


class AnswerSet(dict[str, Any]):
    """An answer to every question, and whether every one has to be taken."""

    is_good = True


@st.composite
def answer_sets(draw: st.DrawFn) -> AnswerSet:
    """Return a whole set; half of them are good throughout."""
    count = draw(COUNTS)
    doubtful = {draw(QUESTIONS) for _ in range(count)}
    answers = AnswerSet(
        (question, draw(DOUBTFUL[question] if question in doubtful else good))
        for question, good in GOOD.items()
    )
    answers.is_good = not doubtful
    slug = answers["project_slug"]
    # The directory is made before anybody can refuse its name: keep it within the test's own.
    assume(not isinstance(slug, str) or (slug[:1] != "/" and slug.count("..") < 2))
    return answers


def contexts(answers: Answers) -> dict[str, Any]:
    """Return what a replay file holds, and what files are rendered with."""
    return {"cookiecutter": {**OWN, **answers}}


def parsed(name: str, text: str) -> None:
    """Fail if a file is not what its name says."""
    match Path(name).suffix:
        case ".toml":
            tomllib.loads(text)
        case ".yml" | ".yaml":
            yaml.safe_load(text)
        case ".py":
            compile(text, name, "exec")
        case ".html":
            Environment(autoescape=True).parse(text)
        case ".conf":
            assert text.count("{") == text.count("}")
    if name == "README.md":  # the answers stand first: they have to leave the rest as it is
        beginning, heading, _ = text.partition("\n## Run it\n")
        tokens = MarkdownIt().parse(f"{beginning}{heading}")
        assert [token.content for token in tokens if token.type == "html_block"] == []
        assert [token.content or token.type for token in tokens[-3:]] == [
            "heading_open",
            "Run it",
            "heading_close",
        ]


def says_what_was_answered(files: Mapping[str, str], answers: Answers) -> dict[str, Any]:
    """Fail if an answer did not arrive where it belongs, as it was given; return the settings."""
    told = tomllib.loads(files["settings.toml"])
    assert told["SITE_NAME"] == answers["project_name"]
    assert told["TRUSTED_HOSTS"] == [answers["domain"]]
    assert told["SECURITY_CONTACT"] == answers["security_contact"]
    assert told["RATELIMIT_DEFAULT"] == answers["rate_limit"]
    assert told["RATELIMIT_STRICT"] == answers["strict_rate_limit"]
    listed = [origin.strip() for origin in answers["allowed_origins"].split(",")]
    assert told["CORS_ALLOWED_ORIGINS"] == ([] if listed[0] in ("", "none") else listed)
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert project["name"] == answers["project_slug"]
    assert project["description"] == answers["description"]
    return told


ASKED = [f"cookiecutter.{question}" for question in ANSWERS if question not in CHOICES]
INSIDE = [path for path in tracked() if TEMPLATE in path.parents]
QUOTING = [
    path.relative_to(TEMPLATE).as_posix()
    for path in INSIDE
    if any(asked in path.read_text(encoding="utf-8") for asked in ASKED)
]


@cache
def environment() -> Environment:
    """Return what cookiecutter renders files with."""
    env: Environment = create_env_with_context(contexts({}))
    env.loader = FileSystemLoader([TEMPLATE, ROOT / "templates"])
    return env


def refused(answers: Answers) -> list[str]:
    """Return the sentences that refuse a set; fail if they are none, or for no reason."""
    sentences = list(hook.problems(answers))
    assert all(line.isascii() and line.isprintable() and len(line) < 500 for line in sentences)
    assert all(" cannot be used. Give " in line for line in sentences)
    assert len({line.partition(":")[0] for line in sentences}) == len(sentences)
    return sentences


@settings(
    max_examples=RENDERED,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)
@seed(0)
@given(answer_sets())
def test_what_is_taken_is_quoted_and_starts(answers: AnswerSet) -> None:
    if sentences := refused(answers):
        assert not answers.is_good, sentences
        return
    env, context = environment(), contexts(answers)
    files = {name: env.get_template(name).render(**context) for name in QUOTING}
    for name, text in files.items():
        parsed(name, text)
    told = says_what_was_answered(files, answers)
    overrides = {name: value for name, value in told.items() if name in config.SETTINGS}
    _, problems = checks.examine({**overrides, "SECRET_KEY": KEY})
    assert [problem for problem in problems if problem.level == "error"] == []


class Starter:
    """The process that starts projects; see tests/start.py."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("start.py"))],
            env={**CLEAN, "PYTHONPATH": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def says(self, project: Path, answers: Answers, told: Mapping[str, Any]) -> str:
        """Return what is wrong with a project, if anything is."""
        kind = answers["login"]
        database = self._directory / f"{kind}.sqlite3"
        variables = {"DATABASE_URL": f"sqlite:///{database}"} if kind != "none" else {}
        variables |= PROVIDER if kind == "oidc" else {}
        if answers["secret_key_source"] != "dotenv":  # else it starts with what the hook wrote
            variables |= {"SECRET_KEY": KEY, "APP_SECRET_KEY_SOURCE": "environment"}
        line = {
            "path": str(project),
            "variables": variables,
            "upgrade": bool(variables.get("DATABASE_URL")) and not database.exists(),
            "host": answers["domain"],
            "name": answers["project_name"],
            "origins": told["CORS_ALLOWED_ORIGINS"],
        }
        if not self._process.stdin or not self._process.stdout:
            raise RuntimeError
        self._process.stdin.write(f"{json.dumps(line)}\n")
        self._process.stdin.flush()
        return str(json.loads(self._process.stdout.readline()))

    def stop(self) -> None:
        """End it: there are no more projects."""
        self._process.communicate(timeout=30)


@pytest.fixture
def starter(tmp_path: Path) -> Iterator[Starter]:
    """Yield a process that starts projects."""
    starter = Starter(tmp_path)
    try:
        yield starter
    finally:
        starter.stop()


class Maker:
    """Cookiecutter, with directories of its own for projects and replay files."""

    def __init__(self, checkout: Path, directory: Path) -> None:
        self._checkout, self._replays = checkout, directory / "replays"
        self.output = directory / "one" / "out"
        self._config = directory / "config.json"
        own = {"replay_dir": str(self._replays), "cookiecutters_dir": str(self._replays)}
        self._config.write_text(json.dumps(own))

    def make(self, answers: Answers, *, replayed: bool) -> Path:
        """Make a project of answers that are given, or of a file that holds them."""
        shutil.rmtree(self.output.parent, ignore_errors=True)
        shutil.rmtree(self._replays, ignore_errors=True)
        self.output.mkdir(parents=True)
        self._replays.mkdir()
        options = {"output_dir": str(self.output), "config_file": str(self._config)}
        template = str(self._checkout)
        if replayed:
            file = self._replays / "given.json"
            file.write_text(json.dumps(contexts(answers)))
            return Path(cookiecutter(template, replay=str(file), **options))
        return Path(cookiecutter(template, no_input=True, extra_context=dict(answers), **options))

    def understood(self) -> Answers:
        """Return the answers as the hooks had them: what is given is rendered first."""
        (file,) = self._replays.glob("*.json")
        answers: Answers = json.loads(file.read_text())["cookiecutter"]
        return answers

    def left(self) -> list[str]:
        """Return what a refusal has left; directories alone where the slug names several."""
        found = [path for path in self.output.parent.rglob("*") if path != self.output]
        return [path.relative_to(self.output).as_posix() for path in found]


def is_no_directory(slug: object) -> bool:
    """Return whether cookiecutter has to fail before it asks a hook."""
    try:
        name = os.fsencode(str(slug))
    except UnicodeEncodeError:
        return True
    return len(name) > 255 or b"\0" in name or os.path.normpath(name) in (b".", b"..")


def is_offered(answers: Answers) -> bool:
    """Return whether cookiecutter takes every choice."""
    return all(answers[question] in options for question, options in CHOICES.items())


def is_tried(
    maker: Maker, starter: Starter, capfd: pytest.CaptureFixture[str], answers: AnswerSet, way: bool
) -> bool:
    """Make a project of answers, and fail if it is neither that nor refused; return which."""
    capfd.readouterr()
    try:
        project = maker.make(answers, replayed=way)
    except Exception as error:
        left = maker.left()
        slug = str(answers["project_slug"])
        assert not left or "/" in slug or "{" in slug, left
        assert not [path for path in maker.output.parent.rglob("*") if path.is_file()]
        if isinstance(error, FailedHookException):
            sentences = refused(maker.understood())
            said = capfd.readouterr().err
            assert SENTENCES + "".join(f"- {line}\n" for line in sentences) in said
            assert sentences
            assert not answers.is_good
            return False
        # Cookiecutter's own refusals, before any hook runs.
        renders = not way and any(mark in repr(answers) for mark in ("{{", "{%", "{#", "# %"))
        if not (renders or is_no_directory(slug) or not (way or is_offered(answers))):
            raise
        return False
    answers = AnswerSet(maker.understood())
    assert not refused(answers)
    files = {
        path.relative_to(project).as_posix(): path.read_text(encoding="utf-8")
        for path in project.rglob("*")
        if path.is_file()
    }
    assert set(files) == ALWAYS - set(removed.ruled_out(answers)) | {".env"}
    for name, text in files.items():
        if (name, text) not in SEEN:
            parsed(name, text)
            SEEN.add((name, text))
    assert len(dotenv_values(project / ".env")["SECRET_KEY"] or "") == 64
    told = says_what_was_answered(files, answers)
    assert starter.says(project, answers, told) == ""
    return True


SEEN: set[tuple[str, str]] = set()
FEW = [pytest.param(0, BAKED)]
MANY = [pytest.param(n, SHARE, marks=pytest.mark.answers) for n in range(1, SHARES + 1)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts projects in forks")
@pytest.mark.parametrize(("share", "count"), FEW + MANY)
def test_an_answer_set_is_refused_or_makes_a_project(
    checkout: Path,
    tmp_path: Path,
    starter: Starter,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
    share: int,
    count: int,
) -> None:
    caplog.set_level("CRITICAL", "cookiecutter")  # or each refusal is kept, with its traceback
    maker, tried = Maker(checkout, tmp_path), Counter[str]()

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(answers=answer_sets(), replayed=st.booleans())
    def attempt(answers: AnswerSet, *, replayed: bool) -> None:
        replayed |= not all(isinstance(answer, str) for answer in answers.values())
        is_made = is_tried(maker, starter, capfd, answers, replayed)
        tried["made" if is_made else "refused"] += 1

    # The same ones in every run, and new ones whenever nox -s answers runs.
    (attempt if share else seed(0)(attempt))()
    request.node.user_properties.append(("answer sets", dict(tried)))
