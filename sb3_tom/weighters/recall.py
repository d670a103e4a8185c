"""Transitions of the highest values alone count."""

import torch as th

from sb3_tom.checks.validation import check_number
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.contracts.weighter import Weighter
from sb3_tom.weighters.critics import row_values


class RecallWeighter(Weighter):
    r"""
    The rows of the highest values have the weight 1 and all others 0, as in the baseline RECALL of PMAC (Wang et al. 2022,
    Sec. 5.3), which took from recall traces (Goyal et al. 2019, arXiv:1804.00379) that high values are what is worth knowing:

    .. math:: w_i = \mathbb 1\bigl[Q(s_i, a_i) \ge Q_{(n)}\bigr], \qquad
        n = \max(1, \operatorname{round}(\text{share} \cdot N)),

    with the n-th largest value :math:`Q_{(n)}` of the buffer, values being those of the most pessimistic of the current
    critics. Rows whose values are equal are taken together, so that critics without an opinion make uniform weights. Recall
    traces themselves are a model backwards in time, which this is not.

    :param share: of the rows that count, in (0, 1]; the default is PMAC's
    :raises ValueError: naming the argument, what came and what is allowed
    """

    def __init__(self, share: float = 0.25) -> None:
        super().__init__()
        self.share = check_number("share", share, 0.0, 1.0, low_open=True)

    def weights(self, data: Transitions, context: Context) -> th.Tensor:
        """Weights ``[N]``, 0 or 1; see :meth:`Weighter.weights`."""
        values = row_values(data, context)
        least = values.topk(max(1, round(self.share * data.size)), sorted=False).values.min()
        return (values >= least).float()
