"""The first five minutes: `uv run flask run --debug`, a page, a form that works."""

from pathlib import Path
from typing import TYPE_CHECKING

from app import env_file
from tests.production import VARIABLES
from tests.servers import copy, free_port, served

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_a_person_fills_in_the_form(page: "Page", tmp_path: Path) -> None:
    root = copy(tmp_path / "clone")
    env_file.create(str(root / ".env"))
    port = free_port()
    command = ("flask", "run", "--debug", "--port", str(port))
    with served(port, *command, variables=VARIABLES, root=root):
        page.goto(f"http://localhost:{port}/")
        page.get_by_role("link", name="Try the form").click()
        page.get_by_role("button", name="Send").click()
        assert page.get_by_text("Please write a message.").is_visible()
        page.get_by_label("Your name").fill("Ada")
        page.get_by_label("Your email address").fill("ada@example.com")
        page.get_by_label("Your message").fill("Hello")
        page.get_by_role("button", name="Send").click()
        assert page.get_by_role("status").inner_text().startswith("Thank you, Ada.")
