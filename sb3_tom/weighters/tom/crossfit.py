"""Held-out rows of cross-fitted networks: early stopping, best parameters and calibration."""

import math
from typing import NamedTuple

import torch as th
from torch import nn

from sb3_tom.weighters.tom.calibration import Calibration, Logits, calibrate, cross_entropies
from sb3_tom.weighters.tom.folds import grouped

LOOK = 25
"""Steps between two evaluations of the held-out rows."""
PATIENCE = 3
"""Evaluations in a row without an improvement after which the fit stops."""
LOOKED_AT = 4096
"""Maximum number of held-out rows of the buffer, over all folds."""
_GAIN = 1e-4
"""Decrease of the held-out cross-entropy that counts as an improvement."""


class Part(NamedTuple):
    """
    Held-out inputs of one class, a fold for each network.

    :param features: ``[K, m, D]``
    :param valid: bool ``[K, m]``, False for padding: the folds need not be of equal size
    :param blocks: int64 ``[K, m]``, equal for rows that are neighbours in time
    """

    features: th.Tensor
    valid: th.Tensor
    blocks: th.Tensor

    @classmethod
    def of(cls, features: th.Tensor, blocks: th.Tensor, folds: th.Tensor, n_folds: int) -> "Part":
        """
        Arrange rows by fold.

        :param features: ``[B, D]``
        :param blocks: int64 ``[B]``
        :param folds: int64 ``[B]``
        :param n_folds: K
        """
        groups = grouped(folds, n_folds)
        return cls(features[groups.rows], groups.valid, blocks[groups.rows])

    def mean(self, values: th.Tensor) -> th.Tensor:
        """
        Mean of each fold, 0 for an empty one.

        :param values: ``[K, m]``
        :return: ``[K]``
        """
        return th.where(self.valid, values, 0.0).sum(-1) / self.valid.sum(-1).clamp(min=1)


class HeldOut:
    """
    Held-out rows, its own fold for each network, and the parameters with the lowest cross-entropy on them. One step is chosen
    for all networks: a step per network would overfit the held-out rows.

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
        Evaluate the held-out rows, and keep the parameters if they are the best so far.

        :return: False if the fit should stop
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
        """Restore the best parameters; return their cross-entropy, summed over classes and averaged over networks."""
        th._foreach_copy_(self._parameters, self._kept)
        return self._best

    @th.no_grad()
    def calibration(self) -> Calibration:
        """Slope and offset for the logits of all networks together."""
        ours, theirs = (Logits(self._network(part.features)[part.valid], part.blocks[part.valid]) for part in self._parts)
        return calibrate(ours, theirs, self._label)
