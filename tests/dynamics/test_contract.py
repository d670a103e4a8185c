"""What every dynamics model promises, whatever is inside."""

import io
import math

import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_tom.contracts.dynamics import DynamicsModel
from sb3_tom.contracts.types import Transitions
from tests.dynamics.cases import (
    ACT,
    FACTORIES,
    MEMBERS,
    OBS,
    all_finite,
    built,
    draw,
    fit,
    make_data,
    same_state,
    unclamp,
)


@pytest.fixture(params=list(FACTORIES))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def fitted() -> dict[str, DynamicsModel]:
    """Each model, fitted; for tests that change nothing."""
    models = {kind: built(kind) for kind in FACTORIES}
    for model in models.values():
        fit(model, make_data(300))
    return models


@pytest.mark.parametrize("n_rows", [1, 2, 7])
def test_shapes(kind: str, n_rows: int, fitted: dict[str, DynamicsModel]) -> None:
    model, data, members = fitted[kind], make_data(n_rows, seed=1), MEMBERS[kind]
    prediction = model(data.observations, data.actions)
    assert prediction.mean.shape == prediction.log_var.shape == (members, n_rows, 1 + OBS)
    assert model.log_likelihood(data).shape == model.validation_error(data).shape == (members, n_rows)
    next_observations, rewards = draw(model, data)
    assert next_observations.shape == (n_rows, OBS) and rewards.shape == (n_rows, 1)
    assert model.regularization().shape == ()
    assert next_observations.dtype == rewards.dtype == prediction.mean.dtype == th.float32


def test_own_rows_per_member_are_the_same_computation(kind: str, fitted: dict[str, DynamicsModel]) -> None:
    model, data, members = fitted[kind], make_data(11, seed=1), MEMBERS[kind]
    rows = th.stack([th.randperm(11, generator=th.Generator().manual_seed(member)) for member in range(members)])
    own = data.rows(rows)
    shared, apart = model(data.observations, data.actions), model(own.observations, own.actions)
    pick = th.arange(members).unsqueeze(1)
    th.testing.assert_close(apart.mean, shared.mean[pick, rows])
    th.testing.assert_close(apart.log_var, shared.log_var[pick, rows])
    th.testing.assert_close(model.log_likelihood(own), model.log_likelihood(data)[pick, rows])


def test_density_integrates_to_one(kind: str) -> None:
    """Pins the convention: log-density in unit scale, over D, without ``-log(2 pi) / 2`` per dimension."""
    model, data = built(kind, observation_dim=1, first_max_epochs=3), make_data(200, observation_dim=1)
    fit(model, data)
    axis = th.linspace(-10, 10, 301)
    grid = th.cartesian_prod(axis, axis)
    rewards, change = (grid * model.normalizer.target_std + model.normalizer.target_mean).split(1, dim=-1)
    start, actions = data.observations[:1].expand(len(grid), 1), data.actions[:1].expand(len(grid), ACT)
    batch = Transitions(start, actions, start + change, rewards, th.zeros_like(rewards), th.zeros(len(grid), dtype=th.long))
    with th.no_grad():
        density = th.exp(2 * model.log_likelihood(batch).double()) / (2 * math.pi)
    mass = density.sum(-1) * float(axis[1] - axis[0]) ** 2
    th.testing.assert_close(mass, th.ones_like(mass), atol=2e-3, rtol=0)


def test_samples_have_the_predicted_moments(kind: str) -> None:
    n_rows = 20_000
    model, data = built(kind), make_data(300)
    fit(model, data)
    unclamp(model)
    start, actions = data.observations[:1], data.actions[:1]
    observations = start.expand(n_rows, OBS)
    with th.no_grad():
        states, rewards = model.sample(observations, actions.expand(n_rows, ACT), th.Generator().manual_seed(0))
        mean, log_var = (values[:, 0] for values in model(start, actions))
    unit = (th.cat([rewards, states - observations], -1) - model.normalizer.target_mean) / model.normalizer.target_std
    if kind == "ensemble":
        mean, log_var = mean[model.elites.long()], log_var[model.elites.long()]
    total = log_var.exp().mean(0) + mean.var(0, correction=0)
    deviation = (unit.mean(0) - mean.mean(0)) / (total / n_rows).sqrt()
    assert deviation.abs().max() < 5  # standard errors
    th.testing.assert_close(unit.var(0) / total, th.ones(1 + OBS), atol=0.08, rtol=0)


