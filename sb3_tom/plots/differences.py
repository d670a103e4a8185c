"""Draws how methods differ: seed by seed, by the means of their evaluations over the same env steps."""

import os
from collections.abc import Sequence
from math import inf, isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from sb3_tom.plots.curves import PREDICTED, QUANTITIES, style_of
from sb3_tom.plots.drawing import NothingToDrawError, finish, grouped, legend_text, panels, save
from sb3_tom.plots.runs import Run, describe_sources
from sb3_tom.plots.statistics import LEAST_SEEDS, Curve, mean_interval

Window = tuple[float, float]
"""First and last env step, both included."""

COMPARABLE = tuple(
    name
    for name, quantity in QUANTITIES.items()
    if not quantity.interpolate and quantity.over != PREDICTED and name != "cumulative_max"
)
"""Quantities that all seeds have at the same env steps; not the best one so far, which begins before any window."""


class Difference(NamedTuple):
    """
    A method minus the baseline, on S seeds that both have.

    :param task: of both
    :param method: the one
    :param baseline: the other
    :param window: first and last env step of the means
    :param seeds: S labels
    :param left_out: labels of seeds that both have, but not at all env steps of the means
    :param values: ``[S]`` differences of the seeds' means
    :param baseline_mean: mean of the baseline over these seeds and env steps
    """

    task: str
    method: str
    baseline: str
    window: Window
    seeds: tuple[str, ...]
    left_out: tuple[str, ...]
    values: np.ndarray
    baseline_mean: float

    @property
    def interval(self) -> tuple[float, float, float]:
        """Mean, and ends of its interval; see :func:`~sb3_tom.plots.statistics.mean_interval`."""
        mean, low, high = mean_interval(self.values)
        return float(mean), float(low), float(high)

    @property
    def greater(self) -> int:
        """Number of seeds with which the method has more."""
        return int((self.values > 0).sum())

    def __str__(self) -> str:
        mean, low, high = self.interval
        first, last = self.window
        seeds = len(self.values)
        interval = f"[{low:+.5g}, {high:+.5g}]" if seeds >= LEAST_SEEDS else "without an interval"
        without = f"; left out, without all these env steps: {', '.join(self.left_out)}" if self.left_out else ""
        return (
            f"{self.task}: {self.method} - {self.baseline}, env steps {first:,.0f} to {last:,.0f}: {mean:+.5g} {interval}, "
            f"greater in {self.greater} of {seeds} seeds{without}"
        )


class Comparison(NamedTuple):
    """
    What the runs say.

    :param differences: of each task and method that can be compared
    :param not_compared: a sentence for each one that cannot
    """

    differences: list[Difference]
    not_compared: list[str]


def find_differences(
    runs: Sequence[Run], column: str = "return_mean", baseline: str | None = None, window: Window = (0, inf)
) -> Comparison:
    """
    Compare each method with a baseline, on each task that has runs of both and on the seeds that both have. What a run counts
    is the mean of its values within the window, at the env steps that occur with both methods. A seed of which a run has not
    all of them, as finite values, is left out: it has not ended yet, or has diverged.

    :param runs: from :func:`sb3_tom.plots.read_runs`
    :param column: one of :data:`COMPARABLE`
    :param baseline: a method; None: the first one of the runs
    :param window: env steps, both ends included
    :raises ValueError: if an argument is not allowed, or if no two methods can be compared
    """
    if column not in COMPARABLE:
        raise ValueError(f"column={column!r} is not allowed; allowed: one of {sorted(COMPARABLE)}")
    if not window[0] <= window[1]:
        raise ValueError(f"window={window} is not allowed; allowed: two env steps, the first not above the last")
    known = [run for run in runs if run.series.get(column)]
    if not known:
        raise NothingToDrawError(f"nothing holds {column}: {describe_sources(runs)}")
    methods = list(grouped(known, lambda run: run.method))
    chosen = methods[0] if baseline is None else baseline
    if chosen not in methods:
        raise ValueError(f"baseline={chosen!r} is not allowed; allowed: one of {methods}")
    said: list[Difference | str] = []
    for task, task_runs in grouped(known, lambda run: run.task).items():
        by_method = {
            method: {run.seed: _finite(run.series[column]) for run in method_runs}
            for method, method_runs in grouped(task_runs, lambda run: run.method).items()
        }
        theirs = by_method.pop(chosen, {})
        said += [_difference((task, method, chosen), ours, theirs, window) for method, ours in by_method.items()]
    differences = [one for one in said if isinstance(one, Difference)]
    not_compared = [one for one in said if isinstance(one, str)]
    if not differences:
        raise NothingToDrawError("; ".join(not_compared) or f"there are only runs of {chosen}: {describe_sources(runs)}")
    return Comparison(differences, not_compared)


