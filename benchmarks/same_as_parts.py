"""Arguments of a user for the agents of ``same_as.py``: functions, layers and plugs."""

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_tom import Context, Transitions, Weighter


def push(observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """A policy for Hopper's footprint."""
    actions = th.tanh(observations[:, :3])
    return actions, th.zeros(len(actions), 1)


class Breaking:
    """A learning rate that after some calls becomes so large that a step makes the weights overflow."""

    def __init__(self) -> None:
        self.calls_left = 200
        self.later = 1e25

    def __call__(self, remaining: float) -> float:
        self.calls_left -= 1
        return 3e-4 if self.calls_left > 0 else self.later


def pendulum_reward(observations: th.Tensor, actions: th.Tensor, next_observations: th.Tensor) -> th.Tensor:
    """Pendulum's reward."""
    angle = th.atan2(observations[:, 1:2], observations[:, :1])
    return -(angle**2 + 0.1 * observations[:, 2:] ** 2 + 0.001 * (2.0 * actions) ** 2)


def has_fallen(observations: th.Tensor, actions: th.Tensor, next_observations: th.Tensor) -> th.Tensor:
    """InvertedPendulum's rule, as a user would write it."""
    return next_observations[:, 1:2].abs() > 0.2


def falling_rate(remaining: float) -> float:
    """A schedule of the learning rate."""
    return 1e-3 * remaining


class Features(BaseFeaturesExtractor):
    """A user's layer before the networks."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, 16)
        self.layer = nn.Linear(observation_space.shape[0], 16)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """Features ``[B, 16]``."""
        return th.tanh(self.layer(observations))


class RewardWeighter(Weighter):
    """A user's weighter, which draws random numbers and learns a number."""

    scale: th.Tensor

    def build(self, observation_dim: int, action_dim: int) -> None:
        """See :meth:`Plug.build`."""
        self.register_buffer("scale", th.ones(()))

    def fit(
        self, data: Transitions, recent: Transitions, start_observations: th.Tensor, context: Context
    ) -> dict[str, float] | None:
        """See :meth:`Weighter.fit`."""
        self.scale.copy_(recent.rewards.abs().mean() + th.rand((), generator=context.generator))
        return {"scale": float(self.scale)}

    def weights(self, data: Transitions, context: Context) -> th.Tensor:
        """See :meth:`Weighter.weights`."""
        return (data.rewards.squeeze(1) / self.scale).exp()
