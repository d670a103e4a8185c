"""Differentiable rollouts: gradients flow back to the policy, the model and the start states."""

from dataclasses import replace
from typing import NamedTuple

import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.policy_update import ImaginedWorld
from sb3_tom.contracts.types import PolicyFunction, Transitions


class Rollout(NamedTuple):
    """
    L steps from each of B starts. After a termination or a stop the state does not change and no step counts.

    :param steps: L transitions ``[B, .]``, relabelled by the objective
    :param counted: L times ``[B, 1]``, 1.0 where the step counts: no episode has ended and no rollout has stopped before it
    :param observations: ``[B, O]``, last state of each rollout
    :param alive: ``[B, 1]``, 1.0 where the last state is not terminal, so that it has a value, also after a stop
    :param length: ``[B, 1]``, steps before the rollout stopped, L where it did not; None: there is no rollout stop
    :param trust: L times ``[B, 1]``, confidence of each step; None: all count the same
    """

    steps: list[Transitions]
    counted: list[th.Tensor]
    observations: th.Tensor
    alive: th.Tensor
    length: th.Tensor | None
    trust: list[th.Tensor] | None


def roll_out(
    world: ImaginedWorld, start_observations: th.Tensor, length: int, context: Context, policy: PolicyFunction | None = None
) -> Rollout:
    """
    Roll the policy out in the model from each start, keeping the graph: actions, next states and rewards are reparameterised.
    Stop and confidence are evaluated at each step, without gradients.

    :param world: model, termination and reward
    :param start_observations: ``[B, O]``, in the env's own units
    :param length: L, at least 0
    :param context: view of the agent, for stop, confidence and objective
    :param policy: the policy to follow, called once per step; None: the context's
    """
    followed = context if policy is None else replace(context, policy=policy)
    steps: list[Transitions] = []
    counted: list[th.Tensor] = []
    trust: list[th.Tensor] = []
    observations, alive = start_observations, th.ones_like(start_observations[:, :1])
    stopped: th.Tensor | None = None
    for _ in range(length):
        batch = world.step(observations, followed)
        stops = world.stops(batch, context)
        if stops is not None:
            here = alive * stops
            stopped, alive = here if stopped is None else stopped + here, alive - here
        said = world.trust(batch, context)
        trust += [] if said is None else [said]
        steps.append(world.relabel(batch, context))
        counted.append(alive)
        alive = alive * (1.0 - batch.terminated)
        # States after an end are not evaluated: rules and rewards may be undefined there, and 0 * nan is nan
        observations = th.where(alive > 0, batch.next_observations, observations)
    if stopped is None:
        return Rollout(steps, counted, observations, alive, None, trust or None)
    made = th.where(stopped > 0, th.stack(counted).sum(0), float(length))
    return Rollout(steps, counted, observations, alive + stopped, made, trust or None)
