"""What our own code never does, kept true for the code that you add.

ruff finds what is dangerous in Python, and this sees that it looks for it. Templates, regular
expressions and what signs or compares secrets are looked at here (ASVS 1.1 to 1.5, 3.6, 11.1).
An exception is a line in one of the tables, with its reason.
"""

import ast
import importlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from app import config
from tests.servers import run

APP = config.ROOT / "app"
SOURCES = {path.relative_to(config.ROOT).as_posix(): path for path in sorted(APP.rglob("*.py"))}
TEMPLATES = {path.name: path for path in sorted((APP / "templates").rglob("*.*"))}
SCRIPTS = {path.name: path for path in sorted((APP / "static").rglob("*.*js"))}

# -- What ruff finds

# A line for each rule that stands for a kind of attack.
DANGEROUS: Mapping[str, str] = {
    "S102": "exec(text)",
    "S301": "pickle.loads(text)",
    "S302": "marshal.loads(text)",
    "S305": "modes.ECB()",
    "S307": "eval(text)",
    "S311": "random.choice(text)",
    "S314": "ElementTree.fromstring(text)",
    "S318": "minidom.parseString(text)",
    "S323": "ssl._create_unverified_context()",
    "S324": "hashlib.md5(text)",
    "S501": "requests.get(text, verify=False, timeout=1)",
    "S506": "yaml.load(text)",
    "S602": "subprocess.run(text, shell=True)",
    "S604": "start(text, shell=True)",
    "S605": "os.system(text)",
    "S606": "os.execl(text, text)",
    "S607": "subprocess.run(['git', 'status'])",
    "S608": "database.execute(f\"SELECT * FROM user_account WHERE email = '{text}'\")",
    "S701": "jinja2.Environment(autoescape=False)",
    "S704": "markupsafe.Markup(text)",
    "G001": "logging.warning('{}'.format(text))",
    "G002": "logging.warning('%s' % text)",
    "G003": "logging.warning('from ' + text)",
    "G004": "logging.warning(f'{text}')",
    "SIM115": "print(open(text).read())",
}
IMPORTS = """\
import hashlib, jinja2, logging, markupsafe, marshal, os, pickle, random, requests, ssl, yaml
import subprocess
from xml.dom import minidom
from xml.etree import ElementTree
from cryptography.hazmat.primitives.ciphers import modes
"""

# Where ruff is told to look away, with the rule.
LOOKED_AT = {
    ("app/checks.py", "S603"),  # git, with words of our own and no shell
    ("app/outside/edge.py", "S311"),  # forged addresses that a probe claims: no secret
    ("app/login/oidc.py", "S105"),  # the name of a way to send the secret, not a secret
    ("app/login/sessions.py", "S105"),  # the name of the token in the cookie, not a token
}


def found_by_ruff(*arguments: str) -> list[tuple[str, str, int]]:
    """Return what ruff finds with this project's settings: file, rule, line."""
    pytest.importorskip("ruff", reason="needs the development group: uv sync")
    options = ("--no-cache", "--output-format", "json", "--config", "pyproject.toml")
    _, said = run("ruff", "check", *options, *arguments, variables={})
    return [
        (item["filename"], str(item["code"]), item["location"]["row"]) for item in json.loads(said)
    ]


