"""
What several seeds say together: the inter-quartile mean and its bootstrap interval, as Agarwal et al. 2021 (arXiv:2108.13264)
ask for. The bootstrap is that of ``arch``, which is also what their package ``rliable`` is built on.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 0
"""Of the resampling, so that a picture drawn twice is the same."""

Curve = dict[int, float]
"""Values by env step, in order."""


class Summary(NamedTuple):
    """
    A curve over seeds, at K env steps.

    :param steps: ``[K]``
    :param center: ``[K]`` inter-quartile mean over seeds; with less than four seeds nothing is cut off, and it is the mean
    :param low: ``[K]`` lower end of the interval; NaN with one seed
    :param high: ``[K]`` upper end
    """

    steps: np.ndarray
    center: np.ndarray
    low: np.ndarray
    high: np.ndarray


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """
    Mean without the lowest and the highest quarter.

    :param values: ``[S, K]``, S seeds; ``int(S / 4)`` of them are cut off at each end
    :return: ``[K]``
    """
    from scipy.stats import trim_mean

    return np.asarray(trim_mean(values, 0.25, axis=0))


def summarize(curves: Sequence[Curve], interpolate: bool = False) -> Summary:
    """
    Inter-quartile mean and percentile bootstrap interval of 95 % over seeds, which are resampled as whole curves.

    :param curves: one per seed
    :param interpolate: False keeps the steps at which all seeds have a value; True takes the steps of the seed that has the
        fewest, within the range of all seeds, and interpolates the others linearly (for figures that are logged whenever an
        episode ends)
    :return: a summary without points where the seeds share no step
    """
    steps = _common_range(curves) if interpolate else sorted(set.intersection(*(set(curve) for curve in curves)))
    values = np.array([np.interp(steps, list(curve), list(curve.values())) for curve in curves], dtype=np.float64)
    values = values.reshape(len(curves), len(steps))
    unknown = np.full(len(steps), np.nan)
    if len(curves) == 1 or not steps:
        return Summary(np.array(steps, dtype=np.int64), values.mean(0), unknown, unknown)
    low, high = _interval(values)
    return Summary(np.array(steps, dtype=np.int64), interquartile_mean(values), low, high)


def _common_range(curves: Sequence[Curve]) -> list[int]:
    first, last = max(min(curve) for curve in curves), min(max(curve) for curve in curves)
    return [step for step in min(curves, key=len) if first <= step <= last]


def _interval(values: np.ndarray) -> np.ndarray:
    """Ends of the interval ``[2, K]`` of values ``[S, K]``."""
    from arch.bootstrap import IIDBootstrap

    bootstrap = IIDBootstrap(values, seed=np.random.default_rng(SEED))
    return np.asarray(bootstrap.conf_int(interquartile_mean, reps=RESAMPLES, method="percentile", size=CONFIDENCE))
