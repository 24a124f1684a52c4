"""Whoever sees little, hears, types or zooms meets the same pages as everybody (WCAG 2.2).

Every page in every state is visited once, in a real Chromium, in light and in dark. Each test asks
one thing of all of them; with --pictures DIR, the visit leaves a picture of each there.
"""

import hashlib
import importlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from flask import Flask

from app import config, create_app
from tests.live.conftest import NEEDS
from tests.live.visits import EXAMPLES, HAS_LOGIN, Visits, served
from tests.production import HOST, KEY, ORIGIN, SETTINGS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

# Every rule of axe is asked, those for experts and experiments too, but for these.
LEFT_OUT = {
    "hidden-content": "asks for a look at what is hidden: a name that password managers read",
}

WIDE, SMALLEST = 1280, 320  # CSS px
HEIGHT = 900
SPACED = """* {
    line-height: 1.5 !important;
    letter-spacing: 0.12em !important;
    word-spacing: 0.16em !important;
}
p { margin-block-end: 2em !important; }"""
# What somebody may do to see more: the width that is left, and a style of their own.
VIEWS = {
    "as it is": (WIDE, ""),
    "at 200 %": (WIDE // 2, ""),  # WCAG 1.4.4
    "with text at 200 %": (WIDE, "html { font-size: 200%; }"),
    "at 320 px": (SMALLEST, ""),  # 1.4.10
    "at 320 px, spaced": (SMALLEST, SPACED),  # 1.4.12
}
SCHEMES: tuple[tuple[Literal["light", "dark"], str], ...] = (
    ("light", "Tab"),
    ("dark", "Shift+Tab"),
)
PICTURE_WIDTH, PICTURE_HEIGHT = 1200, 900
TIMES = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC")
MOST_TABS = 40
FOCUSED = "() => [...document.querySelectorAll('[autofocus]')].every((it) => it.matches(':focus'))"
FOCUS_MS = 10_000  # a browser follows autofocus when it next draws

Found = dict[str, list[str]]

# What is asked of every page, by the function of measure.js that says what is wrong.
ASKED = {
    "axe": "no rule of axe is broken, or cannot be judged",
    "keyboard": "Tab reaches every control in its order, and a ring shows where one is",
    "order": "that order is the one in which people read",
    "announced": "the first wrong field has the focus and says why, as the title does",
    "shapes": "fields and buttons are seen, with forced colours too",
    "room": "nothing is cut off, overlaps or scrolls sideways in any of VIEWS",
    "moves": "nothing moves for somebody who does not want that",
}


class Look:
    """A look at every page from every side."""

    def __init__(self, page: "Page", pictures: "Pictures") -> None:
        self.found: Found = {aspect: [] for aspect in ASKED}
        self._page, self._pictures = page, pictures

    def at(self, name: str) -> None:
        """Measure the page that is open; keep what is wrong with it, by its aspect."""
        api = importlib.import_module("playwright.sync_api")
        page = self._page
        page.wait_for_load_state()
        with suppress(api.TimeoutError):  # that it did not come is said below
            page.wait_for_function(FOCUSED, timeout=FOCUS_MS)
        self._ask("announced", name)
        self._ask("moves", name)
        steps = page.evaluate("measure.follow") + 1
        for scheme, way in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            self._ask("axe", f"{name} {scheme}", [*LEFT_OUT])
            self._ask("shapes", f"{name} {scheme}")
            for _ in range(2 * steps):  # a busy browser loses one where it begins again
                page.keyboard.press(way)
            self._ask("keyboard", f"{name} {scheme}", way)
        page.emulate_media(forced_colors="active")
        self._ask("shapes", f"{name} forced")
        page.emulate_media(forced_colors="none")
        for view, (width, style) in VIEWS.items():
            page.set_viewport_size({"width": width, "height": HEIGHT})
            page.evaluate("measure.wear", style)
            self._ask("room", f"{name} {view}")
            self._ask("order", f"{name} {view}")
        page.evaluate("measure.wear", "")
        self._pictures.take(page, name)
        page.emulate_media(color_scheme="light")
        page.set_viewport_size({"width": WIDE, "height": HEIGHT})

    def _ask(self, aspect: str, where: str, given: object = None) -> None:
        problems = self._page.evaluate(f"measure.{aspect}", given)
        self.found[aspect] += [f"{where}: {problem}" for problem in problems]


class Pictures:
    """Pictures of the pages, and what they show whatever the fonts of this machine."""

    def __init__(self, directory: str | None, names: str | None) -> None:
        self._directory = Path(directory) if directory else None
        self._names = names.split(",") if names else None
        self._shown: dict[str, Mapping[str, str]] = {}

    def take(self, page: "Page", name: str) -> None:
        """Leave pictures of a page in both schemes, if there is to be any."""
        if not self._directory or (self._names and name not in self._names):
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        page.set_viewport_size({"width": PICTURE_WIDTH, "height": PICTURE_HEIGHT})
        page.evaluate("document.activeElement.blur()")  # a cursor blinks
        for scheme, _ in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            page.screenshot(path=self._directory / f"{name}-{scheme}.png", full_page=True)
            text, style = page.evaluate("measure.shown")
            known = {"text": TIMES.sub("at a time", text)}
            known["style"] = hashlib.sha256(style.encode()).hexdigest()
            self._shown[f"{name}-{scheme}"] = known
        lines = json.dumps(self._shown, indent=2, sort_keys=True)
        (self._directory / "shown.json").write_text(f"{lines}\n", encoding="utf-8")


@pytest.fixture(scope="module")
def site() -> Flask:
    """Return the application, with every protection on."""
    settings = {**SETTINGS, "SECRET_KEY": KEY, "PROXY_HOPS": 0}
    return create_app(**settings)


@pytest.fixture(scope="module")
def visits(
    site: Flask,
    chromium: "Browser",
    ports: Mapping[str, int],
    tls: tuple[str, str],
) -> Iterator[Visits]:
    """Yield what brings a browser of the module's to each page."""
    axe = pytest.importorskip("axe_playwright_python", reason=f"needs axe: {NEEDS}")
    context = chromium.new_context(
        viewport={"width": WIDE, "height": HEIGHT}, reduced_motion="reduce"
    )
    # Read here: axe_playwright_python.base reads it in the locale's encoding.
    context.add_init_script(Path(axe.__file__ or "").with_name("axe.min.js").read_text("utf-8"))
    context.add_init_script(path=Path(__file__).with_name("measure.js"))
    with served(site, ports[HOST], tls):
        visits = Visits(site, context.new_page())
        yield visits
        visits.forget_everybody()
    context.close()


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest, visits: Visits) -> Found:
    """Visit every page in every state once; return what is wrong."""
    option = request.config.getoption
    look = Look(visits.page, Pictures(option("--pictures"), option("--pictured")))
    for name, come in visits.states():
        come()
        look.at(name)
    return look.found