@settings(max_examples=15, deadline=None)
@given(
    scale=st.floats(1e-3, 1e4),
    seed=st.integers(0, 100),
    predict=st.sampled_from(["delta", "next"]),
    name=st.sampled_from(list(FACTORIES)),
)
def test_samples_stay_in_the_range_of_the_data(scale: float, seed: int, predict: str, name: str) -> None:
    data = make_data(50, seed)
    model = built(name, seed, predict=predict, max_epochs=1, steps_per_epoch=2)
    fit(model, data)
    far = make_data(40, seed + 1)
    far = far._replace(observations=far.observations * scale)
    with th.no_grad():
        states, rewards = draw(model, far, seed)
    assert not states.requires_grad and not rewards.requires_grad
    for values, real in ((states, data.next_observations), (rewards, data.rewards)):
        assert bool((values >= real.amin(0)).all()) and bool((values <= real.amax(0)).all())


def test_clamping_keeps_what_is_inside(kind: str, fitted: dict[str, DynamicsModel]) -> None:
    """Otherwise a model that always returns a bound would pass the test above."""
    states, rewards = draw(fitted[kind], make_data(200, seed=2))
    data = make_data(300)
    for values, real in ((states, data.next_observations), (rewards, data.rewards)):
        inside = (values > real.amin(0)) & (values < real.amax(0))
        assert inside.float().mean() > 0.9


@pytest.mark.parametrize("predict", ["delta", "next"])
def test_sample_gradients_match_finite_differences(kind: str, predict: str) -> None:
    model, data = built(kind, predict=predict), make_data(8, seed=3)
    fit(model, make_data(300))
    model.double()
    direction = th.randn(8, OBS + ACT, generator=th.Generator().manual_seed(1)).double()
    inputs = th.cat([data.observations, data.actions], -1).double().requires_grad_()

    def objective(values: th.Tensor) -> th.Tensor:
        states, rewards = model.sample(values[:, :OBS], values[:, OBS:], th.Generator().manual_seed(4))
        return (states / model.normalizer.target_std[1:]).sum() + rewards.sum()

    objective(inputs).backward()
    assert inputs.grad is not None
    step = 1e-6
    with th.no_grad():
        numeric = (objective(inputs + step * direction) - objective(inputs - step * direction)) / (2 * step)
    th.testing.assert_close((inputs.grad * direction).sum(), numeric, rtol=1e-5, atol=1e-7)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients and all(bool(th.isfinite(gradient).all()) for gradient in gradients)
    assert sum(bool((gradient != 0).any()) for gradient in gradients) >= 3  # slopes, biases and what makes the noise


def test_sample_draws_from_the_generator_only(kind: str, fitted: dict[str, DynamicsModel]) -> None:
    model, data = fitted[kind], make_data(50, seed=1)
    th.manual_seed(1)
    state = th.get_rng_state()
    first = draw(model, data, seed=5)
    assert th.equal(th.get_rng_state(), state)
    th.manual_seed(2)
    again, other = draw(model, data, seed=5), draw(model, data, seed=6)
    for values, same, different in zip(first, again, other, strict=True):
        assert th.equal(values, same)
        assert not th.equal(values, different)
    generator = th.Generator().manual_seed(5)
    model.sample(data.observations, data.actions, generator)
    following, _ = model.sample(data.observations, data.actions, generator)
    assert not th.equal(following, first[0])


def test_fit_is_deterministic_and_touches_nothing_else(kind: str) -> None:
    data, weights = make_data(120), th.rand(120, generator=th.Generator().manual_seed(0)) * 2
    copies = [*(field.clone() for field in data), weights.clone()]
    models = [built(kind) for _ in range(3)]
    for global_seed, (model, seed) in enumerate(zip(models, (3, 3, 4), strict=True)):
        th.manual_seed(global_seed)
        before = th.get_rng_state()
        fit(model, data, weights, seed)
        assert th.equal(th.get_rng_state(), before)
    assert all(th.equal(value, copy) for value, copy in zip([*data, weights], copies, strict=True))
    assert same_state(models[0], models[1])
    assert same_state(models[0], models[2]) == (kind == "linear")  # the closed form has no randomness at all


def test_state_dict_is_complete_float_and_loads_with_weights_only(kind: str) -> None:
    """What was saved samples, and goes on learning, exactly like the original."""
    data, more = make_data(150), make_data(200, seed=1)
    model = built(kind)
    fit(model, data)
    file = io.BytesIO()
    optimizers = {name: optimizer.state_dict() for name, optimizer in model.optimizers().items()}
    th.save({"model": model.state_dict(), "optimizers": optimizers}, file)
    assert all(value.is_floating_point() for value in model.state_dict().values())

    file.seek(0)
    saved = th.load(file, weights_only=True)
    copy = built(kind, seed=99)
    copy.load_state_dict(saved["model"])
    for name, optimizer in copy.optimizers().items():
        optimizer.load_state_dict(saved["optimizers"][name])
    for continued in (False, True):
        if continued:
            assert fit(model, more, seed=8) == fit(copy, more, seed=8)
        assert all(th.equal(one, two) for one, two in zip(draw(model, more), draw(copy, more), strict=True))
        assert th.equal(model.log_likelihood(more), copy.log_likelihood(more))
        assert th.equal(model.validation_error(more), copy.validation_error(more))


