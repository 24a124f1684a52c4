"""Write docs/pictures/: what people meet in a project of the default answers, in light and dark.

A project's own tests see its pages and leave pictures of them; here they are made small.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pictures"
SHOWN = PICTURES / "shown.json"
# The states of tests/live/visits.py, by what they are called here.
STATES = {
    "home": "home",
    "contact": "contact-sent-empty",
    "login": "login-closed",
    "account": "account",
}
SCHEMES = ("light", "dark")
WIDTH, HEIGHT = 800, 600
COLOURS, KMEANS = 48, 10


def options(directory: Path) -> list[str]:
    """Return what pytest is given so that a project leaves the pictures there."""
    return ["--pictures", str(directory), "--pictured", ",".join(STATES.values())]


def shown(directory: Path) -> dict[str, Any]:
    """Return what the pictures that a project has left show: their words, and a digest of looks."""
    found = json.loads((directory / "shown.json").read_text("utf-8"))
    return {
        f"{name}-{scheme}": found[f"{state}-{scheme}"]
        for name, state in STATES.items()
        for scheme in SCHEMES
    }


def main(project: Path) -> None:
    """Let a project take the pictures; make them small."""
    from PIL import Image  # only here: the tests need none

    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        tests = ["tests/live/test_accessibility.py", "-k", "forgotten", "-p", "no:cacheprovider"]
        plain = ["-p", "no:xdist", "-p", "no:cookies", "-p", "no:hypothesispytest"]
        command = [sys.executable, "-m", "pytest", "-q", *plain, *tests, *options(directory)]
        subprocess.run(command, cwd=project, check=True)  # noqa: S603  our own words
        for picture, state in STATES.items():
            for scheme in SCHEMES:
                image = Image.open(directory / f"{state}-{scheme}.png").convert("RGB")
                top = image.crop((0, 0, image.width, image.width * HEIGHT // WIDTH))
                small = top.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
                # Few colours, moved to where pixels are: accent and paper stay what they are.
                few = small.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, KMEANS, None, 0)
                few.save(PICTURES / f"{picture}-{scheme}.png", optimize=True)
        lines = json.dumps(shown(directory), indent=2, sort_keys=True)
        SHOWN.write_text(f"{lines}\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
