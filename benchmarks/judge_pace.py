"""How long judged runs take, and when within a run: for the tables and pictures of the verdict."""

from collections.abc import Mapping

import numpy as np
from curves_page import Rows

from sb3_tom.plots.drawing import grouped


def whole_runs(rows: Rows) -> dict[str, dict[str, str]]:
    """
    The last evaluations of the runs that were not interrupted, by seed: the others have no core-seconds.

    :param rows: evaluations of a method
    """
    last = {seed: run[-1] for seed, run in grouped(rows, lambda row: row["seed"]).items()}
    return {seed: row for seed, row in last.items() if float(row["core_seconds"] or 0) > 0}


def totals(rows: Rows) -> dict[str, float]:
    """
    Core-seconds of :func:`whole_runs`, by seed.

    :param rows: evaluations of a method
    """
    return {seed: float(row["core_seconds"]) for seed, row in whole_runs(rows).items()}


def paces(rows: Rows, column: str = "core_seconds") -> dict[str, float]:
    """
    Seconds that 1,000 env steps take in :func:`whole_runs`, by seed.

    :param rows: evaluations of a method
    :param column: "seconds" or "core_seconds"
    """
    return {seed: 1000 * float(row[column]) / int(row["env_step"]) for seed, row in whole_runs(rows).items()}


def relative_pace(own: Mapping[str, float], first: Mapping[str, float]) -> tuple[float, int]:
    """
    How many times as long a method takes as another: machines differ, so the median over seeds of the ratio, which leaves out
    what one seed had to do on two machines.

    :param own: of the method, see :func:`paces`
    :param first: of the other
    :return: the ratio, NaN if no seed has both, and the number of seeds that have
    """
    ratios = [own[seed] / first[seed] for seed in own if seed in first]
    return float(np.median(ratios)) if ratios else float("nan"), len(ratios)


def pace_text(own: Mapping[str, float], first: Mapping[str, float]) -> str:
    """
    The range over runs, and the :func:`relative_pace`.

    :param own: of the method, see :func:`paces`
    :param first: of the first method in the table
    """
    if not own:
        return "-"
    low, high = (f"{end(own.values()):.0f}" for end in (min, max))
    ratio, number = relative_pace(own, first)
    compared = "" if own is first or not number else f", x {ratio:.2f} ({number})"
    return (low if low == high else f"{low} to {high}") + compared


def spread(run: Rows, whole: float) -> dict[int, float]:
    """
    Core-seconds from the start of a run by env step, spread as its gradient steps are.

    :param run: its evaluations
    :param whole: core-seconds of the whole run
    """
    return {int(row["env_step"]): whole * float(row["n_updates"]) / float(run[-1]["n_updates"]) for row in run}


def spent(rows: Rows, first: Mapping[str, float]) -> dict[int, float]:
    """
    Core-seconds of a method by env step: the median over its whole runs, or the time of another method and the ratio.

    :param rows: evaluations of a method
    :param first: the :func:`paces` of the method that others are compared with
    :return: empty if no run was whole
    """
    own = paces(rows)
    ratio, number = relative_pace(own, first)
    known = [ratio * pace for pace in first.values()] if number else [*own.values()]
    if not known:
        return {}
    run = next(iter(grouped(rows, lambda row: row["seed"]).values()))
    return spread(run, float(np.median(known)) * int(run[-1]["env_step"]) / 1000)


def mean_within(rows: Rows, limits: Mapping[str, float]) -> dict[str, float]:
    """
    Mean return of the evaluations that a run reaches within so many core-seconds, by seed.

    :param rows: evaluations of a method
    :param limits: core-seconds by seed; of seeds without a whole run here there is nothing
    """
    runs, found = grouped(rows, lambda row: row["seed"]), {}
    for seed, whole in totals(rows).items():
        if seed in limits:
            at = spread(runs[seed], whole)
            reached = [float(row["return_mean"]) for row in runs[seed] if at[int(row["env_step"])] <= limits[seed]]
            found[seed] = float(np.mean(reached)) if reached else float("nan")
    return found
