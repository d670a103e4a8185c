"""The view of the agent that plugs get, in the env's own units, also where the policy's inputs are normalised."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch as th
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.sac.policies import Actor
from stable_baselines3.sac.sac import SAC
from torch import nn

from sb3_tom.contracts.context import Context, ReadableModel
from sb3_tom.contracts.dynamics import DynamicsModel
from sb3_tom.contracts.objective import ModelObjective
from sb3_tom.contracts.policy_update import PolicyParts
from sb3_tom.contracts.types import PolicyFunction
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from sb3_tom.data.units import PolicyUnits, policy_units
from sb3_tom.policy_updates.sampling import gaussian_of, log_prob_of, sample_squashed, sample_state_dependent
from sb3_tom.policy_updates.steps import samples_as_sb3, temperature


class PolicyView:
    """
    An actor that takes raw observations.

    :param actor: SB3's SAC actor, or a user's, which has its own source of noise
    :param units: convert raw observations to the actor's inputs
    :param generator: source of the noise
    """

    def __init__(self, actor: Actor, units: PolicyUnits, generator: th.Generator) -> None:
        self._actor, self._units, self._generator = actor, units, generator
        self._n_actions = int(actor.action_space.shape[0])

    @property
    def is_known(self) -> bool:
        """Whether the actor and its way of sampling are SB3's own, so that more than samples can be computed."""
        return samples_as_sb3(self._actor)

    def __call__(self, observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """See :data:`sb3_tom.contracts.types.PolicyFunction`."""
        return self._draw(observations, self._noise(observations.shape[0]))

    def sample_actions(self, observations: th.Tensor, n_actions: int) -> th.Tensor:
        """See :data:`sb3_tom.contracts.types.ActionSampler`."""
        rows_first = self._noise(observations.shape[0], n_actions)
        actions, _ = self._draw(observations, rows_first.transpose(0, 1))
        return actions.transpose(0, 1)

    def mean_action(self, observations: th.Tensor) -> th.Tensor:
        """See :class:`sb3_tom.contracts.context.FrozenPolicy`."""
        return self._actor(self._units.observations(observations), deterministic=True)

    def log_prob(self, observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """See :class:`sb3_tom.contracts.context.FrozenPolicy`."""
        self._needs_known("the log-probability of an action")
        return log_prob_of(self._actor, self._units.observations(observations), actions)

    def gaussian(self, observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """See :class:`sb3_tom.contracts.context.FrozenPolicy`."""
        self._needs_known("the Gaussian")
        return gaussian_of(self._actor, self._units.observations(observations))

    def snapshot(self) -> "FrozenView":
        """A copy that training does not change; its noise comes from the same generator."""
        apart = {id(self._actor.optimizer): None, id(self._actor.action_dist): _detached(self._actor.action_dist)}
        actor: Actor = copy.deepcopy(self._actor, apart)
        mean, std = (None if part is None else part.clone() for part in (self._units.mean, self._units.std))
        return FrozenView(actor.requires_grad_(False), replace(self._units, mean=mean, std=std), self._generator)

    def _needs_known(self, what: str) -> None:
        if not self.is_known:
            raise ValueError(f"{what} of {type(self._actor).__name__} is not known; allowed: SB3's Actor, not patched")

    def _noise(self, *rows: int) -> th.Tensor:
        return th.randn((*rows, self._n_actions), generator=self._generator, device=self._generator.device)

    def _draw(self, observations: th.Tensor, noise: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        seen = self._units.observations(observations)
        if not self.is_known:
            actions, log_prob = self._actor.action_log_prob(seen)
            return actions, log_prob.reshape(-1, 1)
        sample = sample_state_dependent if self._actor.use_sde else sample_squashed
        return sample(self._actor, seen, noise)


class FrozenView(PolicyView):
    """A snapshot with an actor of its own, which can load the state of another snapshot of the same agent."""

    def state(self) -> th.Tensor:
        """See :class:`sb3_tom.contracts.context.FrozenPolicy`; integers (counters of batch normalisation) are left out."""
        size, device = self._n_observations, self._actor.device
        mean = th.zeros(size) if self._units.mean is None else self._units.mean
        std = th.ones(size) if self._units.std is None else self._units.std
        tensors = [*self._numbers(), mean.to(device), std.to(device)]
        return th.cat([tensor.detach().float().flatten() for tensor in tensors])

    def restore(self, state: th.Tensor) -> None:
        """See :class:`sb3_tom.contracts.context.FrozenPolicy`."""
        numbers, size = self._numbers(), self._n_observations
        parts = state.detach().split([*(tensor.numel() for tensor in numbers), size, size])
        for tensor, part in zip(numbers, parts[:-2], strict=True):
            tensor.copy_(part.view_as(tensor))
        self._units = replace(self._units, mean=parts[-2].double(), std=parts[-1].double())

    @property
    def _n_observations(self) -> int:
        return int(get_flattened_obs_dim(self._actor.observation_space))

    def _numbers(self) -> list[th.Tensor]:
        return [tensor for tensor in self._actor.state_dict().values() if tensor.is_floating_point()]


def _detached(action_dist: Distribution) -> Distribution:
    """A copy without tensors of the last pass, which belong to a graph and cannot be deep-copied."""
    apart = copy.copy(action_dist)
    for name, value in vars(apart).items():
        if isinstance(value, th.Tensor):
            setattr(apart, name, value.detach().clone())
        elif isinstance(value, th.distributions.Distribution):
            setattr(apart, name, None)
    return apart


class _ModelView:
    """A read-only dynamics model, without the methods that change it. It gets real transitions as its objective has them."""

    def __init__(self, model: DynamicsModel, objective: ModelObjective | None) -> None:
        learned = (lambda batch: batch) if objective is None else objective.learned
        self.forward = model.forward
        self.log_likelihood = lambda batch: model.log_likelihood(learned(batch))
        self.validation_error = lambda batch: model.validation_error(learned(batch))
        self.sample = model.sample
        self.sample_members = model.sample_members
        self.targets = lambda batch: model.targets(learned(batch))
        self.target_scales = model.target_scales
        self._is_fitted = lambda: model.is_fitted

    @property
    def is_fitted(self) -> bool:
        return self._is_fitted()


def make_context(
    agent: SAC,
    generator: th.Generator,
    policy_version: int = 0,
    model: DynamicsModel | None = None,
    policy: PolicyFunction | None = None,
    objective: ModelObjective | None = None,
) -> Context:
    """
    Make the view of an agent.

    :param agent: read only, except that its policy is put into evaluation mode; the view refers to its networks
    :param generator: source of randomness
    :param policy_version: of the agent
    :param model: its dynamics model, if it has one
    :param policy: replaces the agent's; takes raw observations, and only its samples are available
    :param objective: of the model, if it has one
    """
    agent.policy.set_training_mode(False)
    units = policy_units(agent._vec_normalize_env, agent.device)
    view = PolicyView(agent.actor, units, generator)
    known: dict[str, Any] = {"mean_action": view.mean_action, "log_prob": view.log_prob, "snapshot": view.snapshot}
    readable: ReadableModel | None = None if model is None else _ModelView(model, objective)

    def values_by(critics: ContinuousCritic, observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        with _evaluating(critics):
            return units.values(th.cat(critics(units.observations(observations), actions), dim=1).t())

    buffer = agent.replay_buffer
    return Context(
        policy=policy or view,
        values=partial(values_by, agent.critic),
        gamma=agent.gamma,
        policy_version=policy_version,
        generator=generator,
        action_sampler=view.sample_actions if policy is None and view.is_known else None,
        n_envs=1 if buffer is None else buffer.n_envs,
        target_values=partial(values_by, agent.critic_target),
        ent_coef=units.values(temperature(PolicyParts.of(agent)).detach().reshape(())),
        model=readable,
        arrival=buffer.arrival if isinstance(buffer, WeightedReplayBuffer) else None,
        **(known if policy is None else {}),
    )


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """In the block all parts are in evaluation mode, also within a policy update, which trains them."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True
