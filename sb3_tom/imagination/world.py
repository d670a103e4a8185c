"""The imagined env: model, termination and reward."""

from typing import Any, NamedTuple

import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.dynamics import DynamicsModel
from sb3_tom.contracts.imagination import Confidence, RolloutStop
from sb3_tom.contracts.objective import ModelObjective
from sb3_tom.contracts.plug import Plug, only_reads, outline
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
        inputs = {"observations": observations, "actions": actions}
        with only_reads(self.model, inputs):
            said = self.model.sample(observations, actions, context.generator)
        next_observations, rewards = _sampled(self.model, said, observations)
        if self.reward_fn is not None:
            rewards = known_rewards(self.reward_fn, observations, actions, next_observations)
        with th.no_grad(), only_reads(self.termination, {**inputs, "next_observations": next_observations}):
            ends = self.termination(observations, actions, next_observations)
        terminated = column(self.termination, ends, observations.shape[0], th.bool).float()
        version = th.full((observations.shape[0],), context.policy_version, device=observations.device)
        return Transitions(observations, actions, next_observations, rewards, terminated, version)

    def relabel(self, batch: Transitions, context: Context) -> Transitions:
        """Imagined transitions ``[B, .]``, changed by the objective to learn from."""
        with only_reads(self.objective, batch._asdict()):
            said = self.objective.relabel(batch, context)
        if not isinstance(said, Transitions) or any(new.shape != old.shape for new, old in zip(said, batch, strict=True)):
            name = type(self.objective).__name__
            raise ValueError(f"{name}.relabel returned {outline(said)}; allowed: Transitions of the shapes of those it got")
        return said

    def begin(self, batch: Transitions, context: Context) -> None:
        """Called with the first transitions ``[B, .]``, from real states, of a round of rollouts."""
        if self.rollout_stop is not None:
            with only_reads(self.rollout_stop, batch._asdict()):
                self.rollout_stop.begin(self.model, batch, context)

    def stops(self, batch: Transitions, context: Context) -> th.Tensor | None:
        """
        Which rollouts stop before a transition.

        :raises ValueError: naming the plug, if it does not return bool ``[B, 1]``
        """
        if self.rollout_stop is None:
            return None
        with th.no_grad(), only_reads(self.rollout_stop, batch._asdict()):
            said = self.rollout_stop(self.model, batch, context)
        return column(self.rollout_stop, said, batch.size, th.bool)

    def trust(self, batch: Transitions, context: Context) -> th.Tensor | None:
        """
        Confidence of each transition; None if all count the same.

        :raises ValueError: naming the plug, if it does not return float32 ``[B, 1]``
        """
        if self.confidence is None:
            return None
        with th.no_grad(), only_reads(self.confidence, batch._asdict()):
            said = self.confidence(self.model, batch, context)
        return column(self.confidence, said, batch.size, batch.rewards.dtype)


def column(plug: Plug, said: Any, n_rows: int, dtype: th.dtype) -> th.Tensor:
    """
    What a plug says of each row.

    :param plug: for the message
    :param said: what it returned
    :param n_rows: B
    :param dtype: that it has to have
    :return: ``[B, 1]``
    :raises ValueError: if it is something else, naming the plug
    """
    if isinstance(said, th.Tensor) and said.dtype is dtype and said.shape == (n_rows, 1):
        return said
    raise ValueError(
        f"{type(plug).__name__} returned {outline(said)} for {n_rows} rows; allowed: {dtype} of shape {(n_rows, 1)}"
    )


def _sampled(model: DynamicsModel, said: Any, observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """What ``sample`` returned, if it is what the contract says, in the type of the observations."""
    shapes = (tuple(observations.shape), (observations.shape[0], 1))
    tensors = isinstance(said, tuple | list) and len(said) == 2 and all(isinstance(one, th.Tensor) for one in said)
    if tensors and tuple(tuple(one.shape) for one in said) == shapes and all(one.is_floating_point() for one in said):
        return said[0].to(observations.dtype), said[1].to(observations.dtype)
    raise ValueError(
        f"{type(model).__name__}.sample returned {outline(said)}; allowed: next observations {shapes[0]} and rewards "
        f"{shapes[1]}, float tensors, in this order"
    )


def known_rewards(
    reward_fn: RewardFunction, observations: th.Tensor, actions: th.Tensor, next_observations: th.Tensor
) -> th.Tensor:
    """
    Rewards of a user's function, which may write into its arguments: it gets copies.

    :param reward_fn: see :data:`RewardFunction`
    :param observations: ``[B, O]``
    :param actions: ``[B, A]`` in [-1, 1]
    :param next_observations: ``[B, O]``
    :return: ``[B, 1]``, in the type of the observations
    :raises ValueError: naming the function, if it returns something else
    """
    said = reward_fn(observations.clone(), actions.clone(), next_observations.clone())
    allowed = (observations.shape[0], 1)
    if isinstance(said, th.Tensor) and tuple(said.shape) == allowed and not said.is_complex():
        return said.to(observations.dtype)
    raise ValueError(f"reward_fn returned {outline(said)}; allowed: a tensor of real numbers, of shape {allowed}")
