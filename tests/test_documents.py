"""What a project's documents tell a security review is what its code does."""

import ast
import re
from collections.abc import Callable, Iterator

import pytest

from tests.checkout import CHOICES
from tests.combinations import JINJA
from tests.conftest import Project

HEADINGS = {
    "authorization.md": ["Rules", "Fields", "Context", "Decisions"],
    "communications.md": ["Connections", "Limits", "Timeouts", "Expensive functions", "Browsers"],
    "cryptography.md": ["Keys", "Rotation", "Inventory", "Migration"],
    "data.md": ["Classes", "Requirements"],
    "dependencies.md": ["Risky components", "Dangerous functionality"],
    "input.md": ["Rules", "Combined fields", "Business limits", "Uploads"],
    "logging.md": ["Inventory", "Events"],
    "sign-in.md": [
        "Pathways",
        "Brute force",
        "Context words",
        "Lifetimes",
        "Concurrent sessions",
        "Federation",
    ],
}
# What a heading is about is there with that answer alone.
ONLY = {"Context words": "password"}
# Without these, a project whose users sign in at a provider does not start.
PROVIDER = {
    "APP_OIDC_ISSUER": "https://login.example.com",
    "APP_OIDC_CLIENT_ID": "the-client",
    "OIDC_CLIENT_SECRET": "the-secret-of-the-client",
}
BOUND = re.compile(
    r"^\| `([^`]*\d[^`]*|[a-z_]+ off)` \| `([^`]+\.[a-z]+|deploy/Caddyfile)` \|", re.M
)
ROW = re.compile(r"^\| `([^`]+)` \| ([A-Z ]+) \|", re.MULTILINE)

FILE = re.compile(r"`([\w/.-]+\.(?:py|md|toml|conf|yaml|lock))`")

pytestmark = pytest.mark.parametrize("login", CHOICES["login"])


@pytest.fixture
def project(bake: Callable[..., Project], login: str) -> Project:
    return bake(login=login)


def document(project: Project, name: str) -> str:
    return (project.path / "docs" / "security" / name).read_text()


def section(text: str, heading: str) -> str:
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def python(project: Project) -> Iterator[ast.AST]:
    """Yield every node of the application's code."""
    for path in sorted((project.path / "app").rglob("*.py")):
        yield from ast.walk(ast.parse(path.read_text()))


def texts(node: ast.AST) -> set[str]:
    return {
        part.value
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    }


def begin_sessions(project: Project) -> Iterator[str]:
    """Yield method and path of every view that signs somebody in by itself."""
    for node in python(project):
        if isinstance(node, ast.FunctionDef) and "sessions.start(" in ast.unparse(node):
            for mark in node.decorator_list:
                if found := re.fullmatch(r"pages\.blueprint\.(\w+)\('(.+)'\)", ast.unparse(mark)):
                    yield f"{found[1].upper()} {found[2]}"


@pytest.mark.parametrize("proxy", CHOICES["proxy"])
def test_every_document_is_whole_and_every_number_where_it_says(
    bake: Callable[..., Project], login: str, proxy: str
) -> None:
    more = {"rate_limit_storage": "redis", "secret_key_source": "aws-secrets-manager"}
    project = bake(login=login, proxy=proxy, **(more if proxy in CHOICES["proxy"][::2] else {}))
    directory = project.path / "docs" / "security"
    expected = {name for name in HEADINGS if login != "none" or name != "sign-in.md"}
    assert {path.name for path in directory.iterdir()} == expected
    for name in expected:
        text = document(project, name)
        headings = [title for title in HEADINGS[name] if ONLY.get(title, login) == login]
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == headings
        assert not JINJA.search(text)
        assert not re.search(r"\n\n\n|\|\n\n\|", text), f"{name}: a hole, or a table cut in two"
        for file in set(FILE.findall(text)) - {"uv.lock"}:
            assert (project.path / file).exists() or (directory / file).exists(), (name, file)
        for bound, file in BOUND.findall(text):
            assert bound in (project.path / file).read_text(), (name, bound)
    updates = section((project.path / "SECURITY.md").read_text(), "Dependency updates")
    assert re.findall(r"^\| .* \| (\d+) \|$", updates, re.MULTILINE) == ["2", "7", "30", "90"]


def test_every_endpoint_has_its_rule_and_every_way_in_its_row(project: Project, login: str) -> None:
    given = PROVIDER if login == "oidc" else {}
    listed = project.run("flask", "limits", **given).partition("\n\n")[0].splitlines()
    asked = [line.split(None, 2) for line in listed]
    rows = ROW.findall(section(document(project, "authorization.md"), "Rules"))
    ruled = {(method, path) for path, methods in rows for method in methods.split()}
    assert ruled == {(method, rule) for method, rule, _ in asked}
    if login != "none":
        ways_in = {f"{method} {rule}" for method, rule, spends in asked if "for login" in spends}
        ways_in |= set(begin_sessions(project))
        pathways = section(document(project, "sign-in.md"), "Pathways")
        assert set(re.findall(r"^\| `(.+?)` \|", pathways, re.MULTILINE)) == ways_in


def test_every_field_has_its_rule(project: Project) -> None:
    fields = {
        target.id
        for node in python(project)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func).endswith("Field")
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    rows = re.findall(r"^\| (`.+?) \|", section(document(project, "input.md"), "Rules"), re.M)
    assert fields
    assert fields <= set(re.findall(r"`(\w+)`", " ".join(rows)))


def test_every_event_is_described(project: Project) -> None:
    recorded: set[str] = set()
    rules: set[str] = set()
    steps: set[str] = set()  # at which a sign-in at a provider fails
    for node in python(project):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("record", "events.record"):
            recorded |= texts(node.args[0])
            for keyword in node.keywords:
                rules |= texts(keyword.value) if keyword.arg == "rule" else set()
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("refusal", "self._refusing"):
            steps |= {f"oidc:{step}" for step in texts(node.args[0])}
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "EVENTS" and node.value:
            for row in ast.literal_eval(re.sub(r"\((\w+),", r"('\1',", ast.unparse(node.value))):
                recorded.add(row[1])
                rules.add(row[2])
    described = section(document(project, "logging.md"), "Events")
    assert set(re.findall(r"^\| `([a-z-]+)` \|", described, re.MULTILINE)) == recorded
    assert {rule for rule in rules if f"`{rule}" not in described} == set()
    assert steps <= set(re.findall(r"`([a-z:_-]+)`", described))
