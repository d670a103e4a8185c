"""Plain MBPO: every transition counts the same."""

import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.contracts.weighter import Weighter


class UniformWeighter(Weighter):
    """Weighs every row 1 (MBPO, Janner et al. 2019, arXiv:1906.08253)."""

    def weights(self, data: Transitions, context: Context) -> th.Tensor:
        """Ones ``[N]``; see :meth:`Weighter.weights`."""
        return th.ones(data.size, device=data.device)
