"""The policy of Double Horizon MBPO: inputs in unit scale, smooth activations, several critics with layer normalisation."""

from itertools import pairwise
from typing import Any

import torch as th
import torch.nn.functional as F
from gymnasium import spaces
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.sac.policies import SACPolicy
from torch import nn

from sb3_tom.compute.ensemble_linear import EnsembleLinear
from sb3_tom.data.moments import Moments


class StandardizedFeatures(BaseFeaturesExtractor):
    """
    Observations in unit scale. The scale is a part of the policy: it is saved, loaded and exported with it, and ``predict``
    takes observations of the env.

    :param observation_space: flat
    """

    bound = 10.0

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, features_dim=int(observation_space.shape[0]))
        self.register_buffer("mean", th.zeros(self.features_dim))
        self.register_buffer("std", th.ones(self.features_dim))

    mean: th.Tensor
    std: th.Tensor

    @th.no_grad()
    def take(self, mean: th.Tensor, std: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """
        Change the scale.

        :param mean: ``[O]``
        :param std: ``[O]``
        :return: factor and offset ``[O]`` each, from what inputs are from now on to what they were before; 1 and 0 for the
            first scale. Neither leads beyond :attr:`bound`, where inputs were cut
        """
        known = th.where(self.std == 1.0, std, self.std)  # weights of a constant entry are as they were drawn: for any scale
        factor, offset = (std / known).clamp(max=self.bound), ((mean - self.mean) / known).clamp(-self.bound, self.bound)
        is_first = bool((self.mean == 0).all() and (self.std == 1).all())
        self.mean.copy_(mean)
        self.std.copy_(std)
        return (th.ones_like(factor), th.zeros_like(offset)) if is_first else (factor, offset)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """In unit scale, ``[B, O]``."""
        return ((observations - self.mean) / self.std).clamp(-self.bound, self.bound)


class LayerNormCritics(ContinuousCritic):
    """
    K critics side by side: linear layers, SiLU, and a layer normalisation without scale or shift before every layer but the
    first. They begin at 0, and what they say is :attr:`scale` times what the networks say.

    :param n_critics: K; the other parameters are SB3's
    """

    scale: th.Tensor
    scaled: th.Tensor

    def __init__(self, net_arch: list[int], n_critics: int, **kwargs: Any) -> None:
        super().__init__(net_arch=[], n_critics=0, **kwargs)
        self.n_critics = n_critics
        widths = [kwargs["features_dim"] + get_action_dim(self.action_space), *net_arch, 1]
        layers = [EnsembleLinear(n_critics, *sizes) for sizes in pairwise(widths)]
        nn.init.zeros_(layers[-1].weight)
        self.layers = nn.ModuleList(layers)
        self.register_buffer("scale", th.ones(()))
        # Beside the scale, so that both are saved, copied to another agent and put back together with the networks
        self.register_buffer("scaled", th.zeros(()))

    @th.no_grad()
    def set_scale(self, scale: float) -> None:
        """
        Once: another scale would change what trained networks say.

        :param scale: above 0
        """
        self.scale.fill_(scale)
        self.scaled.fill_(1.0)

    def forward(self, obs: th.Tensor, actions: th.Tensor) -> tuple[th.Tensor, ...]:
        """Values of each critic, K times ``[B, 1]``."""
        return self.values(obs, actions).unbind(0)

    def values(self, observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """
        Of all critics.

        :param observations: ``[B, O]``
        :param actions: ``[B, A]``
        :return: ``[K, B, 1]``
        """
        features = self.extract_features(observations, self.features_extractor)
        hidden = th.cat([features, actions], dim=1).expand(self.n_critics, -1, -1)
        for number, layer in enumerate(self.layers):
            if number:
                hidden = F.layer_norm(F.silu(hidden), hidden.shape[-1:])
            hidden = layer(hidden)
        return self.scale * hidden

    def q1_forward(self, obs: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """Of the first critic, ``[B, 1]``."""
        with th.no_grad():
            return self.values(obs, actions)[0]


class DoubleHorizonPolicy(SACPolicy):
    """
    SB3's SAC policy with the networks of Double Horizon MBPO: SiLU, five critics with layer normalisation, observations in
    unit scale. The arguments are SB3's; ``activation_fn`` is the actor's.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        own: dict[str, Any] = {"activation_fn": nn.SiLU, "n_critics": 5, "features_extractor_class": StandardizedFeatures}
        super().__init__(*args, **{**own, **kwargs})

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> ContinuousCritic:
        """K critics at once."""
        kwargs = self._update_features_extractor(self.critic_kwargs, features_extractor)
        kwargs.pop("activation_fn")
        return LayerNormCritics(**kwargs).to(self.device)


@th.no_grad()
def rescale(policy: SACPolicy, observations: Moments) -> None:
    """
    Give :class:`StandardizedFeatures` mean and standard deviation of all real observations. The first layers change so that
    trained networks go on saying what they said: otherwise actor and critics would jump with each model phase.

    :param policy: any; one without such features stays as it is
    :param observations: what these are like; a constant entry gets the scale 1
    """
    mean, std = observations.mean, observations.varying()
    std = th.where(std > 0, std, 1.0)
    for network in (policy.actor, policy.critic, policy.critic_target):
        features = network.features_extractor
        if not isinstance(features, StandardizedFeatures):
            continue
        factor, offset = features.take(mean.to(features.mean), std.to(features.std))
        for weight, bias in _first_layers(network):
            rows = weight[..., : len(factor), :]
            bias.add_((offset @ rows).view_as(bias))
            rows.mul_(factor.unsqueeze(-1))


def _first_layers(network: nn.Module) -> list[tuple[th.Tensor, th.Tensor]]:
    """Weights ``[..., inputs, outputs]``, the observation first, and biases of the layers that take the features."""
    if isinstance(network, LayerNormCritics):
        layer: Any = network.layers[0]
        return [(layer.weight, layer.bias)]
    parts: Any = network
    if isinstance(network, ContinuousCritic):
        towers = [list(tower) for tower in parts.q_networks]
    else:
        towers = [list(parts.latent_pi)] if len(parts.latent_pi) else [[parts.mu], [parts.log_std]]
    return [(tower[0].weight.T, tower[0].bias) for tower in towers]
