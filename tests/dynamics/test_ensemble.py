"""The batched ensemble against a loop over its members."""

import math

import pytest
import torch as th
import torch.nn.functional as F

from sb3_tom.contracts.types import Transitions
from sb3_tom.dynamics.ensemble import MBPO_WEIGHT_DECAY, ProbabilisticEnsemble
from sb3_tom.dynamics.fitting import FitSettings, _BestMembers
from sb3_tom.objectives.likelihood import LikelihoodObjective

N_OBS, N_ACT, N_MEMBERS, BATCH = 3, 2, 4, 16


@pytest.fixture()
def model() -> ProbabilisticEnsemble:
    th.manual_seed(0)
    model = ProbabilisticEnsemble(n_members=N_MEMBERS, n_elites=2, net_arch=(8, 8))
    model.build(N_OBS, N_ACT)
    model.normalizer.fit(make_batch(200))
    return model


def make_batch(*shape: int) -> Transitions:
    generator = th.Generator().manual_seed(1)

    def draw(width: int) -> th.Tensor:
        return th.randn(*shape, width, generator=generator) * 3 + 1

    return Transitions(draw(N_OBS), draw(N_ACT), draw(N_OBS), draw(1), th.zeros(*shape, 1), th.zeros(shape, dtype=th.long))


def one_member(model: ProbabilisticEnsemble, member: int, batch: Transitions) -> tuple[th.Tensor, th.Tensor]:
    """Mean and log-variance of one member by plain linear layers."""
    norm = model.normalizer
    hidden = (th.cat([batch.observations, batch.actions], -1) - norm.input_mean) / norm.input_std
    for index, layer in enumerate(model.layers):
        hidden = F.linear(hidden, layer.weight[member].t(), layer.bias[member, 0])
        hidden = hidden * th.sigmoid(hidden) if index < len(model.layers) - 1 else hidden
    mean, raw = hidden[..., : 1 + N_OBS], hidden[..., 1 + N_OBS :]
    high, low = model.bounds.high[member, 0], model.bounds.low[member, 0]
    upper = high - th.log1p(th.exp(high - raw))
    return mean, low + th.log1p(th.exp(upper - low))


def naive_loss(model: ProbabilisticEnsemble, batch: Transitions, weights: th.Tensor) -> th.Tensor:
    """N_ACT loop over members, rows and dimensions of MBPO's loss, in raw arithmetic."""
    norm = model.normalizer
    total = th.zeros(())
    for member in range(N_MEMBERS):
        rows = Transitions(*(field[member] for field in batch))
        mean, log_var = one_member(model, member, rows)
        raw = th.cat([rows.rewards, rows.next_observations - rows.observations], -1)
        target = (raw - norm.target_mean) / norm.target_std
        for row in range(BATCH):
            for dim in range(1 + N_OBS):
                gap = (target[row, dim] - mean[row, dim]) ** 2 * th.exp(-log_var[row, dim]) + log_var[row, dim]
                total = total + weights[member, row] * gap / (BATCH * (1 + N_OBS))
    return total + 0.01 * (model.bounds.high - model.bounds.low).mean(0).sum()


def test_loss_against_a_loop_over_members(model: ProbabilisticEnsemble) -> None:
    batch = make_batch(N_MEMBERS, BATCH)
    weights = th.rand(N_MEMBERS, BATCH, generator=th.Generator().manual_seed(2))
    loss = LikelihoodObjective().loss(model, batch, weights, {})
    th.testing.assert_close(loss, naive_loss(model, batch, weights), rtol=1e-5, atol=1e-6)
    gradients = th.autograd.grad(loss, list(model.parameters()))
    naive = th.autograd.grad(naive_loss(model, batch, weights), list(model.parameters()))
    for gradient, expected in zip(gradients, naive, strict=True):
        th.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


def test_log_likelihood_is_that_of_a_normal(model: ProbabilisticEnsemble) -> None:
    batch = make_batch(BATCH)
    mean, log_var = model(batch.observations, batch.actions)
    expected = th.distributions.Normal(mean, (0.5 * log_var).exp()).log_prob(model.normalizer.targets(batch)).mean(-1)
    constant = -0.5 * math.log(2 * math.pi)
    th.testing.assert_close(model.log_likelihood(batch) + constant, expected, rtol=1e-4, atol=1e-5)


def test_samples_come_from_the_elites_in_equal_shares(model: ProbabilisticEnsemble) -> None:
    """With variances driven to zero each sample is the mean of one elite, and each elite makes half of them."""
    with th.no_grad():
        model.bounds.low.fill_(-60.0)
        model.bounds.high.fill_(-50.0)
        model.elites.copy_(th.tensor([3.0, 1.0]))
        model.normalizer.low.fill_(-th.inf)
        model.normalizer.high.fill_(th.inf)
    batch = make_batch(101)
    generator = th.Generator().manual_seed(0)
    with th.no_grad():
        next_observations, rewards = model.sample(batch.observations, batch.actions, generator)
    outcomes = {}
    for member in (1, 3):
        mean, _ = one_member(model, member, batch)
        raw = mean * model.normalizer.target_std + model.normalizer.target_mean
        outcomes[member] = th.cat([raw[:, :1], batch.observations + raw[:, 1:]], -1)
    drawn = th.cat([rewards, next_observations], -1)
    is_member = {member: th.isclose(drawn, value, rtol=1e-3, atol=1e-3).all(-1) for member, value in outcomes.items()}
    assert bool((is_member[1] | is_member[3]).all())
    assert sorted(int(chosen.sum()) for chosen in is_member.values()) == [50, 51]
    other, _ = model.sample(batch.observations, batch.actions, generator)
    assert not th.equal(other, next_observations)  # dealt anew each time


