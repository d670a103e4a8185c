"""Weights by the model's error, with models whose errors are known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch as th

from sb3_tom.checks.guards import DivergenceError
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.dynamics import Prediction
from sb3_tom.data.weights import usable_weights
from sb3_tom.weighters.error import ErrorWeighter, prediction_errors
from tests.mbpo.small import SMALL_MODELS, small_agent
from tests.weighters.small import context, transitions

OBS = 3


class Known:
    """A model of two members that misses the targets by what is asked of it; the last member by three times as much."""

    def __init__(self, misses: th.Tensor, is_fitted: bool = True) -> None:
        self.misses, self.is_fitted, self.asked = misses, is_fitted, 0

    def targets(self, batch: Any) -> th.Tensor:
        return th.cat([batch.rewards, batch.next_observations], dim=-1)

    def target_scales(self) -> th.Tensor:
        return th.ones(1 + OBS)

    def forward(self, observations: th.Tensor, actions: th.Tensor) -> Prediction:
        """Rows are known by their first action, which is their number."""
        self.asked += len(observations)
        rows = actions[:, 0].long()
        mean = self.following[rows] + self.misses[rows]
        return Prediction(th.stack([mean, self.following[rows] - 3.0 * self.misses[rows]]), th.zeros(2, *mean.shape))

    following: th.Tensor


def known(n_rows: int, scale: float = 1.0) -> tuple[Any, Known]:
    data = transitions(n_rows, OBS)._replace(actions=th.arange(n_rows).float().view(-1, 1).repeat(1, 2))
    model = Known(scale * th.randn(n_rows, 1 + OBS, generator=th.Generator().manual_seed(5)))
    model.following = model.targets(data)
    return data, model


def with_model(model: Any) -> Context:
    return replace(context(), model=model)


def test_errors_are_those_that_the_model_makes() -> None:
    """A loop over rows and members; more rows than go through a network at once."""
    data, model = known(9_000)
    expected = [
        np.mean([np.sqrt(np.mean(np.square(factor * row))) for factor in (1.0, 3.0)]) for row in model.misses.double().numpy()
    ]
    np.testing.assert_allclose(prediction_errors(model, data), expected, rtol=1e-4)
    assert model.asked == 9_001, "a row alone tells how many members there are"


@pytest.mark.parametrize("power", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("mix", [0.0, 0.25, 1.0])
def test_weights_are_the_formula(power: float, mix: float) -> None:
    data, model = known(50)
    weighter = ErrorWeighter(power, mix)
    errors = prediction_errors(model, data).numpy() ** power
    expected = (1.0 - mix) * errors / errors.mean() + mix
    found = usable_weights(weighter.weights(data, with_model(model)), weighter, 50)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_unit_of_the_errors_does_not_matter() -> None:
    (data, small), (_, large) = known(30, 1e-4), known(30, 1e4)
    weighter = ErrorWeighter(power=10.0)
    a, b = (weighter.weights(data, with_model(model)) for model in (small, large))
    np.testing.assert_allclose(a / a.max(), b / b.max(), rtol=0.1, atol=1e-3)  # small errors are left over of float32's sums


def test_no_errors_and_no_fit_are_uniform_weights() -> None:
    data, model = known(10, scale=0.0)
    assert th.equal(ErrorWeighter().weights(data, with_model(model)), th.ones(10).double())
    data, model = known(10)
    model.is_fitted = False
    assert th.equal(ErrorWeighter().weights(data, with_model(model)), th.ones(10).double())
    assert model.asked == 0


def test_a_bad_model_is_refused() -> None:
    """Not taken for one without errors."""
    data, model = known(6)
    model.misses[2] = float("nan")
    raw = ErrorWeighter().weights(data, with_model(model))
    with pytest.raises(DivergenceError, match="not finite"):
        usable_weights(raw, ErrorWeighter(), 6)


def test_a_context_without_a_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"context\.model=None is not allowed for a plug that reads it; allowed: the"):
        ErrorWeighter().weights(transitions(3), context())


@pytest.mark.parametrize("dynamics", SMALL_MODELS)
def test_an_agents_first_phase_is_uniform_and_the_next_is_not(dynamics: str) -> None:
    agent = small_agent("Pendulum-v1", "error", dynamics, learning_starts=1_000, weighter_kwargs={"uniform_mix": 0.0}).learn(
        200
    )
    assert th.equal(agent.fit_weights(), th.ones(200))
    agent.fit_model()
    errors = prediction_errors(agent.dynamics, agent.replay_buffer.transitions())
    expected = errors.pow(0.6) / errors.pow(0.6).mean()
    np.testing.assert_allclose(agent.fit_weights(), expected, rtol=1e-5)
    assert len(expected.unique()) > 100 and float(expected.std()) > 0.05


@pytest.mark.parametrize(
    ("name", "value"), [("power", -1.0), ("power", "1"), ("power", 11.0), ("uniform_mix", 1.5), ("uniform_mix", True)]
)
def test_arguments_are_checked(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{name}=.* is not allowed; allowed: a number in"):
        ErrorWeighter(**{name: value})
