"""The imagined env: model, termination and reward."""

from typing import Any, NamedTuple

import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.dynamics import DynamicsModel
from sb3_tom.contracts.imagination import Confidence, RolloutStop
from sb3_tom.contracts.objective import ModelObjective
from sb3_tom.contracts.plug import Plug
from sb3_tom.contracts.termination import Termination
from sb3_tom.contracts.types import RewardFunction, Transitions


class World(NamedTuple):
    """
    The imagined env.

    :param model: the fitted dynamics model
    :param termination: ends imagined episodes
    :param objective: may relabel imagined rows
    :param reward_fn: known reward, or None for the model's
    :param confidence: weights of imagined rows; None: all count the same
    :param rollout_stop: truncates rollouts; None: only terminations end them
    """

    model: DynamicsModel
    termination: Termination
    objective: ModelObjective
    reward_fn: RewardFunction | None
    confidence: Confidence | None = None
    rollout_stop: RolloutStop | None = None

    @property
    def plugs(self) -> list[Plug]:
        """Everything that an imagined step calls, except a ``reward_fn``."""
        plugs = (self.model, self.termination, self.objective, self.confidence, self.rollout_stop)
        return [plug for plug in plugs if plug is not None]

    def step(self, observations: th.Tensor, context: Context) -> Transitions:
        """One imagined step of the current policy from each observation ``[B, O]``."""
        actions, _ = context.policy(observations)
        return self.outcome(observations, actions, context)

    def outcome(self, observations: th.Tensor, actions: th.Tensor, context: Context) -> Transitions:
        """The transitions after actions ``[B, A]`` at observations ``[B, O]``; terminations carry no gradient."""
        next_observations, rewards = self.model.sample(observations, actions, context.generator)
        if self.reward_fn is not None:
            rewards = known_rewards(self.reward_fn, observations, actions, next_observations)
        with th.no_grad():
            terminated = self.termination(observations, actions, next_observations).float()
        version = th.full((observations.shape[0],), context.policy_version, device=observations.device)
        return Transitions(observations, actions, next_observations, rewards, terminated, version)

    def relabel(self, batch: Transitions, context: Context) -> Transitions:
        """Imagined transitions ``[B, .]``, changed by the objective to learn from."""
        return self.objective.relabel(batch, context)

    def begin(self, batch: Transitions, context: Context) -> None:
        """Called with the first transitions ``[B, .]``, from real states, of a round of rollouts."""
        if self.rollout_stop is not None:
            self.rollout_stop.begin(self.model, batch, context)

    def stops(self, batch: Transitions, context: Context) -> th.Tensor | None:
        """
        Which rollouts stop before a transition.

        :raises ValueError: naming the plug, if it does not return bool ``[B, 1]``
        """
        if self.rollout_stop is None:
            return None
        with th.no_grad():
            said = self.rollout_stop(self.model, batch, context)
        return _column(self.rollout_stop, said, batch.size, th.bool)

    def trust(self, batch: Transitions, context: Context) -> th.Tensor | None:
        """
        Confidence of each transition; None if all count the same.

        :raises ValueError: naming the plug, if it does not return float32 ``[B, 1]``
        """
        if self.confidence is None:
            return None
        with th.no_grad():
            said = self.confidence(self.model, batch, context)
        return _column(self.confidence, said, batch.size, batch.rewards.dtype)


def _column(plug: Plug, said: Any, n_rows: int, dtype: th.dtype) -> th.Tensor:
    if isinstance(said, th.Tensor) and said.dtype is dtype and said.shape == (n_rows, 1):
        return said
    came = f"a {said.dtype} tensor of shape {tuple(said.shape)}" if isinstance(said, th.Tensor) else repr(said)
    raise ValueError(f"{type(plug).__name__} returned {came} for {n_rows} rows; allowed: {dtype} of shape {(n_rows, 1)}")


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
