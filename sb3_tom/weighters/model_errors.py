"""Errors of the agent's model on the rows of a replay buffer, in chunks."""

from collections.abc import Iterator

import torch as th

from sb3_tom.compute.chunks import rows_at_once
from sb3_tom.contracts.context import ReadableModel
from sb3_tom.contracts.types import Transitions


@th.no_grad()
def squared_errors_of_members(model: ReadableModel, data: Transitions) -> Iterator[th.Tensor]:
    """
    Squared errors of the mean predictions of a model's members, in normalised units; 0 for targets that never varied, which
    are predicted exactly, whatever the networks say.

    :param model: of E members; has to implement ``targets`` and ``target_scales``
    :param data: N rows
    :return: iterator over chunks of n rows, in their order: float64 ``[E, n, D]``, the reward first
    """
    # Read from a prediction: a ReadableModel has no n_members
    n_members = model.forward(data.observations[:1], data.actions[:1]).mean.shape[0]
    for rows in data.split(rows_at_once(data.device, n_members)):
        missed = model.forward(rows.observations, rows.actions).mean - model.targets(rows)
        yield th.where(model.target_scales() > 0, missed, 0.0).double().square()