@pytest.mark.parametrize("aspect", ASKED)
def test_every_page_in_every_state_is_for_everybody(found: Found, aspect: str) -> None:
    problems = found[aspect]
    assert not problems, "\n".join([ASKED[aspect], *problems])


@pytest.mark.usefixtures("found")
def test_no_page_is_forgotten(visits: Visits) -> None:
    variable = {route for route in visits.routes() if "<" in route}
    assert variable == set(EXAMPLES), "give an address of each in EXAMPLES of tests/live/visits.py"
    cache = visits.app.jinja_env.cache
    assert cache is not None
    rendered = {name for _, name in cache}
    templates = config.ROOT / "app" / "templates"
    there = {path.relative_to(templates).as_posix() for path in templates.rglob("*.html")}
    assert there - rendered == set(), "no state in tests/live/visits.py shows these"


def test_the_proxys_own_pages_are_for_everybody_too(visits: Visits) -> None:
    left = [*LEFT_OUT, "css-orientation-lock"]  # looks for a style, and there is none
    visits.page.goto(ORIGIN)
    for path in (config.ROOT / "deploy").glob("*"):
        for text in re.findall(r"<!doctype html>[^'`]*", path.read_text("utf-8")):
            visits.page.set_content(text.replace("\\n", "\n"))
            assert visits.page.evaluate("measure.axe", left) == []


def test_axe_is_asked_what_it_knows(visits: Visits) -> None:
    visits.page.goto(ORIGIN)
    known = visits.page.evaluate("axe.getRules().map((rule) => rule.ruleId)")
    assert set(LEFT_OUT) <= set(known)
    assert {"color-contrast-enhanced", "target-size", "region"} <= set(known) - set(LEFT_OUT)


def tab_to(page: "Page", control: "Locator") -> None:
    """Press Tab until a control has the focus."""
    for _ in range(MOST_TABS):
        if control.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{control} is out of reach")


def sends(page: "Page", key: str) -> None:
    """Press a key that leads to another page, and wait for it."""
    with page.expect_navigation():
        page.keyboard.press(key)


@pytest.mark.usefixtures("visits")
def test_a_person_writes_to_us_by_keyboard_alone(page: "Page") -> None:
    page.goto(f"{ORIGIN}/contact")
    tab_to(page, page.get_by_role("link", name="Skip to the content"))
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    name = page.get_by_label("Your name")
    assert name.evaluate("element => element === document.activeElement")
    sends(page, "Enter")
    assert page.title().startswith("Error: ")
    page.keyboard.type("Ada")  # where the page has put the focus
    tab_to(page, page.get_by_label("Your email address"))
    page.keyboard.type("ada@example.com")
    tab_to(page, page.get_by_label("Your message"))
    page.keyboard.type("Hello")
    tab_to(page, page.get_by_role("button", name="Send"))
    sends(page, "Space")
    assert page.get_by_role("status").inner_text().startswith("Thank you, Ada.")


if HAS_LOGIN:

    def test_a_person_signs_in_ends_a_session_and_signs_out_by_keyboard_alone(
        visits: Visits, page: "Page"
    ) -> None:
        visits.forget_limits()
        visits.somebody()
        page.goto(ORIGIN)
        tab_to(page, page.get_by_role("link", name="Sign in"))
        sends(page, "Enter")
        if "LOGIN_REGISTER" in config.SETTINGS:
            login = importlib.import_module("tests.login.by_password")
            tab_to(page, page.get_by_label("Email address"))
            page.keyboard.type(login.EMAIL)
            tab_to(page, page.get_by_label("Password"))
            page.keyboard.type(login.PASSWORD)
            sends(page, "Enter")
        page.wait_for_url(f"{ORIGIN}/account")
        before = page.get_by_role("listitem").count()
        tab_to(page, page.get_by_role("button", name="End this session").last)
        sends(page, "Space")
        assert page.get_by_role("status").inner_text() == "That session has ended."
        assert page.get_by_role("listitem").count() == before - 1
        tab_to(page, page.get_by_role("button", name="Sign out"))
        sends(page, "Enter")
        assert page.get_by_role("heading", level=1).inner_text() == "You are signed out"
