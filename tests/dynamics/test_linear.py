"""The closed-form linear model against numpy's least squares."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.objective import ModelObjective
from sb3_tom.contracts.types import Transitions
from sb3_tom.dynamics.linear import VARIANCE_FLOOR, LinearDynamics
from sb3_tom.objectives.likelihood import LikelihoodObjective
from tests.dynamics.cases import make_context

Array = npt.NDArray[np.float64]
N_OBSERVATIONS, N_ACTIONS = 3, 2


def make_data(n_rows: int, seed: int = 0, noise: float = 0.3) -> Transitions:
    """``s' = s + M (s, a) + b + noise`` with columns of unlike scales and offsets."""
    generator = th.Generator().manual_seed(seed)
    scale, offset = th.tensor([1.0, 30.0, 0.02]), th.tensor([0.0, 50.0, -1.0])
    unit = th.randn(n_rows, N_OBSERVATIONS, generator=generator)
    actions = th.rand(n_rows, N_ACTIONS, generator=generator) * 2 - 1
    slopes = th.randn(N_OBSERVATIONS + N_ACTIONS, 1 + N_OBSERVATIONS, generator=th.Generator().manual_seed(99))
    outcome = th.cat([unit, actions], -1) @ slopes + 0.5
    outcome = outcome + noise * th.randn(outcome.shape, generator=generator)
    observations = offset + scale * unit
    following = observations + scale * outcome[:, 1:]
    version = th.zeros(n_rows, dtype=th.long)
    return Transitions(observations, actions, following, outcome[:, :1], th.zeros(n_rows, 1), version)


def fitted(data: Transitions, weights: th.Tensor | None = None, **kwargs: Any) -> tuple[LinearDynamics, dict[str, float]]:
    model = LinearDynamics(**kwargs)
    model.build(N_OBSERVATIONS, N_ACTIONS)
    weights = th.ones(data.size) if weights is None else weights
    return model, model.fit(data, weights, LikelihoodObjective(), make_context())


@th.no_grad()
def predicted(model: LinearDynamics, data: Transitions) -> Array:
    """Mean reward and next observation in raw units, not clamped, ``[N, D]``."""
    model.normalizer.low.fill_(-th.inf)
    model.normalizer.high.fill_(th.inf)
    states, rewards = model.normalizer.outcomes(model(data.observations, data.actions).mean[0], data.observations)
    return th.cat([rewards, states], -1).double().numpy()


def regression(data: Transitions) -> tuple[Array, Array]:
    """Inputs with an intercept, and outcomes, in raw units."""
    inputs = th.cat([data.observations, data.actions, th.ones(data.size, 1)], -1)
    return inputs.double().numpy(), th.cat([data.rewards, data.next_observations], -1).double().numpy()


def scale_of(data: Transitions) -> Array:
    spread: Array = regression(data)[1].std(0)
    return spread


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_rows=st.integers(12, 200),
    predict=st.sampled_from(["delta", "next"]),
    zeros=st.floats(0, 0.4),
    power=st.floats(0, 3),
)
def test_equals_numpy_least_squares(seed: int, n_rows: int, predict: str, zeros: float, power: float) -> None:
    """Coefficients, through predictions at other points, and the residual variance; some weights zero, some large."""
    data, test = make_data(n_rows, seed), make_data(50, seed + 1)
    random = np.random.default_rng(seed)
    weights = random.random(n_rows) ** power * (random.random(n_rows) >= zeros)
    weights[:8] += 0.1  # more rows than columns
    weights /= weights.mean()
    inputs, outcomes = regression(data)
    root = np.sqrt(weights)[:, None]
    expected, *_ = np.linalg.lstsq(root * inputs, root * outcomes, rcond=None)

    model, _ = fitted(data, th.tensor(weights, dtype=th.float32), predict=predict)
    error = (predicted(model, test) - regression(test)[0] @ expected) / scale_of(data)
    assert np.abs(error).max() < 2e-4  # float32 inputs and an offset of 50 at a scale of 30, times the conditioning

    variance = np.average((outcomes - inputs @ expected) ** 2, axis=0, weights=weights)
    found = model.log_var.exp().detach().numpy() * model.normalizer.target_std.numpy() ** 2
    np.testing.assert_allclose(found, variance, rtol=2e-3)