def test_ruff_finds_what_is_dangerous(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text(IMPORTS + "\n".join(DANGEROUS.values()) + "\n")
    first = IMPORTS.count("\n") + 1
    found = {(rule, line) for _, rule, line in found_by_ruff(str(planted))}
    assert {(rule, line) for line, rule in enumerate(DANGEROUS, first)} - found == set()


def test_nothing_dangerous_is_in_our_code() -> None:
    found = found_by_ruff("--select", "S,G,SIM115", "--ignore-noqa", "app", "gunicorn.conf.py")
    places = {(Path(path).relative_to(config.ROOT).as_posix(), rule) for path, rule, _ in found}
    assert places == {(path, rule) for path, rule in LOOKED_AT if path in SOURCES}


def test_a_file_that_is_left_open_fails_the_suite(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.getini("filterwarnings") == ["error"]  # ResourceWarning among them


# -- What ruff does not know

SECRET = re.compile(r"token|secret|digest|signature|hash(?!able)|password")
TEMPLATE_FROM_TEXT = {"render_template_string", "from_string", "Template"}
FILES = {"open", "Path", "send_file", "send_from_directory"}


def mistakes_in(source: str) -> Iterator[str]:
    """Yield what is wrong with a module's code."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                if name in TEMPLATE_FROM_TEXT:
                    yield "a template made of text"
                if name == "urlparse":
                    yield "a second parser of URLs"
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[first, *_]):
                from_request = "request." in ast.unparse(first)
                if name in FILES and from_request:
                    yield "a path that a visitor names"
                if name in ("loads", "load") and from_request:
                    yield "a second parser of JSON"
            case ast.Compare(left=left, ops=[ast.Eq() | ast.NotEq()], comparators=[right]):
                sides = (left, right)
                if any(map(_is_secret, sides)) and not any(map(_is_column, sides)):
                    yield "a secret compared in a time that tells how much of it is right"


def _is_secret(side: ast.expr) -> bool:
    match side:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return bool(SECRET.search(name.lower()))
    return False


def _is_column(side: ast.expr) -> bool:
    """Return whether an operand is a column of a model: the database compares it."""
    match side:
        case ast.Attribute(value=ast.Name(id=owner)):
            return owner[0].isupper()
    return False


@pytest.mark.parametrize(
    ("source", "mistake"),
    [
        ("render_template_string(text)", "a template made of text"),
        ("environment.from_string(text)", "a template made of text"),
        ("from jinja2 import Template", "a template made of text"),
        ("from urllib.parse import urlparse", "a second parser of URLs"),
        ("open(request.args['name'])", "a path that a visitor names"),
        ("Path(request.form['name']).read_text()", "a path that a visitor names"),
        ("json.loads(request.data)", "a second parser of JSON"),
        ("if token == given: pass", "a secret compared"),
        ("if row.password_hash != given: pass", "a secret compared"),
    ],
)
def test_a_mistake_in_the_code_is_seen(source: str, mistake: str) -> None:
    assert [found.startswith(mistake) for found in mistakes_in(source)] == [True]


@pytest.mark.parametrize("name", SOURCES)
def test_no_module_makes_such_a_mistake(name: str) -> None:
    assert list(mistakes_in(SOURCES[name].read_text("utf-8"))) == []


# -- Cryptography, and where each of it is used

CRYPTOGRAPHY = re.compile(
    r"(hashlib|hmac|secrets|random|uuid|ssl|argon2|itsdangerous|bcrypt|passlib|crypt|cryptography"
    r"|Crypto|Cryptodome|nacl|jwt|jose|joserfc|authlib|rsa|ecdsa|gnupg)\b"
)
INVENTORY = {
    "app/commands.py": {"hashlib"},  # SHA-256: the fingerprint of a key
    "app/env_file.py": {"secrets"},  # a new secret key
    "app/outside/deployment.py": {"ssl"},  # a client's TLS, which checks the certificate
    "app/outside/edge.py": {
        "random",
        "ssl",
    },  # which old TLS is accepted; addresses that nobody has
    "app/outside/probes.py": {"ssl"},
    "app/request_id.py": {"secrets"},
    "app/security/sessions.py": {"hashlib", "itsdangerous"},  # HMAC-SHA-256: signs the session
    "app/login/by_oidc.py": {"authlib.integrations.flask_client", "secrets"},  # nonces, tokens
    "app/login/oidc.py": {  # tokens signed by the provider: RSA and ECDSA with SHA-2 alone
        "authlib.common.errors",
        "authlib.integrations.base_client",
        "authlib.integrations.flask_client",
        "authlib.oidc.core",
        "joserfc",
        "joserfc.errors",
        "joserfc.jwk",
        "joserfc.jwt",
    },
    "app/login/oidc_http.py": {
        "authlib.integrations.base_client",
        "authlib.integrations.requests_client",
    },
    "app/login/accounts.py": {"hashlib"},  # SHA-256: whose guesses are counted
    "app/login/passwords.py": {"argon2", "argon2.exceptions"},  # argon2id: stored passwords
    "app/login/sessions.py": {"hashlib", "secrets"},  # a token, and SHA-256: what is stored of it
}


def imported(source: str) -> set[str]:
    """Return the modules of cryptography that a module imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name for name in names if CRYPTOGRAPHY.match(name)}


def test_no_cryptography_is_used_that_is_not_listed() -> None:
    used = {name: imported(path.read_text("utf-8")) for name, path in SOURCES.items()}
    assert {name: modules for name, modules in used.items() if modules} == {
        name: modules for name, modules in INVENTORY.items() if name in SOURCES
    }
    assert imported("import jwt\nfrom Crypto.Cipher import DES\nfrom .hmac import x") == {
        "jwt",
        "Crypto.Cipher",
    }


# -- Regular expressions

METHODS = {"findall", "finditer", "fullmatch", "match", "search", "split", "sub"}
UNITS = (
    *(
        "a",
        "1",
        "A",
        "-",
        "_",
        ".",
        ":",
        "/",
        "=",
        ",",
        " ",
        "\n",
        "\t",
        "'",
        '"',
        "\\",
        "[",
        "\x00",
    ),
    *("a.", "a-", "0.", "a1_", "://a:", "SECRET_KEY", "\nexport ", "mailto:a@", "https://a", "é"),
)
LENGTHS = (12, 16, 20, 22, 24, 5_000)
MOST_S = 0.05


def patterns(name: str) -> Iterator[tuple[re.Pattern[str], str]]:
    """Yield each pattern of a module with each way in which the module uses it."""
    path = name.removesuffix(".py").removesuffix("/__init__")  # by which nothing is imported twice
    module = importlib.import_module(path.replace("/", "."))
    for node in ast.walk(ast.parse(SOURCES[name].read_text("utf-8"))):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="re"), attr=method),
                args=[ast.Constant(value=str(text)), *_],
            ) if method in METHODS:
                yield re.compile(text), method
            case ast.Attribute(value=ast.Name(id=owner), attr=method) if method in METHODS:
                if isinstance(pattern := getattr(module, owner, None), re.Pattern):
                    yield pattern, method


