"""A fitted network stays the same function when the normaliser takes the units of other data."""

from typing import Any

import pytest
import torch as th

from sb3_tom.contracts.dynamics import DynamicsModel
from sb3_tom.contracts.types import Transitions
from sb3_tom.dynamics.gaussian import ConstantNoise, SoftBounds
from tests.dynamics.cases import built, fit, make_data

KINDS: dict[str, dict[str, Any]] = {
    "ensemble": {},
    "ensemble_next": {"predict": "next"},
    "smooth": {},
    "smooth_free": {"clamp": None},
    "mdn": {},
    "linear": {},
}
"""The models in small, and their arguments."""


def fitted(name: str, data: Transitions) -> DynamicsModel:
    model = built(name.partition("_")[0], **KINDS[name])
    fit(model, data)
    return model


def elsewhere(data: Transitions) -> Transitions:
    """Other units of everything: stretched, shifted, and other rewards."""
    move = th.tensor([3.0, -50.0, 0.2])
    states, following = 1.7 * data.observations + move, 0.6 * data.next_observations - move
    return data._replace(observations=states, next_observations=following, rewards=5.0 * data.rewards + 2.0)


def in_raw_units(model: DynamicsModel, data: Transitions) -> tuple[th.Tensor, th.Tensor]:
    """Means and standard deviations ``[E, B, D]`` of reward and next state, in float64."""
    with th.no_grad():
        mean, log_var = model(data.observations, data.actions)
        states, rewards = model.normalizer.raw_outcomes(mean.double(), data.observations.double())
        return th.cat([rewards, states], dim=-1), (0.5 * log_var.double()).exp() * model.target_scales()


def likelihood_in_raw_units(model: DynamicsModel, data: Transitions) -> th.Tensor:
    """Log-density of the mixture itself, not of its moments ``[1, B]``."""
    return model.log_likelihood(data) - model.target_scales().log().mean()


def move_units(model: DynamicsModel, data: Transitions) -> None:
    """What a fit begins with, and nothing else."""
    model.fit_normalizer(data)


def networks() -> list[str]:
    return [name for name in KINDS if name != "linear"]


@pytest.mark.parametrize("name", networks())
def test_what_hardly_varied_before_does_not_blow_a_network_up(name: str) -> None:
    """A sensor that only hummed: the same function would answer its first signal with weights, and a certainty, of 1e6."""
    still = make_data(400)
    hum = 1e-6 * th.tensor([0.0, 0.0, 1.0])

    def humming(states: th.Tensor) -> th.Tensor:
        return states * th.tensor([1.0, 1.0, 0.0]) + hum * states / states.std(0)

    quiet = still._replace(observations=humming(still.observations), next_observations=humming(still.next_observations))
    model = fitted(name, quiet)
    weight, (_, log_var) = model.layers[0].weight.clone(), model(quiet.observations, quiet.actions)
    move_units(model, still)
    assert float((model.layers[0].weight / weight).abs().max()) <= 10.01
    moved = model(still.observations, still.actions)[1]
    assert float(moved.min() - log_var.min()) > -20.0
    fit(model, still)
    assert bool(th.isfinite(model(still.observations, still.actions)[0]).all())


@pytest.mark.parametrize("name", networks())
def test_what_moves_far_in_its_new_unit_does_not_blow_a_network_up(name: str) -> None:
    """Rewards that are a thousand and hardly vary, after others: the same function would have a bias of a million."""
    data = make_data(400)
    model = fitted(name, data)
    before = {name: value.clone() for name, value in model.named_parameters()}
    move_units(model, data._replace(rewards=1000.0 + 1e-3 * data.rewards))
    for parameter, value in model.named_parameters():
        assert float((value.abs() - 10.0 * before[parameter].abs()).max()) <= 10.01, parameter


@pytest.mark.parametrize("name", networks())
def test_predictions_stay_what_they_were(name: str) -> None:
    data = make_data(400)
    model, other = fitted(name, data), elsewhere(make_data(300, seed=5))
    scale, units = model.target_scales().clone(), model.normalizer.input_std.clone()
    means, deviations = in_raw_units(model, other)
    move_units(model, other)
    assert not th.allclose(scale, model.target_scales(), rtol=0.1) and not th.allclose(units, model.normalizer.input_std)
    again, deviations_again = in_raw_units(model, other)
    error = (again - means).abs() / model.target_scales()
    assert float(error.max()) < 1e-4, "in units of the targets: float32"
    th.testing.assert_close(deviations_again, deviations, rtol=1e-3, atol=0.0)


