"""
Folds of rows for cross-fitting: no network weighs a row that it was trained on. Neighbours share states, so that folds are
made of blocks of consecutive steps of an environment, and a row of the footprint is in the fold of its copy in the buffer.
"""

from typing import NamedTuple

import torch as th

from sb3_tom.contracts.types import Transitions
from sb3_tom.data.moments import StoredRows
from sb3_tom.weighters.tom.row_keys import FIELDS, columns_of, row_keys

BLOCK = 200
"""Consecutive steps of an environment that are in the same fold, at most: two folds know an episode that an edge cuts."""
_KEY_COLUMNS = 16
"""Columns by which equal rows are looked for; all columns decide."""


class NumberedRows(StoredRows):
    """Rows of the buffer that know their numbers in it, as :meth:`rows` and :meth:`split` hand them on."""

    numbers: th.Tensor

    @classmethod
    def of(cls, data: Transitions, numbers: th.Tensor | None = None) -> "NumberedRows":
        """
        Number rows.

        :param data: B rows
        :param numbers: int64 ``[B]``; None for all rows of the buffer, in their order
        """
        rows = cls(*data)
        rows.numbers = th.arange(data.size, device=data.device) if numbers is None else numbers
        rows.known = data.known if numbers is None and isinstance(data, StoredRows) else None
        return rows

    def rows(self, indices: th.Tensor) -> "NumberedRows":
        """The rows at ``indices``, with their numbers; see :meth:`Transitions.rows`."""
        return self.of(super().rows(indices), self.numbers[indices])

    def split(self, n_rows: int) -> "list[Transitions]":
        """All rows in pieces, with their numbers; see :meth:`Transitions.split`."""
        return [self.of(*parts) for parts in zip(super().split(n_rows), self.numbers.split(n_rows), strict=True)]


def block_length(n_recent: int, n_folds: int, n_envs: int) -> int:
    """
    Consecutive steps that are held out together: short enough that also a small footprint has rows in each fold.

    :param n_recent: rows of the footprint
    :param n_folds: K
    :param n_envs: environments whose rows alternate in it
    """
    return max(1, min(BLOCK, n_recent // n_envs // n_folds))


def blocks_of(numbers: th.Tensor, block: th.Tensor | int, n_envs: th.Tensor | int) -> th.Tensor:
    """
    The block of each row, by number; arguments as in :func:`folds_of`.

    :param numbers: int64, any shape: of rows in the order of collection
    :param block: consecutive steps of an environment that stay together, a scalar
    :param n_envs: environments whose rows alternate, a scalar
    :return: int64
    """
    n_envs, block = (th.as_tensor(value).long() for value in (n_envs, block))
    return numbers // n_envs // block * n_envs + numbers % n_envs


def shuffled_blocks(n_rows: int, block: int, n_envs: int, generator: th.Generator) -> tuple[th.Tensor, th.Tensor]:
    """
    The block of each row, and all blocks in a random order.

    :param n_rows: number N of rows, in the order of collection
    :param block: consecutive steps of an environment that stay together
    :param n_envs: environments whose rows alternate
    :param generator: source of randomness
    :return: int64 ``[N]``, and int64 with as many entries as there may be blocks
    """
    n_blocks = n_envs * -(-n_rows // (block * n_envs))
    blocks = blocks_of(th.arange(n_rows, device=generator.device), block, n_envs)
    return blocks, th.randperm(n_blocks, generator=generator, device=generator.device)


def folds_of(numbers: th.Tensor, block: th.Tensor, n_envs: th.Tensor, n_folds: int) -> th.Tensor:
    """
    The fold of each row.

    :param numbers: int64, any shape: of rows in the order of collection
    :param block: consecutive steps of an environment that stay together, a scalar
    :param n_envs: environments whose rows alternate, a scalar
    :param n_folds: K
    :return: int64, 0 to K - 1; the blocks of a time are in different folds as far as there are enough
    """
    n_envs, block = n_envs.long(), block.long()
    return (numbers // n_envs // block + numbers % n_envs) % n_folds


def places(recent: Transitions, data: Transitions) -> th.Tensor:
    """
    Where the rows of a footprint are in the buffer. Of equal rows the last of the footprint is the last of the buffer, the one
    before it the one before, so that a footprint of the newest rows finds itself.

    :param recent: n rows
    :param data: N rows
    :return: int64 ``[n]``, -1 for a row that the buffer does not have
    """
    keys, order = _keys(data).sort(stable=True)
    wanted = _keys(recent)
    first, end = (th.searchsorted(keys, wanted, right=right) for right in (False, True))
    number = (end - 1 - _copies_after(wanted) % (end - first).clamp(min=1)).clamp(min=0)
    found = order[number]
    there = data.rows(found)
    same = end > first
    for name in FIELDS:
        same &= (getattr(there, name) == getattr(recent, name)).all(-1)
    return th.where(same, found, -1)


def _keys(data: Transitions) -> th.Tensor:
    """Of a few columns only."""
    columns = columns_of(data)
    return row_keys(columns[:: -(-len(columns) // _KEY_COLUMNS)])


def _copies_after(keys: th.Tensor) -> th.Tensor:
    """How many equal keys come later ``[n]``."""
    ordered, order = keys.sort(stable=True)
    after = th.searchsorted(ordered, ordered, right=True) - 1 - th.arange(len(keys), device=keys.device)
    return th.empty_like(after).index_copy(0, order, after)


class Groups(NamedTuple):
    """
    Rows by fold, in a rectangle.

    :param rows: int64 ``[K, m]``, numbers of rows; those beyond a fold's own are any
    :param valid: bool ``[K, m]``, whether it is the fold's own
    """

    rows: th.Tensor
    valid: th.Tensor


def grouped(folds: th.Tensor, n_folds: int) -> Groups:
    """
    The rows of each fold.

    :param folds: int64 ``[B]``
    :param n_folds: K
    """
    order, counts = folds.argsort(stable=True), folds.bincount(minlength=n_folds)
    steps = th.arange(int(counts.max()), device=folds.device)
    begins = counts.cumsum(0) - counts
    return Groups(order[(begins[:, None] + steps).clamp(max=len(folds) - 1)], steps < counts[:, None])


class OtherFolds:
    """
    Draws for each fold from the rows that are not in it; from all where that leaves none.

    :param folds: int64 ``[B]``
    :param n_folds: K
    """

    def __init__(self, folds: th.Tensor, n_folds: int) -> None:
        self._order = th.cat([th.nonzero(folds == number).squeeze(1) for number in range(n_folds)])
        counts = folds.bincount(minlength=n_folds)
        self._held = th.where(counts < len(folds), counts, 0)[:, None]
        self._begins = self._held.cumsum(0) - self._held
        self._others = len(folds) - self._held

    def draw(self, n_steps: int, batch_size: int, generator: th.Generator) -> th.Tensor:
        """
        Draw with replacement.

        :param n_steps: S
        :param batch_size: B
        :param generator: source of randomness
        :return: int64 ``[S, K, B]``
        """
        shape = (n_steps, len(self._held), batch_size)
        uniform = th.rand(shape, generator=generator, device=generator.device, dtype=th.float64)
        place = (uniform * self._others).long()
        return self._order[place + self._held * (place >= self._begins)]
