"""Transitions of high values count more: a value-weighted likelihood."""

import torch as th

from sb3_tom.checks.validation import check_number
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.contracts.weighter import Weighter
from sb3_tom.weighters.critics import row_values


class ValueWeighter(Weighter):
    r"""
    The weight falls exponentially with the distance of a row's value from the best one:

    .. math:: w_i = \exp\Bigl(-\frac{\max_j Q_j - Q_i}{\text{temperature} \cdot \operatorname{std}_j Q_j}\Bigr), \qquad
        Q_i = \min_c Q_c(s_i, a_i).

    Lambert et al. (2020, arXiv:2002.04523) multiply the model's loss by an exponential of the negative distance to the
    trajectory of an expert. Without an expert, the distance here is that in value, in standard deviations over the buffer, so
    that the unit of the rewards does not matter. MnM (Eysenbach et al. 2022, Fig. 6) has a baseline by that name and refers
    to Lambert et al., but gives no equation: temperature and unit are ours. Weights are uniform if all values are equal.
    They are for the likelihood only: starts of rollouts are drawn uniformly.

    :param temperature: the distance at which a weight is 1/e, in standard deviations; in [0.001, 1000]
    :raises ValueError: naming the argument, what came and what is allowed
    """

    weighs_starts = False

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = check_number("temperature", temperature, 1e-3, 1e3)

    def weights(self, data: Transitions, context: Context) -> th.Tensor:
        """Weights ``[N]`` in [0, 1], float64; see :meth:`Weighter.weights`."""
        below = row_values(data, context).double()
        below -= below.max()
        unit = self.temperature * below.std(correction=0)
        return th.ones_like(below) if bool(unit == 0) else (below / unit).exp()  # NaN stays NaN, which is refused
