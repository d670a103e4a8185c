"""MACURA's stop: the divergence against PyTorch's, the limit against numpy's percentiles, and what agents make of it."""

from typing import Any

import numpy as np
import pytest
import torch as th
from torch.distributions import Independent, Normal, kl_divergence

from sb3_tom import MBPO
from sb3_tom.contracts.dynamics import DynamicsModel, Prediction
from sb3_tom.contracts.types import Transitions
from sb3_tom.rollout_stops.quantile import QuantileStop, disagreement, mean_divergence
from tests.dynamics.cases import ACT, FACTORIES, OBS, built, fit, make_context, make_data
from tests.mbpo.small import small_agent


def drawn(n_members: int = 4, n_rows: int = 7) -> Prediction:
    generator = th.Generator().manual_seed(0)
    values = th.randn(2, n_members, n_rows, 3, generator=generator, dtype=th.float64)
    return Prediction(2.0 * values[0], 1.5 * values[1])


def geometric(one: Normal, other: Normal) -> th.Tensor:
    """Half the divergences of the normalised geometric mean of two Gaussians from each (Nielsen 2020), ``[B]``."""
    precision = 0.5 * (one.variance.reciprocal() + other.variance.reciprocal())
    mean = 0.5 * (one.mean / one.variance + other.mean / other.variance) / precision
    middle = Independent(Normal(mean, precision.rsqrt()), 1)
    return sum(0.5 * kl_divergence(middle, Independent(side, 1)) for side in (one, other))


def test_the_divergence_is_that_of_pytorch_pair_by_pair() -> None:
    prediction = drawn()
    members = [Normal(mean, (0.5 * log_var).exp()) for mean, log_var in zip(*prediction, strict=True)]
    pairs = [geometric(members[i], members[j]) for i in range(4) for j in range(i)]
    assert len(pairs) == 6
    th.testing.assert_close(mean_divergence(prediction).sum(-1), sum(pairs) / 6)


def test_the_divergence_has_no_unit_and_is_zero_among_equals() -> None:
    mean, log_var = drawn()
    scaled = Prediction(100.0 * mean + 5.0, log_var + 2.0 * np.log(100.0))
    th.testing.assert_close(mean_divergence(scaled), mean_divergence(Prediction(mean, log_var)))
    same = Prediction(mean[:1].expand(4, -1, -1), log_var[:1].expand(4, -1, -1))
    assert float(mean_divergence(same).abs().max()) < 1e-12
    extreme = mean_divergence(Prediction(mean.float(), 60.0 * log_var.sign().float()))
    assert bool(th.isfinite(extreme).all() & (extreme >= 0).all())


@th.enable_grad()
def fitted(data: Transitions, **kwargs: Any) -> DynamicsModel:
    model = built("ensemble", observation_dim=data.observations.shape[1], **kwargs)
    fit(model, data)
    return model


def made(**kwargs: Any) -> QuantileStop:
    stop = QuantileStop(**kwargs)
    stop.build(OBS, ACT)
    return stop


@th.no_grad()
def test_the_limit_is_the_mean_of_the_last_rounds_quantiles() -> None:
    data = make_data(300)
    model, stop, context = fitted(data), made(quantile=0.8, factor=1.5, n_rounds=3), make_context()
    assert not bool(stop(model, data, context).any()), "nothing is known of this model yet"
    rounds = [data.rows(th.arange(60 * number, 60 * number + 60)) for number in range(5)]
    percentiles = [np.percentile(disagreement(model, rows).numpy(), 80) for rows in rounds]
    assert np.std(percentiles) > 0.01 * np.mean(percentiles)
    for number, rows in enumerate(rounds):
        stop.begin(model, rows, context)
        expected = 1.5 * np.mean(percentiles[max(0, number - 2) : number + 1])
        assert float(stop.limit) == pytest.approx(expected, rel=1e-5)
        before = stop.quantiles.clone()
        assert th.equal(stop(model, data, context), disagreement(model, data) > expected)
        assert th.equal(stop.quantiles, before), "to judge is not to learn"


@th.no_grad()
def test_it_stops_where_the_data_end() -> None:
    data = make_data(400)
    model, stop, context = fitted(data), made(), make_context()
    stop.begin(model, data, context)
    away = data._replace(observations=data.observations + 8.0 * data.observations.std(0))
    assert float(stop(model, data, context).float().mean()) == pytest.approx(0.05, abs=0.003)
    assert float(stop(model, away, context).float().mean()) > 0.5


@th.no_grad()
def test_what_never_varied_has_no_say() -> None:
    data, constant = make_data(400), th.full((400, 1), 3.0)
    wide = data._replace(
        observations=th.cat([data.observations, constant], 1), next_observations=th.cat([data.next_observations, constant], 1)
    )
    model = fitted(wide)
    before = disagreement(model, wide)
    model.layers[-1].bias[..., OBS + 1] += th.tensor([0.0, 50.0, -50.0]).view(3, 1)
    assert th.equal(disagreement(model, wide), before)


@pytest.mark.parametrize("kind", ["mdn", "linear"])
def test_one_member_disagrees_with_nobody(kind: str) -> None:
    name = type(FACTORIES[kind]()).__name__
    with pytest.raises(
        ValueError, match=rf"^rollout_stop='quantile' is not allowed with {name}, whose n_members is 1.*; allowed"
    ):
        MBPO("MlpPolicy", "Pendulum-v1", dynamics=kind, rollout_stop="quantile")
    with pytest.raises(ValueError, match="not allowed with ProbabilisticEnsemble, whose n_members is 1"):
        MBPO("MlpPolicy", "Pendulum-v1", dynamics_kwargs={"n_members": 1, "n_elites": 1}, rollout_stop="quantile")


@pytest.mark.parametrize("wrong", [{"quantile": 1.1}, {"quantile": -0.1}, {"factor": 0.0}, {"n_rounds": 0}, {"n_rounds": 1.5}])
def test_a_bad_argument_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(wrong))}=.* is not allowed; allowed: "):
        QuantileStop(**wrong)


def test_of_the_first_round_it_stops_the_share_above_its_quantile() -> None:
    """Rollouts of one step in an agent whose limit is that of this very round."""
    agent = small_agent(rollout_stop="quantile", rollout_stop_kwargs={"quantile": 0.9}, rollout_batch_size=200).learn(60)
    agent.rollout_stop.quantiles = agent.rollout_stop.quantiles[:0]
    assert agent.imagine()["stopped_share"] == pytest.approx(0.1, abs=0.006)


def test_a_round_that_diverges_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = small_agent(rollout_stop="quantile").learn(80)
    before = agent.rollout_stop.quantiles.clone()
    assert len(before) == 2

    def worthless(observations: th.Tensor, actions: th.Tensor, generator: th.Generator) -> Any:
        return th.full_like(observations, th.nan), th.zeros(len(observations), 1)

    monkeypatch.setattr(agent.dynamics, "sample", worthless)
    with pytest.raises(ValueError, match="next observations"):
        agent.imagine()
    assert th.equal(agent.rollout_stop.quantiles, before)
