"""What the agent's model misses of the rows of a replay buffer, in pieces."""

from collections.abc import Iterator

import torch as th

from sb3_tom.compute.chunks import rows_at_once
from sb3_tom.contracts.context import ReadableModel
from sb3_tom.contracts.types import Transitions


@th.no_grad()
def squared_errors_of_members(model: ReadableModel, data: Transitions) -> Iterator[th.Tensor]:
    """
    How far the means of a model's members are from what happened, in normalised units.

    :param model: of E members; it has to say its targets
    :param data: N rows
    :return: ``[E, n, D]`` float64 of the next n rows, the reward first
    """
    # Asked, not read: a model that nobody compares the members of need not say how many they are
    n_members = model.forward(data.observations[:1], data.actions[:1]).mean.shape[0]
    for rows in data.split(rows_at_once(data.device, n_members)):
        missed = model.forward(rows.observations, rows.actions).mean - model.targets(rows)
        yield missed.double().square()
