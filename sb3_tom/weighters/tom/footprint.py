"""Which rows of the buffer are recent, for TOM without a discriminator."""

import torch as th

from sb3_tom.contracts.plug import GrowingBuffers
from sb3_tom.contracts.types import Transitions


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
        bits = th.Generator().manual_seed(0)  # any fixed odd numbers: they only spread the rows over the 64-bit keys
        self._factors = th.randint(-(2**62), 2**62, (n_columns,), generator=bits) * 2 + 1

    known: th.Tensor

    def remember(self, recent: Transitions) -> None:
        """
        Replace the stored rows.

        :param recent: rows to find from now on
        """
        self.known = self._columns(recent).clone()

    def contains(self, data: Transitions) -> th.Tensor:
        """
        Which rows are among the stored ones.

        :param data: B rows
        :return: bool ``[B]``
        """
        columns = self._columns(data)
        if self.known.shape[0] == 0:
            return th.zeros(columns.shape[0], dtype=th.bool, device=columns.device)
        keys, order = self._keys(self.known).sort()
        place = th.searchsorted(keys, self._keys(columns)).clamp(max=keys.numel() - 1)
        return (columns == self.known[order[place]]).all(dim=-1)

    @staticmethod
    def _columns(data: Transitions) -> th.Tensor:
        # Adding 0 turns -0.0 into 0.0: equal values get equal bits
        return th.cat([data.observations, data.actions, data.next_observations], dim=-1) + 0.0

    def _keys(self, columns: th.Tensor) -> th.Tensor:
        """A hash of each row's bits, int64; products wrap around."""
        return (columns.float().contiguous().view(th.int32).long() * self._factors.to(columns.device)).sum(-1)
