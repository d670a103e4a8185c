"""Transitions that the critics are wrong about count more: prioritised replay, for the model's fit."""

import torch as th

from sb3_tom.checks.validation import check_number
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.contracts.weighter import Weighter
from sb3_tom.weighters.critics import td_errors


class PERWeighter(Weighter):
    r"""
    Proportional priorities (Schaul et al. 2016, arXiv:1511.05952, Eq. 1 and Sec. 3.3) of the TD errors
    :math:`\delta_{c,i}` (:func:`~sb3_tom.weighters.critics.td_errors`) of the C critics:

    .. math:: w_i = p_i^\alpha, \qquad p_i = \tfrac 1 C \sum_c |\delta_{c,i}| + \epsilon.

    The priorities of all rows are current: prioritised replay uses those of a row's last draw, and the maximum for rows that
    were never drawn. There is no correction by importance sampling, which would undo the weights. One pass of policy, critics
    and target critics over the buffer per model phase.

    :param alpha: exponent, in [0, 1] in the paper; 0 gives uniform weights, the default is the paper's
    :param epsilon: added to each priority, in the unit of the rewards; above 0
    :raises ValueError: naming the argument, what came and what is allowed
    """

    def __init__(self, alpha: float = 0.6, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.alpha = check_number("alpha", alpha, 0.0, 10.0)
        self.epsilon = check_number("epsilon", epsilon, 0.0, low_open=True)

    def weights(self, data: Transitions, context: Context) -> th.Tensor:
        """Weights ``[N]``, float64; see :meth:`Weighter.weights`."""
        priorities = td_errors(data, context).abs().mean(0).double() + self.epsilon
        return (priorities / priorities.max()).pow(self.alpha)
