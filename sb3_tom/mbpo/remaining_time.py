"""Remaining time of a run."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from sb3_tom.checks.validation import check_integer, check_number


class RemainingTime:
    """
    Remaining time by the pace since training began, without the random warm-up. Time between two calls of ``learn``, or
    between saving and loading, does not count.
    """

    def __init__(self) -> None:
        self._passed = 0.0  # seconds of earlier calls
        self._began: float | None = None
        self._first: tuple[float, int] | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Wraps ``learn``, whose time counts."""
        self._began = time.monotonic()
        try:
            yield
        finally:
            self._passed, self._began = self._seconds(), None

    def _seconds(self) -> float:
        return self._passed + (0.0 if self._began is None else time.monotonic() - self._began)

    def begin(self, done: int) -> None:
        """
        Called at the beginning of ``learn``.

        :param done: env steps so far; 0 resets the pace
        """
        if done == 0:
            self._first = None

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint: seconds since the pace was first measured, and the env step of that."""
        return {"first": None if self._first is None else (self._seconds() - self._first[0], self._first[1])}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Continue as if no time had passed between saving and loading.

        :param state: from :meth:`state_dict`
        :raises ValueError: if it is malformed
        """
        first = state["first"]
        if first is not None:
            seconds, done = first
            first = (self._seconds() - check_number("seconds", seconds), check_integer("env steps", done, 0))
        self._first = first

    def __call__(self, done: int, total: float) -> str:
        """
        Remaining time at the current pace.

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
