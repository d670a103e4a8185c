"""Rollouts that gradients flow through, from what they lead to back to the policy, the model and the starts."""

import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.policy_update import ImaginedWorld
from sb3_tom.contracts.types import Transitions


def differentiable_rollout(
    world: ImaginedWorld, start_observations: th.Tensor, length: int, context: Context
) -> tuple[list[Transitions], list[th.Tensor]]:
    """
    Roll the policy out in the model from each start, keeping the graph: actions are reparameterised, next states and rewards
    too. Where an episode ends, or is stopped, the state stays what it was, and no later row of it counts; the transition
    before which it is stopped does not count either.

    :param world: model, termination and reward
    :param start_observations: ``[B, O]``, in the env's own units
    :param length: steps of each rollout
    :param context: view of the agent
    :return: for each step the transitions of all rollouts, relabelled by the objective, and which of them count, float
        ``[B, 1]``
    """
    steps: list[Transitions] = []
    counted: list[th.Tensor] = []
    observations, alive = start_observations, th.ones_like(start_observations[:, :1])
    for _ in range(length):
        batch = world.step(observations, context)
        stops = world.stops(batch, context)
        alive = alive if stops is None else alive * ~stops
        steps.append(world.relabel(batch, context))
        counted.append(alive)
        alive = alive * (1.0 - batch.terminated)
        observations = th.where(alive > 0, batch.next_observations, observations)
    return steps, counted
