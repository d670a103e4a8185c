"""Only the transitions of the highest values count."""

import torch as th

from sb3_tom.checks.validation import check_number
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.contracts.weighter import Weighter
from sb3_tom.weighters.critics import row_values


class RecallWeighter(Weighter):
    r"""
    Weight 1 for the rows of the highest values and 0 for all others, as in the baseline RECALL of PMAC (Wang et al. 2022,
    Sec. 5.3), which took from recall traces (Goyal et al. 2019, arXiv:1804.00379) the idea to learn from high values:

    .. math:: w_i = \mathbb 1\bigl[Q(s_i, a_i) \ge Q_{(n)}\bigr], \qquad
        n = \max(1, \operatorname{round}(\text{share} \cdot N)),

    with the n-th largest value :math:`Q_{(n)}` in the buffer; values are the minimum of the current critics. Rows of equal
    values count alike, so that weights are uniform if all values are equal. Recall traces themselves are a model backwards in
    time, which this is not.

    :param share: share of the rows that count, in (0, 1]; the default is PMAC's
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
