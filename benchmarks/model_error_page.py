"""
Model error (Wang et al. 2022, PMAC, Fig. 1 and 3): pictures and the generated part of ``docs/results/model_error.md``.

    python benchmarks/curves.py run --task Hopper-v5 --method mbpo mbpo_pmac mbpo_tom --steps 10000 --model-error
    python benchmarks/model_error_page.py

The first command measures (see :class:`sb3_tom.callbacks.model_error.ModelErrorCallback`), the second draws existing results.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from checkout import ROOT
from curves_methods import METHODS
from marked_page import write_between
from matplotlib.axes import Axes

from sb3_tom.callbacks.model_error import ERROR_COLUMNS
from sb3_tom.callbacks.tables import read_table
from sb3_tom.plots.drawing import finish, grouped, panels, save
from sb3_tom.plots.statistics import Curve, summarize

Rows = list[dict[str, str]]
STYLES = {"local": "-", "global": "--"}
FIRST = 10_000
BEGIN, END = "<!-- errors: begin -->", "<!-- errors: end -->"
LABEL = "error of the next observation (standard deviations)"


def plot_model_error(paths: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> Path:
    """
    Two panels per task: the local (solid) and global (dashed) one-step error over env steps, and the compounding error over
    its horizon at the last env step that all runs of the task have. For several seeds the mean is drawn, for seven or more
    with its interval of 95 %.

    :param paths: files of :class:`sb3_tom.callbacks.model_error.ModelErrorCallback`, one per run
    :param out: the PNG to write; the data goes into ``<name>_summary.csv`` beside it
    :return: the PNG's path
    :raises ValueError: if a file is not such a table, or there is nothing to draw
    """
    runs = [rows for rows in map(_read, paths) if rows]
    if not runs:
        raise ValueError(f"nothing holds model errors: {[str(path) for path in paths]}")
    tasks = grouped(runs, lambda rows: rows[0]["task"])
    figure, axes = panels(2 * len(tasks))
    table: list[dict[str, Any]] = []
    for index, (task, task_runs) in enumerate(tasks.items()):
        left, right = axes[2 * index : 2 * index + 2]
        last = max(set.intersection(*({int(row["env_step"]) for row in run} for run in task_runs)), default=None)
        for number, (method, seeds) in enumerate(grouped(task_runs, lambda rows: rows[0]["method"]).items()):
            for kind, style in STYLES.items():
                curves = [_curve(rows, kind, "env_step") for rows in seeds]
                table += _draw(left, (task, method, kind), curves, f"C{number}", style)
            ahead = [_curve((row for row in rows if int(row["env_step"]) == last), "compounding", "horizon") for rows in seeds]
            table += _draw(right, (task, method, "compounding"), ahead, f"C{number}", "-") if last is not None else []
        finish(left, title=f"{task}: one step", xlabel="env steps", ylabel=LABEL, yscale="log")
        finish(right, title=f"{task}: compounding, env step {last}", xlabel="steps ahead", ylabel=LABEL, yscale="log")
    return save(figure, out, table)


def _read(path: str | os.PathLike[str]) -> Rows:
    rows = read_table(path)
    if rows and not set(ERROR_COLUMNS) <= set(rows[0]):
        raise ValueError(f"{path} is no table of model errors: it has the columns {sorted(rows[0])}")
    return rows


def _curve(rows: Iterable[dict[str, str]], kind: str, column: str) -> Curve:
    return {int(row[column]): float(row["error"]) for row in rows if row["kind"] == kind}


def _draw(axes: Axes, labels: tuple[str, str, str], curves: Sequence[Curve], color: str, style: str) -> list[dict[str, Any]]:
    """Draw one line with its interval; return it as rows of a table."""
    summary = summarize(curves)
    seeds = f"{len(curves)} seed{'s' * (len(curves) > 1)}"
    axes.plot(summary.steps, summary.center, color=color, linestyle=style, label=f"{labels[1]}, {labels[2]} ({seeds})")
    if summary.has_interval:
        axes.fill_between(summary.steps, summary.low, summary.high, color=color, alpha=0.15, linewidth=0)
    names = dict(zip(("task", "method", "kind"), labels, strict=True)) | {"seeds": len(curves)}
    return [
        names | {"x": int(x), "error": float(center), "low": float(low), "high": float(high)}
        for x, center, low, high in zip(*summary, strict=True)
    ]


def page_text(runs: Sequence[Rows]) -> str:
    """A table per task, up to the length of its shortest run; another one for the first 10,000 steps if runs are longer."""
    lines = []
    for task, task_runs in grouped(runs, lambda rows: rows[0]["task"]).items():
        last = max(set.intersection(*({int(row["env_step"]) for row in run} for run in task_runs)), default=0)
        for end in sorted({min(last, FIRST), last}):
            lines += [f"\n### {task}, to env step {end:,}\n", *_table(task_runs, end)]
    return "\n".join([*lines, "\n"]) if lines else "\nNothing was measured yet.\n\n"


def _table(runs: Sequence[Rows], end: int) -> list[str]:
    """Means over seeds and over the later half of the evaluations up to an env step, and the compounding error there."""
    lines = ["| method | seeds | global | local | local / global | 5 steps | 20 steps |", "|---|---|---|---|---|---|---|"]
    for method, seeds in grouped(runs, lambda rows: rows[0]["method"]).items():
        late = [[row for row in rows if end / 2 < int(row["env_step"]) <= end] for rows in seeds]
        overall, local = (_mean(late, kind, 1) for kind in ("global", "local"))
        ahead = " | ".join(f"{_mean(late, 'compounding', horizon):.3f}" for horizon in (5, 20))
        lines.append(f"| `{method}` | {len(seeds)} | {overall:.3f} | {local:.3f} | {local / overall:.2f} | {ahead} |")
    return lines


def _mean(runs: Sequence[Rows], kind: str, horizon: int) -> float:
    """Mean over seeds of the mean over evaluations; NaN if there is none."""
    found = [[float(row["error"]) for row in rows if (row["kind"], row["horizon"]) == (kind, str(horizon))] for rows in runs]
    means = [np.mean(values) for values in found if values]
    return float(np.mean(means)) if means else float("nan")


def paths_of_methods(out: Path) -> list[Path]:
    """The tables of all methods except ablations, which end earlier."""
    return [path for path in sorted(out.glob("*/*_model_error.csv")) if path.name.partition("_seed")[0] in METHODS]


def write_page(out: Path) -> None:
    """Draw the picture, if there is anything to draw, and write the part of the page between its marks."""
    paths = paths_of_methods(out)
    if paths:
        plot_model_error(paths, out / "model_error.png")
    write_between(out / "model_error.md", BEGIN, END, page_text([rows for rows in map(_read, paths) if rows]))


if __name__ == "__main__":
    write_page(ROOT / "docs" / "results")
