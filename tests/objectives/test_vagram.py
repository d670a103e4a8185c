"""VaGraM's coefficients against finite differences, their clip, and what its loss moves."""

import numpy as np
import pytest
import torch as th

from sb3_tom import Context, Transitions
from sb3_tom.objectives import vagram
from sb3_tom.objectives.vagram import clip_factors, squared_gradients
from tests.objectives.vagram_cases import (
    SCALES,
    Fixed,
    by_finite_differences,
    looking_at,
    objective_of,
    toy_context,
    unit_data,
)


def test_coefficients_are_those_of_finite_differences() -> None:
    data = unit_data(9)
    with th.no_grad():  # a fit may be within it
        coefficients = objective_of().prepare(Fixed(), data, toy_context())["coefficients"].double().numpy()
    expected = np.concatenate([np.ones((9, 1)), by_finite_differences(data.next_observations)], axis=1) * np.square(SCALES)
    np.testing.assert_allclose(coefficients, expected / expected.mean(), rtol=2e-4, atol=1e-7)
    assert not any(field.requires_grad for field in data)


def test_large_data_come_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    data = unit_data(20)
    whole = objective_of(clip_quantile=0.7).prepare(Fixed(), data, toy_context())["coefficients"]
    monkeypatch.setattr(vagram, "rows_at_once", lambda *_: 3)
    pieces = objective_of(clip_quantile=0.7).prepare(Fixed(), data, toy_context())["coefficients"]
    th.testing.assert_close(pieces, whole)


def test_the_loss_moves_each_mean_by_its_coefficient_and_each_variance_by_the_likelihood() -> None:
    data, generator = unit_data(10), th.Generator().manual_seed(1)
    batch = Transitions(*(field.unflatten(0, (2, 5)) for field in data))
    mean, log_var = (th.randn(2, 5, 4, generator=generator).requires_grad_() for _ in range(2))
    weights, coefficients = (th.rand(shape, generator=generator) for shape in ((2, 5), (2, 5, 4)))
    model = Fixed(mean, log_var)
    extras = {"coefficients": coefficients, "emphasis": th.full((2, 5, 1), 3.0)}
    objective_of().loss(model, batch, weights, extras).backward()
    errors = (mean - model.targets(batch)).detach()
    share = weights.unsqueeze(-1) / (5 * 4)
    th.testing.assert_close(mean.grad, share * 3.0 * 2.0 * coefficients * errors)
    th.testing.assert_close(log_var.grad, share * (1.0 - errors.square() / log_var.detach().exp()))
    held = objective_of().validation_error(model, batch, extras)
    th.testing.assert_close(held.detach(), (coefficients * errors.square()).mean(-1))


def test_what_no_critic_sees_has_no_weight() -> None:
    data = unit_data(50)
    coefficients = objective_of().prepare(Fixed(), data, looking_at(0, 2))["coefficients"]
    assert bool((coefficients[:, 2] == 0.0).all()) and bool((coefficients[:, [0, 1, 3]] > 0.0).all())
    assert float(coefficients.mean()) == pytest.approx(1.0)


@pytest.mark.parametrize("quantile", [0.95, 1.0])
def test_of_a_constant_value_the_error_of_the_reward_is_left(quantile: float) -> None:
    data = unit_data(50)
    extras = objective_of(clip_quantile=quantile).prepare(Fixed(), data, looking_at())
    assert th.equal(extras["coefficients"], th.tensor([4.0, 0.0, 0.0, 0.0]).expand(50, -1))
    mean = th.zeros(1, 50, 4)
    held = objective_of().validation_error(Fixed(mean, mean), data, extras)
    th.testing.assert_close(held, data.rewards.square().t())


def test_the_clip_bounds_rows_by_the_quantile_of_all() -> None:
    data, context = unit_data(40), toy_context()
    free = objective_of().prepare(Fixed(), data, context)["coefficients"]
    bound = objective_of(clip_quantile=0.9).prepare(Fixed(), data, context)["coefficients"]
    free, bound = free / free[:1, :1], bound / bound[:1, :1]  # in units of the reward's, which no clip touches
    norms, clipped = free[:, 1:].sum(-1), bound[:, 1:].sum(-1)
    limit = norms.sort().values[35]
    assert int((norms > limit).sum()) == 4
    th.testing.assert_close(clipped, norms.clamp(max=float(limit)))
    th.testing.assert_close(bound[:, 1:] / clipped.unsqueeze(-1), free[:, 1:] / norms.unsqueeze(-1))  # the same direction


def test_a_quantile_of_zero_gradients_is_no_nan() -> None:
    assert clip_factors(th.tensor([[0.0], [0.0], [3.0]]), 0.5).flatten().tolist() == [1.0, 1.0, 0.0]
    assert clip_factors(th.tensor([[0.0], [2.0], [8.0]]), 0.6).flatten().tolist() == [1.0, 1.0, 0.25]


def test_each_critic_has_its_own_gradient_and_keeps_none() -> None:
    layer = th.nn.Linear(3, 2)
    context = looking_at(0)

    def values(observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        return layer(observations).t()

    opposite = Context(
        context.policy, values, 0.99, 1, context.generator,
        target_values=lambda *asked: -values(*asked), mean_action=context.mean_action,
    )  # fmt: skip
    squares = squared_gradients(th.randn(4, 3), opposite)
    th.testing.assert_close(squares, layer.weight.detach().square().mean(0).expand(4, -1))  # and not 0, their signed mean's
    assert layer.weight.grad is None and not squares.requires_grad


def test_the_loss_has_the_models_penalty_too() -> None:
    class Penalised(Fixed):
        penalty = 0.0

        def regularization(self) -> th.Tensor:
            return th.tensor(self.penalty)

    batch = Transitions(*(field.unflatten(0, (2, 5)) for field in unit_data(10)))
    model, losses = Penalised(th.zeros(2, 5, 4), th.zeros(2, 5, 4)), []
    for model.penalty in (0.0, 3.0):
        extras = {"coefficients": th.ones(2, 5, 4), "emphasis": th.ones(2, 5, 1)}
        losses.append(float(objective_of().loss(model, batch, th.ones(2, 5), extras)))
    assert losses[1] - losses[0] == pytest.approx(3.0, rel=1e-5)