@pytest.mark.parametrize("weighting", ["sample", "loss"])
@pytest.mark.parametrize("n_rows", [1, 2, 5])
def test_fits_a_handful_of_rows(kind: str, n_rows: int, weighting: str) -> None:
    model, data = built(kind), make_data(n_rows)
    figures = fit(model, data, weighting=weighting)
    assert all_finite(model, figures) and {"validation_error", "gradient_steps"} <= set(figures)
    states, rewards = draw(model, make_data(20, seed=1))
    assert bool(th.isfinite(states).all()) and bool(th.isfinite(rewards).all())
    if n_rows == 1:  # the range of the data is one point
        assert th.equal(states, data.next_observations.expand(20, OBS)) and th.equal(rewards, data.rewards.expand(20, 1))


@pytest.mark.parametrize("row", range(10))
def test_fits_with_all_weight_on_one_row(kind: str, row: int) -> None:
    """Also where the row is held out."""
    weights = th.zeros(10)
    weights[row] = 10.0
    model = built(kind, max_epochs=1, steps_per_epoch=5)
    assert all_finite(model, fit(model, make_data(10), weights, row))


@pytest.mark.parametrize("value", [0.0, 1.0, -1234.5])
def test_fits_constant_columns(kind: str, value: float) -> None:
    data = make_data(60)
    for field in (data.observations, data.next_observations):
        field[:, 1] = value
    data.rewards[:] = value
    data.actions[:, 0] = 0.5
    model = built(kind)
    assert all_finite(model, fit(model, data))
    states, rewards = draw(model, data)
    assert bool(th.isfinite(states).all()) and states[:, 0].std() > 0
    assert bool((states[:, 1] == value).all()) and bool((rewards == value).all())
    prediction = model(data.observations, data.actions)
    assert bool(th.isfinite(prediction.mean).all()) and bool(th.isfinite(prediction.log_var).all())


def opposed_data(n_rows: int = 400) -> Transitions:
    """The first half of the rows says +1, the second half -1, to the same question."""
    data = make_data(n_rows // 2)
    both = Transitions(*(th.cat([field, field]) for field in data))
    sign = th.cat([th.ones(n_rows // 2, 1), -th.ones(n_rows // 2, 1)])
    noise = 0.1 * th.randn(n_rows, 1, generator=th.Generator().manual_seed(0))
    return both._replace(next_observations=both.observations + sign + noise, rewards=sign + noise)


@pytest.mark.parametrize("weighting", ["sample", "loss"])
@pytest.mark.parametrize("share", [0.25, 1.0])
def test_fit_follows_the_weights(kind: str, weighting: str, share: float) -> None:
    """The mean of weighted maximum likelihood between +1 (weight ``share``) and -1 is ``2 share - 1``."""
    data = opposed_data()
    weights = th.cat([th.full((200,), 2 * share), th.full((200,), 2 - 2 * share)])
    model = built(kind, max_epochs=8)
    fit(model, data, weights, weighting=weighting)
    unclamp(model)
    with th.no_grad():
        mean = model(data.observations, data.actions).mean.mean(0)
        states, rewards = model.normalizer.outcomes(mean, data.observations)
    answers = th.cat([rewards, states - data.observations], -1).mean(0)
    th.testing.assert_close(answers, th.full((1 + OBS,), 2 * share - 1), atol=0.15, rtol=0)


def test_equal_weights_mean_the_same_to_both_weightings(kind: str) -> None:
    models = [built(kind), built(kind)]
    for model, weighting in zip(models, ("sample", "loss"), strict=True):
        fit(model, make_data(150), weighting=weighting)
    assert same_state(*models)


@pytest.mark.parametrize("predict", ["delta", "next"])
def test_fit_learns(kind: str, predict: str) -> None:
    """
    Held-out squared error well below 1, that of the best constant, in each dimension. Of a state's change the noise is a share
    of 0.16, and the best linear model leaves 0.26.
    """
    model = built(kind, predict=predict, max_epochs=10, learning_rate=5e-3)
    fit(model, make_data(500))
    test = make_data(300, seed=7)
    with th.no_grad():
        error = model.normalizer.targets(test) - model(test.observations, test.actions).mean
    assert bool((error.square().mean(-2) < 0.35).all())
