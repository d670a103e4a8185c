"""
Folds of rows for cross-fitting: no network is evaluated on a row that it was trained on. Neighbours share states, so folds
consist of blocks of consecutive steps of an environment, and a recent row is in the fold of its copy in the buffer.
"""

from typing import NamedTuple

import torch as th

from sb3_tom.contracts.types import Transitions
from sb3_tom.data.moments import StoredRows
from sb3_tom.weighters.tom.row_keys import FIELDS, columns_of, row_keys

BLOCK = 200
"""Default of the maximum number of consecutive steps in a block; an episode across its edge may be in two folds."""
_KEY_COLUMNS = 16
"""Columns that are hashed to find equal rows; then all columns are compared."""


class NumberedRows(StoredRows):
    """Rows of the buffer with their numbers in it, which :meth:`rows` and :meth:`split` keep."""

    numbers: th.Tensor

    @classmethod
    def of(cls, data: Transitions, numbers: th.Tensor | None = None) -> "NumberedRows":
        """
        Add numbers to rows.

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


def block_length(n_recent: int, n_folds: int, n_envs: int, most: int | None = None) -> int:
    """
    Number of consecutive steps in a block: small enough that a small ``recent`` has rows in each fold. The envs spread over
    the folds by themselves (:func:`folds_of`), so that with K envs or more a block may be all of the steps: in shorter ones
    rows would be recognised by their neighbours in other folds.

    :param n_recent: rows of ``recent``
    :param n_folds: K
    :param n_envs: environments whose rows alternate in ``recent``
    :param most: maximum number of steps; None: :data:`BLOCK`
    """
    return max(1, min(most or BLOCK, n_recent // n_envs // max(n_folds - n_envs + 1, 1)))


def blocks_of(numbers: th.Tensor, block: th.Tensor | int, n_envs: th.Tensor | int) -> th.Tensor:
    """
    The block number of each row.

    :param numbers: int64, any shape: numbers of rows in the order of collection
    :param block: consecutive steps of an environment that stay together, a scalar
    :param n_envs: environments whose rows alternate, a scalar
    :return: int64
    """
    n_envs, block = (th.as_tensor(value).long() for value in (n_envs, block))
    return numbers // n_envs // block * n_envs + numbers % n_envs


def shuffled_blocks(n_rows: int, block: int, n_envs: int, generator: th.Generator) -> tuple[th.Tensor, th.Tensor]:
    """
    The block number of each row, and all block numbers in random order.

    :param n_rows: number N of rows, in the order of collection
    :param block: consecutive steps of an environment that stay together
    :param n_envs: environments whose rows alternate
    :param generator: source of randomness
    :return: int64 ``[N]``, and a permutation of all block numbers, int64
    """
    n_blocks = n_envs * -(-n_rows // (block * n_envs))
    blocks = blocks_of(th.arange(n_rows, device=generator.device), block, n_envs)
    return blocks, th.randperm(n_blocks, generator=generator, device=generator.device)


def folds_of(numbers: th.Tensor, block: th.Tensor, n_envs: th.Tensor, n_folds: int) -> th.Tensor:
    """
    The fold of each row.

    :param numbers: int64, any shape: numbers of rows in the order of collection
    :param block: consecutive steps of an environment that stay together, a scalar
    :param n_envs: environments whose rows alternate, a scalar
    :param n_folds: K
    :return: int64, 0 to K - 1; simultaneous blocks of different envs are in different folds as far as there are enough
    """
    n_envs, block = n_envs.long(), block.long()
    return (numbers // n_envs // block + numbers % n_envs) % n_folds


def places(recent: Transitions, data: Transitions) -> th.Tensor:
    """
    Row numbers of recent rows in the buffer. Equal rows are matched from the last on, so that the newest rows of the buffer
    match themselves.

    :param recent: n rows
    :param data: N rows
    :return: int64 ``[n]``, -1 for a row that is not in the buffer
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
    """Keys of the rows, from a few of their columns and all actions, which differ where observations are equal."""
    columns = columns_of(data)
    return row_keys([*columns[:: -(-len(columns) // _KEY_COLUMNS)], *data.actions.unbind(-1)])


def _copies_after(keys: th.Tensor) -> th.Tensor:
    """Number of equal keys after each ``[n]``."""
    ordered, order = keys.sort(stable=True)
    after = th.searchsorted(ordered, ordered, right=True) - 1 - th.arange(len(keys), device=keys.device)
    return th.empty_like(after).index_copy(0, order, after)


class Groups(NamedTuple):
    """
    Rows by fold, padded to a rectangle.

    :param rows: int64 ``[K, m]``, numbers of rows; arbitrary where padded
    :param valid: bool ``[K, m]``, False where padded
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
    Draws for each fold from the rows that are not in it; from all rows if there are none.

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