def test_a_mixture_stays_what_it_was_with_all_its_modes() -> None:
    data = make_data(400)
    model, other = fitted("mdn", data), elsewhere(make_data(300, seed=5))
    with th.no_grad():
        before = likelihood_in_raw_units(model, data)
        move_units(model, other)
        th.testing.assert_close(likelihood_in_raw_units(model, data), before, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", networks())
def test_without_it_predictions_jump(name: str) -> None:
    """The test above can fail."""
    data = make_data(400)
    model, other = fitted(name, data), elsewhere(make_data(300, seed=5))
    means, _ = in_raw_units(model, other)
    model.normalizer.fit(other)
    again, _ = in_raw_units(model, other)
    assert float(((again - means).abs() / model.target_scales()).max()) > 0.1


@pytest.mark.parametrize("name", KINDS)
def test_the_same_data_move_nothing(name: str) -> None:
    data = make_data(400)
    model = fitted(name, data)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    move_units(model, data)
    for key, value in model.state_dict().items():
        th.testing.assert_close(value, before[key], rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("name", networks())
def test_a_first_fit_takes_the_parameters_as_they_are(name: str) -> None:
    model = built(name.partition("_")[0], **KINDS[name])
    before = [parameter.clone() for parameter in model.parameters()]
    assert model.normalizer.fit(make_data(100)) is None
    assert all(th.equal(one, two) for one, two in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("name", ["ensemble", "smooth"])
def test_moments_are_those_of_the_same_gradients_in_new_units(name: str) -> None:
    """
    Oracle: autograd. Of the last layer, whose scale alone matters for its gradient, the gradient in new units is what the old
    one becomes as a first moment, and its square what the second one becomes.
    """
    data, model = make_data(300), fitted(name, make_data(300))
    optimizer, layer = model.optimizer, model.layers[-1]

    def gradients() -> tuple[th.Tensor, th.Tensor]:
        optimizer.zero_grad()
        (-model.log_likelihood(data).double().sum()).backward()
        return layer.weight.grad.clone(), layer.bias.grad.clone()

    old = gradients()
    for parameter, gradient in zip((layer.weight, layer.bias), old, strict=True):
        optimizer.state[parameter]["exp_avg"].copy_(gradient)
        optimizer.state[parameter]["exp_avg_sq"].copy_(gradient.square())
    move_units(model, elsewhere(data))
    for parameter, gradient in zip((layer.weight, layer.bias), gradients(), strict=True):
        state = optimizer.state[parameter]
        size = float(gradient.abs().max())
        th.testing.assert_close(state["exp_avg"], gradient, rtol=1e-2, atol=1e-3 * size)
        th.testing.assert_close(state["exp_avg_sq"], gradient.square(), rtol=2e-2, atol=1e-3 * size**2)


@pytest.mark.parametrize("name", networks())
def test_what_begins_to_vary(name: str) -> None:
    """
    A goal that had one place: where it was, nothing changes; its own unit is new, so that what the network has never learned
    for it does not count a thousandfold. A target that had no unit is predicted as before.
    """
    data = make_data(400)
    still = th.full((400, 1), 7.0)
    fixed = data._replace(
        observations=th.cat([data.observations[:, :2], still], 1),
        next_observations=th.cat([data.next_observations[:, :2], still], 1),
    )
    model = fitted(name, fixed)
    means, _ = in_raw_units(model, fixed)
    wider = still + 1000.0 * th.randn(400, 1, generator=th.Generator().manual_seed(0))
    moved = data._replace(
        observations=th.cat([data.observations[:, :2], wider], 1),
        next_observations=th.cat([data.next_observations[:, :2], -wider], 1),
    )
    weights = model.layers[0].weight[:, 2].clone()
    move_units(model, moved)
    again, _ = in_raw_units(model, fixed)
    th.testing.assert_close(again, means, rtol=1e-3, atol=2e-2)
    assert th.equal(model.layers[0].weight[:, 2], weights)
    assert all(bool(th.isfinite(value).all()) for value in [*model.parameters(), in_raw_units(model, moved)[0]])
    fit(model, moved)
    assert all(bool(th.isfinite(parameter).all()) for parameter in model.parameters())


@pytest.mark.parametrize("name", networks())
def test_first_values_of_a_target_do_not_upset_the_others(name: str) -> None:
    """A sparse reward: its first value is 32 standard deviations from a mean of which the model has become certain."""
    data = make_data(1000)
    silent = data._replace(rewards=th.zeros_like(data.rewards))
    model = built(name.partition("_")[0], max_epochs=20, first_max_epochs=20, **KINDS[name])
    fit(model, silent)
    hidden = [model.optimizer.state[layer.weight]["exp_avg_sq"] for layer in model.layers[:-1]]
    before = [float(moment.max()) for moment in hidden]
    certain = model(data.observations, data.actions)[1][..., 0].max()
    found = silent.rewards.clone()
    found[500] = 1.0
    move_units(model, data._replace(rewards=found))
    unsure = model(data.observations, data.actions)[1][..., 0]
    assert certain < -2.0 and unsure.min() > -1.0 and unsure.max() < 1.0
    fit(model, data._replace(rewards=found))
    assert all(float(moment.max()) < 30.0 * largest for moment, largest in zip(hidden, before, strict=True))


def test_what_ceases_to_vary_is_predicted_exactly() -> None:
    data = make_data(400)
    model = fitted("ensemble", data)
    still = th.full((400, 1), 0.5)
    fixed = data._replace(rewards=still)
    move_units(model, fixed)
    rewards = in_raw_units(model, data)[0][..., 0]
    assert th.equal(rewards, th.full_like(rewards, 0.5))


def test_bounds_of_a_log_variance_shift_with_it() -> None:
    bounds, shift = SoftBounds(3), th.tensor([0.0, 1.5, -4.0])
    log_vars = th.linspace(-14.0, 4.0, 50).unsqueeze(1).expand(50, 3)
    with th.no_grad():
        before = bounds(log_vars)
        bounds.shift(shift)
        th.testing.assert_close(bounds(log_vars + shift), before + shift, rtol=1e-5, atol=1e-5)


def test_a_constant_noise_keeps_its_size_down_to_the_least() -> None:
    noise, shift = ConstantNoise(3, 2), th.tensor([0.0, 2.0, -1.0])
    with th.no_grad():
        noise.log_var.copy_(th.tensor([0.5, -3.0, -11.0]).expand(2, 1, 3))
        before = noise(th.zeros(2, 1, 3))
        noise.shift(shift)
        th.testing.assert_close(noise(th.zeros(2, 1, 3)), before + shift, rtol=1e-5, atol=1e-5)
        noise.shift(th.full((3,), -50.0))
        assert bool((noise(th.zeros(2, 1, 3)) == ConstantNoise.LEAST + 0.1).all())
        assert bool((th.sigmoid(noise.log_var - ConstantNoise.LEAST) > 0.05).all()), "a gradient is left to come back by"
