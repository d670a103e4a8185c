"""Minibatches with a fixed share of real transitions, the rest imagined."""

from collections.abc import Iterator

import torch as th
from stable_baselines3.common.type_aliases import ReplayBufferSamples

from sb3_tom.common.buffers import ImaginedBuffer
from sb3_tom.common.types import Batch, Transitions
from sb3_tom.common.vec_normalize import PolicyUnits

CHUNK = 50
"""Minibatches whose rows are gathered at once."""


class MixedBatches:
    """
    Draws minibatches for the policy update: the first ``int(real_ratio * batch_size)`` rows are real, the rest imagined,
    both uniform with replacement. All row numbers of a chunk of batches are drawn, and their rows gathered, at once.

    :param real: all real rows
    :param imagined: the ring of imagined rows; if it is empty, every row is real
    :param real_ratio: share of real rows
    :param generator: source of randomness
    :param units: from the rows' raw units to those of the policy; rows are stored raw, so that moving statistics of
        ``VecNormalize`` apply to old rows too
    """

    def __init__(
        self,
        real: Transitions,
        imagined: ImaginedBuffer,
        real_ratio: float,
        generator: th.Generator,
        units: PolicyUnits | None = None,
    ) -> None:
        self._real = real
        self._imagined = imagined
        self._real_ratio = real_ratio
        self._generator = generator
        self._units = PolicyUnits() if units is None else units

    def __call__(self, n_batches: int, batch_size: int) -> Iterator[Batch]:
        """
        Draw minibatches.

        :param n_batches: how many minibatches
        :param batch_size: rows of each
        :return: the minibatches, one after the other
        """
        for first in range(0, n_batches, CHUNK):
            n_chunk = min(CHUNK, n_batches - first)
            fields = self._in_policy_units(*self._chunk(n_chunk, batch_size))
            for index in range(n_chunk):
                yield Batch(*(field[index] for field in fields))

    def _in_policy_units(
        self,
        observations: th.Tensor,
        actions: th.Tensor,
        next_observations: th.Tensor,
        rewards: th.Tensor,
        terminated: th.Tensor,
    ) -> tuple[th.Tensor, ...]:
        units = self._units
        return (
            units.observations(observations),
            actions,
            units.observations(next_observations),
            units.rewards(rewards),
            terminated,
        )

    def _chunk(self, n_batches: int, batch_size: int) -> list[th.Tensor]:
        """Fields of ``n_batches`` minibatches, each ``[n_batches, batch_size, width]``."""
        n_real = int(self._real_ratio * batch_size) if self._imagined.size else batch_size
        real_rows = self._draw(self._real.size, (n_batches, n_real))
        real = [field[real_rows] for field in self._real[:5]]
        if n_real == batch_size:
            return real
        imagined = self._imagined.gather(self._draw(self._imagined.size, (n_batches, batch_size - n_real)))
        return [th.cat(parts, dim=1) for parts in zip(real, imagined, strict=True)]

    def _draw(self, n_rows: int, shape: tuple[int, int]) -> th.Tensor:
        return th.randint(n_rows, shape, generator=self._generator, device=self._real.device)

    def sample(self, batch_size: int, env: object = None) -> ReplayBufferSamples:
        """One minibatch under SB3's name and type, for SB3's own ``train``."""
        batch = next(self(1, batch_size))
        return ReplayBufferSamples(
            batch.observations, batch.actions, batch.next_observations, dones=batch.terminated, rewards=batch.rewards
        )
