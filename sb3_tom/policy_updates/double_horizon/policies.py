"""The policy of Double Horizon MBPO: standardised inputs, smooth activations, several critics with layer normalisation."""

from itertools import pairwise
from typing import Any

import torch as th
import torch.nn.functional as F
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_tom.compute.ensemble_linear import EnsembleLinear
from sb3_tom.policy_updates.averaged_actor import AveragedActorPolicy
from sb3_tom.policy_updates.standardized_features import StandardizedFeatures, weight_and_bias


class LayerNormCritics(ContinuousCritic):
    """
    K critics in stacked tensors: linear layers, SiLU, and a layer normalisation without scale or shift before every layer but
    the first. Initial values are 0; values are :attr:`scale` times the outputs of the networks.

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
        # A buffer like the scale: both are saved, copied to another agent and restored together with the networks
        self.register_buffer("scaled", th.zeros(()))

    def first_layers(self) -> list[tuple[th.Tensor, th.Tensor]]:
        """Weights ``[K, inputs, outputs]`` and biases of the layers that take the features."""
        return [weight_and_bias(self, self.layers[0])]

    @th.no_grad()
    def set_scale(self, scale: float) -> None:
        """
        Set the scale. The last layer is rescaled, so that networks that are trained already, by SB3's SAC for example, keep
        their values.

        :param scale: above 0
        """
        for parameter in self.layers[-1].parameters():
            parameter.mul_(self.scale / scale)
        self.scale.fill_(scale)
        self.scaled.fill_(1.0)

    def forward(self, obs: th.Tensor, actions: th.Tensor, members: th.Tensor | None = None) -> tuple[th.Tensor, ...]:
        """Values of each critic, K times ``[B, 1]``; see :meth:`values`."""
        return self.values(obs, actions, members).unbind(0)

    def values(self, observations: th.Tensor, actions: th.Tensor, members: th.Tensor | None = None) -> th.Tensor:
        """
        Values of selected critics.

        :param observations: ``[B, O]``
        :param actions: ``[B, A]``
        :param members: indices of K critics; None: all
        :return: ``[K, B, 1]``
        """
        return self._values_of(self._features(observations), actions, members)

    def q1_forward(self, obs: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """Values of the first critic ``[B, 1]``; as in SB3 without a gradient through the features."""
        with th.no_grad():
            features = self._features(obs)
        return self._values_of(features, actions, None)[0]

    def _features(self, observations: th.Tensor) -> th.Tensor:
        """As in SB3, features that the critics share with the actor are trained by the actor alone."""
        with th.set_grad_enabled(th.is_grad_enabled() and not self.share_features_extractor):
            return self.extract_features(observations, self.features_extractor)

    def _values_of(self, features: th.Tensor, actions: th.Tensor, members: th.Tensor | None) -> th.Tensor:
        n_critics = self.n_critics if members is None else members.numel()
        hidden = th.cat([features, actions], dim=1).expand(n_critics, -1, -1)
        for number, layer in enumerate(self.layers):
            if number:
                hidden = F.layer_norm(F.silu(hidden), hidden.shape[-1:])
            hidden = layer(hidden, members)
        return self.scale * hidden


class DoubleHorizonPolicy(AveragedActorPolicy):
    """
    SB3's SAC policy with the networks of Double Horizon MBPO: SiLU, five critics with layer normalisation, observations in
    unit scale. The arguments are SB3's and ``averaging``; ``activation_fn`` is the actor's.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        own: dict[str, Any] = {"activation_fn": nn.SiLU, "n_critics": 5, "features_extractor_class": StandardizedFeatures}
        super().__init__(*args, **{**own, **kwargs})

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> ContinuousCritic:
        """Build :class:`LayerNormCritics`."""
        kwargs = self._update_features_extractor(self.critic_kwargs, features_extractor)
        kwargs.pop("activation_fn")
        return LayerNormCritics(**kwargs).to(self.device)
