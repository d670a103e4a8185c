"""The mixture density network against torch.distributions, on mixtures written by hand and on data with two modes."""

import math
from typing import Any

import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributions as td

from sb3_tom.contracts.types import Transitions
from sb3_tom.dynamics.gaussian import SoftBounds, log_density
from sb3_tom.dynamics.mdn import MixtureDensityNetwork
from sb3_tom.objectives.likelihood import LikelihoodObjective
from tests.dynamics.cases import make_context

N_OBSERVATIONS, N_ACTIONS = 2, 1
D = 1 + N_OBSERVATIONS
CONSTANT = 0.5 * math.log(2 * math.pi)


def random_rows(n_rows: int, seed: int = 0) -> Transitions:
    generator = th.Generator().manual_seed(seed)
    widths = (N_OBSERVATIONS, N_ACTIONS, N_OBSERVATIONS, 1)
    fields = [th.randn(n_rows, width, generator=generator) for width in widths]
    return Transitions(*fields, th.zeros(n_rows, 1), th.zeros(n_rows, dtype=th.long))


def written_by_hand(shares: th.Tensor, means: th.Tensor, deviations: th.Tensor, **kwargs: Any) -> MixtureDensityNetwork:
    """
    A network that says the same mixture everywhere: its output weights are zero, its biases [logits, means, log-variances].

    :param shares: ``[K]``
    :param means: ``[K, D]``
    :param deviations: ``[K, D]``
    """
    model = MixtureDensityNetwork(n_components=len(shares), net_arch=(8,), **kwargs)
    model.build(N_OBSERVATIONS, N_ACTIONS)
    with th.no_grad():
        model.bounds.high.fill_(60.0)  # so far away that the soft bounds are the identity
        model.bounds.low.fill_(-60.0)
        model.layers[-1].weight.zero_()
        output = th.cat([shares.log() + 3.0, means.flatten(), 2 * deviations.log().flatten()])
        model.layers[-1].bias.copy_(output.expand_as(model.layers[-1].bias))
    return model


def random_mixture(n_components: int, seed: int) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
    generator = th.Generator().manual_seed(seed)
    shares = th.softmax(th.randn(n_components, generator=generator), -1)
    means = 2 * th.randn(n_components, D, generator=generator)
    return shares, means, th.exp(0.5 * th.randn(n_components, D, generator=generator))


def reference(shares: th.Tensor, means: th.Tensor, deviations: th.Tensor) -> td.MixtureSameFamily:
    return td.MixtureSameFamily(td.Categorical(shares), td.Independent(td.Normal(means, deviations), 1))


@settings(max_examples=30, deadline=None)
@given(n_components=st.integers(1, 12), seed=st.integers(0, 1000))
def test_likelihood_and_moments_equal_torch_distributions(n_components: int, seed: int) -> None:
    mixture = random_mixture(n_components, seed)
    model, expected, batch = written_by_hand(*mixture, predict="next"), reference(*mixture), random_rows(20, seed)
    with th.no_grad():
        likelihood, error = model.log_likelihood(batch), model.validation_error(batch)
        mean, log_var = model(batch.observations, batch.actions)
    density = expected.log_prob(th.cat([batch.rewards, batch.next_observations], -1))
    th.testing.assert_close(likelihood[0], density / D + CONSTANT, rtol=1e-4, atol=1e-4)
    assert th.equal(error, -likelihood)
    th.testing.assert_close(mean, expected.mean.expand(1, 20, D), rtol=1e-4, atol=1e-4)
    th.testing.assert_close(log_var.exp(), expected.variance.expand(1, 20, D), rtol=1e-4, atol=1e-4)


def test_variance_does_not_cancel() -> None:
    """Narrow components far from zero: ``E[x^2] - E[x]^2`` would lose every digit of 1e-6 beside 1e6."""
    shares, offset = th.tensor([0.5, 0.5]), th.full((2, D), 1000.0)
    model, batch = written_by_hand(shares, offset, th.full((2, D), 1e-3)), random_rows(3)
    log_var = model(batch.observations, batch.actions).log_var
    th.testing.assert_close(log_var.exp(), th.full_like(log_var, 1e-6), rtol=1e-3, atol=0)


def test_one_component_is_a_gaussian() -> None:
    model, batch = MixtureDensityNetwork(n_components=1, net_arch=(8, 8)), random_rows(10)
    model.build(N_OBSERVATIONS, N_ACTIONS)
    mean, log_var = model(batch.observations, batch.actions)
    gaussian = log_density(model.normalizer.targets(batch), mean, log_var).mean(-1)
    th.testing.assert_close(model.log_likelihood(batch), gaussian)


