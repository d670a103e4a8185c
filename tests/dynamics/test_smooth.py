"""What the smooth ensemble does otherwise than the ensemble: no kinks, no clamps, a noise that means do not hide behind."""

import math

import pytest
import torch as th
import torch.nn.functional as F

from sb3_tom.contracts.dynamics import Prediction
from sb3_tom.contracts.types import Transitions
from sb3_tom.dynamics.ensemble import ProbabilisticEnsemble
from sb3_tom.dynamics.gaussian import ConstantNoise
from sb3_tom.dynamics.smooth import SmoothEnsemble
from tests.dynamics.cases import ACT, FIT, NETWORK, OBS, draw, fit, make_data

OBSERVATIONS, ACTIONS = 17, 6
"""Of HalfCheetah."""


def smooth(n_members: int = 3, **kwargs: object) -> SmoothEnsemble:
    th.manual_seed(0)
    model = SmoothEnsemble(n_members, **{**NETWORK, **kwargs})  # type: ignore[arg-type]
    model.build(OBS, ACT)
    return model


def linear_system(n_rows: int, noise: float, seed: int = 0) -> Transitions:
    """17 and 6 dimensions; the change of the state has this noise in all dimensions, the reward a tenth of it."""
    generator = th.Generator().manual_seed(seed)
    matrix = 0.1 * th.randn(OBSERVATIONS + ACTIONS, OBSERVATIONS, generator=th.Generator().manual_seed(1))
    observations = th.randn(n_rows, OBSERVATIONS, generator=generator)
    actions = th.rand(n_rows, ACTIONS, generator=generator) * 2 - 1
    change = th.cat([observations, actions], 1) @ matrix
    change = change + noise * th.randn(n_rows, OBSERVATIONS, generator=generator)
    rewards = observations[:, :1] + 0.1 * noise * th.randn(n_rows, 1, generator=generator)
    zeros = th.zeros(n_rows, 1)
    return Transitions(observations, actions, observations + change, rewards, zeros, zeros[:, 0].long())


def test_its_layers_are_those_of_a_naive_loop() -> None:
    model, inputs = smooth(net_arch=(8, 8, 8, 8), homoscedastic=True).double(), th.randn(6, OBS + ACT, dtype=th.float64)
    mean, log_var = model._predict(inputs, None)
    for member in range(3):
        for row in range(6):
            hidden = inputs[row]
            for layer, epsilon in zip(model.layers, (None, 1.0, 0.1, 0.01, 0.01), strict=True):
                if epsilon is not None:
                    hidden = F.silu(hidden)
                    hidden = (hidden - hidden.mean()) / (hidden.var(correction=0) + epsilon).sqrt()
                hidden = hidden @ layer.weight[member] + layer.bias[member, 0]
            th.testing.assert_close(mean[member, row], hidden)
    assert bool((log_var == log_var[:, :1]).all()) and log_var.shape == mean.shape