@pytest.mark.parametrize("n_rows", [1, 2, 6, 11, 20])
def test_small_batches_are_dealt_to_all_elites_too(n_rows: int) -> None:
    """Five elites: in a batch of six rows three have two each, and which three is drawn."""
    model = ProbabilisticEnsemble(n_members=7, n_elites=5, net_arch=[4], reward_noise=False)
    model.build(2, 1)
    with th.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.layers[-1].bias[:, :, 0] = th.arange(7.0).unsqueeze(1)  # the reward tells the member
        model.elites.copy_(th.tensor([6.0, 2.0, 0.0, 5.0, 3.0]))
    generator, counts = th.Generator().manual_seed(0), th.zeros(7)
    for _ in range(2_000):
        _, rewards = model.sample(th.zeros(n_rows, 2), th.zeros(n_rows, 1), generator)
        counts += th.bincount(rewards.round().long().flatten(), minlength=7)
    shares = counts[[6, 2, 0, 5, 3]] / counts.sum()
    assert float(counts[[1, 4]].sum()) == 0 and float((shares - 0.2).abs().max()) < 0.03


def test_samples_have_the_predicted_spread(model: ProbabilisticEnsemble) -> None:
    with th.no_grad():
        model.normalizer.low.fill_(-th.inf)
        model.normalizer.high.fill_(th.inf)
        model.elites.copy_(th.tensor([2.0, 2.0]))
    one = make_batch(1)
    repeated = Transitions(*(field.repeat(20_000, *[1] * (field.dim() - 1)) for field in one))
    with th.no_grad():
        _, rewards = model.sample(repeated.observations, repeated.actions, th.Generator().manual_seed(0))
        mean, log_var = one_member(model, 2, one)
    scale, shift = model.normalizer.target_std[0], model.normalizer.target_mean[0]
    spread = float((0.5 * log_var[0, 0]).exp() * scale)
    assert float(rewards.std()) == pytest.approx(spread, rel=0.03)
    assert float(rewards.mean()) == pytest.approx(float(mean[0, 0] * scale + shift), abs=4 * spread / 20_000**0.5)


def test_elites_are_the_members_with_the_least_restored_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ProbabilisticEnsemble(n_members=5, n_elites=2, net_arch=(8,))
    model.build(N_OBS, N_ACT)
    errors = th.tensor([0.5, 0.2, 0.9, 0.1, 0.7])
    monkeypatch.setattr("sb3_tom.dynamics.ensemble.fit_by_gradient", lambda *arguments: (errors, {"validation_error": 9.0}))
    figures = model.fit(make_batch(10), th.ones(10), LikelihoodObjective(), None)  # type: ignore[arg-type]
    assert model.elites.tolist() == [3.0, 1.0]
    assert figures["validation_error"] == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("weight_decay", "hidden_layers", "decays"),
    [
        (None, 4, [2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4]),
        (None, 1, [2.5e-5, 1e-4]),
        (0.5, 2, [0.5, 0.5, 0.5]),
    ],
)
def test_weight_decay_of_each_layer(weight_decay: float | None, hidden_layers: int, decays: list[float]) -> None:
    """MBPO's own by default; the bounds of the log-variance have none."""
    model = ProbabilisticEnsemble(net_arch=[8] * hidden_layers, weight_decay=weight_decay)
    model.build(N_OBS, N_ACT)
    assert [group["weight_decay"] for group in model.optimizer.param_groups] == [*decays, 0.0]
    assert MBPO_WEIGHT_DECAY[-1] == 1e-4


@pytest.mark.parametrize(
    "kwargs",
    [
        {"n_members": 0},
        {"n_members": 3, "n_elites": 4},
        {"net_arch": "200"},
        {"net_arch": [200, 0]},
        {"learning_rate": "1e-3"},
        {"learning_rate": 0},
        {"weight_decay": -1e-5},
        {"predict": "state"},
        {"batch_size": 2.5},
    ],
)
def test_bad_arguments_are_named(kwargs: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=rf"{list(kwargs)[-1]}.*allowed"):
        ProbabilisticEnsemble(**kwargs)  # type: ignore[arg-type]


def test_members_are_restored_apart_even_where_sizes_coincide() -> None:
    """D == E: a parameter of one size per dimension must not pass for one per member."""
    model = ProbabilisticEnsemble(n_members=4, n_elites=2, net_arch=(8,))
    model.build(3, 1)  # D = 1 + 3 = E
    best = _BestMembers(model, FitSettings(improvement=0.0))
    number = th.arange(4.0).view(4, 1, 1)
    for time, errors in ((1.0, [4.0, 3.0, 2.0, 1.0]), (2.0, [1.0, 5.0, 1.0, 5.0]), (3.0, [9.0, 9.0, 9.0, 0.5])):
        with th.no_grad():
            for parameter in model.parameters():
                parameter.copy_((10.0 * number + time).expand_as(parameter))
        best.update(th.tensor(errors))
    best.restore()
    expected = 10.0 * number + th.tensor([2.0, 1.0, 2.0, 3.0]).view(4, 1, 1)
    assert all(th.equal(parameter, expected.expand_as(parameter)) for parameter in model.parameters())