def test_a_weight_of_three_is_three_rows() -> None:
    data = make_data(40)
    weights = th.ones(40)
    weights[:10] = 3.0
    copies = th.cat([th.arange(40), th.arange(10), th.arange(10)])
    weighted, _ = fitted(data, weights / weights.mean())
    repeated, _ = fitted(data.rows(copies))
    test = make_data(50, seed=1)
    np.testing.assert_allclose(
        predicted(weighted, test) / scale_of(data), predicted(repeated, test) / scale_of(data), atol=2e-5
    )
    variances = [model.log_var.exp() * model.normalizer.target_std.square() for model in (weighted, repeated)]
    th.testing.assert_close(*variances, rtol=1e-4, atol=0)
    plain, _ = fitted(data)
    assert np.abs((predicted(plain, test) - predicted(weighted, test)) / scale_of(data)).max() > 1e-2


@pytest.mark.parametrize("predict", ["delta", "next"])
def test_recovers_a_linear_system(predict: str) -> None:
    """To the precision of float32, outside of the data too; nothing is left over but rounding."""
    model, figures = fitted(make_data(200, noise=0.0), predict=predict)
    test = make_data(100, seed=5, noise=0.0)
    test_error = (predicted(model, test) - regression(test)[1]) / scale_of(test)
    assert np.abs(test_error).max() < 2e-5
    assert figures["validation_error"] < 1e-9
    assert bool((model.log_var.exp() < 1e-9).all()) and bool((model.log_var.exp() >= 0.99 * VARIANCE_FLOOR).all())


def test_follows_the_weighted_part_of_two_systems() -> None:
    """All the weight on the rows of one system: the other system leaves no trace."""
    one, two = make_data(100, noise=0.0), make_data(100, seed=1, noise=0.0)
    two = two._replace(rewards=-two.rewards, next_observations=two.observations)
    data = Transitions(*(th.cat(fields) for fields in zip(one, two, strict=True)))
    model, _ = fitted(data, th.cat([th.full((100,), 2.0), th.zeros(100)]))
    assert np.abs((predicted(model, one) - regression(one)[1]) / scale_of(one)).max() < 5e-5


