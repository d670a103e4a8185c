"""The fit loop: weights, budget, and the best weights of each member."""

import numpy as np
import pytest
import torch as th

from sb3_tom.contracts.context import Arrival, Context
from sb3_tom.contracts.objective import Extras, ModelObjective
from sb3_tom.contracts.types import Transitions
from sb3_tom.dynamics.ensemble import ProbabilisticEnsemble
from sb3_tom.dynamics.fitting import FitSettings, _BestMembers, bootstrap_factors, fit_by_gradient
from sb3_tom.dynamics.holdout import split_rows
from sb3_tom.objectives.likelihood import LikelihoodObjective

QUICK = {"steps_per_epoch": 20, "max_epochs": 5, "first_max_epochs": 5, "batch_size": 32}


def make_context(seed: int = 0) -> Context:
    return Context(generator=th.Generator().manual_seed(seed))


def make_data(n_rows: int, seed: int = 0) -> Transitions:
    generator = th.Generator().manual_seed(seed)
    observations = th.randn(n_rows, 2, generator=generator)
    actions = th.rand(n_rows, 1, generator=generator) * 2 - 1
    next_observations = observations + 0.1 * actions
    return Transitions(observations, actions, next_observations, actions, th.zeros(n_rows, 1), th.zeros(n_rows, dtype=th.long))


def make_ensemble(**kwargs: object) -> ProbabilisticEnsemble:
    th.manual_seed(0)
    model = ProbabilisticEnsemble(n_members=3, n_elites=2, net_arch=(16,), **{**QUICK, **kwargs})
    model.build(2, 1)
    return model


@pytest.mark.parametrize("n_rows", [50, 5000])
def test_the_budget_does_not_grow_with_the_data(n_rows: int) -> None:
    figures = make_ensemble(patience=100).fit(make_data(n_rows), th.ones(n_rows), LikelihoodObjective(), make_context())
    assert figures["gradient_steps"] == 100
    assert figures["epochs"] == 5


def test_stops_after_patience_epochs_without_improvement() -> None:
    model = make_ensemble(patience=2, max_epochs=50, learning_rate=1e-12)
    figures = model.fit(make_data(200), th.ones(200), LikelihoodObjective(), make_context())
    assert figures["epochs"] == 3  # the first always counts, then two in vain


