"""Standardised observations as a part of the policy, for any policy update."""

from hashlib import sha256
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

    The first scale turns new networks into others, and leaves the outputs of trained networks as they are. What counts as
    trained: optimisers that have stepped, targets that differ from the critics, and parameters that differ from those that the
    agent was made or loaded with. So pretrain an actor that is saved before its first model phase with
    ``agent.actor.optimizer``: without it nothing in the file tells that the actor was trained.

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
    def take(self, mean: th.Tensor, std: th.Tensor, is_constant: th.Tensor, is_trained: bool) -> tuple[th.Tensor, th.Tensor]:
        """
        Change mean and scale. An entry that pauses, since it is constant now and was not before, keeps its own.

        :param mean: ``[O]``
        :param std: ``[O]``
        :param is_constant: bool ``[O]``, which entries have one value in all rows
        :param is_trained: whether the networks were trained with the current mean and scale
        :return: factor and offset ``[O]`` that turn new inputs into old ones, limited to :attr:`bound`, where inputs are
            clipped; 1 and 0 for the first scale of untrained networks
        """
        is_first = bool((self.mean == 0).all() and (self.std == 1).all())
        paused = is_constant & (self.std != 1.0) & ((mean - self.mean).abs() <= self.bound * self.std)
        mean, std = th.where(paused, self.mean, mean), th.where(paused, self.std, std)
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


def fingerprint(policy: SACPolicy) -> bytes:
    """
    Equal for equal parameters of actor and critics. Taken when an agent is made or loaded, it tells whether they were trained
    since, by whatever optimiser; empty if the policy has no :class:`StandardizedFeatures`, for which alone that matters.

    :param policy: any
    :raises ValueError: if its :class:`StandardizedFeatures` are not allowed
    """
    if not standardized_networks(policy):
        return b""
    digest = sha256()
    for parameter in (*policy.actor.parameters(), *policy.critic.parameters()):
        digest.update(parameter.detach().cpu().flatten().view(th.uint8).numpy().tobytes())
    return digest.digest()


def standardize(policy: SACPolicy, data: Transitions, units: Units, made: bytes | None = None) -> None:
    """
    :func:`rescale` by the rows of a replay buffer. Costs nothing if no network has :class:`StandardizedFeatures`.

    :param policy: any
    :param data: the N rows
    :param units: of the policy's inputs
    :param made: see :func:`rescale`
    :raises ValueError: see :func:`rescale`
    """
    if standardized_networks(policy):
        rescale(policy, _seen(data, units), made)


def standardized_networks(policy: SACPolicy) -> list[BaseModel]:
    """
    Actor, critics, target critics and any further networks of a policy that have :class:`StandardizedFeatures`: the outputs of
    these have to be the inputs of the first layers, which follow the scale.

    :param policy: any
    :raises ValueError: for those within another extractor, with another ``forward``, or in a module that ``th.compile`` wraps
    """
    networks = [network for network in policy.children() if isinstance(network, BaseModel)]
    used = [network.features_extractor for network in networks]
    for features in (module for module in policy.modules() if isinstance(module, StandardizedFeatures)):
        if features not in used or type(features).forward is not StandardizedFeatures.forward:
            raise ValueError(
                f"features_extractor_class={type(features).__name__} is not allowed within another extractor, with a forward "
                "of its own, or in a network that th.compile has wrapped: the first layers have to follow the scale of its "
                "outputs; allowed: StandardizedFeatures itself, compiled in place (agent.policy.critic.compile())"
            )
    return [network for network in networks if isinstance(network.features_extractor, StandardizedFeatures)]


@th.no_grad()
def rescale(policy: SACPolicy, observations: Moments, made: bytes | None = None) -> None:
    """
    Give :class:`StandardizedFeatures` mean and standard deviation of all real observations. The first layers are changed so
    that the networks keep their outputs: otherwise actor and critics would jump with each model phase.

    :param policy: any; one without such features is not changed
    :param observations: statistics of the observations; a constant entry gets the scale 1
    :param made: :func:`fingerprint` of the new networks; None if it is not known
    :raises ValueError: if its features are not allowed, or if the weights of a first layer are computed from others; nothing
        was changed then
    """
    mean, std, is_constant = observations.mean, observations.scale, observations.varying() == 0.0
    networks = standardized_networks(policy)
    layers = [_first_layers(network) for network in networks]
    is_trained = _is_trained(policy, made)
    changes: dict[StandardizedFeatures, tuple[th.Tensor, th.Tensor]] = {}  # actor and critics may share their features
    for network, first_layers in zip(networks, layers, strict=True):
        features: Any = network.features_extractor
        if features not in changes:
            changes[features] = features.take(mean.to(features.mean), std.to(features.std), is_constant, is_trained)
        factor, offset = changes[features]
        for weight, bias in first_layers:
            rows = weight[..., : len(factor), :]
            bias.add_((offset @ rows).view_as(bias))
            rows.mul_(factor.unsqueeze(-1))


def _is_trained(policy: SACPolicy, made: bytes | None) -> bool:
    """Whether actor or critics were trained, by their own optimisers or in another way."""
    stepped = any(network.optimizer.state for network in (policy.actor, policy.critic))
    pairs = zip(policy.critic.parameters(), policy.critic_target.parameters(), strict=True)
    # Targets begin as copies of the critics, and follow them with a delay. An optimiser without a state leaves this trace
    return stepped or not all(th.equal(*pair) for pair in pairs) or (made is not None and made != fingerprint(policy))


def _seen(data: Transitions, units: Units) -> Moments:
    """Statistics of all observations in the units of the policy; cached by the buffer where these are the env's own."""
    first = data.observations[:1]
    if units.observations(first) is first:  # the units are the env's own
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
    return [(weight.T, bias) for weight, bias in (weight_and_bias(network, tower[0]) for tower in towers)]


def weight_and_bias(network: nn.Module, layer: nn.Module) -> tuple[th.Tensor, th.Tensor]:
    """
    Weight and bias of a layer, to be changed in place.

    :param network: that the layer belongs to, for the message
    :param layer: one that has them as parameters or buffers
    :raises ValueError: if they are computed from others: a change would be lost with the next forward pass
    """
    own = {**dict(layer.named_parameters(recurse=False)), **dict(layer.named_buffers(recurse=False))}
    if not {"weight", "bias"} <= own.keys():
        name = next(name for name, module in network.named_modules() if module is layer)
        raise ValueError(
            f"features_extractor_class=StandardizedFeatures is not allowed with {type(network).__name__}.{name} as it is "
            "(weight_norm, spectral_norm or no bias): the weight and bias of this layer follow the scale of the observations; "
            "allowed: a layer that has both as parameters"
        )
    return own["weight"], own["bias"]
