"""
Mean, standard deviation and range of each column, in float64 and without a copy of the rows: statistics of blocks of rows are
combined (Chan, Golub and LeVeque 1979). For a replay buffer, whose rows stay in place, those of the blocks are cached.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch as th

from sb3_tom.contracts.types import Transitions
from sb3_tom.data.scales import one_for_zero, varies

BLOCK = 1024
"""Rows of a block: few enough for a processor's cache; the statistics of a block take a hundredth of its memory."""

CHANGES = "changes"
"""The name of ``next_observations - observations`` among the columns; the others are those of the fields."""


class Moments(NamedTuple):
    """
    Statistics of D columns.

    :param mean: ``[D]`` float64
    :param std: ``[D]`` float64, the root of the mean squared deviation
    :param low: ``[D]`` minima, in the dtype of the rows
    :param high: ``[D]`` maxima
    """

    mean: th.Tensor
    std: th.Tensor
    low: th.Tensor
    high: th.Tensor

    @property
    def magnitude(self) -> th.Tensor:
        """Maxima of the absolute values, ``[D]``."""
        return th.maximum(self.low.abs(), self.high.abs())

    def varying(self, magnitude: th.Tensor | None = None) -> th.Tensor:
        """
        Standard deviations ``[D]`` of the columns that vary, 0 for the others.

        :param magnitude: ``[D]``, if the columns are differences, the magnitudes of what was subtracted; None: their own
        """
        return th.where(varies(self.std, self.magnitude if magnitude is None else magnitude), self.std, 0.0)

    @property
    def scale(self) -> th.Tensor:
        """Divisors ``[D]`` to unit scale: the standard deviations of the columns that vary, 1 for the others."""
        return one_for_zero(self.varying())


class _Block(NamedTuple):
    """Statistics of one block of rows: their number; for each column mean, sum of squared deviations from it, and range."""

    n_rows: int
    mean: th.Tensor
    scatter: th.Tensor
    low: th.Tensor
    high: th.Tensor

    @classmethod
    def of(cls, rows: th.Tensor) -> "_Block":
        low, high = th.aminmax(rows, dim=0)
        values = rows.to(th.float64, copy=True)
        mean = values.mean(0)
        return cls(len(rows), mean, values.sub_(mean).square_().sum(0), low, high)


class _Table:
    """
    Statistics of all blocks, a line for each. They are stored together: a small tensor allocated between the copies of two
    blocks would keep the memory of a whole block from being reused.
    """

    def __init__(self) -> None:
        self.n_rows: list[int] = []
        """Rows of each block; 0 where the block is not cached."""
        self._figures: list[th.Tensor] = []

    def put(self, number: int, block: _Block) -> None:
        """Store the statistics of a block; the first block comes first."""
        if number >= len(self.n_rows):
            self.n_rows.extend([0] * (number + 1 - len(self.n_rows)))
        figures = block[1:]
        if not self._figures or number >= len(self._figures[0]):
            grown = [figure.new_empty(max(2 * number, 16), len(figure)) for figure in figures]
            for new, old in zip(grown, self._figures, strict=False):
                new[: len(old)] = old
            self._figures = grown
        for line, figure in zip(self._figures, figures, strict=True):
            line[number] = figure
        self.n_rows[number] = block.n_rows

    def moments(self, n_blocks: int) -> Moments:
        """Statistics of the first ``n_blocks`` blocks together."""
        means, scatters, lows, highs = (figure[:n_blocks] for figure in self._figures)
        counts = th.tensor(self.n_rows[:n_blocks], dtype=means.dtype, device=means.device).unsqueeze(1)
        # Sum before dividing: so the mean of equal float32 numbers is exact, and their deviation 0
        mean = (counts * means).sum(0) / counts.sum()
        scatter = scatters.sum(0) + (counts * (means - mean).square()).sum(0)
        return Moments(mean, (scatter / counts.sum()).sqrt(), lows.amin(0), highs.amax(0))

    @th.no_grad()
    def complete(self, n_rows: int, columns: Callable[[slice], th.Tensor]) -> Moments:
        """Compute the blocks that are not cached; return the statistics of all N rows."""
        n_blocks = -(-n_rows // BLOCK)
        for number in range(n_blocks):
            rows = slice(number * BLOCK, min((number + 1) * BLOCK, n_rows))
            if number >= len(self.n_rows) or self.n_rows[number] != rows.stop - rows.start:
                self.put(number, _Block.of(columns(rows)))
        return self.moments(n_blocks)


class KnownBlocks:
    """Cached statistics of the blocks of rows that stay in place, by the name of their columns."""

    def __init__(self) -> None:
        self._tables: dict[str, _Table] = {}

    def forget(self, first: int, last: int) -> None:
        """
        Drop the blocks of rows that were written.

        :param first: number of the first row
        :param last: number after the last row
        """
        for table in self._tables.values():
            for number in range(first // BLOCK, min(-(-last // BLOCK), len(table.n_rows))):
                table.n_rows[number] = 0

    def moments(self, data: Transitions, name: str) -> Moments:
        """
        Statistics of one group of columns; reads only the rows of blocks that are not cached.

        :param data: N rows
        :param name: a field of ``data``, or :data:`CHANGES`
        """
        table = self._tables.setdefault(name, _Table())
        return table.complete(data.size, lambda rows: _columns(data, name, rows))


def _columns(data: Transitions, name: str, rows: slice) -> th.Tensor:
    if name == CHANGES:
        return data.next_observations[rows] - data.observations[rows]
    columns: th.Tensor = getattr(data, name)
    return columns[rows]


class StoredRows(Transitions):
    """All rows of a replay buffer, with a cache of the statistics of their blocks. Derived Transitions have no cache."""

    known: KnownBlocks | None = None


def moments_of(data: Transitions, *names: str) -> Moments:
    """
    Statistics of several groups of columns, concatenated.

    :param data: N rows, at least 1
    :param names: fields of ``data``, or :data:`CHANGES`
    """
    known = (data.known if isinstance(data, StoredRows) else None) or KnownBlocks()
    return Moments(*(th.cat(parts) for parts in zip(*(known.moments(data, name) for name in names), strict=True)))


def moments_of_columns(n_rows: int, columns: Callable[[slice], th.Tensor]) -> Moments:
    """
    Statistics of columns that are computed from rows.

    :param n_rows: number N of rows, at least 1
    :param columns: returns the columns ``[n, D]`` of the rows in a slice
    """
    return _Table().complete(n_rows, columns)
