"""Schedules over training: length of imagined rollouts, share of real rows, and how long imagined rows are kept."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
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
    if isinstance(value, str) or not isinstance(value, Sequence):
        length = check_integer("rollout_schedule", value, 1)
        return Ramp(0, 0, length, length)
    start_step, end_step, *lengths = _four("rollout_schedule", value, "length", "a length of at least 1")
    start, end = (
        check_integer(f"rollout_schedule[{index}] ({name}_length)", length, 1)
        for index, name, length in zip((2, 3), ("start", "end"), lengths, strict=True)
    )
    return Ramp(start_step, end_step, start, end)


def ratio_schedule(value: Any) -> Ramp:
    """
    Parse ``real_ratio``: one share, or ``(start_step, end_step, start_ratio, end_ratio)`` in env steps.

    :param value: a number in [0, 1], or a list or tuple of four
    :raises ValueError: naming the argument, what came and what is allowed
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        ratio = check_number("real_ratio", value, 0.0, 1.0)
        return Ramp(0, 0, ratio, ratio)
    start_step, end_step, *ratios = _four("real_ratio", value, "ratio", "a number in [0, 1]")
    start, end = (
        check_number(f"real_ratio[{index}] ({name}_ratio)", ratio, 0.0, 1.0)
        for index, name, ratio in zip((2, 3), ("start", "end"), ratios, strict=True)
    )
    return Ramp(start_step, end_step, start, end)


def _four(argument: str, value: Sequence[Any], what: str, one: str) -> tuple[Any, ...]:
    """Entries of a schedule, its env steps checked."""
    if len(value) != 4:
        raise ValueError(
            f"{argument}={value!r} is not allowed; allowed: {one}, or (start_step, end_step, start_{what}, end_{what}) in env "
            "steps"
        )
    start_step = check_integer(f"{argument}[0] (start_step)", value[0], 0)
    return start_step, check_integer(f"{argument}[1] (end_step)", value[1], start_step), *value[2:]