@pytest.mark.parametrize("ridge", [1e-3, 0.3, 1e6])
def test_ridge_equals_its_augmented_least_squares(ridge: float) -> None:
    """Ridge as rows ``sqrt(ridge) e_j`` with target 0 on standardised inputs; the intercept is free."""
    data, weights = make_data(80), th.rand(80, generator=th.Generator().manual_seed(0)) + 0.1
    inputs, outcomes = regression(data)
    outcomes[:, 1:] -= data.observations.numpy()
    standard = (inputs[:, :-1] - inputs[:, :-1].mean(0)) / inputs[:, :-1].std(0)
    targets = (outcomes - outcomes.mean(0)) / outcomes.std(0)
    root = np.sqrt(weights.numpy() / weights.numpy().sum())[:, None]
    rows = np.vstack([root * np.hstack([standard, np.ones((80, 1))]), np.sqrt(ridge) * np.eye(5, 6)])
    expected, *_ = np.linalg.lstsq(rows, np.vstack([root * targets, np.zeros((5, 4))]), rcond=None)
    model, _ = fitted(data, weights / weights.mean(), ridge=ridge)
    np.testing.assert_allclose(model.slopes.detach().numpy(), expected[:-1], atol=1e-5)
    np.testing.assert_allclose(model.intercept.detach().numpy(), expected[-1], atol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_validation_error_is_the_leave_one_out_error(weighted: bool) -> None:
    """Refit without each row by numpy, then predict that row."""
    data = make_data(25)
    weights = th.rand(25, generator=th.Generator().manual_seed(0)) + 0.1 if weighted else th.ones(25)
    model, figures = fitted(data, weights / weights.mean())
    inputs, outcomes = regression(data)
    root = np.sqrt(weights.double().numpy())[:, None]
    errors = np.empty_like(outcomes)
    for row in range(25):
        keep = np.arange(25) != row
        coefficients, *_ = np.linalg.lstsq((root * inputs)[keep], (root * outcomes)[keep], rcond=None)
        errors[row] = (outcomes[row] - inputs[row] @ coefficients) / model.normalizer.target_std.numpy()
    expected = np.average((errors**2).mean(1), weights=weights.numpy())
    assert math.isclose(figures["validation_error"], expected, rel_tol=2e-3)
    training = (model.validation_error(data)[0] * weights).sum() / weights.sum()
    assert figures["validation_error"] > 1.2 * float(training.detach())  # 6 columns, 25 rows: the training error flatters
    assert figures["gradient_steps"] == 0


@pytest.mark.parametrize("ridge", [0.0, 1e-8])
def test_fewer_rows_than_columns_and_equal_columns(ridge: float) -> None:
    """No unique solution: still finite, and exact on the rows there are."""
    data = make_data(4)
    data.actions[:, 1] = data.actions[:, 0]
    model, figures = fitted(data, ridge=ridge)
    assert math.isfinite(figures["validation_error"])
    assert all(bool(th.isfinite(value).all()) for value in model.state_dict().values())
    assert np.abs((predicted(model, data) - regression(data)[1]) / scale_of(data)).max() < 1e-4
    assert bool((model.slopes.abs() < 10).all())


def test_deterministic_samples_the_mean() -> None:
    data = make_data(60)
    for deterministic in (True, False):
        model, _ = fitted(data, deterministic=deterministic)
        mean = predicted(model, data)
        draws = [
            th.cat(model.sample(data.observations, data.actions, th.Generator().manual_seed(seed))[::-1], -1)
            for seed in (0, 1)
        ]
        assert th.equal(*draws) == deterministic
        assert np.allclose(draws[0].detach().numpy(), mean, rtol=1e-6, atol=1e-7) == deterministic


def test_untrained_model_predicts_no_change() -> None:
    model, data = LinearDynamics(), make_data(5)
    model.build(N_OBSERVATIONS, N_ACTIONS)
    prediction = model(data.observations, data.actions)
    assert not prediction.mean.any() and not prediction.log_var.any()


class OtherLoss(LikelihoodObjective):
    """A likelihood in name only."""

    def loss(self, *args: Any) -> th.Tensor:
        return th.zeros(())


class OtherStep(LikelihoodObjective):
    """Minimises in a way of its own."""

    def step(self, *args: Any) -> None:
        return


class Relabelled(LikelihoodObjective):
    """Changes imagined rows only: the fit is still that of the likelihood."""

    def relabel(self, batch: Transitions, context: Context) -> Transitions:
        return batch


@pytest.mark.parametrize("objective", [OtherLoss(), OtherStep()])
def test_refuses_other_objectives(objective: ModelObjective) -> None:
    model, data = LinearDynamics(), make_data(5)
    model.build(N_OBSERVATIONS, N_ACTIONS)
    message = rf"LinearDynamics.*{type(objective).__name__}"
    with pytest.raises(ValueError, match=message):
        model.check_objective(objective)
    with pytest.raises(ValueError, match=message):
        model.fit(data, th.ones(5), objective, make_context())


@pytest.mark.parametrize("objective", [LikelihoodObjective(), Relabelled()])
def test_accepts_the_likelihood(objective: ModelObjective) -> None:
    LinearDynamics().check_objective(objective)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("ridge", value) for value in (-1e-9, "1e-8", True, math.nan, math.inf)]
    + [("deterministic", value) for value in (1, "yes", None)]
    + [("predict", value) for value in ("s", None, 1)],
)
def test_bad_arguments_are_named(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{argument}=.*allowed") as error:
        LinearDynamics(**{argument: value})
    assert repr(value) in str(error.value)
