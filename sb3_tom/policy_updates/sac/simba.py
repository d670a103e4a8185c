"""SimBa's networks for SAC (Lee et al. 2025, arXiv:2410.09754; code: SonyResearch/simba)."""

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, get_actor_critic_arch
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.sac.policies import Actor, SACPolicy
from torch import nn

from sb3_tom.policy_updates.sac.critics import MadeCritics
from sb3_tom.policy_updates.standardized_features import StandardizedFeatures

EXPANSION = 4
"""Width of a block's inner layer relative to its outer one, as in the paper."""


class ResidualBlock(nn.Module):
    """
    Residual block: input plus layer normalisation, a layer four times as wide, an activation, and a layer back.

    :param width: of input and output
    :param activation_fn: between the two layers
    """

    def __init__(self, width: int, activation_fn: type[nn.Module]) -> None:
        super().__init__()
        wide, back = nn.Linear(width, EXPANSION * width), nn.Linear(EXPANSION * width, width)
        for layer in (wide, back):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.branch = nn.Sequential(nn.LayerNorm(width), wide, activation_fn(), back)

    def forward(self, inputs: th.Tensor) -> th.Tensor:
        """Apply the block to ``[..., width]``; same shape."""
        return inputs + self.branch(inputs)


def simba_layers(n_inputs: int, net_arch: list[int], activation_fn: type[nn.Module]) -> list[nn.Module]:
    """
    A linear layer, residual blocks, and a layer normalisation at the end.

    :param n_inputs: entries of the input
    :param net_arch: widths of the blocks, all the same
    :param activation_fn: within the blocks
    """
    return [
        _orthogonal(nn.Linear(n_inputs, net_arch[0])),
        *(ResidualBlock(width, activation_fn) for width in net_arch),
        nn.LayerNorm(net_arch[0]),
    ]


class SimbaCritics(MadeCritics):
    """
    SimBa's critics.

    :param net_arch: widths of the residual blocks
    :param activation_fn: within the blocks
    :param kwargs: the other arguments are SB3's
    """

    def __init__(self, net_arch: list[int], activation_fn: type[nn.Module], **kwargs: Any) -> None:
        def make(n_inputs: int) -> nn.Module:
            head = _orthogonal(nn.Linear(net_arch[-1], 1))
            return nn.Sequential(*simba_layers(n_inputs, net_arch, activation_fn), head)

        super().__init__(make, net_arch=net_arch, **kwargs)


class SimbaPolicy(SACPolicy):
    """
    SB3's SAC policy with SimBa's networks: standardised observations, residual blocks with layer normalisation, AdamW with a
    weight decay of 0.01. A block is one entry of ``net_arch``; the widths are those of SBX's policy of this name, the paper's
    critics have ``[512, 512]``. The other arguments are SB3's. Observations are standardised by all real rows at the last
    model phase; under SB3's own SAC, which has no such phases, not at all.

    :param observation_space: flat
    :param action_space: as in SB3
    :param lr_schedule: as in SB3
    :param net_arch: widths of the residual blocks, of actor and critics alike or ``{"pi": ..., "qf": ...}``; None: one
        block of 128 and two of 256
    :param kwargs: SB3's
    :raises ValueError: naming the argument, what came and what is allowed
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Box,
        lr_schedule: Schedule,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        **kwargs: Any,
    ) -> None:
        own: dict[str, Any] = {
            "features_extractor_class": StandardizedFeatures,
            "optimizer_class": th.optim.AdamW,  # whose weight decay is SimBa's
        }
        net_arch = {"pi": [128], "qf": [256, 256]} if net_arch is None else net_arch
        _check_widths(net_arch)
        super().__init__(observation_space, action_space, lr_schedule, net_arch, **{**own, **kwargs})

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        """SB3's actor with SimBa's layers before its output layers."""
        actor = super().make_actor(features_extractor)
        actor.latent_pi = nn.Sequential(*simba_layers(actor.features_dim, actor.net_arch, actor.activation_fn))
        for head in (actor.mu, actor.log_std):
            if isinstance(head, nn.Linear):  # not with gSDE
                _orthogonal(head)
        return actor.to(self.device)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> ContinuousCritic:
        """Build :class:`SimbaCritics`."""
        return SimbaCritics(**self._update_features_extractor(self.critic_kwargs, features_extractor)).to(self.device)


def _orthogonal(layer: nn.Linear) -> nn.Linear:
    nn.init.orthogonal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _check_widths(net_arch: Any) -> None:
    """Residual blocks need one width."""
    for widths in get_actor_critic_arch(net_arch):
        if not widths or len(set(widths)) > 1:
            raise ValueError(
                f"policy_kwargs['net_arch']={net_arch!r} is not allowed with policy='SimbaPolicy'; allowed: at least one "
                "residual block for actor and critics each, all of one width, for example {'pi': [128], 'qf': [256, 256]}"
            )
