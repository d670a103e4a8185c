"""
Kinds of studies and of claims: which runs count, how they are compared, what a verdict takes.

A run counts by the mean of its evaluations over a window of env steps, never by one of them. Two methods are compared seed by
seed, by the mean of these differences and Student's interval of it, from seven seeds on
(:data:`sb3_tom.plots.statistics.LEAST_SEEDS`). A run that diverges is a result: evaluations that it does not reach count 0.
A run that a defect of code or machine spoils does not count, nor do the others of its seed on the task: all are repeated on
the next seed. There are no other seeds.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
from marked_page import RESULTS

from sb3_tom.callbacks.tables import read_table
from sb3_tom.plots.statistics import LEAST_SEEDS, Curve, mean_interval

Window = tuple[int, int]
Runs = Mapping[str, Mapping[int, Curve]]
"""Of one task: runs that count, by method and seed."""

TOO_FEW, WORSE = "too few seeds yet", "no, it is worse"


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
    :param beside: methods of other studies of the task, whose runs on these seeds are shown too
    :param published: method and task of ``published_curves.csv`` whose means are shown too
    """

    task: str
    steps: int
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    windows: tuple[Window, ...]
    eval_freq: int | None = None
    beside: tuple[str, ...] = ()
    published: tuple[str, str] | None = None

    def judged(self, spoilt: Collection[int]) -> tuple[int, ...]:
        """
        The seeds that count: as many as planned, the next ones in the place of what a defect has spoilt.

        :param spoilt: seeds, which count for none of the methods
        """
        return tuple(islice((seed for seed in count(self.seeds[0]) if seed not in spoilt), len(self.seeds)))


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
    :param mean: first of the figures: mean and interval, if there are enough seeds for one
    """

    seeds: int
    evidence: str
    word: str
    mean: str = ""


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

    @property
    def needs(self) -> tuple[tuple[str, str], ...]:
        """Tasks and methods whose runs decide it."""
        return (self.task, self.method), (self.task, self.other)

    def verdict(self, runs: Mapping[str, Runs]) -> Verdict:
        """
        Yes, or worse, where the interval of the mean difference leaves no other choice.

        :param runs: by task
        """
        found = differences(runs.get(self.task, {}), self.method, self.other, self.window)
        if len(found) < LEAST_SEEDS:
            return Verdict(len(found), _listed(found), TOO_FEW)
        _, low, high = mean_interval(found)
        word = "yes" if low > 0 else WORSE if high < 0 else "not shown"
        mean = _with_interval(found, "+")
        return Verdict(len(found), f"{mean} of {_listed(found)}", word, mean)


@dataclass(frozen=True)
class BetterSomewhere:
    """
    A claim that a method is worse in none of several comparisons, and better in one.

    :param text: in words
    :param source: who makes it
    :param claims: the comparisons
    """

    text: str
    source: str
    claims: tuple[Better, ...]

    @property
    def needs(self) -> tuple[tuple[str, str], ...]:
        """Tasks and methods whose runs decide it."""
        return tuple(need for claim in self.claims for need in claim.needs)

    def verdict(self, runs: Mapping[str, Runs]) -> Verdict:
        """
        Yes or no as the verdicts of the comparisons say, once all of them have their seeds.

        :param runs: by task
        """
        verdicts = [claim.verdict(runs) for claim in self.claims]
        words = [verdict.word for verdict in verdicts]
        deciding = ((TOO_FEW, TOO_FEW), (WORSE, "no"), ("yes", "yes"))
        word = next((verdict for said, verdict in deciding if said in words), "not shown")
        return Verdict(min(verdict.seeds for verdict in verdicts), "; ".join(words), word)


@dataclass(frozen=True)
class Reaches:
    """
    A claim that a method reaches returns.

    :param text: in words
    :param source: who makes it
    :param task: on which
    :param method: of which
    :param window: env steps of the means
    :param least: mean over seeds
    :param each: what two thirds of the runs have to exceed
    """

    text: str
    source: str
    task: str
    method: str
    window: Window
    least: float
    each: float

    @property
    def needs(self) -> tuple[tuple[str, str], ...]:
        """Task and method whose runs decide it."""
        return ((self.task, self.method),)

    def verdict(self, runs: Mapping[str, Runs]) -> Verdict:
        """
        Yes if both figures are reached.

        :param runs: by task
        """
        found = _means(runs, self.task, self.method, self.window)
        if len(found) < LEAST_SEEDS:
            return Verdict(len(found), _listed(found), TOO_FEW)
        above = int((found > self.each).sum())
        reached = found.mean() >= self.least and above >= 2 / 3 * len(found)
        mean = _with_interval(found)
        evidence = f"{mean}; {above} of {len(found)} above {self.each:,.0f}: {_listed(found)}"
        return Verdict(len(found), evidence, "yes" if reached else "no", mean)


@dataclass(frozen=True)
class AsPublished:
    """
    A claim that a method has the returns that its paper shows.

    :param text: in words
    :param source: whose
    :param task: on which
    :param method: of which
    :param curve: method and task of ``published_curves.csv``
    :param window: env steps over which the published means, interpolated, are averaged as a run's are
    """

    text: str
    source: str
    task: str
    method: str
    curve: tuple[str, str]
    window: Window

    @property
    def needs(self) -> tuple[tuple[str, str], ...]:
        """Task and method whose runs decide it."""
        return ((self.task, self.method),)

    def verdict(self, runs: Mapping[str, Runs]) -> Verdict:
        """
        Yes where the mean is no less, no where even the interval lies below.

        :param runs: by task
        """
        found = _means(runs, self.task, self.method, self.window)
        if len(found) < LEAST_SEEDS:
            return Verdict(len(found), _listed(found), TOO_FEW)
        first = next(iter(runs[self.task][self.method].values()))
        published = published_mean(*self.curve, [step for step in first if self.window[0] <= step <= self.window[1]])
        center, _, high = mean_interval(found)
        word = "yes" if center >= published else "no" if high < published else "not shown"
        mean = _with_interval(found)
        return Verdict(len(found), f"{mean}, published {published:,.0f}", word, mean)


Claim = Better | BetterSomewhere | Reaches | AsPublished


def published_mean(method: str, task: str, steps: Sequence[int]) -> float:
    """
    Mean return of a published curve over evaluations at these env steps, between its points on straight lines.

    :param method: of ``published_curves.csv``
    :param task: of the same
    :param steps: in their order
    :return: NaN if the curve begins later, or ends before
    """
    rows = [row for row in read_table(RESULTS / "published_curves.csv") if (row["method"], row["task"]) == (method, task)]
    points = [(float(row["env_step"]), float(row["return_mean"])) for row in rows]
    covered = points[0][0] <= steps[0] and steps[-1] <= points[-1][0]
    return float(np.interp(steps, *zip(*points, strict=True)).mean()) if covered else float("nan")


def _means(runs: Mapping[str, Runs], task: str, method: str, window: Window) -> np.ndarray:
    return np.array([window_mean(curve, window) for curve in runs.get(task, {}).get(method, {}).values()])


def _with_interval(values: np.ndarray, sign: str = "") -> str:
    center, low, high = (f"{float(one):{sign},.0f}" for one in mean_interval(values))
    return f"{center} [{low}, {high}]"


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{value:,.0f}" for value in values) or "-"
