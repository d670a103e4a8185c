"""Newer transitions count more, whoever collected them: the cheapest way to follow the policy."""

import math

import torch as th

from sb3_tom.checks.validation import check_number
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.contracts.weighter import Weighter


class RecencyWeighter(Weighter):
    r"""
    Weighs a row :math:`\max(\text{floor}, \text{decay}^{\text{age}})`, its age being the number of transitions that were
    stored after its env step. It is how DR.Q fades its replay buffer (2026, arXiv:2605.11711), without the priorities by
    which that multiplies it. At the defaults the weight is halved every 6,931 transitions and stays at 0.1 from 23,025 on.

    :param decay: factor of each transition of age, in (0, 1]; 1 are uniform weights
    :param floor: least weight relative to the newest rows', in [0, 1]
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