@pytest.mark.parametrize("predict", ["delta", "next"])
def test_a_sample_takes_one_component_for_all_dimensions(predict: str) -> None:
    """Components far apart: each sample can be told to be of one, with that one's share, mean and deviation."""
    n_rows = 40_000
    shares, deviations = (
        th.tensor([0.1, 0.0, 0.6, 0.3]),
        th.tensor([[0.1, 0.2, 0.3]]).repeat(4, 1) * th.tensor([[1], [2], [3], [4]]),
    )
    means = th.tensor([[-100.0, 100.0, -100.0], [0.0, 0.0, 0.0], [100.0, 100.0, 100.0], [-100.0, -100.0, 100.0]])
    model = written_by_hand(shares.clamp(min=1e-30), means, deviations, predict=predict)
    observations, actions = th.randn(n_rows, N_OBSERVATIONS), th.zeros(n_rows, N_ACTIONS)
    with th.no_grad():
        states, rewards = model.sample(observations, actions, th.Generator().manual_seed(0))
    drawn = th.cat([rewards, states - observations if predict == "delta" else states], -1)
    gaps = (drawn.unsqueeze(1) - means) / deviations  # [N, K, D]
    component = gaps.abs().amax(-1).argmin(-1)
    own = gaps[th.arange(n_rows), component]
    assert own.abs().max() < 6  # in all dimensions near the same component
    counts = th.bincount(component, minlength=4).double()
    error = (counts - n_rows * shares) / (n_rows * shares * (1 - shares)).sqrt().clamp(min=1e-9)
    assert counts[1] == 0 and error.abs().max() < 5
    for chosen in (0, 2, 3):
        noise = own[component == chosen]
        assert (noise.mean(0) * math.sqrt(len(noise))).abs().max() < 5
        th.testing.assert_close(noise.std(0), th.ones(D), atol=5 / math.sqrt(2 * len(noise)), rtol=0)
        correlation = th.corrcoef(noise.T) - th.eye(D)
        assert correlation.abs().max() < 5 / math.sqrt(len(noise))


