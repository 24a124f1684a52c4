"""Every combination of the choice questions, and the few in which every two answers meet."""

import itertools

from tests.conftest import CHOICES

Answers = dict[str, str]

COMBINATIONS: list[Answers] = [
    dict(zip(CHOICES, options, strict=True)) for options in itertools.product(*CHOICES.values())
]


def pairs(answers: Answers) -> set[tuple[tuple[str, str], ...]]:
    """Return every two answers of a combination."""
    return set(itertools.combinations(answers.items(), 2))


def pairwise() -> list[Answers]:
    """Return combinations in which every two answers meet, the default one first."""
    chosen = [COMBINATIONS[0]]
    missing = set().union(*map(pairs, COMBINATIONS)) - pairs(chosen[0])
    while missing:
        chosen.append(max(COMBINATIONS, key=lambda answers: len(pairs(answers) & missing)))
        missing -= pairs(chosen[-1])
    return chosen


def name_of(answers: Answers) -> str:
    """Return what a combination is called."""
    return "-".join(answers.values())
