"""Draws the weight of data by its age: a panel per run, some model phases from the first to the last."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps

from sb3_tom.plots.drawing import NothingToDrawError, finish, panels, save
from sb3_tom.plots.readers import Phase
from sb3_tom.plots.runs import PathLike, Run, describe_sources, read_runs


def plot_weight_by_age(paths: Sequence[PathLike] | PathLike, out: str | os.PathLike[str], n_phases: int = 6) -> Path:
    """
    Read runs and draw their weights by age, see :func:`draw_weight_by_age`.

    :param paths: files or folders of runs, see :func:`sb3_tom.plots.read_runs`
    :param out: the PNG to write
    :param n_phases: number of phases to draw
    :return: the PNG's path
    :raises ValueError: if there is nothing to draw
    """
    return draw_weight_by_age(read_runs(paths), out, n_phases)


def draw_weight_by_age(runs: Sequence[Run], out: str | os.PathLike[str], n_phases: int = 6) -> Path:
    """
    The mean weight of the replay buffer's transitions by age, for some model phases (dark to bright). The dashed line is
    uniform weighting.

    :param runs: from :func:`sb3_tom.plots.read_runs`
    :param out: the PNG to write; the data goes into ``<name>_summary.csv`` beside it
    :param n_phases: number of phases to draw
    :return: the PNG's path
    :raises ValueError: if there is nothing to draw
    """
    drawn = [run for run in runs if run.phases]
    if not drawn:
        raise NothingToDrawError(f"nothing holds weight by age: {describe_sources(runs)}")
    figure, all_axes = panels(len(drawn))
    rows: list[dict[str, Any]] = []
    for axes, run in zip(all_axes, drawn, strict=True):
        chosen = np.unique(np.linspace(0, len(run.phases) - 1, min(n_phases, len(run.phases))).round().astype(int))
        for index, number in enumerate(chosen):
            phase = run.phases[number]
            color = colormaps["viridis"]((index + 0.5) / len(chosen))
            axes.plot(phase.ages, phase.weights, marker=".", color=color, label=_label(run, phase))
            rows += _table(run, phase)
        axes.axhline(1.0, color="black", linestyle="--", linewidth=0.8)
        texts = {"xlabel": "age of a transition (env steps)", "ylabel": "mean weight", "ylim": (0.0, None)}
        finish(axes, "model phase at", title=f"{run.task}, {run.method}, seed {run.seed}", **texts)
    return save(figure, out, rows)


def _label(run: Run, phase: Phase) -> str:
    ess = run.series.get("ess", {}).get(phase.env_step)
    return f"step {phase.env_step:,}" + ("" if ess is None else f" (ESS {ess:.2f})")


def _table(run: Run, phase: Phase) -> list[dict[str, Any]]:
    labels = {"task": run.task, "method": run.method, "seed": run.seed, "env_step": phase.env_step}
    return [
        {**labels, "age": float(age), "weight_mean": float(weight)}
        for age, weight in zip(phase.ages, phase.weights, strict=True)
    ]
