"""Branched rollouts: short imagined continuations of real states under the current policy (MBPO, arXiv:1906.08253, Alg. 2)."""

from collections.abc import Callable
from typing import NamedTuple

import torch as th

from sb3_tom.common.buffers import ImaginedBuffer
from sb3_tom.common.chunks import rows_at_once
from sb3_tom.common.guards import check_magnitudes, magnitude
from sb3_tom.common.types import Context, Transitions
from sb3_tom.dynamics.base import DynamicsModel
from sb3_tom.objectives.base import ModelObjective
from sb3_tom.terminations.base import Termination

_RETURNS = 10_000
"""Rollouts whose returns the log's quantiles are taken from."""

RewardFunction = Callable[[th.Tensor, th.Tensor, th.Tensor], th.Tensor]
"""``reward_fn(observations [B, O], actions [B, A] in [-1, 1], next_observations [B, O]) -> rewards [B, 1]``."""


class World(NamedTuple):
    """
    What stands in for the env in imagination.

    :param model: the fitted dynamics model
    :param termination: ends imagined episodes
    :param objective: may relabel what is stored
    :param reward_fn: known reward, or None for the model's
    """

    model: DynamicsModel
    termination: Termination
    objective: ModelObjective
    reward_fn: RewardFunction | None

    def step(self, observations: th.Tensor, context: Context) -> Transitions:
        """One imagined step of the current policy from each observation ``[B, O]``."""
        actions, _ = context.policy(observations)
        next_observations, rewards = self.model.sample(observations, actions, context.generator)
        if self.reward_fn is not None:
            rewards = known_rewards(self.reward_fn, observations, actions, next_observations)
        terminated = self.termination(observations, actions, next_observations).float()
        version = th.full((observations.shape[0],), context.policy_version, device=observations.device)
        return Transitions(observations, actions, next_observations, rewards, terminated, version)


def known_rewards(
    reward_fn: RewardFunction, observations: th.Tensor, actions: th.Tensor, next_observations: th.Tensor
) -> th.Tensor:
    """
    Rewards of a user's function, which may write into its arguments: it gets copies.

    :param reward_fn: see :data:`RewardFunction`
    :param observations: ``[B, O]``
    :param actions: ``[B, A]`` in [-1, 1]
    :param next_observations: ``[B, O]``
    :return: ``[B, 1]``
    """
    return reward_fn(observations.clone(), actions.clone(), next_observations.clone())


@th.no_grad()
def branched_rollouts(
    world: World,
    start_observations: th.Tensor,
    length: int,
    context: Context,
    imagined: ImaginedBuffer,
) -> dict[str, float]:
    """
    Roll the policy out in the model from each start and store every transition up to and including a termination. Figures are
    those of what is stored; a rollout goes on from, and ends by, what ``world`` said before the objective relabelled it.

    :param world: model, termination and reward
    :param start_observations: ``[B, O]`` real observations
    :param length: steps of each rollout at most
    :param context: view of the agent
    :param imagined: where to
    :return: figures for the log: mean length, share of terminations, mean reward, and the returns that 5 % of the rollouts
        are below (``return_low``) and above (``return_high``)
    :raises DivergenceError: if a prediction is not usable
    """
    alive_steps = th.zeros((), device=start_observations.device)
    ends, largest_state, largest_reward = alive_steps.clone(), alive_steps.clone(), alive_steps.clone()
    returns = []
    for observations in start_observations.split(rows_at_once(start_observations.device)):
        alive = th.ones(observations.shape[0], 1, dtype=th.bool, device=observations.device)
        returns.append(th.zeros(observations.shape[0], 1, device=observations.device))
        for _ in range(length):
            batch = world.step(observations, context)
            stored = world.objective.relabel(batch, context)
            imagined.add(stored, alive.squeeze(1))
            alive_steps += alive.sum()
            returns[-1] += stored.rewards * alive
            largest_state = th.maximum(largest_state, magnitude([batch.next_observations]))
            largest_reward = th.maximum(largest_reward, magnitude([stored.rewards]))
            ends += (stored.terminated * alive).sum()
            alive = alive & (batch.terminated == 0)
            observations = th.where(alive, batch.next_observations, observations)
    model = type(world.model).__name__
    check_magnitudes(
        {
            f"the norm of the next observations that {model} predicts": float(largest_state),
            f"the norm of the imagined rewards ({model if world.reward_fn is None else 'reward_fn'})": float(largest_reward),
        }
    )
    low, high = th.quantile(th.cat(returns)[:_RETURNS], th.tensor([0.05, 0.95], device=alive_steps.device)).tolist()
    return {
        "length": float(alive_steps / start_observations.shape[0]),
        "terminated_share": float(ends / alive_steps),
        "reward_mean": float(th.cat(returns).sum() / alive_steps),
        "return_low": low,
        "return_high": high,
    }
