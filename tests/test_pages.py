"""Every page: its commands are typed or listed, its links lead somewhere, nothing stands twice."""

import posixpath
import re
import subprocess
import sys
from collections import Counter

import pytest

from hooks import post_gen_project as hook
from scripts import commands
from tests.checkout import CLEAN, ROOT
from tests.combinations import ALWAYS
from tests.pages import pages, rendered

TABLE = commands.read(commands.TABLE.read_text("utf-8"))
LISTED = [line for kind in TABLE.values() for lines in kind.values() for line in lines]
# One tells what was, the other is written from the table.
LONG = 60  # characters of a sentence that no two pages would hold by chance
NO_INSTRUCTIONS = ("CHANGELOG.md", "docs/commands.md")
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")


def test_every_command_of_every_page_stands_in_the_table() -> None:
    found = {
        command: name
        for name, text, _ in pages()
        if name not in NO_INSTRUCTIONS
        for command in commands.commands(text)
    }
    assert {found[command]: command for command in set(found) - set(LISTED)} == {}
    assert set(LISTED) - set(found) == set(), "no page has them any more"
    assert {line for line, times in Counter(LISTED).items() if times > 1} == set()


def test_every_test_of_the_table_exists() -> None:
    named = set(TABLE["typed"])
    files = sorted({f"tests/{name.partition('::')[0]}" for name in named})
    plain = ("-q", "--collect-only", "-n", "0", "-p", "no:cacheprovider", "-m", "")
    said = subprocess.run(
        [sys.executable, "-m", "pytest", *plain, *files],
        cwd=ROOT,
        env=CLEAN,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert named - {line.removeprefix("tests/") for line in said.splitlines()} == set()


def test_what_no_test_types_is_told() -> None:
    assert commands.PAGE.read_text("utf-8") == commands.page(TABLE), "python scripts/commands.py"


@pytest.mark.parametrize("kind", ["session", "benchmark"])
def test_every_name_for_nox_exists(kind: str) -> None:
    pattern = r"nox (?:-R )?-s ([a-z]+)" if kind == "session" else r"nox -s bench -- ([a-z_]+)"
    names = set(re.findall(pattern, "\n".join(LISTED)))
    noxfile = (ROOT / "noxfile.py").read_text()
    sessions = set(re.findall(r"^@nox\.session.*\n(?:@.*\n)*def (\w+)", noxfile, re.MULTILINE))
    assert names
    assert names <= (sessions if kind == "session" else {p.stem for p in ROOT.glob("bench/*.py")})


def test_docker_is_asked_for_what_compose_has() -> None:
    asked = re.compile(r"docker compose (?:exec|kill|logs|restart|run|stop)(.*?)(?: && | \||$)")
    ours = {"app", "caddy", "certbot", "migrate", "nginx"}
    seen: set[str] = set()
    for _, text, answers in pages():
        found = [words for line in commands.commands(text) for words in asked.findall(line)]
        if not answers or not found:
            continue
        services = re.findall(r"^  (\w+):", rendered("compose.yaml", answers), re.MULTILINE)
        for words in found:
            service = next(word for word in words.split() if word in ours)
            assert service in services, (answers, words)
            seen.add(service)
    assert seen == ours


def slug(heading: str) -> str:
    """Return what GitHub calls a heading in an address."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_every_link_leads_to_a_page_that_is_there() -> None:
    headings: dict[tuple[str, bool], set[str]] = {}
    for name, text, answers in pages():
        found = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        headings.setdefault((name, bool(answers)), set()).update(map(slug, found))
    for name, text, answers in pages():
        there = ALWAYS - set(hook.ruled_out(answers)) if answers else set()
        for path, anchor in LINK.findall(commands.BLOCK.sub("", text)):
            beside = posixpath.join(posixpath.dirname(name), path)
            target = posixpath.normpath(beside) if path else name
            assert target in there if answers else (ROOT / target).exists(), (name, path)
            assert not anchor or anchor in headings[target, bool(answers)], (name, path, anchor)


def test_no_page_has_a_hole() -> None:
    for name, text, _ in pages():
        said = commands.BLOCK.sub("a block", text)
        assert not re.search(r"\n\n\n|\|\n\n\|(?!.*\n\| ---)|\n\n\Z", said), name


def test_no_sentence_stands_in_two_pages() -> None:
    seen: dict[str, set[str]] = {}
    for name, text, answers in pages():
        if name.startswith("docs/howto/"):
            continue  # each is followed by itself
        for line in commands.BLOCK.sub("", text).splitlines():
            if len(line) > LONG and not line.startswith(("|", "#")):
                seen.setdefault(line, set()).add(f"{'project: ' * bool(answers)}{name}")
    assert {line: names for line, names in seen.items() if len(names) > 1} == {}
