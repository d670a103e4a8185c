"""Minibatches with a fixed share of real transitions, the rest imagined."""

from collections.abc import Callable, Iterator

import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.objective import ModelObjective
from sb3_tom.contracts.types import Batch, Transitions
from sb3_tom.data.imagined import ImaginedBuffer
from sb3_tom.data.units import PolicyUnits

CHUNK = 50
"""Number of minibatches that are gathered at once."""

Relabel = Callable[[Batch, th.Tensor], Batch]
"""``relabel(batch [..., B, .] in raw units, is_real [B, 1]) -> batch``."""


class MixedBatches:
    """
    Draws minibatches for the policy update: the first ``int(real_ratio * batch_size)`` rows are real, the rest imagined,
    both uniform with replacement. All row numbers of a chunk of batches are drawn, and their rows gathered, at once.

    :param real: all real rows
    :param imagined: the imagined rows; if there are none, every row is real
    :param real_ratio: share of real rows
    :param generator: source of randomness
    :param units: converts raw units to those of the policy; rows are stored raw, so that moving statistics of
        ``VecNormalize`` apply to old rows too
    :param relabel: changes rows when they are drawn, in raw units; None: they stay as stored
    """

    def __init__(
        self,
        real: Transitions,
        imagined: ImaginedBuffer,
        real_ratio: float,
        generator: th.Generator,
        units: PolicyUnits | None = None,
        relabel: Relabel | None = None,
    ) -> None:
        self._real = real
        self._imagined = imagined
        self._real_ratio = real_ratio
        self._generator = generator
        self.units = PolicyUnits() if units is None else units
        self._relabel = relabel

    def __call__(self, n_batches: int, batch_size: int) -> Iterator[Batch]:
        """See :meth:`sb3_tom.contracts.policy_update.Batches.__call__`."""
        return self._one_by_one(n_batches, batch_size, self._in_policy_units, self._n_real(batch_size))

    def raw(self, n_batches: int, batch_size: int) -> Iterator[Batch]:
        """See :meth:`sb3_tom.contracts.policy_update.Batches.raw`."""
        return self._one_by_one(n_batches, batch_size, lambda batch: batch, self._n_real(batch_size))

    def real(self, n_batches: int, batch_size: int) -> Iterator[Batch]:
        """See :meth:`sb3_tom.contracts.policy_update.Batches.real`."""
        return self._one_by_one(n_batches, batch_size, self._in_policy_units, batch_size)

    def _n_real(self, batch_size: int) -> int:
        return int(self._real_ratio * batch_size) if self._imagined.size else batch_size

    def _one_by_one(self, n_batches: int, batch_size: int, convert: Callable[[Batch], Batch], n_real: int) -> Iterator[Batch]:
        for first in range(0, n_batches, CHUNK):
            n_chunk = min(CHUNK, n_batches - first)
            chunk = convert(self._chunk(n_chunk, batch_size, n_real))
            for index in range(n_chunk):
                yield Batch(*(None if field is None else field[index] for field in chunk))  # type: ignore[arg-type]

    def _in_policy_units(self, raw: Batch) -> Batch:
        units = self.units
        return raw._replace(
            observations=units.observations(raw.observations),
            next_observations=units.observations(raw.next_observations),
            rewards=units.rewards(raw.rewards),
        )

    def _chunk(self, n_batches: int, batch_size: int, n_real: int) -> Batch:
        """Fields ``[n_batches, batch_size, width]`` in raw units, the first ``n_real`` rows of each minibatch real."""
        real_rows = self._draw(self._real.size, (n_batches, n_real))
        real = [field[real_rows] for field in self._real.step_fields]
        if self._imagined.with_confidence:
            real.append(th.ones_like(real[3]))
        if n_real < batch_size:
            imagined = self._imagined.gather(self._draw(self._imagined.size, (n_batches, batch_size - n_real)))
            real = [th.cat(parts, dim=1) for parts in zip(real, imagined, strict=True)]
        batch = Batch(*real)
        if self._relabel is None:
            return batch
        return self._relabel(batch, th.arange(batch_size, device=self._real.device).unsqueeze(1) < n_real)

    def _draw(self, n_rows: int, shape: tuple[int, int]) -> th.Tensor:
        return th.randint(n_rows, shape, generator=self._generator, device=self._real.device)


def relabelling(objective: ModelObjective, context: Context) -> Relabel | None:
    """
    The ``relabel`` argument of :class:`MixedBatches` for an objective.

    :param objective: the agent's
    :param context: view of the agent
    :return: None if the objective does not override :meth:`ModelObjective.relabel_batch`, so that it costs nothing
    """
    if type(objective).relabel_batch is ModelObjective.relabel_batch:
        return None

    @th.no_grad()
    def relabel(batch: Batch, is_real: th.Tensor) -> Batch:
        said = objective.relabel_batch(batch, is_real, context)
        allowed = [tuple(field.shape) for field in (*batch[:-1], batch.rewards) if field is not None]  # the last: confidence
        came = [None if field is None else tuple(field.shape) for field in said] if isinstance(said, Batch) else repr(said)
        if came not in (allowed, [*allowed[:-1], None]):
            raise ValueError(f"{type(objective).__name__}.relabel_batch returned {came}; allowed: a Batch of shapes {allowed}")
        return said

    return relabel