def is_slow(pattern: re.Pattern[str], method: str) -> bool:
    """Return whether some text, of up to 5,000 characters, takes the pattern far too long."""
    for unit in UNITS:
        for length in LENGTHS:
            text = (unit * length)[:length] + "!"
            begun = time.thread_time()
            _ = pattern.sub("", text) if method == "sub" else getattr(pattern, method)(text)
            if time.thread_time() - begun > MOST_S:
                return True
    return False


@pytest.mark.parametrize("name", [name for name in SOURCES if "/migrations/" not in name])
def test_no_pattern_can_be_made_slow(name: str) -> None:
    if name == "app/access_log.py":
        pytest.importorskip("gunicorn", reason="gunicorn does not exist on Windows")
    assert [pattern.pattern for pattern, method in patterns(name) if is_slow(pattern, method)] == []


def test_a_slow_pattern_is_seen() -> None:
    assert is_slow(re.compile(r"(a+)+$"), "fullmatch")
    assert is_slow(re.compile(r"(?:^|\n)\s*(?:export\s+)?x"), "search")
    assert not is_slow(re.compile(r"[^\S\n]*x"), "fullmatch")
    assert ("[\\W_]+", "sub") in {
        (pattern.pattern, method) for pattern, method in patterns("app/security/secret_key.py")
    }


# -- Templates and scripts