def _finite(curve: Curve) -> Curve:
    return {step: value for step, value in curve.items() if isfinite(value)}


def _difference(
    labels: tuple[str, str, str], ours: dict[str, Curve], theirs: dict[str, Curve], window: Window
) -> Difference | str:
    """The difference of a method, or why there is none."""
    both = [seed for seed in ours if seed in theirs]
    occurring = [{step for seed in both for step in curves[seed]} for curves in (ours, theirs)]
    steps = {step for step in set.intersection(*occurring) if window[0] <= step <= window[1]}
    seeds = tuple(seed for seed in both if steps <= ours[seed].keys() & theirs[seed].keys())
    task, method, baseline = labels
    if not both:
        return f"{task}: {method} shares no seed with {baseline}"
    if not steps:
        return f"{task}: {method} shares no env step with {baseline} within {window}"
    if not seeds:
        return f"{task}: no seed of {method} and {baseline} has all their env steps; try a smaller window"
    means = np.array([[np.mean([curves[seed][step] for step in steps]) for seed in seeds] for curves in (ours, theirs)])
    left_out = tuple(seed for seed in both if seed not in seeds)
    ends = (min(steps), max(steps))
    return Difference(*labels, ends, seeds, left_out, means[0] - means[1], float(means[1].mean()))


def draw_differences(
    runs: Sequence[Run],
    out: str | os.PathLike[str],
    column: str = "return_mean",
    baseline: str | None = None,
    window: Window = (0, inf),
) -> tuple[Path, Comparison]:
    """
    A panel per task: a point per seed, the mean, and from seven seeds on its interval of 95 %.

    :param runs: from :func:`sb3_tom.plots.read_runs`
    :param out: the PNG to write; the figures go into ``<name>_summary.csv`` beside it
    :param column: see :func:`find_differences`, also for the rest
    :param baseline: a method
    :param window: env steps
    :return: the PNG's path, and what was compared
    :raises ValueError: see :func:`find_differences`
    """
    comparison = find_differences(runs, column, baseline, window)
    found = comparison.differences
    tasks = grouped(found, lambda difference: difference.task)
    figure, all_axes = panels(len(tasks))
    for axes, (task, differences) in zip(all_axes, tasks.items(), strict=True):
        _draw(axes, differences)
        finish(axes, title=task, xlabel=f"{QUANTITIES[column].label}, minus that of {legend_text(found[0].baseline)}")
    return save(figure, out, [_row(difference) for difference in found]), comparison


def _draw(axes: Axes, differences: Sequence[Difference]) -> None:
    places = range(len(differences))
    axes.axvline(0.0, color="grey", linewidth=1.0)
    for place, difference in zip(places, differences, strict=True):
        (mean, low, high), color = difference.interval, style_of(place)["color"]
        axes.plot(difference.values, [place] * len(difference.values), "o", color=color, alpha=0.5)
        axes.plot([low, high], [place, place], color=color, linewidth=2.0)  # NaN without an interval: no line
        axes.plot([mean], [place], "|", color=color, markersize=18, markeredgewidth=2.5)
    axes.set_yticks([*places], [_name(difference) for difference in differences])
    axes.set_ylim(len(differences) - 0.5, -0.5)


def _name(difference: Difference) -> str:
    n_seeds = len(difference.values)
    return f"{legend_text(difference.method)}\n({n_seeds} seed{'s' if n_seeds > 1 else ''})"


def _row(difference: Difference) -> dict[str, Any]:
    mean, low, high = difference.interval
    return {
        "task": difference.task,
        "method": difference.method,
        "baseline": difference.baseline,
        "first_step": difference.window[0],
        "last_step": difference.window[1],
        "baseline_mean": difference.baseline_mean,
        "mean": mean,
        "low": low,
        "high": high,
        "greater": difference.greater,
        "seeds": " ".join(difference.seeds),
        "left_out": " ".join(difference.left_out),
        "differences": " ".join(f"{value:.6g}" for value in difference.values),
    }
