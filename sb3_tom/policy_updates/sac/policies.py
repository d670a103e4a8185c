"""Named policies, and the one with layer normalisation and dropout in its critics."""

from typing import Any

from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, create_mlp
from stable_baselines3.sac.policies import SACPolicy
from torch import nn

from sb3_tom.checks.validation import check_number
from sb3_tom.policy_updates.sac.critics import MadeCritics
from sb3_tom.policy_updates.sac.simba import SimbaPolicy


class NormedCritics(MadeCritics):
    """
    SB3's critics, each hidden layer followed by dropout and layer normalisation before its activation.

    :param net_arch: widths of the hidden layers
    :param activation_fn: between the layers
    :param dropout_rate: share of the units that are dropped in training; 0: no dropout layers
    :param kwargs: the other arguments are SB3's
    """

    def __init__(self, net_arch: list[int], activation_fn: type[nn.Module], dropout_rate: float, **kwargs: Any) -> None:
        dropout: list[Any] = [lambda width: nn.Dropout(dropout_rate)] if dropout_rate else []
        behind = [*dropout, nn.LayerNorm]

        def make(n_inputs: int) -> nn.Module:
            return nn.Sequential(*create_mlp(n_inputs, 1, net_arch, activation_fn, post_linear_modules=behind))

        super().__init__(make, net_arch=net_arch, **kwargs)


class LayerNormPolicy(SACPolicy):
    """
    SB3's SAC policy with layer normalisation and optional dropout in its critics: those of DroQ (Hiraoka et al. 2022,
    arXiv:2110.02034). As there, dropout is on in the targets too while the policy trains; it is off in ``predict`` and
    wherever else values are computed. Masks come from torch's global stream, like SB3's own actions: seeded runs repeat them,
    and checkpoints hold the stream.

    :param args: SB3's
    :param dropout_rate: in [0, 1), for example 0.01
    :param kwargs: SB3's
    :raises ValueError: naming the argument, what came and what is allowed
    """

    def __init__(self, *args: Any, dropout_rate: float = 0.0, **kwargs: Any) -> None:
        self.dropout_rate = check_number("dropout_rate", dropout_rate, 0.0, 1.0, high_open=True)
        super().__init__(*args, **kwargs)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> ContinuousCritic:
        """Build :class:`NormedCritics`."""
        kwargs = self._update_features_extractor(self.critic_kwargs, features_extractor)
        return NormedCritics(**kwargs, dropout_rate=self.dropout_rate).to(self.device)

    def set_training_mode(self, mode: bool) -> None:
        """As in SB3, but the targets' networks (not their features) follow the mode instead of always evaluating."""
        super().set_training_mode(mode)
        for network in self.critic_target.q_networks:
            network.train(mode)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "dropout_rate": self.dropout_rate}


POLICIES: dict[str, Any] = {
    "MlpPolicy": SACPolicy,
    "LayerNormPolicy": LayerNormPolicy,
    "SimbaPolicy": SimbaPolicy,
}
