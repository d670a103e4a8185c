"""Hashes of rows, to find rows with the same values."""

from collections.abc import Sequence

import torch as th

from sb3_tom.contracts.types import Transitions

FIELDS = ("observations", "actions", "next_observations")
"""Rows with equal values of these fields count as the same."""


def columns_of(data: Transitions) -> list[th.Tensor]:
    """
    The columns of :data:`FIELDS`.

    :param data: N rows
    :return: ``[N]`` each, views
    """
    return [column for name in FIELDS for column in getattr(data, name).unbind(-1)]


def row_keys(columns: Sequence[th.Tensor]) -> th.Tensor:
    """
    A hash of each row's bits; products wrap around. Different rows may have the same key.

    :param columns: ``[N]`` each, at least one
    :return: int64 ``[N]``
    """
    draw = th.Generator().manual_seed(0)  # any fixed odd numbers: they only spread the rows over the keys
    factors = (th.randint(-(2**62), 2**62, (len(columns),), generator=draw) * 2 + 1).to(columns[0].device)
    keys = th.zeros(len(columns[0]), dtype=th.int64, device=columns[0].device)
    for column, factor in zip(columns, factors, strict=True):
        # Adding 0 turns -0.0 into 0.0: equal values get equal bits
        keys += (column + 0.0).float().contiguous().view(th.int32).long() * factor
    return keys