def test_each_member_gets_its_best_parameters_back() -> None:
    """Errors that are scripted per epoch and member; each member's parameter counts the epochs that it has lived through."""
    script = iter([[5.0, 5.0], [5.0, 5.0], [3.0, 6.0], [4.0, 2.0], [4.0, 4.0]])  # the first answers the count of members

    class Scripted(th.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.age = th.nn.Parameter(th.zeros(2, 1))

        def validation_error(self, batch: Transitions) -> th.Tensor:
            return th.tensor(next(script)).unsqueeze(1).expand(2, batch.size)

    class Aging(ModelObjective):
        def loss(self, model: th.nn.Module, batch: Transitions, weights: th.Tensor, extras: Extras) -> th.Tensor:
            return -model.age.sum()

    model = Scripted()
    optimizer = th.optim.SGD(model.parameters(), lr=1.0)
    settings = FitSettings(batch_size=4, steps_per_epoch=1, first_max_epochs=4, patience=4)
    errors, _ = fit_by_gradient(
        model,
        optimizer,
        make_data(40),
        th.ones(40),
        Aging(),
        make_context(),
        "sample",
        settings,  # type: ignore[arg-type]
    )
    assert model.age.flatten().tolist() == [2.0, 3.0]
    assert errors.tolist() == [3.0, 2.0]


def test_rows_of_weight_zero_are_never_drawn() -> None:
    seen = []

    class Spy(LikelihoodObjective):
        def loss(self, model, batch, weights, extras):
            seen.append(batch.observations[..., 0].detach().clone())
            return super().loss(model, batch, weights, extras)

    data = make_data(300)
    data = data._replace(observations=th.arange(300.0).unsqueeze(1).repeat(1, 2))
    weights = (th.arange(300) % 3 == 0).float() * 3
    make_ensemble().fit(data, weights, Spy(), make_context())
    rows = th.cat([row.flatten() for row in seen])
    assert bool((rows % 3 == 0).all())
    assert th.unique(rows).numel() > 60  # nearly all of the 80 that train


@pytest.mark.parametrize("weighting", ["sample", "loss"])
def test_the_fit_follows_the_weights(weighting: str) -> None:
    """Two halves with opposite dynamics for the same inputs: the model must learn the one that is weighted."""
    data = make_data(400)
    sign = th.where(th.arange(400) % 2 == 0, 1.0, -1.0).unsqueeze(1)
    data = data._replace(rewards=sign * data.actions)
    for side in (1.0, -1.0):
        weights = (sign.flatten() == side).float() * 2
        model = make_ensemble(max_epochs=10, learning_rate=1e-2)
        model.fit(data, weights, LikelihoodObjective(), make_context(), weighting)
        with th.no_grad():
            _, rewards = model.sample(data.observations, data.actions, th.Generator().manual_seed(0))
        correlation = th.corrcoef(th.stack([rewards.flatten(), data.actions.flatten()]))[0, 1]
        assert float(correlation) * side > 0.8


def test_extras_are_the_same_rows_as_the_batch() -> None:
    class WithExtras(LikelihoodObjective):
        def prepare(self, model, data, context):
            return {"copy": data.observations * 2}

        def loss(self, model, batch, weights, extras):
            assert th.equal(extras["copy"], batch.observations * 2)
            return super().loss(model, batch, weights, extras)

    make_ensemble(max_epochs=1).fit(make_data(100), th.ones(100), WithExtras(), make_context())


@pytest.mark.parametrize("n_rows", [1, 2, 5])
def test_very_few_rows(n_rows: int) -> None:
    model = make_ensemble()
    figures = model.fit(make_data(n_rows), th.ones(n_rows), LikelihoodObjective(), make_context())
    assert all(value == value for value in figures.values())
    assert all(bool(th.isfinite(parameter).all()) for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("patience", "5"),
        ("holdout_ratio", 1.0),
        ("improvement", -0.1),
        ("max_epochs", True),
        ("max_holdout", -1),
    ],
)
def test_bad_settings_are_named(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{name}=.*allowed"):
        FitSettings(**{name: value})  # type: ignore[arg-type]


def test_the_first_fit_has_a_budget_of_its_own() -> None:
    """A model that starts from nothing is stopped by its held-out error; the log says when the budget ends it instead."""
    data, weights, objective, context = make_data(200), th.ones(200), LikelihoodObjective(), make_context()
    model = make_ensemble(patience=100, first_max_epochs=13)
    epochs = [model.fit(data, weights, objective, context)["epochs"] for _ in range(3)]
    assert epochs == [13.0, 5.0, 5.0]
    assert make_ensemble(patience=100, first_max_epochs=None).fit(data, weights, objective, context)["epochs"] == 8 * 5
    again = make_ensemble(patience=100, first_max_epochs=13)  # a saved model goes on
    again.load_state_dict(model.state_dict())
    again.optimizer.load_state_dict(model.optimizer.state_dict())
    assert again.fit(data, weights, objective, context)["epochs"] == 5.0


@pytest.mark.parametrize(("learning_rate", "reached"), [(1e-3, 1.0), (1e-12, 0.0)])
def test_the_log_says_whether_the_budget_ended_a_fit(learning_rate: float, reached: float) -> None:
    model = make_ensemble(patience=2, learning_rate=learning_rate)
    assert model.fit(make_data(200), th.ones(200), LikelihoodObjective(), make_context())["cap_reached"] == reached


@pytest.mark.parametrize("value", [0, -1, 1.5, "10"])
def test_another_first_budget_is_refused_by_name(value: object) -> None:
    with pytest.raises(ValueError, match=r"^first_max_epochs=.* is not allowed; allowed: an integer of at least 1"):
        make_ensemble(first_max_epochs=value)


def test_bootstrap_draws_are_of_member_and_row_alone_and_exponential() -> None:
    arrivals = th.arange(20_000).expand(3, -1)
    draws = bootstrap_factors(arrivals)
    np.testing.assert_allclose(draws.mean(1), 1.0, atol=0.03)
    np.testing.assert_allclose(draws.var(1), 1.0, atol=0.08)
    shares = [float((draws < limit).float().mean()) for limit in (0.1, 1.0, 3.0)]
    np.testing.assert_allclose(shares, 1.0 - np.exp([-0.1, -1.0, -3.0]), atol=0.01)
    apart = th.corrcoef(th.cat([draws, draws.roll(1, 1)]))
    assert float((apart - th.eye(6)).abs().max()) < 0.03, "members, and neighbouring rows"
    held = th.rand(20_000) < 0.5
    assert th.equal(bootstrap_factors(arrivals[:, held]), draws[:, held]), "the same whatever comes beside a row"
    trained, _ = split_rows(th.arange(20_000), 0.2, 20_000)
    np.testing.assert_allclose(draws[:, trained].mean(1), 1.0, atol=0.03)


@pytest.mark.parametrize("weighting", ["sample", "loss"])
def test_members_weigh_rows_by_their_bootstrap(weighting: str) -> None:
    """A row's draw follows it through a ring that is overwritten."""
    seen: list[tuple[th.Tensor, th.Tensor]] = []

    class Spy(LikelihoodObjective):
        def loss(self, model, batch, weights, extras):
            seen.append((batch.observations[..., 0].detach().clone(), weights.clone()))
            return super().loss(model, batch, weights, extras)

    data = make_data(60)
    data = data._replace(observations=th.arange(60.0).unsqueeze(1).repeat(1, 2))
    given = 0.5 + (th.arange(60) % 2).float()
    view = Context(generator=th.Generator().manual_seed(0), arrival=Arrival(n_rows=60, n_stored=1000, oldest=17))
    make_ensemble(bootstrap=True, max_epochs=1).fit(data, given, Spy(), view, weighting)
    arrivals = 940 + (th.arange(60) - 17) % 60
    for rows, weights in seen:
        for member, (numbers, found) in enumerate(zip(rows, weights, strict=True)):
            draws = bootstrap_factors(arrivals.expand(member + 1, -1))[member]
            expected = draws[numbers.long()] * (given[numbers.long()] if weighting == "loss" else 1.0)
            assert th.equal(found, expected)


def test_dropout_leaves_units_out_of_a_fits_minibatches_and_of_nothing_else() -> None:
    """With the source's numbers the loss is that of thinned networks; errors and predictions know none."""
    model, data = make_ensemble(dropout_rate=0.25), make_data(50)
    model.normalizer.fit(data)
    batch = Transitions(*(field.expand(3, *field.shape) for field in data))
    model._masks = th.Generator().manual_seed(4)
    found = model.fit_likelihood(batch)
    kept = th.rand(3, 50, 16, generator=th.Generator().manual_seed(4)) >= 0.25
    inputs = model.normalizer.inputs(batch.observations, batch.actions)
    hidden = th.nn.functional.silu(model.layers[0](inputs)) * kept / 0.75
    mean, log_var = model.layers[1](hidden).chunk(2, dim=-1)
    log_var = model.bounds(log_var)
    expected = -0.5 * ((model.targets(batch) - mean).square() * th.exp(-log_var) + log_var)
    th.testing.assert_close(found, expected.mean(-1))
    assert abs(float(kept.float().mean()) - 0.75) < 0.03
    assert th.equal(model.validation_error(data), model.validation_error(data))
    assert th.equal(model.log_likelihood(batch), model.log_likelihood(batch))
    model.fit(data, th.ones(50), LikelihoodObjective(), make_context())
    assert not model.recordable and make_ensemble().recordable


def test_dropout_repeats_with_the_agents_generator() -> None:
    models = [make_ensemble(dropout_rate=0.1) for _ in range(2)]
    for model in models:
        model.fit(make_data(100), th.ones(100), LikelihoodObjective(), make_context())
        th.rand(7)  # torch's own stream has no part in it
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert th.equal(one, other)


@pytest.mark.parametrize("keep_start", [True, False])
def test_repeated_fits_to_the_same_noisy_rows(keep_start: bool) -> None:
    """Held-out errors never rise where a fit may keep what it began with; its first epoch is kept otherwise."""
    data = make_data(120)
    noisy = data._replace(next_observations=data.observations + th.randn(120, 2, generator=th.Generator().manual_seed(1)))
    model = make_ensemble(keep_start=keep_start, learning_rate=1e-2, steps_per_epoch=50)
    held = noisy.rows(split_rows(th.arange(120), 0.2, 5000)[1])
    errors = []
    for _ in range(6):
        model.fit(noisy, th.ones(120), LikelihoodObjective(), make_context())
        with th.no_grad():
            errors.append(model.validation_error(held).mean(-1))
    rises = th.stack(errors).diff(dim=0) > 1e-4
    assert bool(rises.any()) is not keep_start


def test_the_parameters_of_the_lowest_error_are_kept_also_if_it_is_hardly_lower() -> None:
    model = make_ensemble()
    parameter = next(model.parameters())
    kept = {}
    for keep_start in (True, False):
        best = _BestMembers(model, FitSettings(keep_start=keep_start))
        for number, errors in enumerate(([1.0] * 3, [0.995, 1.0, 2.0], [0.991, 0.5, 0.9])):
            with th.no_grad():
                parameter.fill_(number)
            best.update(th.tensor(errors))
        best.restore()
        kept[keep_start] = parameter.flatten(1)[:, 0].tolist()
    assert kept == {True: [2.0, 2.0, 2.0], False: [0.0, 2.0, 2.0]}


def test_an_epoch_that_is_gathered_in_pieces_is_the_same_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    data, models = make_data(100), []
    weights = 0.5 + th.rand(100, generator=th.Generator().manual_seed(3))
    for gathered in (2**21, 2000, 1):
        monkeypatch.setattr("sb3_tom.dynamics.fitting.GATHERED", gathered)
        models.append(make_ensemble(first_max_epochs=1))
        models[-1].fit(data, weights, LikelihoodObjective(), make_context(), "loss")
    for model in models[1:]:
        th.testing.assert_close(model.state_dict(), models[0].state_dict(), rtol=1e-4, atol=1e-5)
