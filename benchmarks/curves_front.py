"""The first picture of the README: return over env steps, and over core-seconds."""

from pathlib import Path

import numpy as np
from curves_page import Rows, curves_of
from matplotlib.figure import Figure

from sb3_tom.callbacks.tables import read_table
from sb3_tom.plots.curves import draw_method
from sb3_tom.plots.drawing import finish, grouped
from sb3_tom.plots.statistics import summarize

TASK = "Hopper-v5"
METHODS = {"dhmbpo": "DHMBPO (here)", "mbpo": "MBPO (here)", "crossq": "CrossQ (sb3-contrib)", "sac": "SAC (SB3)"}
PICTURE = "front.png"


def draw_front(rows: Rows, path: Path) -> None:
    """
    Both panels; on the right the mean over seeds at the mean of their seconds.

    :param rows: of ``curves.csv``
    :param path: of the PNG
    """
    found = grouped([row for row in rows if row["task"] == TASK], lambda row: row["method"])
    figure = Figure(figsize=(11.0, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for index, (method, label) in enumerate(METHODS.items()):
        curves, clocks = curves_of(found[method]), curves_of(found[method], "seconds")
        draw_method(left, label, curves, summarize(curves), f"C{index}")
        for curve, clock in zip(curves, clocks, strict=True):
            right.plot(list(clock.values()), list(curve.values()), color=f"C{index}", alpha=0.35, linewidth=0.8)
        shared = sorted(set.intersection(*(set(curve) for curve in curves)))
        means = [[float(np.mean([one[step] for one in each])) for step in shared] for each in (clocks, curves)]
        right.plot(*means, color=f"C{index}", linewidth=2.0)
    finish(left, xlabel="env steps", ylabel="mean return of ten episodes", title=TASK)
    right.set(xlabel="seconds of one core, beside other work", xscale="log", xlim=(10.0, None))
    right.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def write_front(out: Path) -> None:
    """
    Draw the picture.

    :param out: folder of ``curves.csv``
    """
    draw_front(read_table(out / "curves.csv"), out / PICTURE)