def test_component_noise_is_reparameterised_and_the_choice_is_not() -> None:
    """d sample / d mean of the chosen component is the target's scale, of the others 0; logits receive nothing."""
    shares, means, deviations = th.tensor([0.5, 0.5]), th.tensor([[-50.0] * D, [50.0] * D]), th.ones(2, D)
    model = written_by_hand(shares, means, deviations, predict="next")
    states, rewards = model.sample(th.randn(200, N_OBSERVATIONS), th.zeros(200, N_ACTIONS), th.Generator().manual_seed(0))
    second = rewards.detach() > 0
    (states.sum() + rewards.sum()).backward()
    gradient = model.layers[-1].bias.grad.flatten()
    counts = th.tensor([200.0 - second.sum(), second.sum()])
    assert not gradient[:2].any()
    th.testing.assert_close(gradient[2 : 2 + 2 * D].view(2, D), counts.unsqueeze(1).expand(2, D))
    noise = th.cat([rewards, states], -1).detach() - th.where(second, 50.0, -50.0)
    halves = th.stack([(noise * ~second).sum(0), (noise * second).sum(0)]) / 2  # d exp(l / 2) eps / dl at l = 0
    th.testing.assert_close(gradient[2 + 2 * D :].view(2, D), halves, rtol=1e-3, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(value=st.floats(-1e4, 1e4), high=st.floats(-3, 3), gap=st.floats(1, 15))
def test_soft_bounds_hold_and_rise(value: float, high: float, gap: float) -> None:
    bounds = SoftBounds(1)
    with th.no_grad():
        bounds.high.fill_(high)
        bounds.low.fill_(high - gap)
    values = th.tensor([value, value + 0.1, high - gap / 2])
    result = bounds(values)
    assert bool((result >= high - gap - 1e-4).all())
    assert bool((result <= high + math.log1p(math.exp(-gap)) + 1e-4).all())  # the second softplus adds this much at most
    assert result[1] >= result[0] - 1e-5
    if gap > 10:
        assert abs(float(result[2].detach()) - (high - gap / 2)) < 0.02  # the identity in between


def test_penalty_draws_the_bounds_together() -> None:
    model = MixtureDensityNetwork(n_components=2, net_arch=(8,))
    model.build(N_OBSERVATIONS, N_ACTIONS)
    model.regularization().backward()
    th.testing.assert_close(model.bounds.high.grad, th.full((D,), 0.01))
    th.testing.assert_close(model.bounds.low.grad, th.full((D,), -0.01))


def two_modes(n_rows: int, seed: int) -> Transitions:
    """Reward and both state dimensions all go up (70 %) or all go down, by amounts that depend on the observation."""
    generator = th.Generator().manual_seed(seed)
    observations = th.randn(n_rows, N_OBSERVATIONS, generator=generator)
    actions = th.rand(n_rows, N_ACTIONS, generator=generator) * 2 - 1
    sign = (th.rand(n_rows, 1, generator=generator) < 0.7).float() * 2 - 1
    noise = 0.05 * th.randn(n_rows, D, generator=generator)
    change = sign * (1 + 0.5 * th.sin(observations)) + noise[:, 1:]
    rewards = sign * (1 + 0.5 * actions) + noise[:, :1]
    version = th.zeros(n_rows, dtype=th.long)
    return Transitions(observations, actions, observations + change, rewards, th.zeros(n_rows, 1), version)


@pytest.fixture(scope="module")
def of_two_modes() -> MixtureDensityNetwork:
    th.manual_seed(0)
    model = MixtureDensityNetwork(n_components=3, net_arch=(32, 32), max_epochs=10, steps_per_epoch=100, batch_size=128)
    model.build(N_OBSERVATIONS, N_ACTIONS)
    model.fit(two_modes(1500, 0), th.ones(1500), LikelihoodObjective(), make_context())
    return model


def test_learns_joint_modes(of_two_modes: MixtureDensityNetwork) -> None:
    """
    Independent mixtures per dimension agree in all three signs in 0.7^3 + 0.3^3 = 37 % of the samples, this model in all;
    its likelihood comes near to that of the true density.
    """
    test = two_modes(1000, 1)
    with th.no_grad():
        states, rewards = of_two_modes.sample(test.observations, test.actions, th.Generator().manual_seed(0))
        error = of_two_modes.validation_error(test).mean()
    signs = th.cat([rewards, states - test.observations], -1) > 0
    agree = (signs == signs[:, :1]).all(-1).float().mean()
    assert agree > 0.97
    assert abs(float(signs[:, 0].float().mean()) - 0.7) < 0.08
    noise = 0.05 / of_two_modes.normalizer.target_std
    entropy = (0.5 + noise.log()).mean() - (0.7 * math.log(0.7) + 0.3 * math.log(0.3)) / D
    assert 0 <= error - entropy < 0.5


def test_conditional_mean_of_the_mixture(of_two_modes: MixtureDensityNetwork) -> None:
    """``forward`` gives the mean over both modes, 0.4 times the amount, and the variance between them."""
    test, normalizer = two_modes(500, 2), of_two_modes.normalizer
    mean, log_var = of_two_modes(test.observations, test.actions)
    amount = th.cat([1 + 0.5 * test.actions, 1 + 0.5 * th.sin(test.observations)], -1)
    error = mean[0].detach() * normalizer.target_std + normalizer.target_mean - 0.4 * amount
    assert error.abs().mean() < 0.15
    variance = log_var[0].detach().exp() * normalizer.target_std.square()
    ratio = variance.mean(0) / (0.84 * amount.square() + 0.05**2).mean(0)  # 1 - 0.4^2
    th.testing.assert_close(ratio, th.ones(D), atol=0.15, rtol=0)


def test_fit_starts_from_the_last_one(of_two_modes: MixtureDensityNetwork) -> None:
    """One short phase on the same data must not forget what the phases before have learned."""
    data = two_modes(1500, 0)
    model = MixtureDensityNetwork(n_components=3, net_arch=(32, 32), max_epochs=1, steps_per_epoch=5, learning_rate=1e-4)
    model.build(N_OBSERVATIONS, N_ACTIONS)
    cold = model.fit(data, th.ones(1500), LikelihoodObjective(), make_context())["validation_error"]
    model.load_state_dict(of_two_modes.state_dict())
    warm = model.fit(data, th.ones(1500), LikelihoodObjective(), make_context())["validation_error"]
    assert warm < cold - 1


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_weight_decay_spares_the_bounds(weight_decay: float) -> None:
    model = MixtureDensityNetwork(weight_decay=weight_decay)
    model.build(N_OBSERVATIONS, N_ACTIONS)
    decays = {id(p): group["weight_decay"] for group in model.optimizer.param_groups for p in group["params"]}
    assert {name for name, p in model.named_parameters() if decays[id(p)] == 0} >= {"bounds.high", "bounds.low"}
    assert decays[id(model.layers[0].weight)] == weight_decay and len(decays) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        (argument, value)
        for argument, values in {
            "n_components": (0, 1.5, True, "10"),
            "net_arch": ("200", 200, (0,), (True,)),
            "learning_rate": (0.0, -1e-3, "1e-3", True, math.nan),
            "weight_decay": (-1e-3, "0", True),
            "predict": ("s", None, 1),
            "batch_size": (0, "256"),
            "max_epochs": (0, False),
            "holdout_ratio": (1.0, -0.1, "0.2"),
        }.items()
        for value in values
    ],
)
def test_bad_arguments_are_named(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=argument) as error:
        MixtureDensityNetwork(**{argument: value})
    culprit = value[0] if isinstance(value, tuple) else value
    assert repr(culprit) in str(error.value) and "allowed" in str(error.value)