EXPRESSION = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
URL = re.compile(r'\b(?:href|src|action|formaction)\s*=\s*"((?:\{\{.*?\}\}|[^"])*)"', re.DOTALL)
ENCODED = re.compile(r"^url_for\(|\|\s*urlencode$|\.id$")  # a number, of a row
OURS = re.compile(r"/(?!/)|#|\?|https://[\w.-]+(/|$)|mailto:|\{\{-?\s*url_for\(")
SCRIPT = re.compile(r"<script[^>]*>(.*?)</script>", re.DOTALL)
FOREIGN = re.compile(r'<(?:script|link)\b(?=[^>]*(?:src|href)\s*=\s*"(?:https?:)?//)[^>]*>')
WRONG: Mapping[str, re.Pattern[str]] = {
    "unescaped": re.compile(r"\|\s*safe\b|\bautoescape\b|\bMarkup\b"),
    "obsolete": re.compile(r"<(?:object|embed|applet|frameset|marquee)\b"),
    "inline handler": re.compile(r"<[^>]*\son\w+\s*="),
    "written as HTML": re.compile(
        r"\b(?:inner|outer)HTML\b|\binsertAdjacentHTML\b|\bdocument\.write"
    ),
}


def mistakes_of(template: str) -> set[str]:
    """Return what is wrong with a template or a script."""
    found = {name for name, pattern in WRONG.items() if pattern.search(template)}
    for address in URL.findall(template):
        if not OURS.match(address):
            found.add("a scheme that anybody chooses")
        if not all(ENCODED.search(one.strip("- \n")) for one in EXPRESSION.findall(address)):
            found.add("not encoded")
    for body in SCRIPT.findall(template):
        if not all(re.search(r"\|\s*tojson\s*$", one) for one in EXPRESSION.findall(body)):
            found.add("not JSON")
    for tag in FOREIGN.findall(template):
        if not ("integrity=" in tag and "crossorigin" in tag):
            found.add("foreign, and anything")
    return found


def shown(expression: str) -> str:
    """Return an expression as a template writes it: the template of this project reads this."""
    return "{" * 2 + f" {expression} " + "}" * 2


@pytest.mark.parametrize(
    ("planted", "mistake"),
    [
        (f"<p>{shown('x | safe')}</p>", "unescaped"),
        (f"<p>{shown('x|safe')}</p>", "unescaped"),
        ("autoescape false", "unescaped"),
        ("<object data='x'></object>", "obsolete"),
        ('<p class="a" onclick="x()">', "inline handler"),
        ("element.innerHTML = text", "written as HTML"),
        (f'<a href="{shown("x")}">', "a scheme that anybody chooses"),
        ('<a href="javascript:x()">', "a scheme that anybody chooses"),
        ('<a href="//evil.example">', "a scheme that anybody chooses"),
        (f'<a href="/{shown("x")}">', "not encoded"),
        (f"<script>let x = {shown('x')};</script>", "not JSON"),
        ('<script src="https://cdn.example/x.js"></script>', "foreign, and anything"),
        ('<link rel="stylesheet" href="https://cdn.example/x.css">', "foreign, and anything"),
    ],
)
def test_a_mistake_in_a_template_is_seen(planted: str, mistake: str) -> None:
    assert mistake in mistakes_of(planted)


@pytest.mark.parametrize(
    "good",
    [
        f'<a href="/search?{shown("x | urlencode")}">{shown("x")}</a>',
        '<a href="' + shown("url_for('pages.home')") + '">',
        f"<script>let x = {shown('x | tojson')};</script>",
        '<script src="https://cdn.example/x.js" integrity="sha384-x" crossorigin></script>',
    ],
)
def test_what_is_right_in_a_template_is_none(good: str) -> None:
    assert mistakes_of(good) == set()


@pytest.mark.parametrize("name", [*TEMPLATES, *SCRIPTS])
def test_no_template_and_no_script_makes_such_a_mistake(name: str) -> None:
    path = TEMPLATES.get(name) or SCRIPTS[name]
    assert mistakes_of(path.read_text("utf-8")) == set()
    # Flask escapes what is shown in files of this name alone.
    assert path.suffix in (".html", ".js", ".mjs")
