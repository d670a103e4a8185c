"""
What is judged, by what, and since when that stands: studies and claims, written down before the first run of a judging seed.

A run counts by the mean of its evaluations over a window of env steps, never by one of them. Two methods are compared seed by
seed, by the mean of these differences and Student's interval of it, from seven seeds on
(:data:`sb3_tom.plots.statistics.LEAST_SEEDS`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sb3_tom.plots.statistics import LEAST_SEEDS, Curve, mean_interval

Window = tuple[int, int]
Runs = Mapping[str, Mapping[int, Curve]]
"""Of one task: finished runs by method and seed."""

SEEDS = tuple(range(10, 10 + LEAST_SEEDS))


@dataclass(frozen=True)
class Study:
    """
    Methods on a task, on the same seeds.

    :param task: of ``benchmarks/curves.py``
    :param steps: env steps of each run
    :param methods: the same
    :param seeds: 10 and up
    :param windows: env steps over which evaluations are averaged, both ends included
    :param eval_freq: env steps between evaluations; None: the task's
    """

    task: str
    steps: int
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    windows: tuple[Window, ...]
    eval_freq: int | None = None


HOPPER, PENDULUM = "Hopper-v5", "InvertedDoublePendulum-v5"
WHOLE, EARLY, LATE = (500, 5_000), (2_000, 10_000), (20_000, 25_000)
HOPPED: Window = (2_000, 25_000)

STUDIES = {
    "pendulum": Study(PENDULUM, 5_000, ("dhmbpo", "dhmbpo_tom", "dhmbpo_pmac", "dhmbpo_recency"), SEEDS, (WHOLE,)),
    "hopper": Study(HOPPER, 25_000, ("dhmbpo", "dhmbpo_tom"), SEEDS, (EARLY, LATE, HOPPED)),
    "pendulum_mbpo": Study(PENDULUM, 5_000, ("mbpo", "mbpo_tom", "mbpo_pmac"), SEEDS, (WHOLE,)),
    "hopper_mbpo": Study(HOPPER, 15_000, ("mbpo", "mbpo_tom"), SEEDS[:3], (EARLY, (11_000, 15_000))),
    "hopper_model_free": Study(HOPPER, 25_000, ("crossq", "droq", "simba", "sac"), SEEDS[:1], (EARLY, LATE)),
    "hopper_judges": Study(
        HOPPER,
        15_000,
        tuple(f"dhmbpo{weights}_{judge}" for weights in ("", "_tom", "_pmac") for judge in ("confidence", "stop")),
        SEEDS[:4],
        (EARLY, (11_000, 15_000)),
    ),
    "walker": Study("Walker2d-v5", 25_000, ("dhmbpo", "dhmbpo_tom"), SEEDS[:3], (EARLY, LATE), 1_000),
    "cheetah": Study("HalfCheetah-v5", 25_000, ("dhmbpo", "dhmbpo_tom"), SEEDS[:3], (EARLY, LATE), 1_000),
}
"""In the order in which they are run."""


def window_mean(curve: Curve, window: Window) -> float:
    """
    What a run counts.

    :param curve: its evaluations
    :param window: env steps, both ends included
    :return: NaN if it has no evaluation there
    """
    values = [value for step, value in curve.items() if window[0] <= step <= window[1]]
    return float(np.mean(values)) if values else float("nan")


def differences(runs: Runs, method: str, other: str, window: Window) -> np.ndarray:
    """
    Of the first method's means and the other's, for each seed that both have.

    :param runs: of the task
    :param method: the one
    :param other: the other
    :param window: env steps
    """
    ours, theirs = runs.get(method, {}), runs.get(other, {})
    return np.array([window_mean(ours[seed], window) - window_mean(theirs[seed], window) for seed in ours if seed in theirs])


@dataclass(frozen=True)
class Verdict:
    """
    What the runs say of a claim.

    :param seeds: how many say it
    :param evidence: figures
    :param word: "yes", "no", or why neither
    """

    seeds: int
    evidence: str
    word: str


@dataclass(frozen=True)
class Better:
    """
    A claim that one method is better than another.

    :param text: in words
    :param source: who makes it
    :param task: on which
    :param method: the better one
    :param other: the other
    :param window: env steps of the means
    """

    text: str
    source: str
    task: str
    method: str
    other: str
    window: Window

    def verdict(self, runs: Runs) -> Verdict:
        """
        Yes, or worse, where the interval of the mean difference leaves no other choice.

        :param runs: of the task
        """
        found = differences(runs, self.method, self.other, self.window)
        if len(found) < LEAST_SEEDS:
            return Verdict(len(found), _listed(found), "too few seeds yet")
        center, low, high = (float(one) for one in mean_interval(found))
        word = "yes" if low > 0 else "no, it is worse" if high < 0 else "not shown"
        return Verdict(len(found), f"{center:+,.0f} [{low:+,.0f}, {high:+,.0f}] of {_listed(found)}", word)


@dataclass(frozen=True)
class Reaches:
    """
    A claim that a method reaches returns.

    :param text: in words
    :param source: who makes it
    :param task: on which
    :param method: of which
    :param means: least mean over seeds for windows of env steps
    :param each: least mean of a run over the last window, which two thirds of the runs have to exceed; None: any
    """

    text: str
    source: str
    task: str
    method: str
    means: tuple[tuple[Window, float], ...]
    each: float | None = None

    def verdict(self, runs: Runs) -> Verdict:
        """
        Yes if all figures are reached.

        :param runs: of the task
        """
        curves = list(runs.get(self.method, {}).values())
        found = {window: np.array([window_mean(curve, window) for curve in curves]) for window, _ in self.means}
        if len(curves) < LEAST_SEEDS:
            return Verdict(len(curves), _listed(found[self.means[-1][0]]), "too few seeds yet")
        reached = all(found[window].mean() >= least for window, least in self.means)
        evidence = "; ".join(f"{found[window].mean():,.0f} in {_span(window)}" for window, _ in self.means)
        if self.each is not None:
            last = found[self.means[-1][0]]
            above = int((last > self.each).sum())
            reached = reached and above >= 2 / 3 * len(last)
            evidence += f"; {above} of {len(last)} above {self.each:,.0f}"
        return Verdict(len(curves), evidence, "yes" if reached else "no")


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{value:,.0f}" for value in values) or "-"


def _span(window: Window) -> str:
    return f"{window[0]:,}-{window[1]:,}"


KUBO, MA, WANG = "Kubo et al. 2025, [their curves](published_curves.csv)", "Ma et al. 2023", "Wang et al. 2022"

CLAIMS: tuple[Better | Reaches, ...] = (
    Reaches(
        "`dhmbpo` hops on Hopper: at least 1,800 over the last evaluations, above 1,500 in two thirds of the seeds",
        "us",
        HOPPER,
        "dhmbpo",
        ((LATE, 1_800.0),),
        1_500.0,
    ),
    Reaches(
        "`dhmbpo` has the returns of its paper on Hopper: 595, 2,101 and 2,636 at 10,000, 20,000 and 25,000 env steps",
        KUBO,
        HOPPER,
        "dhmbpo",
        (((8_000, 10_000), 595.0), ((18_000, 20_000), 2_101.0), ((23_000, 25_000), 2_636.0)),
    ),
    Better("TOM's weights help the double horizon on Hopper", "us", HOPPER, "dhmbpo_tom", "dhmbpo", HOPPED),
    Better("the same on the double pendulum", "us", PENDULUM, "dhmbpo_tom", "dhmbpo", WHOLE),
    Better("TOM's weights help MBPO on the double pendulum", MA, PENDULUM, "mbpo_tom", "mbpo", WHOLE),
    Better("TOM's weights are better than PMAC's there", MA, PENDULUM, "mbpo_tom", "mbpo_pmac", WHOLE),
    Better("PMAC's weights help MBPO there", WANG, PENDULUM, "mbpo_pmac", "mbpo", WHOLE),
    Better("PMAC's weights help the double horizon there", "us", PENDULUM, "dhmbpo_pmac", "dhmbpo", WHOLE),
    Better("TOM's weights are better than age alone there", "us", PENDULUM, "dhmbpo_tom", "dhmbpo_recency", WHOLE),
    Better("the double horizon needs fewer env steps than MBPO there", "us", PENDULUM, "dhmbpo", "mbpo", WHOLE),
)
"""Of papers and of this package; Hopper's at equal env steps, as all windows."""