@pytest.mark.parametrize("scale", [1.0, 30.0], ids=["near the data", "far from it"])
def test_gradients_of_a_sample_are_those_of_finite_differences(scale: float) -> None:
    model, data = smooth(), make_data(200)
    fit(model, data)
    model.double()
    generator = th.Generator()
    observations = (scale * data.observations[:5]).double().requires_grad_()
    actions = data.actions[:5].double().requires_grad_()

    def outcome(*inputs: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        return model.sample(*inputs, generator.manual_seed(0))

    assert th.autograd.gradcheck(outcome, (observations, actions), rtol=1e-4)


def test_nothing_is_clamped_and_rewards_are_means() -> None:
    model, data = smooth(), make_data(200)
    fit(model, data)
    far = data._replace(observations=1e3 * data.observations)
    with th.no_grad():
        states, _ = draw(model, far)
        assert bool((states.abs().amax(0) > 10 * data.next_observations.abs().amax(0)).all())
        row = Transitions(*(field[:1].expand(300, *field.shape[1:]) for field in data))
        states, rewards = draw(model, row)
    assert len(rewards.unique()) <= 3 < len(states[:, 0].unique())  # one for each member


@pytest.mark.parametrize("noise", [0.03, 0.3])
def test_a_constant_noise_is_what_is_left_on_new_data(noise: float) -> None:
    """The root mean square of the residuals; where the networks have little to learn, the system's own noise."""
    th.manual_seed(0)
    model, data = (
        SmoothEnsemble(n_members=2, net_arch=(64, 64), homoscedastic=True, beta_nll=0.0, weight_decay=1e-3),
        linear_system(4000, noise),
    )
    model.build(OBSERVATIONS, ACTIONS)
    fit(model, data)
    new = linear_system(2000, noise, seed=5)
    with th.no_grad():
        mean, log_var = model(new.observations, new.actions)
    residual = (mean - model.targets(new)).square().mean(1).sqrt()
    std = (0.5 * log_var[:, 0]).exp()
    assert float((std / residual).log().abs().max()) < math.log(1.25)
    if noise == 0.3:
        found = (std * model.normalizer.target_std).mean(0)[1:]
        assert float((found / noise).log().abs().max()) < math.log(1.1)


def half_noisy(n_rows: int, seed: int = 0) -> Transitions:
    """A state of which the first entry says where it is loud: there the change of the second has the noise 1, else 0.01."""
    generator = th.Generator().manual_seed(seed)
    observations, actions = th.randn(n_rows, OBS, generator=generator), th.rand(n_rows, ACT, generator=generator) * 2 - 1
    noise = th.where(observations[:, 0] > 0, 1.0, 0.01) * th.randn(n_rows, generator=generator)
    change = th.zeros(n_rows, OBS)
    change[:, 1] = th.sin(2.0 * observations[:, 1]) + noise
    zeros = th.zeros(n_rows, 1)
    return Transitions(observations, actions, observations + change, observations[:, :1], zeros, zeros[:, 0].long())


def test_its_noise_is_that_of_the_place() -> None:
    """A constant one is 0.71 in the loud half and in the calm one."""
    th.manual_seed(0)
    model, new = SmoothEnsemble(n_members=2, net_arch=(64, 64)), half_noisy(2000, seed=5)
    model.build(OBS, ACT)
    fit(model, half_noisy(4000))
    with th.no_grad():
        mean, log_var = model(new.observations, new.actions)
    std = (0.5 * log_var[..., 2]).exp() * model.normalizer.target_std[2]
    loud, calm = std[:, new.observations[:, 0] > 0.3].mean(), std[:, new.observations[:, 0] < -0.3].mean()
    assert 0.8 < float(loud) < 1.2 and float(calm) < 0.71 / 3
    assert float((mean - model.targets(new))[:, new.observations[:, 0] < -0.3].square().mean()) < 0.01


def hidden_fall(n_rows: int, seed: int = 0) -> Transitions:
    """Nineteen of twenty steps change next to nothing; the others, which a threshold tells, throw the state far away."""
    generator = th.Generator().manual_seed(seed)
    observations, actions = (2.0 * th.rand(n_rows, size, generator=generator) - 1.0 for size in (OBS, ACT))
    change = 0.01 * observations
    change[:, 1] += 3.0 * (observations[:, 0] > 0.9) * (1.0 + observations[:, 2])
    zeros = th.zeros(n_rows, 1)
    return Transitions(observations, actions, observations + change, observations[:, :1], zeros, zeros[:, 0].long())


def test_falls_are_not_given_up_as_noise() -> None:
    """The likelihood alone explains rare and violent steps by their noise, and its means miss them."""
    errors = {}
    for beta in (0.0, 0.5):
        th.manual_seed(0)
        model, new = SmoothEnsemble(n_members=2, net_arch=(64, 64), beta_nll=beta), hidden_fall(4000, seed=5)
        model.build(OBS, ACT)
        fit(model, hidden_fall(2000))
        with th.no_grad():
            errors[beta] = float(model.validation_error(new).mean())
    assert errors[0.5] < 0.7 * errors[0.0]


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_a_fit_climbs_densities_weighted_by_a_constant_power_of_the_variance(beta: float) -> None:
    """Against derivatives by hand: of the mean (y - m) / v, of the log-variance ((y - m)^2 / v - 1) / 2, times v^beta."""
    model, data = smooth(beta_nll=beta).double(), make_data(50)
    batch = Transitions(*(field.double() if field.is_floating_point() else field for field in data))
    model.normalizer.fit(batch)
    mean, log_var = (values.detach().requires_grad_() for values in model(batch.observations, batch.actions))
    model.forward = lambda *_: Prediction(mean, log_var)  # type: ignore[method-assign]
    model.fit_likelihood(batch).sum().backward()
    error, variance = model.targets(batch) - mean.detach(), log_var.detach().exp()
    share = variance**beta / (1 + OBS)
    th.testing.assert_close(mean.grad, share * error / variance)
    th.testing.assert_close(log_var.grad, share * 0.5 * (error.square() / variance - 1.0))


def test_a_noise_that_fell_to_the_floor_can_rise_again() -> None:
    """A clamp would have no gradient there, and the noise would stay nothing whatever the errors become."""
    noise = ConstantNoise(2, 1)
    with th.no_grad():
        noise.log_var.fill_(noise.LEAST - 1.0)
    errors = th.full((1, 50, 2), 0.5)
    log_var = noise(errors)
    assert bool((log_var >= noise.LEAST).all())
    (errors.square() * (-log_var).exp() + log_var).mean().backward()
    assert bool((noise.log_var.grad < -1.0).all())  # type: ignore[operator]
    assert float(noise.penalty()) == 0.0


def test_it_is_the_ensemble_with_other_defaults() -> None:
    own = SmoothEnsemble(net_arch=(8,), weight_decay=None, max_epochs=2, first_max_epochs=3, steps_per_epoch=5)
    same = ProbabilisticEnsemble(
        4, 4, (8,), clamp=None, soft_norm=True, beta_nll=0.5, reward_noise=False, max_epochs=2, first_max_epochs=3,
        steps_per_epoch=5,
    )  # fmt: skip
    data = make_data(60)
    for model in (own, same):
        th.manual_seed(3)
        model.build(OBS, ACT)
        fit(model, data)
    state = same.state_dict()
    assert all(th.equal(value, state[name]) for name, value in own.state_dict().items())
    assert FIT["max_epochs"] == 3  # what NETWORK has does not hide the class's own budget
    assert (SmoothEnsemble().settings.max_epochs, SmoothEnsemble().settings.first_max_epochs) == (5, 20)


def test_arguments_are_checked_by_name() -> None:
    for name in ("soft_norm", "homoscedastic", "reward_noise"):
        with pytest.raises(ValueError, match=f"{name}='yes' is not allowed"):
            SmoothEnsemble(**{name: "yes"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"beta_nll=1.5 is not allowed; allowed: a number"):
        SmoothEnsemble(beta_nll=1.5)
    with pytest.raises(ValueError, match="n_elites=5"):
        SmoothEnsemble(n_members=4, n_elites=5)


@pytest.mark.parametrize(("penalty", "low", "high"), [(1e-4, 0.7, 1.5), (0.01, 5.0, 1e3)])
def test_the_penalty_on_the_bounds_is_a_floor_of_the_noise(penalty: float, low: float, high: float) -> None:
    """With beta_nll the likelihood pulls less where the noise is small; the default penalty does not."""
    generator = th.Generator().manual_seed(0)
    states, actions = th.randn(1000, 11, generator=generator), th.rand(1000, 1, generator=generator)
    after = states + 0.5 * actions + 0.003 * th.randn(1000, 11, generator=generator)
    data = Transitions(states, actions, after, actions.clone(), th.zeros(1000, 1), th.zeros(1000, dtype=th.long))
    th.manual_seed(0)
    model = SmoothEnsemble(1, net_arch=(32,), learning_rate=1e-2, bound_penalty=penalty, first_max_epochs=40, patience=40)
    model.build(11, 1)
    fit(model, data)
    with th.no_grad():
        mean, log_var = model(states, actions)
    ratio = log_var.exp()[..., 1:].mean() / (model.targets(data) - mean)[..., 1:].square().mean()
    assert low < float(ratio) < high
