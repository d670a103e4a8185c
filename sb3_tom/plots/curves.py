"""Draws curves: a panel per task, a colour per method, the mean over seeds and its interval."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes

from sb3_tom.plots.drawing import NothingToDrawError, finish, grouped, legend_text, panels, save
from sb3_tom.plots.runs import PathLike, Run, describe_sources, read_runs
from sb3_tom.plots.statistics import Summary, summarize

PREDICTED = "predicted step"
LINES = ("-", "--", ":", "-.")


class Quantity(NamedTuple):
    """
    A quantity to draw.

    :param label: of the y axis
    :param interpolate: whether seeds log it at different steps
    :param scale: of the y axis
    :param over: quantity of the x axis
    """

    label: str
    interpolate: bool = False
    scale: str = "linear"
    over: str = "env step"


QUANTITIES = {
    "return_mean": Quantity("mean return of an evaluation"),
    "cumulative_max": Quantity("cumulative maximum of the mean return"),
    "episode_length_mean": Quantity("mean episode length of an evaluation"),
    "training_return": Quantity("mean return of the last training episodes", interpolate=True),
    "ess": Quantity("effective sample size (share of the buffer)", interpolate=True),
    "model_error": Quantity("held-out error of the model (unit scale)", interpolate=True, scale="log"),
    "global_error": Quantity("one-step error of the model on the buffer"),
    "local_error": Quantity("one-step error of the model on fresh episodes"),
    "compounding_error": Quantity("error of the model after several steps", over=PREDICTED),
}
"""Quantities by the name of the series of a run."""


def plot_learning_curves(
    paths: Sequence[PathLike] | PathLike,
    out: str | os.PathLike[str],
    column: str = "return_mean",
) -> Path:
    """
    Read runs and draw one quantity, see :func:`draw_curves`.

    :param paths: files or folders of runs, see :func:`sb3_tom.plots.read_runs`
    :param out: the PNG to write
    :param column: one of :data:`QUANTITIES`
    :return: the PNG's path
    :raises ValueError: if there is nothing to draw or the column is unknown
    """
    return draw_curves(read_runs(paths), out, column)


def draw_curves(runs: Sequence[Run], out: str | os.PathLike[str], column: str = "return_mean") -> Path:
    """
    A thin line per seed; for several seeds the mean (thick), for seven or more with its interval of 95 %. Returns are neither
    smoothed nor carried forward: they are averaged at steps at which all seeds of the method have an evaluation.

    :param runs: from :func:`sb3_tom.plots.read_runs`
    :param out: the PNG to write; the summary goes into ``<name>_summary.csv`` beside it
    :param column: one of :data:`QUANTITIES`
    :return: the PNG's path
    :raises ValueError: if there is nothing to draw or the column is unknown
    """
    if column not in QUANTITIES:
        raise ValueError(f"column={column!r} is not allowed; allowed: one of {sorted(QUANTITIES)}")
    quantity, rows = QUANTITIES[column], []
    drawn = [run for run in runs if (run.profiles if quantity.over == PREDICTED else run.series.get(column))]
    if not drawn:
        raise NothingToDrawError(f"nothing holds {column}: {describe_sources(runs)}")
    tasks = grouped(drawn, lambda run: run.task)
    numbers = {method: number for number, method in enumerate(grouped(drawn, lambda run: run.method))}
    figure, all_axes = panels(len(tasks))
    for axes, (task, task_runs) in zip(all_axes, tasks.items(), strict=True):
        at = _last_shared(task, task_runs) if quantity.over == PREDICTED else None
        methods = {
            method: [run.series[column] if at is None else run.profiles[at] for run in method_runs]
            for method, method_runs in grouped(task_runs, lambda run: run.method).items()
        }
        for method, curves in methods.items():
            summary = summarize(curves, quantity.interpolate)
            draw_method(axes, method, curves, summary, **style_of(numbers[method]))
            labels = {"task": task, "method": method} | ({} if at is None else {"env_step": at})
            rows += _table(labels, quantity, len(curves), summary)
        positive = all(value > 0 for curves in methods.values() for curve in curves for value in curve.values())
        scale = quantity.scale if positive else "linear"
        title = task if at is None else f"{task}, at {at:,} env steps"
        finish(axes, title=title, xlabel=f"{quantity.over}s", ylabel=quantity.label, yscale=scale)
    if not rows:
        raise ValueError(f"the seeds of no method share an env step at which they have {column}")
    return save(figure, out, rows)


def _last_shared(task: str, runs: Sequence[Run]) -> int:
    """The last env step at which all runs of a task have compounding errors."""
    shared = set.intersection(*(set(run.profiles) for run in runs))
    if not shared:
        raise ValueError(f"the runs of {task} share no env step at which they have compounding errors")
    return max(shared)


def style_of(number: int) -> dict[str, str]:
    """
    Colour and line of a method, which differ between the first forty.

    :param number: of the method, the same in all panels
    """
    return {"color": f"C{number % 10}", "linestyle": LINES[number // 10 % len(LINES)]}


def draw_method(
    axes: Axes, method: str, curves: Sequence[dict[int, float]], summary: Summary, color: str, linestyle: str = "-"
) -> None:
    """
    A thin line per seed, mean and interval of one method. Beyond the last step that all seeds share there is no mean, and the
    lines of the seeds are stronger.

    :param axes: one panel
    :param method: its name in the legend
    :param curves: one per seed
    :param summary: of them
    :param color: of all lines
    :param linestyle: the same
    """
    style: dict[str, Any] = {"color": color, "linestyle": linestyle}
    name = legend_text(method)
    if len(curves) == 1:
        axes.plot(summary.steps, summary.center, **style, marker=".", label=f"{name} (1 seed)")
        return
    for curve in curves:
        axes.plot(list(curve), list(curve.values()), **style, alpha=0.35, linewidth=0.8)
        beyond = [step for step in curve if not len(summary.steps) or step >= summary.steps[-1]]
        if len(beyond) > 1:
            axes.plot(beyond, [curve[step] for step in beyond], **style, alpha=0.8, linewidth=1.2)
    label = f"{name} (mean of {len(curves)} seeds{', 95 %' if summary.has_interval else ''})"
    axes.plot(summary.steps, summary.center, **style, linewidth=2.0, label=label)
    if summary.has_interval:
        axes.fill_between(summary.steps, summary.low, summary.high, color=color, alpha=0.15, linewidth=0)


def _table(labels: dict[str, Any], quantity: Quantity, n_seeds: int, summary: Summary) -> list[dict[str, Any]]:
    return [
        {
            **labels,
            quantity.over.replace(" ", "_"): int(step),
            "seeds": n_seeds,
            "mean": float(center),
            "low": float(low),
            "high": float(high),
        }
        for step, center, low, high in zip(*summary, strict=True)
    ]
