"""Standardised observations as a part of the policy, for any policy update."""

from typing import Any, Protocol, runtime_checkable

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel, ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.sac.policies import SACPolicy
from torch import nn

from sb3_tom.contracts.policy_update import Units
from sb3_tom.contracts.types import Transitions
from sb3_tom.data.moments import Moments, moments_of, moments_of_columns


class StandardizedFeatures(BaseFeaturesExtractor):
    """
    Standardises observations. Mean and scale are buffers of the policy: they are saved, loaded and exported with it, and
    ``predict`` takes raw observations.

    :param observation_space: a flat Box
    """

    bound = 10.0

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, features_dim=int(observation_space.shape[0]))
        self.register_buffer("mean", th.zeros(self.features_dim))
        self.register_buffer("std", th.ones(self.features_dim))

    mean: th.Tensor
    std: th.Tensor

    @th.no_grad()
    def take(self, mean: th.Tensor, std: th.Tensor, is_trained: bool) -> tuple[th.Tensor, th.Tensor]:
        """
        Change mean and scale.

        :param mean: ``[O]``
        :param std: ``[O]``
        :param is_trained: whether the networks were trained with the current mean and scale
        :return: factor and offset ``[O]`` that turn new inputs into old ones, limited to :attr:`bound`, where inputs are
            clipped; 1 and 0 for the first scale of untrained networks
        """
        is_first = bool((self.mean == 0).all() and (self.std == 1).all())
        # Weights of an entry that was constant until now are untrained, and need no factor
        known = self.std if is_first else th.where(self.std == 1.0, std, self.std)
        factor, offset = (std / known).clamp(max=self.bound), ((mean - self.mean) / known).clamp(-self.bound, self.bound)
        self.mean.copy_(mean)
        self.std.copy_(std)
        return (th.ones_like(factor), th.zeros_like(offset)) if is_first and not is_trained else (factor, offset)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """Standardised observations ``[B, O]``."""
        return ((observations - self.mean) / self.std).clamp(-self.bound, self.bound)


@runtime_checkable
class NamesFirstLayers(Protocol):
    """A network that names its first layers, because they have other names than SB3's."""

    def first_layers(self) -> list[tuple[th.Tensor, th.Tensor]]:
        """Weights ``[..., inputs, outputs]``, the observation first, and biases of the layers that take the features."""


def networks_of(policy: SACPolicy) -> list[BaseModel]:
    """
    Actor, critics, target critics and any further networks of a policy.

    :param policy: any
    """
    return [network for network in policy.children() if isinstance(network, BaseModel)]


def standardize(policy: SACPolicy, data: Transitions, units: Units) -> None:
    """
    :func:`rescale` by the rows of a replay buffer. Costs nothing if no network has :class:`StandardizedFeatures`.

    :param policy: any
    :param data: the N rows
    :param units: of the policy's inputs
    """
    if any(isinstance(network.features_extractor, StandardizedFeatures) for network in networks_of(policy)):
        rescale(policy, _seen(data, units))


@th.no_grad()
def rescale(policy: SACPolicy, observations: Moments) -> None:
    """
    Give :class:`StandardizedFeatures` mean and standard deviation of all real observations. The first layers are changed so
    that the networks keep their outputs: otherwise actor and critics would jump with each model phase.

    :param policy: any; one without such features is not changed
    :param observations: statistics of the observations; a constant entry gets the scale 1
    """
    mean, std = observations.mean, observations.scale
    is_trained = any(network.optimizer.state for network in (policy.actor, policy.critic))
    changes: dict[StandardizedFeatures, tuple[th.Tensor, th.Tensor]] = {}  # actor and critics may share their features
    for network in networks_of(policy):
        features = network.features_extractor
        if not isinstance(features, StandardizedFeatures):
            continue
        if features not in changes:
            changes[features] = features.take(mean.to(features.mean), std.to(features.std), is_trained)
        factor, offset = changes[features]
        for weight, bias in _first_layers(network):
            rows = weight[..., : len(factor), :]
            bias.add_((offset @ rows).view_as(bias))
            rows.mul_(factor.unsqueeze(-1))


def _seen(data: Transitions, units: Units) -> Moments:
    """Statistics of all observations in the units of the policy; cached by the buffer where these are the env's own."""
    if units.observations(first := data.observations[:1]) is first:  # the identity
        return moments_of(data, "observations")
    return moments_of_columns(data.size, lambda rows: units.observations(data.observations[rows]))


def _first_layers(network: nn.Module) -> list[tuple[th.Tensor, th.Tensor]]:
    """First layers as in :class:`NamesFirstLayers`, also for SB3's networks."""
    if isinstance(network, NamesFirstLayers):
        return network.first_layers()
    parts: Any = network
    if isinstance(network, ContinuousCritic):
        towers = [list(tower) for tower in parts.q_networks]
    else:
        towers = [list(parts.latent_pi)] if len(parts.latent_pi) else [[parts.mu], [parts.log_std]]
    return [(tower[0].weight.T, tower[0].bias) for tower in towers]
