"""
Pictures of the CSV files that :mod:`sb3_tom.common.callbacks` leaves.

    python -m sb3_tom.plots curves FILE... --out curves.png
    python -m sb3_tom.plots weights FILE... --out weights.png
"""

import argparse
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sb3_tom.common.evaluation import read_table

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:  # pragma: no cover
    raise ImportError("sb3_tom.plots needs matplotlib: pip install sb3_tom[plots]") from error

T = TypeVar("T")
PathLike = str | os.PathLike[str]
Rows = list[dict[str, str]]

CURVE_LABELS = {
    "return_mean": "mean return of an evaluation",
    "cumulative_max": "cumulative maximum of the mean return",
    "episode_length_mean": "mean episode length of an evaluation",
}


def plot_learning_curves(paths: Sequence[PathLike], out: PathLike, column: str = "return_mean") -> Path:
    """
    One panel per task, one colour per method: a thin line per seed, and where all seeds of the method have an evaluation
    their mean (thick) and the range from the least to the greatest. Nothing is smoothed or carried forward.

    :param paths: learning curves, one file per run
    :param out: the PNG to write
    :param column: what to draw, one of ``CURVE_LABELS``
    :return: the PNG's path
    :raises ValueError: if there is nothing to draw or the column is unknown
    """
    if column not in CURVE_LABELS:
        raise ValueError(f"column={column!r} is not allowed; allowed: one of {sorted(CURVE_LABELS)}")
    runs = [rows for rows in map(read_table, paths) if rows]
    if not runs:
        raise ValueError(f"paths={[str(path) for path in paths]} hold no row of a learning curve")
    tasks = _grouped(runs, lambda rows: rows[0]["task"])
    figure = Figure(figsize=(6.4 * len(tasks), 4.2), layout="constrained")
    for axes, (task, task_runs) in zip(_panels(figure, len(tasks)), tasks.items(), strict=True):
        for index, (method, method_runs) in enumerate(_grouped(task_runs, lambda rows: rows[0]["method"]).items()):
            _draw_method(axes, method, method_runs, column, f"C{index}")
        axes.set(title=task, xlabel="env steps", ylabel=CURVE_LABELS[column])
        axes.grid(alpha=0.3)
        axes.legend(loc="best", fontsize="small")
    return _save(figure, out)


def _draw_method(axes: Axes, method: str, runs: Sequence[Rows], column: str, color: str) -> None:
    """Seeds, mean and range of one method."""
    curves = [{int(row["env_step"]): float(row[column]) for row in rows} for rows in runs]
    if len(curves) == 1:
        axes.plot(list(curves[0]), list(curves[0].values()), color=color, marker=".", label=f"{method} (1 seed)")
        return
    for curve in curves:
        axes.plot(list(curve), list(curve.values()), color=color, alpha=0.35, linewidth=0.8)
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    values = np.array([[curve[step] for step in steps] for curve in curves])
    axes.plot(steps, values.mean(0), color=color, linewidth=2.0, label=f"{method} (mean and range of {len(curves)} seeds)")
    axes.fill_between(steps, values.min(0), values.max(0), color=color, alpha=0.15, linewidth=0)


def plot_weight_by_age(paths: Sequence[PathLike] | PathLike, out: PathLike, n_phases: int = 6) -> Path:
    """
    One panel per run: the mean weight of the replay buffer's transitions by age, for some model phases from the first to
    the last (dark to bright). The dashed line is uniform weighting.

    :param paths: files of weight by age
    :param out: the PNG to write
    :param n_phases: how many phases to draw
    :return: the PNG's path
    :raises ValueError: if there is nothing to draw
    """
    files = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    runs = [rows for rows in map(read_table, files) if rows]
    if not runs:
        raise ValueError(f"paths={[str(path) for path in files]} hold no row of weight by age")
    figure = Figure(figsize=(6.4 * len(runs), 4.2), layout="constrained")
    for axes, rows in zip(_panels(figure, len(runs)), runs, strict=True):
        phases = list(_grouped(rows, lambda row: row["policy_version"]).values())
        chosen = np.unique(np.linspace(0, len(phases) - 1, min(n_phases, len(phases))).round().astype(int))
        for index, phase in enumerate(chosen):
            _draw_phase(axes, phases[phase], (index + 0.5) / len(chosen))
        axes.axhline(1.0, color="black", linestyle="--", linewidth=0.8)
        title = f"{rows[0]['task']}, {rows[0]['method']}, seed {rows[0]['seed']}"
        axes.set(title=title, xlabel="age of a transition (env steps)", ylabel="mean weight", ylim=(0.0, None))
        axes.grid(alpha=0.3)
        axes.legend(loc="best", fontsize="small", title="model phase at")
    return _save(figure, out)


def _draw_phase(axes: Axes, rows: Rows, shade: float) -> None:
    """Mean weight of the bins of one phase, each bin at its middle age."""
    from matplotlib import colormaps

    ages = [(int(row["age_low"]) + int(row["age_high"])) / 2 for row in rows]
    label = f"step {int(rows[0]['env_step']):,} (ESS {float(rows[0]['ess']):.2f})"
    axes.plot(ages, [float(row["weight_mean"]) for row in rows], color=colormaps["viridis"](shade), marker=".", label=label)


def _grouped(items: Iterable[T], key: Callable[[T], str]) -> dict[str, list[T]]:
    """Items by the value of ``key``, in order of first appearance."""
    groups: dict[str, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _panels(figure: Figure, count: int) -> list[Axes]:
    axes: Any = figure.subplots(1, count, squeeze=False)
    return list(axes[0])


def _save(figure: Figure, out: PathLike) -> Path:
    """Write the PNG; a Figure without pyplot is drawn by Agg, no display needed."""
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, format="png")
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m sb3_tom.plots", description="Draw learning curves or weight by age.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("curves", "weights"):
        command = commands.add_parser(name)
        command.add_argument("files", nargs="+", type=Path, metavar="FILE", help="CSV files, one per run")
        command.add_argument("--out", type=Path, required=True, metavar="PNG")
    commands.choices["curves"].add_argument("--column", choices=sorted(CURVE_LABELS), default="return_mean")
    parsed = parser.parse_args(arguments)
    missing = [str(path) for path in parsed.files if not path.is_file()]
    if missing:
        parser.error(f"no such file: {', '.join(missing)}")
    try:
        if parsed.command == "curves":
            print(plot_learning_curves(parsed.files, parsed.out, parsed.column))
        else:
            print(plot_weight_by_age(parsed.files, parsed.out))
    except (ValueError, KeyError) as error:
        parser.error(f"not a table that `{parsed.command}` can draw: {error}")


if __name__ == "__main__":
    main()
