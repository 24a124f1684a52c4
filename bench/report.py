"""Write the tables and the plot of docs/benchmarks.md from what was kept.

nox -s bench -- report
"""

import json
import re
from collections.abc import Callable, Iterable
from functools import partial

import measure

PAGE = measure.ROOT / "docs" / "benchmarks.md"
PLOT = measure.ROOT / "docs" / "benchmarks.svg"
KINDS = ("JSON GET", "HTML GET", "POST")
BUDGETS = {"JSON GET": 3.0, "HTML GET": 3.3, "POST": 3.0}
Kept = dict[str, measure.Results]
WIDTH, LEFT, ROW, TOP = 190, 168, 19, 56  # pixels: a panel, its labels, a line, the titles
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.quiet { fill: #59636e } .grid { stroke: #d1d9e0 } .budget { stroke: #9a6700 }
.before { fill: #9198a1 } .after { fill: #0969da } .way { stroke: #9198a1 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .quiet { fill: #9198a1 } .grid { stroke: #3d444d }
  .budget { stroke: #d29922 } .before { fill: #656c76 } .after { fill: #4493f8 }
}
"""


def table(titles: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a table in Markdown."""
    titles = list(titles)
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def ratios(kept: Kept, when: str, what: str) -> dict[str, float]:
    """Return what was found, against the first of it."""
    values = kept[when][what]
    first = next(iter(values.values()))
    return {name: value / first for name, value in values.items()}


def both(kept: Kept, what: str, name: str, how: str = ".2f") -> list[str]:
    """Return the ratio before and after, as the cells of a line."""
    return [format(ratios(kept, when, what)[name], how) for when in ("before", "after")]


def layers(kept: Kept, how: str = "") -> str:
    """Return what each layer costs on top of those before it, in process or as `how` says."""
    titles = ["with"] + [f"{kind}, {when}" for kind in KINDS for when in ("before", "after")]
    names = kept["after"][KINDS[0]]
    rows = (
        [name, *(cell for kind in KINDS for cell in both(kept, f"{kind}{how}", name))]
        for name in names
    )
    return table(titles, rows)


def requests(kept: Kept) -> str:
    """Return all protections together, against the budgets."""
    rows: list[list[object]] = []
    whole = list(kept["after"][KINDS[0]])[-1]
    reach = {"JSON GET": 2.5, "HTML GET": 2.8, "POST": 2.5}
    for kind in KINDS:
        goal = [BUDGETS[kind], reach[kind]]
        rows.append([f"{kind}, instructions", *both(kept, f"{kind}, instructions", whole), *goal])
        rows.append([f"{kind}, CPU time", *both(kept, kind, whole), *goal])
        wire = f"{kind}, gunicorn"
        rows.append([f"{kind}, CPU time of gunicorn's worker", *both(kept, wire, whole), "", ""])
    rate = "gunicorn, requests a second"
    rows.append([rate, *both(kept, rate, "the project"), 0.65, 0.75])
    for kind in ("JSON GET", "POST"):
        asked = [kept[when]["questions to Valkey"][kind] for when in ("before", "after")]
        rows.append([f"{kind}, questions to Valkey", *asked, 1, 1])
    asked = [kept[when]["statements, signed in"]["JSON GET"] for when in ("before", "after")]
    rows.append(["signed in, statements to the database", *asked, 1, 1])
    return table(["all protections", "before", "after", "budget", "reach for"], rows)


def starts(kept: Kept) -> str:
    """Return what a start costs."""
    goals = {"no accounts": (1.4, 1.25), "no accounts, Redis": (1.6, "")}
    memory = {"no accounts": (1.2, 1.15), "no accounts, Redis": (1.4, "")}
    rows = [
        [
            f"{what.removeprefix('start, ')}, {name}",
            *both(kept, what, name),
            *goal.get(name, ("", "")),
        ]
        for what, goal in (
            ("start, instructions", goals),
            ("start, CPU", goals),
            ("start, memory", memory),
        )
        for name in kept["after"][what]
        if name != "bare Flask"
    ]
    return table(["start to the first answer", "before", "after", "budget", "reach for"], rows)


def bakes(kept: Kept) -> str:
    """Return what making a project costs."""
    goals = {
        "empty, two empty hooks": ("1.08: the least possible",),
        "this template": ("1.5 (1.3)",),
    }
    rows = [
        [name, *both(kept, "bake", name), *goals.get(name, ("",))] for name in kept["after"]["bake"]
    ]
    return table(["template", "before", "after", "budget (reach for)"], rows)


def suites(kept: Kept) -> str:
    """Return what a project's own suite costs."""
    spent, tests = (kept["after"][f"suite, {what}"] for what in ("CPU", "tests"))
    rows = [[login, f"{tests[login]:.0f}", f"{spent[login]:.0f}"] for login in spent]
    return table(["login", "tests", "CPU, s"], rows)


def matrix(kept: Kept) -> str:
    """Return what the matrix adds."""
    found = kept["after"]["matrix, CPU"]
    first, second = found.values()
    rows = [[name, f"{value:.2f}"] for name, value in found.items()]
    return table(["one combination", "CPU, s"], [*rows, ["beyond", f"{second - first:.2f}"]])


def plot(kept: Kept) -> str:
    """Return a plot of the layers: one panel for each kind of request, before and after."""
    names = list(kept["after"][KINDS[0]])
    most = max(max(ratios(kept, when, k).values()) for when in ("before", "after") for k in KINDS)
    width, height = LEFT + len(KINDS) * WIDTH + 12, TOP + len(names) * ROW + 34
    drawn = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">']
    drawn.append("<title>CPU time of a request with each layer, against bare Flask</title>")
    drawn.append(f"<style>{STYLE}</style>")
    for row, name in enumerate(names):
        y = TOP + row * ROW + 4
        drawn.append(f'<text x="{LEFT - 12}" y="{y}" text-anchor="end">{name}</text>')
    for column, kind in enumerate(KINDS):
        left = LEFT + column * WIDTH

        def x(value: float, left: int = left) -> float:
            return round(left + (value - 1) / (most - 1) * (WIDTH - 32), 1)

        bottom = TOP + len(names) * ROW - 8
        drawn.append(f'<text x="{left}" y="18" font-weight="600">{kind}</text>')
        for mark in range(1, int(most) + 1):
            drawn.append(f'<path class="grid" d="M{x(mark)} {TOP - 12}V{bottom}"/>')
            drawn.append(f'<text class="quiet" x="{x(mark) - 3}" y="{bottom + 16}">{mark}</text>')
        budget = x(BUDGETS[kind])
        drawn.append(f'<path class="budget" stroke-dasharray="4" d="M{budget} 34V{bottom}"/>')
        drawn.append(f'<text class="quiet" x="{budget - 20}" y="34">budget</text>')
        old, new = (ratios(kept, when, kind) for when in ("before", "after"))
        for row, name in enumerate(names):
            y = TOP + row * ROW
            drawn.append(f'<path class="way" d="M{x(old[name])} {y}H{x(new[name])}"/>')
            drawn.append(f'<circle class="before" cx="{x(old[name])}" cy="{y}" r="3.5"/>')
            drawn.append(f'<circle class="after" cx="{x(new[name])}" cy="{y}" r="4.5"/>')
    y = height - 6
    drawn.append(f'<circle class="before" cx="{LEFT}" cy="{y - 4}" r="3.5"/>')
    drawn.append(f'<text class="quiet" x="{LEFT + 9}" y="{y}">before</text>')
    drawn.append(f'<circle class="after" cx="{LEFT + 66}" cy="{y - 4}" r="4.5"/>')
    drawn.append(f'<text class="quiet" x="{LEFT + 76}" y="{y}">after; bare Flask is 1</text>')
    return "\n".join([*drawn, "</svg>", ""])


TABLES: dict[str, Callable[[Kept], str]] = {
    "requests": requests,
    "layers": layers,
    "layers through gunicorn": partial(layers, how=", gunicorn"),
    "starts": starts,
    "bakes": bakes,
    "suites": suites,
    "matrix": matrix,
}


def page(text: str, kept: Kept) -> str:
    """Return the page with every table between its marks written anew."""
    for name, written in TABLES.items():
        marks = rf"(<!-- {name} -->\n).*?(<!-- / -->)"
        lines = written(kept).replace("\\", r"\\")
        text, found = re.subn(marks, rf"\g<1>\n{lines}\n\n\g<2>", text, flags=re.DOTALL)
        assert found == 1, name  # noqa: S101
    return text


def main() -> None:
    """Write both files."""
    kept: Kept = json.loads(measure.RESULTS.read_text())
    PAGE.write_text(page(PAGE.read_text(), kept))
    PLOT.write_text(plot(kept))


if __name__ == "__main__":
    main()
