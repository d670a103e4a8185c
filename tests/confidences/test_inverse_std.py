"""The confidence of WIMLE: against samples of the members, least squares, and what it must not depend on."""

from typing import Any

import pytest
import torch as th

from sb3_tom import MBPO
from sb3_tom.confidences.inverse_std import InverseStdConfidence
from sb3_tom.contracts.dynamics import DynamicsModel, Prediction
from sb3_tom.contracts.types import Transitions
from tests.dynamics.cases import FACTORIES, OBS, built, fit, make_context, make_data


@th.no_grad()
def said(model: DynamicsModel, batch: Transitions, std: str = "total") -> th.Tensor:
    return InverseStdConfidence(std)(model, batch, make_context())


def fitted(kind: str, data: Transitions | None = None) -> DynamicsModel:
    data = make_data(400) if data is None else data
    model = built(kind, observation_dim=data.observations.shape[1])
    fit(model, data)
    return model


def of_scatter(outcomes: th.Tensor, data: Transitions) -> th.Tensor:
    """1 / (1 + std of the reward + mean std of the state's change), outcomes ``[N, B, 1 + O]`` in units of the data."""
    changes = th.cat([data.rewards, data.next_observations - data.observations], 1)
    std = outcomes.double().std(0, correction=0) / changes.double().std(0, correction=0)
    return 1.0 / (1.0 + std[:, :1] + std[:, 1:].mean(1, keepdim=True))


@pytest.mark.parametrize("kind", ["ensemble", "smooth", "mdn", "linear"])
def test_total_is_the_scatter_of_what_the_members_say(kind: str) -> None:
    """3,000 samples of each member, all together: their deviation about the mean of all."""
    data, model = make_data(400), fitted(kind)
    rows, generator = data.rows(th.arange(6)), th.Generator().manual_seed(0)
    with th.no_grad():
        n_members = model(rows.observations, rows.actions).mean.shape[0]
        observations, actions = (field.expand(n_members, -1, -1) for field in (rows.observations, rows.actions))
        samples = []
        for _ in range(3000):
            states, rewards = model.sample_members(observations, actions, generator)
            samples.append(th.cat([rewards, states - observations], -1))
    expected = of_scatter(th.cat(samples), data)
    th.testing.assert_close(said(model, rows).double(), expected, rtol=0.02, atol=0.0)
    assert 0.1 < float(expected.min()) and float(expected.max()) < 0.95


def test_disagreement_is_that_of_the_means() -> None:
    data, model = make_data(400), fitted("ensemble")
    rows = data.rows(th.arange(50))
    with th.no_grad():
        means = model(rows.observations, rows.actions).mean
        states, rewards = model.normalizer.raw_outcomes(means, rows.observations)
    expected = of_scatter(th.cat([rewards, states - rows.observations], -1), data)
    found = said(model, rows, "disagreement")
    th.testing.assert_close(found.double(), expected, rtol=1e-3, atol=0.0)
    assert bool((found > said(model, rows)).all())


def test_a_linear_model_is_as_certain_as_least_squares_everywhere() -> None:
    data, model = make_data(400), fitted("linear")
    inputs = th.cat([data.observations, data.actions, th.ones(400, 1)], 1).double()
    changes = th.cat([data.rewards, data.next_observations - data.observations], 1).double()
    residuals = changes - inputs @ th.linalg.lstsq(inputs, changes).solution
    std = residuals.square().mean(0).sqrt() / changes.std(0, correction=0)
    expected = 1.0 / (1.0 + std[0] + std[1:].mean())
    far = data._replace(observations=100.0 * data.observations)
    for rows in (data, far):
        th.testing.assert_close(said(model, rows).double(), expected.expand(400, 1), rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("std", ["total", "disagreement"])
def test_an_ensemble_trusts_itself_less_where_it_has_not_been(std: str) -> None:
    data, model = make_data(400), fitted("ensemble")
    away = data._replace(observations=data.observations + 8.0 * data.observations.std(0))
    assert float(said(model, away, std).mean()) < float(said(model, data, std).mean())


@pytest.mark.parametrize("std", ["total", "disagreement"])
def test_the_units_of_the_data_do_not_count(std: str) -> None:
    data, found = make_data(400), []
    for unit in (1.0, 1024.0):  # a power of two: the same bits in unit scale
        moved = data._replace(
            **{name: unit * getattr(data, name) for name in ("observations", "next_observations", "rewards")}
        )
        found.append(said(fitted("ensemble", moved), moved, std))
    th.testing.assert_close(*found, rtol=1e-3, atol=0.0)


@pytest.mark.parametrize("std", ["total", "disagreement"])
def test_what_never_varied_has_no_say(std: str) -> None:
    """The constant is predicted exactly, whatever the networks say of it."""
    data = make_data(400)
    constant = th.full((400, 1), 3.0)
    wide = data._replace(
        observations=th.cat([data.observations, constant], 1), next_observations=th.cat([data.next_observations, constant], 1)
    )
    model = fitted("ensemble", wide)
    before = said(model, wide, std)
    with th.no_grad():
        model.layers[-1].bias[..., OBS + 1] += th.tensor([0.0, 50.0, -50.0]).view(3, 1)  # means of the constant
        model.layers[-1].bias[..., 2 * OBS + 3] += 5.0  # its log-variance
    assert th.equal(said(model, wide, std), before)


@pytest.mark.parametrize("kind", ["mdn", "linear"])
def test_one_member_disagrees_with_nobody(kind: str) -> None:
    arguments = {"dynamics": kind, "confidence": "inverse_std"}
    MBPO("MlpPolicy", "Pendulum-v1", **arguments)
    name = type(FACTORIES[kind]()).__name__
    message = rf"^confidence_kwargs=\{{'std': 'disagreement'\}} is not allowed with {name}, whose n_members is 1.*; allowed: "
    with pytest.raises(ValueError, match=message):
        MBPO("MlpPolicy", "Pendulum-v1", confidence_kwargs={"std": "disagreement"}, **arguments)


def test_the_factor_is_that_of_the_deviation() -> None:
    data, model = make_data(400), fitted("ensemble")
    with th.no_grad():
        tenfold = InverseStdConfidence(factor=10.0)(model, data, make_context())
    th.testing.assert_close(1.0 / tenfold - 1.0, 10.0 * (1.0 / said(model, data) - 1.0))


@pytest.mark.parametrize("wrong", [{"std": "noise"}, {"factor": 0.0}, {"factor": "1"}])
def test_a_bad_argument_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(wrong))}=.* is not allowed; allowed: "):
        InverseStdConfidence(**wrong)


def test_entries_that_never_varied_do_not_count_in_the_mean() -> None:
    """One of two entries varies: a deviation of 1, and one of the reward."""

    class Unsure:
        def __call__(self, observations: th.Tensor, actions: th.Tensor) -> Prediction:
            return Prediction(th.zeros(2, 4, 3), th.zeros(2, 4, 3))

        def target_scales(self) -> th.Tensor:
            return th.tensor([1.0, 5.0, 0.0])

    found = said(Unsure(), make_data(4))  # type: ignore[arg-type]
    th.testing.assert_close(found, th.full((4, 1), 1 / 3))
