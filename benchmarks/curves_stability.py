"""How often returns collapse, and the log before that: a table of ``docs/results/README.md``."""

from itertools import pairwise
from pathlib import Path

import numpy as np
from curves_methods import DOUBLE_HORIZON, METHODS, TOM_PLACES
from curves_page import Rows, curves_of, ends
from curves_signs import SIGNS
from marked_page import write_between

from sb3_tom.callbacks.tables import read_table
from sb3_tom.plots.drawing import grouped
from sb3_tom.plots.statistics import Curve

BEGIN, END = "<!-- stability: begin -->", "<!-- stability: end -->"
TASKS_WITH_POSITIVE_RETURNS = ("InvertedDoublePendulum-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5")
SHOWN = (*METHODS, *DOUBLE_HORIZON, *TOM_PLACES)
"""Methods whose runs count."""
MEMORY = 5
"""Number of earlier evaluations that one is compared with."""


def collapses(curve: Curve) -> list[int]:
    """
    Env steps of the evaluations with less than half of the best of the five before.

    :param curve: evaluations of a run, returns that are not negative
    """
    steps, values = list(curve), list(curve.values())
    return [
        step
        for number, (step, value) in enumerate(zip(steps, values, strict=True))
        if number and value < 0.5 * max(values[max(0, number - MEMORY) : number])
    ]


def page_text(rows: Rows, out: Path) -> str:
    """A table of the shares of collapses, and for each task one of the medians of signs."""
    heads = ("task", "method", "runs", "up to", "collapses up to there", "collapses in whole runs", "interrupted runs")
    lines = [f"\n| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for task in TASKS_WITH_POSITIVE_RETURNS:
        own = [row for row in rows if row["task"] == task and row["method"] in SHOWN]
        found, shared = grouped(own, lambda row: row["method"]), ends(task, own)
        end = shared[0] if shared else 0  # the last env step that all finished runs have
        for method in (name for name in SHOWN if name in found):
            curves = curves_of(found[method])
            early = [{step: value for step, value in curve.items() if step <= end} for curve in curves]
            cut = len({row["seed"] for row in found[method] if row["finished"] == "False"})
            lines.append(f"| {task} | `{method}` | {len(curves)} | {end:,} | {share(early)} | {share(curves)} | {cut} |")
    signs = (line for task in TASKS_WITH_POSITIVE_RETURNS for line in signs_lines(rows, task, out))
    return "\n".join([*lines, *signs, "\n"])


def share(curves: list[Curve]) -> str:
    """Collapses of the evaluations that follow others."""
    later, fallen = sum(max(len(curve) - 1, 0) for curve in curves), sum(len(collapses(curve)) for curve in curves)
    return f"{fallen} of {later} ({fallen / later:.0%})" if later else "-"


def signs_lines(rows: Rows, task: str, out: Path) -> list[str]:
    """Medians of the signs at the evaluation before a collapse, and before all others, for a task's runs with such files."""
    before: dict[bool, list[dict[str, str]]] = {True: [], False: []}
    rows = [row for row in rows if row["task"] == task and row["method"] in SHOWN]
    for (method, seed), run in grouped(rows, lambda row: (row["method"], row["seed"])).items():
        path = out / task / f"{method}_seed{seed}_signs.csv"
        if not path.exists():
            continue
        fallen, signs = collapses(curves_of(run)[0]), {int(row["env_step"]): row for row in read_table(path)}
        steps = [int(row["env_step"]) for row in run]
        for step, following in pairwise(steps):
            if step in signs:
                before[following in fallen].append(signs[step])
    if not before[True]:
        return []
    counts = f"median before a collapse ({len(before[True])})", f"before any other evaluation ({len(before[False])})"
    lines = [f"\n| {task} | {counts[0]} | {counts[1]} |", "|---|---|---|"]
    for sign in SIGNS:
        values = [[float(row[sign]) for row in before[kind] if row[sign]] for kind in (True, False)]
        if all(values):
            lines.append(f"| `{sign}` | {np.median(values[0]):.4g} | {np.median(values[1]):.4g} |")
    return lines


def write_stability(out: Path) -> None:
    """
    Write the tables between their marks.

    :param out: folder of ``curves.csv`` and ``README.md``
    """
    write_between(out / "README.md", BEGIN, END, page_text(read_table(out / "curves.csv"), out))
