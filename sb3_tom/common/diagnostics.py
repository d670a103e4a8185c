"""Figures for the log that are derived, not configured."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any

import torch as th

from sb3_tom.common.weights import effective_sample_size


def weight_figures(weights: th.Tensor, newest: th.Tensor) -> dict[str, float]:
    """
    How a weight vector looks.

    :param weights: ``[N]`` with mean 1
    :param newest: row numbers of the newest transitions
    :return: effective sample size as a share, largest weight, share of zero weights, mean weight of the newest rows
    """
    return {
        "effective_sample_size": float(effective_sample_size(weights)),
        "max": float(weights.max()),
        "zero_share": float((weights <= 0).float().mean()),
        "newest_mean": float(weights[newest].mean()),
    }


def equal_bins(n_rows: int, n_bins: int) -> list[tuple[int, int]]:
    """
    Cut rows into bins.

    :param n_rows: number N of rows
    :param n_bins: number of bins; fewer rows make a bin each
    :return: first row of each bin and the one behind its last, the bins as equal as they can be
    """
    n_bins = min(n_bins, n_rows)
    return list(pairwise(index * n_rows // n_bins for index in range(n_bins + 1)))


def weight_by_age(weights: th.Tensor, n_bins: int = 10) -> dict[str, float]:
    """
    Mean weight in bins of equally many rows, by age.

    :param weights: ``[N]`` with mean 1, oldest row first
    :param n_bins: number of bins; fewer rows make a bin each
    :return: "00" (the newest rows) to "09", and the number of "rows"
    """
    n_rows, newest_first = weights.numel(), weights.flip(0)
    means = th.stack([newest_first[low:high].mean() for low, high in equal_bins(n_rows, n_bins)])
    return {**{f"{index:02}": mean for index, mean in enumerate(means.tolist())}, "rows": float(n_rows)}


def optimizer_steps(optimizer: th.optim.Optimizer) -> int:
    """
    Steps that an Adam has really made, read from its state.

    :param optimizer: any optimiser that counts ``step`` per parameter
    """
    for state in optimizer.state.values():
        return int(state.get("step", 0))
    return 0


class RemainingTime:
    """
    Time that is left, from the pace since training began: the random warm-up says nothing about it. What passes between two
    calls of ``learn``, or between saving and loading, does not count.
    """

    def __init__(self) -> None:
        self._passed = 0.0  # seconds of earlier calls
        self._began: float | None = None
        self._first: tuple[float, int] | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """While ``learn`` runs."""
        self._began = time.monotonic()
        try:
            yield
        finally:
            self._passed, self._began = self._seconds(), None

    def _seconds(self) -> float:
        return self._passed + (0.0 if self._began is None else time.monotonic() - self._began)

    def restart(self) -> None:
        """Env steps are counted from 0 again."""
        self._first = None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: how long ago the pace was first taken, and where."""
        return {"first": None if self._first is None else (self._seconds() - self._first[0], self._first[1])}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Go on as if the time between saving and loading had not passed.

        :param state: from :meth:`state_dict`
        """
        first = state["first"]
        self._first = None if first is None else (self._seconds() - first[0], first[1])

    def __call__(self, done: int, total: float) -> str:
        """
        Remaining time at the pace of this training.

        :param done: env steps so far
        :param total: env steps in the end
        :return: hours:minutes:seconds, or "?" before there is a pace
        """
        seconds = self._seconds()
        if self._first is None or done <= self._first[1]:
            self._first = (seconds, done)
            return "?"
        start, first_done = self._first
        left = (total - done) * (seconds - start) / (done - first_done)
        return str(timedelta(seconds=round(max(left, 0.0))))
