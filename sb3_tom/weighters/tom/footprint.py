"""Which rows of the buffer are recent, for TOM without a discriminator."""

import torch as th

from sb3_tom.contracts.plug import GrowingBuffers
from sb3_tom.contracts.types import Transitions
from sb3_tom.weighters.tom.row_keys import FIELDS, row_keys


class Footprint(GrowingBuffers):
    """
    Stores transitions and finds them by their exact values. (The released code uses the position in the buffer, which is wrong
    once the ring has wrapped.)

    :param observation_dim: size O of an observation
    :param action_dim: size A of an action
    """

    growing = ("known",)

    def __init__(self, observation_dim: int, action_dim: int) -> None:
        super().__init__()
        n_columns = 2 * observation_dim + action_dim
        self.register_buffer("known", th.zeros(0, n_columns))

    known: th.Tensor

    def remember(self, recent: Transitions) -> None:
        """
        Replace the stored rows.

        :param recent: rows to find from now on
        """
        self.known = self._columns(recent)

    def contains(self, data: Transitions) -> th.Tensor:
        """
        Which rows are among the stored ones.

        :param data: B rows
        :return: bool ``[B]``
        """
        columns = self._columns(data)
        if self.known.shape[0] == 0:
            return th.zeros(columns.shape[0], dtype=th.bool, device=columns.device)
        keys, order = row_keys(self.known.unbind(-1)).sort()
        place = th.searchsorted(keys, row_keys(columns.unbind(-1))).clamp(max=keys.numel() - 1)
        return (columns == self.known[order[place]]).all(dim=-1)

    @staticmethod
    def _columns(data: Transitions) -> th.Tensor:
        return th.cat([getattr(data, name) for name in FIELDS], dim=-1) + 0.0  # so that no -0.0 is saved
