"""Statistics over seeds: the mean, and Student's interval if there are enough seeds for its coverage to be right."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95

LEAST_SEEDS = 7
"""
With fewer seeds there is no interval: returns often have two modes (balances or not), and too many samples have one mode only.
A test simulates how often the interval covers the true mean: of normal returns, and of bimodal ones from ``docs/results``.
"""

Curve = dict[int, float]
"""Values by env step, in order."""


class Summary(NamedTuple):
    """
    A curve over seeds, at K env steps.

    :param steps: ``[K]``
    :param center: ``[K]`` mean over seeds, whatever their number
    :param low: ``[K]`` lower end of the interval; NaN with fewer than :data:`LEAST_SEEDS` seeds, and where a seed's value is
    :param high: ``[K]`` upper end
    """

    steps: np.ndarray
    center: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def has_interval(self) -> bool:
        """Whether any point has an interval."""
        return bool((~np.isnan(self.low)).any())


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """
    Mean without the lowest and the highest quarter. With fewer than four seeds nothing is cut off, so do not use it to compare
    methods with different numbers of seeds.

    :param values: ``[S, K]``, S seeds; ``int(S / 4)`` of them are cut off at each end
    :return: ``[K]``
    """
    from scipy.stats import trim_mean

    return np.asarray(trim_mean(values, 0.25, axis=0))


def mean_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Mean over seeds and Student's interval of 95 %.

    :param values: ``[S, ...]``, S seeds
    :return: mean and ends of the interval ``[...]``; the ends are NaN with fewer than :data:`LEAST_SEEDS` seeds
    """
    from scipy.stats import t

    center, n_seeds = values.mean(0), len(values)
    if n_seeds < LEAST_SEEDS:
        return center, np.full_like(center, np.nan), np.full_like(center, np.nan)
    half = t.ppf(0.5 + CONFIDENCE / 2, n_seeds - 1) * values.std(0, ddof=1) / n_seeds**0.5
    return center, center - half, center + half


def summarize(curves: Sequence[Curve], interpolate: bool = False) -> Summary:
    """
    Mean over seeds and its interval, see :func:`mean_interval`.

    :param curves: one per seed
    :param interpolate: False: steps at which all seeds have a value; True: steps of the seed that has the fewest, within the
        range of all seeds, with the others linearly interpolated (for figures that are logged at the ends of episodes)
    :return: a summary, without points if the seeds share no step
    """
    steps = _common_range(curves) if interpolate else sorted(set.intersection(*(set(curve) for curve in curves)))
    values = np.array([np.interp(steps, list(curve), list(curve.values())) for curve in curves], dtype=np.float64)
    return Summary(np.array(steps, dtype=np.int64), *mean_interval(values.reshape(len(curves), len(steps))))


def _common_range(curves: Sequence[Curve]) -> list[int]:
    first, last = max(min(curve) for curve in curves), min(max(curve) for curve in curves)
    return [step for step in min(curves, key=len) if first <= step <= last]
