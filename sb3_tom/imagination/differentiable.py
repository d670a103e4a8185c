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
    too. Where an episode ends the state stays what it was, and no later row of it is alive.

    :param world: model, termination and reward
    :param start_observations: ``[B, O]``
    :param length: steps of each rollout
    :param context: view of the agent
    :return: for each step the transitions of all rollouts, and which were alive before it, float ``[B, 1]``
    """
    steps: list[Transitions] = []
    alive = [th.ones_like(start_observations[:, :1])]
    observations = start_observations
    for _ in range(length):
        batch = world.step(observations, context)
        steps.append(batch)
        alive.append(alive[-1] * (1.0 - batch.terminated))
        observations = th.where(alive[-1] > 0, batch.next_observations, observations)
    return steps, alive[:-1]
