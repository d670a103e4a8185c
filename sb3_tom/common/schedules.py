"""The length of imagined rollouts over training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sb3_tom.common.validation import check_integer


@dataclass(frozen=True)
class RolloutSchedule:
    """
    Length of imagined rollouts: linear between two env steps, constant outside of them (MBPO, arXiv:1906.08253, App. C).

    :param start_step: env step until which the length is ``start_length``
    :param end_step: env step from which on it is ``end_length``
    :param start_length: first length
    :param end_length: last length
    """

    start_step: int
    end_step: int
    start_length: int
    end_length: int

    def __call__(self, env_step: int) -> int:
        """
        The length that is due.

        :param env_step: real transitions so far
        :return: length of a rollout, at least 1
        """
        if self.end_step == self.start_step:
            return self.start_length if env_step < self.start_step else self.end_length
        share = min(max((env_step - self.start_step) / (self.end_step - self.start_step), 0.0), 1.0)
        return int(self.start_length + share * (self.end_length - self.start_length))


EPOCH = 1000
"""Env steps of one of MBPO's epochs, the unit of ``model_retain_epochs``."""


def phases_kept(model_retain_epochs: int, model_train_freq: int) -> int:
    """
    Model phases whose imagined transitions are kept.

    :param model_retain_epochs: epochs of :data:`EPOCH` env steps
    :param model_train_freq: env steps between two phases
    :return: at least 1
    """
    return -(-model_retain_epochs * EPOCH // model_train_freq)


def rollout_schedule(value: Any) -> RolloutSchedule:
    """
    From what a user writes: one length, or ``(start_step, end_step, start_length, end_length)`` in env steps.

    :param value: an integer, or a list or tuple of four
    :raises ValueError: naming the argument, what came and what is allowed
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        length = check_integer("rollout_schedule", value, 1)
        return RolloutSchedule(0, 0, length, length)
    if len(value) != 4:
        raise ValueError(
            f"rollout_schedule={value!r} is not allowed; allowed: a length of at least 1, or "
            "(start_step, end_step, start_length, end_length) in env steps"
        )
    start_step = check_integer("rollout_schedule[0] (start_step)", value[0], 0)
    end_step = check_integer("rollout_schedule[1] (end_step)", value[1], start_step)
    start_length = check_integer("rollout_schedule[2] (start_length)", value[2], 1)
    return RolloutSchedule(start_step, end_step, start_length, check_integer("rollout_schedule[3] (end_length)", value[3], 1))
