"""Say what is wrong with the settings, and what to do about it."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("note", "warning", "error")


class Problem(NamedTuple):
    """One setting that defeats a protection, or that cannot be read.

    `id` is stable and may be searched for; `sentence` begins with the name of the setting;
    `hint` says what to do and shows a good value; `level` is "error" for what defeats a protection,
    so that the application refuses to start, "warning" for what should be mended, "note" for what
    is worth knowing.
    No field ever holds a secret.
    """

    id: str
    sentence: str
    hint: str
    level: Level = "error"

    def __str__(self) -> str:
        return f"{self.sentence}  [{self.id}]\n    {self.hint}"


class Refusal(SystemExit):
    """Stop the program: Python prints the text on stderr and exits with status 1, no traceback."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        listing = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"This application refuses to start:\n\n{listing}")
