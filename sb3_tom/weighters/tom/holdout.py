"""Held-out rows of a fit, and the parameters that are best on them."""

from collections.abc import Callable, Iterable

import torch as th
from torch import nn

from sb3_tom.compute.cuda_graphs import descent
from sb3_tom.compute.optimizers import set_learning_rate
from sb3_tom.weighters.tom.folds import shuffled_blocks

BLOCK = 50
"""Consecutive steps of a trajectory that are held out together: neighbours share states."""
_LOOK = 50
"""Steps between two evaluations of the held-out rows in :func:`descend_to_best`."""


def hold_out(n_rows: int, ratio: float, generator: th.Generator, n_envs: int = 1) -> tuple[th.Tensor, th.Tensor]:
    """
    Split rows into training and held-out ones, in blocks of neighbours.

    :param n_rows: number N of rows, in the order of collection
    :param ratio: share that is held out, in [0, 1)
    :param generator: source of randomness
    :param n_envs: environments whose rows alternate
    :return: numbers of the training rows, and of the held-out ones (none if there are too few blocks)
    """
    blocks, order = shuffled_blocks(n_rows, BLOCK, n_envs, generator)
    chosen = th.zeros(len(order), dtype=th.bool, device=order.device)
    chosen[order[: int(ratio * len(order))]] = True
    held = chosen[blocks]
    return th.nonzero(~held).squeeze(1), th.nonzero(held).squeeze(1)


class BestState:
    """
    Keeps the parameters with the lowest objective on held-out rows: on few rows the dual would overfit, and its weights would
    concentrate on a handful of them.

    :param module: its parameters are kept
    :param objective: returns a scalar; called now and at each offer
    """

    def __init__(self, module: nn.Module, objective: Callable[[], th.Tensor]) -> None:
        self._parameters = list(module.parameters())
        self._objective = objective
        self._best = th.full_like(self._parameters[0].flatten()[0], th.inf)
        self._copies = [parameter.detach().clone() for parameter in self._parameters]
        self._step = th.zeros_like(self._best)
        self.offer(0)

    @th.no_grad()
    def offer(self, step: int) -> None:
        """Keep the current parameters if they are the best so far; without a host read."""
        value = self._objective()
        better = value < self._best
        self._best = th.where(better, value, self._best)
        self._step = th.where(better, th.full_like(self._step, step), self._step)
        for copy, parameter in zip(self._copies, self._parameters, strict=True):
            copy.copy_(th.where(better, parameter, copy))

    @th.no_grad()
    def restore(self) -> tuple[th.Tensor, th.Tensor]:
        """Restore the best parameters; return their objective and their step."""
        for copy, parameter in zip(self._copies, self._parameters, strict=True):
            parameter.copy_(copy)
        return self._best, self._step


def descend_to_best(
    module: nn.Module,
    loss: Callable[..., th.Tensor],
    unseen: Callable[[], th.Tensor],
    batches: Iterable[tuple[th.Tensor, ...]],
    n_steps: int,
    learning_rate: float,
    title: str,
    weight_decay: float = 0.0,
) -> None:
    """
    Fit by a new Adam, whose rate falls linearly to 0, and restore the parameters that were best on held-out rows.

    :param module: all of its parameters are fitted
    :param loss: of a minibatch, see :func:`~sb3_tom.compute.cuda_graphs.descent`
    :param unseen: objective of the held-out rows
    :param batches: arguments of the loss, for each step
    :param n_steps: number of steps
    :param learning_rate: of the first step
    :param title: of the fit, for a warning
    :param weight_decay: Adam's
    """
    optimizer = th.optim.Adam(module.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True)
    best = BestState(module, unseen)
    with descent(optimizer, loss, title, next(module.parameters()).device) as descend:
        for step, batch in enumerate(batches):
            set_learning_rate(optimizer, learning_rate * (1.0 - step / n_steps))
            descend(*batch)
            if (step + 1) % _LOOK == 0 or step + 1 == n_steps:
                best.offer(step + 1)
    best.restore()
