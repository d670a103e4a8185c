r"""
PMAC: newer policies count more, by a fixed schedule (Wang et al. 2022, "Live in the Moment", Algorithm 1 and Eq. 4).

The rows that one policy collected between two model phases form a block. When a new block comes, Algorithm 1 multiplies the
weight of every old block by :math:`\alpha` and gives the new one :math:`\frac{1 - \alpha}{\alpha} \sum_i w_i`, so that the sum
does not change. Started at one block of weight 1 (block 0: what was collected before the first model phase), this is

.. math::
    w_0 = \alpha^{k}, \qquad w_i = (1 - \alpha)\, \alpha^{k - i} \quad (1 \le i \le k),

with the current policy version k. The weight of a block is shared equally by its rows. A block with less than half as many
rows as the median one has a smaller share, in proportion to its rows: in the paper all have as many.
"""

import math

import torch as th

from sb3_tom.checks.validation import check_number
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.contracts.weighter import Weighter


class PMACWeighter(Weighter):
    """
    Weighs a row by the age of the policy that collected it: a pure function of ``policy_version``. Blocks without rows
    (evicted from the buffer) drop out and the rest is renormalised.

    :param alpha: policy adaptation rate in (0, 1); the newest block gets the share ``1 - alpha``. At the paper's 0.9 half of
        the weight lies on the newest 6.6 blocks
    :raises ValueError: naming the argument, what came and what is allowed
    """

    def __init__(self, alpha: float = 0.9) -> None:
        super().__init__()
        self.alpha = check_number("alpha", alpha, 0.0, 1.0, low_open=True, high_open=True)

    def weights(self, data: Transitions, context: Context) -> th.Tensor:
        """Weights ``[N]`` of mean 1; see :meth:`Weighter.weights`."""
        return pmac_weights(data.policy_version, context.policy_version, self.alpha)


def pmac_weights(versions: th.Tensor, current: int, alpha: float) -> th.Tensor:
    """
    Closed form of Algorithm 1.

    :param versions: ``[N]`` int64, policy version of each row
    :param current: current policy version; rows of newer versions count as current
    :param alpha: policy adaptation rate in (0, 1)
    :return: ``[N]`` float64 of mean 1
    """
    oldest = int(versions.min())
    rows_of_block = th.bincount(versions - oldest)
    blocks = th.arange(rows_of_block.numel(), device=versions.device) + oldest
    # In logarithms: alpha ** age underflows where all rows are old, as in a buffer of another run
    log_shares = (current - blocks).clamp(min=0).double() * math.log(alpha)
    log_shares += (blocks != 0).double() * math.log1p(-alpha)
    # A block that was cut short (by a load, an interrupt, or as it leaves the buffer) counts by its rows: else a single one of
    # them could have a tenth of all weight
    usual = rows_of_block[(blocks != 0) & (rows_of_block > 0)]
    if len(usual):
        short = (2.0 * rows_of_block.double() / usual.median()).clamp(max=1.0).log()
        log_shares += th.where(blocks != 0, short, th.zeros_like(short))
    log_shares = log_shares.masked_fill(rows_of_block == 0, -th.inf)
    per_row = log_shares.softmax(0) * versions.numel() / rows_of_block.clamp(min=1)
    return per_row[versions - oldest]
