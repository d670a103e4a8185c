"""Small data, contexts and budgets for the tests of weighters."""

from typing import Any

import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.weighters.tom.weighter import TOMWeighter

QUICK: dict[str, Any] = {
    "discriminator_steps": 20,
    "q_steps": 20,
    "average_steps": 40,
    "q_batch_size": 64,
    "pool_size": 300,
    "recent_size": 50,
}
VARIANTS: list[dict[str, Any]] = [
    {},
    {"divergence": "chi2", "buffer_label": 0.0, "gradient_penalty": 0.0},
    {"discriminator": False},
    {"terminal": "mask"},
    {"nonnegative": True, "mass_shift": False},
    {"preset": "official"},
    {"preset": "official", "divergence": "kl", "pool_size": None},
]


def transitions(n_rows: int, observation_dim: int = 3, action_dim: int = 2, seed: int = 0) -> Transitions:
    """Rows of a smooth random system; every tenth terminates."""
    generator = th.Generator().manual_seed(seed)
    observations = th.randn(n_rows, observation_dim, generator=generator)
    actions = th.rand(n_rows, action_dim, generator=generator) * 2 - 1
    noise = th.randn(n_rows, observation_dim, generator=generator)
    following = 0.9 * observations + 0.3 * actions.sum(1, keepdim=True) + 0.1 * noise
    ended = (th.rand(n_rows, 1, generator=generator) < 0.1).float()
    return Transitions(observations, actions, following, noise[:, :1], ended, th.arange(n_rows) * 10 // n_rows)


def context(seed: int = 0, action_dim: int = 2, gamma: float = 0.99, policy_version: int = 10, device: str = "cpu") -> Context:
    """A stochastic policy that uses the context's generator."""
    generator = th.Generator(device).manual_seed(seed)
    gain = th.nn.Parameter(th.tensor(0.5, device=device))  # so that a gradient into the policy would be seen

    def policy(observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        noise = th.randn(observations.shape[0], action_dim, generator=generator, device=device)
        return th.tanh(gain * observations[:, :1] + 0.3 * noise), noise[:, :1]

    def values(observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        return th.zeros(2, observations.shape[0], device=device)

    return Context(policy, values, gamma, policy_version, generator)


def built(observation_dim: int = 3, action_dim: int = 2, **arguments: Any) -> TOMWeighter:
    """TOM with a small budget, ready to fit."""
    tom = TOMWeighter(**{**QUICK, **arguments})
    tom.build(observation_dim, action_dim)
    return tom


def newest(data: Transitions, n_rows: int = 50) -> Transitions:
    """The last rows."""
    return data.rows(th.arange(data.size - n_rows, data.size))


def fit_and_weigh(tom: TOMWeighter, data: Transitions, view: Context) -> th.Tensor:
    """One phase, with the newest rows as the footprint."""
    tom.fit(data, newest(data), data.observations[:5], view)
    return tom.weights(data, view)
