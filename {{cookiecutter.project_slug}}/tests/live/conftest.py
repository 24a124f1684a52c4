"""A real Chromium; where it is missing, what needs it is skipped and says so."""

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="session")
def chromium() -> Iterator["Browser"]:
    """Yield the system's Chromium, headless."""
    api = pytest.importorskip(
        "playwright.sync_api", reason="needs a browser: uv run --group live pytest"
    )
    path = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if path is None:
        pytest.skip("needs a browser: apt-get install chromium")
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0  # Chromium's sandbox refuses root
    arguments = [*QUIET, "--no-sandbox"] if is_root else QUIET
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: "Browser") -> Iterator["Page"]:
    """Yield a page of a fresh profile; fail if the browser complained about anything of ours."""
    complaints: list[str] = []
    context = chromium.new_context()
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    # Chromium also notes every answer of 400 and up, which the tests ask for.
    assert [text for text in complaints if not text.startswith("Failed to load resource")] == []
