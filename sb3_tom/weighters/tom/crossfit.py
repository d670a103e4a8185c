"""What cross-fitting knows of the rows that its networks have not seen: when to stop, and which parameters were best."""

import math
from typing import NamedTuple

import torch as th
from torch import nn

from sb3_tom.weighters.tom.calibration import Calibration, Logits, calibrate, cross_entropies
from sb3_tom.weighters.tom.folds import grouped

LOOK = 25
"""Steps between two looks at the held-out rows."""
PATIENCE = 3
"""Looks in a row that were no better than those before, after which the fit stops."""
LOOKED_AT = 4096
"""Rows of the buffer that are looked at, over all folds."""
_GAIN = 1e-4
"""Decrease of the held-out cross-entropy that counts as one."""


class Part(NamedTuple):
    """
    What the networks take of one class, a fold to each network.

    :param features: ``[K, m, D]``
    :param valid: bool ``[K, m]``: the folds need not be of equal size
    :param blocks: int64 ``[K, m]``, equal for rows that are neighbours in time
    """

    features: th.Tensor
    valid: th.Tensor
    blocks: th.Tensor

    @classmethod
    def of(cls, features: th.Tensor, blocks: th.Tensor, folds: th.Tensor, n_folds: int) -> "Part":
        """
        Deal rows out to their folds.

        :param features: ``[B, D]``
        :param blocks: int64 ``[B]``
        :param folds: int64 ``[B]``
        :param n_folds: K
        """
        groups = grouped(folds, n_folds)
        return cls(features[groups.rows], groups.valid, blocks[groups.rows])

    def mean(self, values: th.Tensor) -> th.Tensor:
        """
        Of each fold, 0 of an empty one.

        :param values: ``[K, m]``
        :return: ``[K]``
        """
        return th.where(self.valid, values, 0.0).sum(-1) / self.valid.sum(-1).clamp(min=1)


class HeldOut:
    """
    The rows of its own fold for each network, and the parameters with which the networks tell the classes apart best: those of
    one step for all, because of the luck of a choice for each of them the held-out rows would know.

    :param network: K networks in one
    :param ours: rows of ``recent``
    :param theirs: rows of the buffer
    :param label: of the buffer's rows
    """

    def __init__(self, network: nn.Module, ours: Part, theirs: Part, label: float) -> None:
        self._network = network
        self._parts, self._label = (ours, theirs), label
        self._parameters: list[th.Tensor] = list(network.parameters())
        self._kept = [parameter.detach().clone() for parameter in self._parameters]
        self._best, self._stale = math.inf, 0

    @th.no_grad()
    def look(self) -> bool:
        """
        Keep the parameters if they are better than ever.

        :return: whether it is worth to go on
        """
        ours, theirs = self._parts
        losses = cross_entropies(self._network(ours.features), self._network(theirs.features), self._label)
        error = float((ours.mean(losses[0]) + theirs.mean(losses[1])).mean())
        if error < self._best - _GAIN:
            self._best, self._stale = error, 0
            th._foreach_copy_(self._kept, self._parameters)
        else:
            self._stale += 1
        return self._stale < PATIENCE

    @th.no_grad()
    def restore(self) -> float:
        """Put the best parameters back; the cross-entropy with them, summed over the classes, a mean over the networks."""
        th._foreach_copy_(self._parameters, self._kept)
        return self._best

    @th.no_grad()
    def calibration(self) -> Calibration:
        """Slope and offset for the logits of all networks together."""
        ours, theirs = (Logits(self._network(part.features)[part.valid], part.blocks[part.valid]) for part in self._parts)
        return calibrate(ours, theirs, self._label)
