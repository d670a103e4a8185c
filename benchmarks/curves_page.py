"""The tidy table of all learning curves, and the pictures and the generated part of ``docs/results/README.md``."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from curves_methods import METHODS, TASKS
from marked_page import over_seeds, write_between
from matplotlib.figure import Figure

from sb3_tom.callbacks.tables import read_table, write_table
from sb3_tom.plots.curves import draw_method, style_of
from sb3_tom.plots.drawing import grouped
from sb3_tom.plots.statistics import Curve, summarize

Rows = list[dict[str, str]]
COLUMNS = ("task", "method", "seed", "env_step", "return_mean", "return_std", "cumulative_max", "seconds")
TABLE_COLUMNS = (*COLUMNS, "finished", "commit", "versions")
PUBLISHED = {"MBPO": "--", "MACURA": ":", "DHMBPO": "-.", "SAC": "x--", "TD-MPC2 (tuned)": "+:"}
"""Methods of ``published_curves.csv`` and the style of their lines."""
BEGIN, END = "<!-- curves: begin -->", "<!-- curves: end -->"
WINDOW = (2_000, 10_000)


def runs_in(out: Path) -> Iterator[tuple[dict[str, Any], Rows]]:
    """
    Settings and evaluations of each run so far.

    :param out: folder with ``<task>/<method>_seed<k>.csv`` and ``.json``
    """
    for path in sorted(out.glob("*/*_seed*.json")):
        curve = path.with_suffix(".csv")
        yield json.loads(path.read_text()), read_table(curve) if curve.exists() else []


def write_curves(out: Path) -> Path:
    """
    Put the learning curves of all runs into one table.

    :param out: folder with ``<task>/<method>_seed<k>.csv`` and ``.json``
    :return: ``curves.csv`` in it
    """
    rows = []
    for meta, evaluations in runs_in(out):
        versions = "; ".join(f"{name} {value}" for name, value in meta["versions"].items())
        commits = dict.fromkeys(part["git_commit"] for part in (*meta.get("continued", []), meta))
        labels = {"finished": meta["finished"], "commit": ", ".join(commits), "versions": versions}
        rows += [{name: row[name] for name in COLUMNS} | labels for row in evaluations]
    rows.sort(key=lambda row: (row["task"], _rank(row["method"]), int(row["seed"]), int(row["env_step"])))
    path = out / "curves.csv"
    write_table(path, TABLE_COLUMNS, rows)
    return path


def _rank(method: str) -> tuple[int, str]:
    return ([*METHODS, method].index(method), method)


def curves_of(rows: Rows, column: str = "return_mean") -> list[Curve]:
    """A curve per seed."""
    seeds = grouped(rows, lambda row: row["seed"])
    return [{int(row["env_step"]): float(row[column]) for row in run} for run in seeds.values()]


def write_page(out: Path) -> Path:
    """
    Draw the pictures and write the part of the page between its marks; the rest of the page is written by hand.

    :param out: folder of ``curves.csv`` and ``README.md``
    :return: the page
    """
    rows, published = read_table(out / "curves.csv"), read_table(out / "published_curves.csv")
    for task, task_rows in grouped(main_rows(rows), lambda row: row["task"]).items():
        draw_task(task, task_rows, published, out / task / "learning_curves.png")
    page = out / "README.md"
    write_between(page, BEGIN, END, page_text(rows))
    return page


def main_rows(rows: Rows) -> Rows:
    """All rows except those of ablations, which have a table of their own."""
    return [row for row in rows if row["method"] in METHODS]


def page_text(rows: Rows) -> str:
    """The generated part of the page, a function of the table alone."""
    parts = []
    for task, task_rows in grouped(main_rows(rows), lambda row: row["task"]).items():
        parts += [f"\n### {task}"]
        for end in ends(task, task_rows):
            parts += [f"\nAt {end:,} env steps:\n", *table_at(task_rows, end)]
        lines = [line(task, task_rows) for line in (solved_line, window_line, late_line)]
        parts += [f"\n{line}" for line in (*lines, commit_line(task_rows)) if line]
        parts += [f"\n![learning curves of {task}]({task}/learning_curves.png)"]
    return "\n".join([*parts, "\n"])


def ends(task: str, rows: Rows) -> list[int]:
    """
    The env steps at which methods are compared: the last that all finished runs have, and later ones at which runs of at least
    two methods end. Lengths of runs that end at a threshold are not used.
    """
    runs = grouped([row for row in rows if row["finished"] == "True"], lambda row: (row["method"], row["seed"]))
    steps = {run: {int(row["env_step"]) for row in evaluations} for run, evaluations in runs.items()}
    shared = set.intersection(*steps.values()) if steps else set()
    first = [max(shared)] if shared else []
    if TASKS[task].reward_threshold is not None:
        return first
    later = {max(found) for found in steps.values()} - shared
    return first + sorted(end for end in later if len({method for (method, _), found in steps.items() if end in found}) > 1)


def table_at(rows: Rows, end: int) -> list[str]:
    """A line per method that has an evaluation at an env step; later evaluations are not used."""
    lines = ["| method | seeds | return | mean up to there | s / 1,000 steps |", "|---|---|---|---|---|"]
    for method, method_rows in grouped(rows, lambda row: row["method"]).items():
        seeds = list(grouped(method_rows, lambda row: row["seed"]).values())
        runs = [[row for row in run if int(row["env_step"]) <= end] for run in seeds]
        runs = [run for run in runs if run and int(run[-1]["env_step"]) == end]
        lines += [method_line(method, runs, end)] if runs else []
    return lines


def method_line(method: str, runs: list[Rows], end: int) -> str:
    """
    One line: means over seeds of the return at an env step, and of the mean over each seed's evaluations up to there.

    :param method: name
    :param runs: evaluations of each seed up to that step
    :param end: the step
    """
    last = [float(run[-1]["return_mean"]) for run in runs]
    means = [float(np.mean([float(row["return_mean"]) for row in run])) for run in runs]
    pace = np.mean([1000 * float(run[-1]["seconds"]) / end for run in runs])
    unfinished = sum(run[-1]["finished"] == "False" for run in runs)
    count = f"{len(runs)}" + (f" ({unfinished} interrupted)" if unfinished else "")
    return f"| `{method}` | {count} | {over_seeds(last)} | {over_seeds(means)} | {pace:.0f} |"


def commit_line(rows: Rows) -> str:
    """Commits of the code behind the figures."""
    texts = []
    for method, method_rows in grouped(rows, lambda row: row["method"]).items():
        commits = dict.fromkeys(commit[:7] for row in method_rows for commit in row["commit"].split(", "))
        texts.append(f"`{method}` {', '.join(commits)}")
    return f"Commits: {'; '.join(texts)}."


def first_at_least(curve: Curve, value: float) -> int | None:
    """Env step of the first evaluation that reaches a value."""
    return next((step for step, reached in curve.items() if reached >= value), None)


def solved_text(step: int | None, end: int) -> str:
    """
    When a run solved its task.

    :param step: the env step; None: it did not
    :param end: its last env step
    """
    return f"> {end:,}" if step is None else f"{step:,}"


def solved_line(task: str, rows: Rows) -> str:
    """When each run's evaluation first reached the return of a solved task."""
    goal = TASKS[task].goal
    if goal is None:
        return ""
    texts = []
    for method, method_rows in grouped(rows, lambda row: row["method"]).items():
        solved = [solved_text(first_at_least(curve, goal), max(curve)) for curve in curves_of(method_rows)]
        texts.append(f"`{method}` {', '.join(solved)}")
    where = "" if TASKS[task].reward_threshold is None else ", at which a run ends"
    return f"Env step of the first evaluation of at least {goal:,g}, by seed{where}: {'; '.join(texts)}."


