"""Schedules over training: length of imagined rollouts, share of real rows, and how long imagined rows are kept."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from sb3_tom.checks.validation import check_integer, check_number


@dataclass(frozen=True)
class Ramp:
    """
    A number that is linear between two env steps and constant outside of them, as the length of MBPO's rollouts
    (arXiv:1906.08253, App. C).

    :param start_step: env step until which it is ``start``
    :param end_step: env step from which on it is ``end``
    :param start: first value
    :param end: last value
    """

    start_step: int
    end_step: int
    start: float
    end: float

    def __call__(self, env_step: int) -> float:
        """
        The number at an env step.

        :param env_step: real transitions so far
        """
        if self.end_step == self.start_step:
            return self.start if env_step < self.start_step else self.end
        share = min(max((env_step - self.start_step) / (self.end_step - self.start_step), 0.0), 1.0)
        return self.start + share * (self.end - self.start)


EPOCH = 1000
"""Env steps of one of MBPO's epochs, the unit of ``model_retain_epochs``."""


class Window(NamedTuple):
    """
    How long imagined rows are kept.

    :param env_steps: number of env steps
    :param paces: env steps between two rounds of rollouts, for each cause of rounds; None for one that is not in use
    """

    env_steps: float
    paces: tuple[int | None, ...]

    @classmethod
    def of_epochs(cls, n_epochs: float, *paces: int | None) -> "Window":
        """
        A window whose length is given in MBPO's epochs.

        :param n_epochs: number of epochs of :data:`EPOCH` env steps
        :param paces: see :class:`Window`
        """
        return cls(n_epochs * EPOCH, paces)

    @property
    def most(self) -> int:
        """Maximum number of rounds of rollouts that are kept, at least 1."""
        return sum(math.ceil(self.env_steps / pace) for pace in self.paces if pace is not None)

    def within(self, made_at: list[int], now: int) -> list[int]:
        """
        Rounds that are kept when a new one is made.

        :param made_at: env steps of the rounds, the newest last
        :param now: env step of the new round
        :return: env steps of the kept rounds, the new one last
        """
        return [*(step for step in made_at if now - step < self.env_steps), now][-self.most :]


def rollout_schedule(value: Any) -> Ramp:
    """
    Parse ``rollout_schedule``: one length, or ``(start_step, end_step, start_length, end_length)`` in env steps.

    :param value: an integer, or a list or tuple of four
    :return: its numbers are rounded down to a length
    :raises ValueError: naming the argument, what came and what is allowed
    """
    return _ramp("rollout_schedule", value, "length", partial(check_integer, low=1), "a length of at least 1")


def ratio_schedule(value: Any) -> Ramp:
    """
    Parse ``real_ratio``: one share, or ``(start_step, end_step, start_ratio, end_ratio)`` in env steps.

    :param value: a number in [0, 1], or a list or tuple of four
    :raises ValueError: naming the argument, what came and what is allowed
    """
    return _ramp("real_ratio", value, "ratio", partial(check_number, low=0.0, high=1.0), "a number in [0, 1]")


def _ramp(argument: str, value: Any, what: str, check: Callable[[str, Any], float], one: str) -> Ramp:
    """One number, or four entries; ``check`` is that of the numbers, and ``one`` says what it allows."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        number = check(argument, value)
        return Ramp(0, 0, number, number)
    if len(value) != 4:
        raise ValueError(
            f"{argument}={value!r} is not allowed; allowed: {one}, or (start_step, end_step, start_{what}, end_{what}) in env "
            "steps"
        )
    start_step = check_integer(f"{argument}[0] (start_step)", value[0], 0)
    end_step = check_integer(f"{argument}[1] (end_step)", value[1], start_step)
    start = check(f"{argument}[2] (start_{what})", value[2])
    end = check(f"{argument}[3] (end_{what})", value[3])
    return Ramp(start_step, end_step, start, end)
