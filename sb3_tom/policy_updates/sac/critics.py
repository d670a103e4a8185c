"""SB3's critics with other networks."""

from collections.abc import Callable
from typing import Any

from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.preprocessing import get_action_dim
from torch import nn


class MadeCritics(ContinuousCritic):
    """
    Critics whose networks are made by a function. Everything else is SB3's, also the names in a ``state_dict``.

    :param make: ``make(n_inputs) -> network``, which maps features and actions ``[B, n_inputs]`` to values ``[B, 1]``
    :param n_critics: number of networks
    :param kwargs: the other arguments are SB3's
    """

    def __init__(self, make: Callable[[int], nn.Module], n_critics: int, **kwargs: Any) -> None:
        super().__init__(n_critics=0, **kwargs)
        self.n_critics = n_critics
        n_inputs = kwargs["features_dim"] + get_action_dim(self.action_space)
        self.q_networks = [make(n_inputs) for _ in range(n_critics)]
        for number, network in enumerate(self.q_networks):
            self.add_module(f"qf{number}", network)
