"""What objectives of their own ask of a model: its targets, their units, and samples of every member."""

import pytest
import torch as th

from sb3_tom.contracts.dynamics import DynamicsModel
from tests.dynamics.cases import ACT, FACTORIES, MEMBERS, OBS, built, fit, make_data


class Silent(DynamicsModel):
    """A user's model that has only what the contract demands."""

    forward = log_likelihood = validation_error = sample = fit = lambda *_: None


@pytest.mark.parametrize("verb", ["targets", "target_scales", "sample_members"])
def test_a_model_without_them_says_so(verb: str) -> None:
    arguments = {"targets": (None,), "target_scales": (), "sample_members": (None, None, None)}[verb]
    with pytest.raises(ValueError, match=f"Silent has no {verb}; allowed: a dynamics model that implements it"):
        getattr(Silent(), verb)(*arguments)


@pytest.mark.parametrize("kind", FACTORIES)
@pytest.mark.parametrize("predict", ["delta", "next"])
def test_targets_are_what_the_mean_is_fitted_to_in_their_units(kind: str, predict: str) -> None:
    data, model = make_data(400), built(kind, predict=predict)
    fit(model, data)
    state = data.next_observations - data.observations if predict == "delta" else data.next_observations
    raw = th.cat([data.rewards, state], dim=1)
    th.testing.assert_close(model.target_scales(), raw.std(0, correction=0), rtol=1e-4, atol=0.0)
    th.testing.assert_close(model.targets(data), (raw - raw.mean(0)) / raw.std(0, correction=0), rtol=1e-3, atol=1e-3)
    error = (model(data.observations, data.actions).mean - model.targets(data)).square().mean(-1)
    if kind != "mdn":  # whose error is its likelihood
        th.testing.assert_close(model.validation_error(data), error)


@pytest.mark.parametrize("kind", FACTORIES)
def test_every_member_samples_its_own_rows_with_a_gradient(kind: str) -> None:
    """An objective that learns from samples has to reach the members that are no elites, and what lies beyond the data."""
    data, model, n_members = make_data(300), built(kind), MEMBERS[kind]
    fit(model, data)
    rows = data.rows(th.arange(n_members * 7).view(n_members, 7))
    observations = (3.0 * rows.observations).requires_grad_()
    states, rewards = model.sample_members(observations, rows.actions, th.Generator().manual_seed(0))
    assert states.shape == (n_members, 7, OBS) and rewards.shape == (n_members, 7, 1)
    assert bool((states > data.next_observations.amax(0)).any()), "samples were clamped"
    (states.sum() + rewards.sum()).backward()
    assert bool((observations.grad.abs().sum((1, 2)) > 0).all())
    reached = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert reached
    if n_members > 1:
        assert all(bool((gradient.flatten(1).abs().sum(1) > 0).all()) for gradient in reached if gradient.dim() == 3)


def test_members_sample_what_each_of_them_predicts() -> None:
    """Against the members' own means and variances, row by row."""
    data, model = make_data(300), built("ensemble")
    fit(model, data)
    rows = data.rows(th.arange(3).view(3, 1))
    with th.no_grad():
        generator = th.Generator().manual_seed(0)
        many = [model.sample_members(rows.observations, rows.actions, generator) for _ in range(3000)]
        mean, log_var = model(rows.observations, rows.actions)
        expected, reward = model.normalizer.raw_outcomes(mean, rows.observations)
    scale = (0.5 * log_var).exp() * model.target_scales()
    drawn = th.stack([states for states, _ in many])
    assert float(((drawn.mean(0) - expected) / scale[..., 1:]).abs().max()) < 5 / 3000**0.5
    th.testing.assert_close(drawn.std(0), scale[..., 1:], rtol=0.1, atol=0.0)
    assert float(((th.stack([r for _, r in many]).mean(0) - reward) / scale[..., :1]).abs().max()) < 5 / 3000**0.5
    assert ACT == rows.actions.shape[-1]
