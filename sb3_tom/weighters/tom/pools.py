"""Rows prepared for the descent of TOM's dual, and draws of minibatches from them."""

from collections.abc import Iterable
from typing import NamedTuple

import torch as th

from sb3_tom.contracts.types import Transitions
from sb3_tom.weighters.tom.settings import TOMSettings


class Pool(NamedTuple):
    """
    M rows for a descent, with what is computed for them; observations are not copied.

    :param numbers: int64 ``[M]``, numbers of the rows in the data
    :param next_actions: ``[M, k, A]``, actions of the policy at s'
    :param log_ratio: ``[M]``
    :param ended: ``[M]``, 1.0 where the flow does not continue at s'
    """

    numbers: th.Tensor
    next_actions: th.Tensor
    log_ratio: th.Tensor
    ended: th.Tensor

    @classmethod
    def joined(cls, parts: Iterable["Pool"], n_rows: int) -> "Pool":
        """Concatenate parts of ``n_rows`` in all, as :func:`sb3_tom.compute.chunks.joined` does."""
        whole: list[th.Tensor] = []
        first = 0
        for part in parts:
            whole = whole or [field.new_empty(n_rows, *field.shape[1:]) for field in part]
            last = first + len(part.numbers)
            for field, own in zip(whole, part, strict=True):
                field[first:last] = own
            first = last
        return cls(*whole)

    def rows(self, indices: th.Tensor) -> "Pool":
        """The rows at ``indices``."""
        return Pool(*(part[indices] for part in self))

    def split(self, n_rows: int) -> "list[Pool]":
        """All rows in their order, in chunks of ``n_rows``."""
        return [Pool(*parts) for parts in zip(*(part.split(n_rows) for part in self), strict=True)]


class FlowBatch(NamedTuple):
    """
    Inputs of the loss for B rows.

    :param inputs: ``[B, 1 + k, O + A]``: (s, a), then k times (s', a') with actions a' of the policy
    :param log_ratio: ``[B]``
    :param ended: ``[B]``, as in :class:`Pool`
    """

    inputs: th.Tensor
    log_ratio: th.Tensor
    ended: th.Tensor


def ends(data: Transitions, settings: TOMSettings) -> th.Tensor:
    """
    Where the flow does not continue at s'. After a time-out s' has no row in the buffer: nothing constrains Q there, so it
    would absorb the weight of its predecessors.

    :param data: B rows
    :param settings: ``terminal`` and ``restart_truncated`` are read
    :return: ``[B]``, 1.0 there
    """
    ended = data.terminated
    if settings.terminal == "restart" and settings.restart_truncated:
        ended = th.maximum(ended, data.truncated)
    return ended.squeeze(-1)


def draws(n_rows: int, steps: int, batch: int, generator: th.Generator) -> th.Tensor:
    """
    Row numbers of minibatches; a batch that could hold all rows holds each once.

    :param n_rows: rows to draw from
    :param steps: minibatches
    :param batch: rows of each, B
    :param generator: source of randomness
    :return: ``[steps, B]``
    """
    if batch >= n_rows:
        return th.arange(n_rows, device=generator.device).expand(steps, n_rows)
    return th.randint(n_rows, (steps, batch), generator=generator, device=generator.device)