def window_line(task: str, rows: Rows) -> str:
    """A figure for Hopper's first steps, whose single evaluations jump."""
    if task != "Hopper-v5":
        return ""
    texts = []
    for method, method_rows in grouped(rows, lambda row: row["method"]).items():
        curves = [curve for curve in curves_of(method_rows) if max(curve) >= WINDOW[1]]
        means = [np.mean([value for step, value in curve.items() if WINDOW[0] <= step <= WINDOW[1]]) for curve in curves]
        texts += [f"`{method}` {', '.join(f'{mean:.0f}' for mean in means)}"] if means else []
    return f"Mean of the evaluations from {WINDOW[0]:,} to {WINDOW[1]:,} env steps, by seed: {'; '.join(texts)}."


def late_line(task: str, rows: Rows) -> str:
    """Returns of Hopper's runs beyond these first steps, and at the end."""
    if task != "Hopper-v5":
        return ""
    texts = []
    for method, method_rows in grouped(rows, lambda row: row["method"]).items():
        for curve in (curve for curve in curves_of(method_rows) if max(curve) > WINDOW[1]):
            late, last = [value for step, value in curve.items() if step > WINDOW[1]], list(curve.values())[-5:]
            texts.append(f"`{method}` {np.mean(late):.0f}, {np.mean(last):.0f}")
    if not texts:
        return ""
    return (
        f"Runs beyond {WINDOW[1]:,} env steps: mean of the evaluations after {WINDOW[1]:,} steps, mean of the last five: "
        f"{'; '.join(texts)}."
    )


def draw_task(task: str, rows: Rows, published: Rows, path: Path) -> None:
    """Left the means of evaluations, right their cumulative maximum, as TOM's figure has it, with the published curves."""
    figure = Figure(figsize=(13.0, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = max(int(row["env_step"]) for row in rows)
    columns = {"return_mean": left, "cumulative_max": right}
    for index, (method, method_rows) in enumerate(grouped(rows, lambda row: row["method"]).items()):
        for column, axes in columns.items():
            curves = curves_of(method_rows, column)
            draw_method(axes, method, curves, summarize(curves), **style_of(index))
    old = [
        row for row in published if row["task"].partition("-")[0] == task.partition("-")[0] and int(row["env_step"]) <= steps
    ]
    for method, style in PUBLISHED.items():
        points = [(int(row["env_step"]), float(row["return_mean"])) for row in old if row["method"] == method]
        if points:
            left.plot(*zip(*points, strict=True), style, color="grey", label=f"{method}, {old[0]['task']}, published")
    for column, axes in columns.items():
        label = "mean return of an evaluation" if column == "return_mean" else "cumulative maximum of the mean return"
        axes.set(title=task, xlabel="env steps", ylabel=label)
        axes.grid(alpha=0.3)
    left.legend(fontsize="x-small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
