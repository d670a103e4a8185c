"""
Pictures and tables of runs: learning curves, differences between methods, weight by age, effective sample size, model error.

    python -m sb3_tom.plots all runs/hopper --out plots
    python -m sb3_tom.plots curves runs/*/learning_curve.csv --out curves.png
    python -m sb3_tom.plots differences runs/hopper --baseline dhmbpo --out differences.png

They are read from the CSV files of :mod:`sb3_tom.callbacks`, from SB3's ``progress.csv`` and ``evaluations.npz``, and from
TensorBoard files. Needs ``pip install sb3_tom[plots]``.
"""

try:
    import matplotlib as _  # noqa: F401
except ImportError as error:  # pragma: no cover
    raise ImportError("sb3_tom.plots needs matplotlib: pip install sb3_tom[plots]") from error

from sb3_tom.plots.ages import draw_weight_by_age, plot_weight_by_age
from sb3_tom.plots.curves import QUANTITIES, draw_curves, plot_learning_curves
from sb3_tom.plots.differences import Comparison, Difference, draw_differences, find_differences
from sb3_tom.plots.readers import Phase
from sb3_tom.plots.runs import Run, read_runs
from sb3_tom.plots.statistics import LEAST_SEEDS, Summary, interquartile_mean, mean_interval, summarize

__all__ = [
    "LEAST_SEEDS",
    "QUANTITIES",
    "Comparison",
    "Difference",
    "Phase",
    "Run",
    "Summary",
    "draw_curves",
    "draw_differences",
    "draw_weight_by_age",
    "find_differences",
    "interquartile_mean",
    "mean_interval",
    "plot_learning_curves",
    "plot_weight_by_age",
    "read_runs",
    "summarize",
]
