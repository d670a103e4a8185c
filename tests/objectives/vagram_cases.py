"""Critics that are known, and models that say what they are told, for VaGraM."""

from typing import Any

import numpy as np
import pytest
import torch as th

from sb3_tom import Context, DynamicsModel, Transitions
from sb3_tom.contracts.dynamics import Prediction
from sb3_tom.objectives.vagram import VaGraMObjective
from tests.dynamics.cases import make_data

SCALES = [0.5, 2.0, 10.0, 0.1]
"""Of the reward and of three dimensions."""


class Fixed(DynamicsModel):
    """A model that says what it is told, or zeros."""

    def __init__(self, mean: th.Tensor | None = None, log_var: th.Tensor | None = None) -> None:
        super().__init__()
        self.said = Prediction(mean, log_var)

    def forward(self, observations: th.Tensor, actions: th.Tensor) -> Prediction:
        zeros = th.zeros(1, len(observations), len(SCALES))
        return Prediction(zeros, zeros) if self.said.mean is None else self.said

    def targets(self, batch: Transitions) -> th.Tensor:
        return th.cat([batch.rewards, batch.next_observations], dim=-1)

    def target_scales(self) -> th.Tensor:
        return th.tensor(SCALES)

    def regularization(self) -> th.Tensor:
        return th.zeros(())

    def log_likelihood(self, batch: Transitions) -> th.Tensor:
        raise NotImplementedError

    validation_error = sample = fit = log_likelihood  # type: ignore[assignment]


def toy_values(observations: Any, actions: Any, xp: Any = th) -> list[Any]:
    """Four critics, the last two the targets, that have nothing in common; of the action, too."""
    first, second, third = (observations[..., index] for index in range(3))
    action = actions[..., 0]
    return [
        xp.sin(first) * second + action * third,
        3.0 * first - second**2 * action,
        -5.0 * first + 0.1 * third**3 + action**2,
        xp.exp(-(third**2)) - 2.0 * second,
    ]


def toy_context(scale: Any = 1.0, reward_scale: float = 1.0) -> Context:
    """Critics of observations that are ``scale`` times as large, paid ``reward_scale`` times as much."""

    def critics(which: slice) -> Any:
        return lambda observations, actions: reward_scale * th.stack(toy_values(observations / scale, actions)[which])

    def mean_action(observations: th.Tensor) -> th.Tensor:
        return th.tanh((observations / scale).sum(-1, keepdim=True))

    def refuse(*_: th.Tensor) -> Any:
        raise AssertionError("nothing is random in value gradients")

    generator = th.Generator().manual_seed(0)
    return Context(refuse, critics(slice(2)), 0.99, 1, generator, target_values=critics(slice(2, 4)), mean_action=mean_action)


def objective_of(**arguments: Any) -> VaGraMObjective:
    objective = VaGraMObjective(**{"clip_quantile": 1.0, "plain_fits": 0, **arguments})
    objective.build(3, 2)
    return objective


def unit_data(n_rows: int) -> Transitions:
    data = make_data(n_rows)
    return data._replace(next_observations=data.next_observations / th.tensor([1.0, 20.0, 0.05]))


def by_finite_differences(following: th.Tensor) -> np.ndarray:
    """Mean over critics of the squared derivative ``[N, 3]``, row by row and dimension by dimension, the action held."""
    result = np.zeros(following.shape)
    for row, state in enumerate(following.double().numpy()):
        action = np.tanh(state.sum(keepdims=True))
        for dim in range(3):
            step = np.eye(3)[dim] * 1e-6
            above, below = (np.array(toy_values(state + sign * step, action, np)) for sign in (1, -1))
            result[row, dim] = (((above - below) / 2e-6) ** 2).mean()
    return result


def looking_at(*dims: int) -> Context:
    """Critics that are functions of some dimensions only."""

    def values(observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        seen = th.stack([observations[:, dim].sin() for dim in dims], -1) if dims else 0.0 * observations
        return th.stack([seen.sum(-1), 7.0 - 2.0 * seen.sum(-1)])

    generator = th.Generator().manual_seed(0)
    return Context(
        lambda observations: pytest.fail("asked"), values, 0.99, 1, generator,
        target_values=values, mean_action=lambda observations: observations[:, :2],
    )  # fmt: skip
