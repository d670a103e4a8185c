"""Newer transitions count more, whatever policy collected them: the cheapest way to follow the policy."""

import math

import torch as th

from sb3_tom.checks.validation import check_number
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.contracts.weighter import Weighter


class RecencyWeighter(Weighter):
    r"""
    Weighs a row :math:`\max(\text{floor}, \text{decay}^{\text{age}})`, its age being the number of transitions that were
    stored after its env step. DR.Q (2026, arXiv:2605.11711) fades its replay buffer in this way, multiplied by priorities. At
    the defaults the weight is halved every 6,931 transitions and is 0.1 from 23,025 on.

    :param decay: factor per transition of age, in (0, 1]; 1 gives uniform weights
    :param floor: lower bound of the weight relative to the newest rows', in [0, 1]
    :raises ValueError: naming the argument, what came and what is allowed
    """

    def __init__(self, decay: float = 0.9999, floor: float = 0.1) -> None:
        super().__init__()
        self.decay = check_number("decay", decay, 0.0, 1.0, low_open=True)
        self.floor = check_number("floor", floor, 0.0, 1.0)

    def weights(self, data: Transitions, context: Context) -> th.Tensor:
        """Weights ``[N]`` in [floor, 1], float64; see :meth:`Weighter.weights`."""
        steps = context.arrivals(data).div(context.n_envs, rounding_mode="floor")
        ages = (steps.max() - steps) * context.n_envs
        return (ages.double() * math.log(self.decay)).exp().clamp(min=self.floor)
