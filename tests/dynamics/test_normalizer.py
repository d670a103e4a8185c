"""Unit scale and back: columns that never varied are known exactly, in any unit."""

import pytest
import torch as th

from sb3_tom.contracts.types import Transitions
from sb3_tom.dynamics.ensemble import ProbabilisticEnsemble
from sb3_tom.dynamics.linear import LinearDynamics
from sb3_tom.dynamics.mdn import MixtureDensityNetwork
from sb3_tom.dynamics.normalizer import CLAMP_MARGINS, Normalizer
from sb3_tom.dynamics.smooth import SmoothEnsemble
from tests.dynamics.cases import FACTORIES, built, draw, fit, make_data


def with_goal(unit: float, n_rows: int = 400) -> Transitions:
    """The last coordinate is drawn once per transition and stays where it is, as the goal of an episode does."""
    data = make_data(n_rows, seed=0)
    goal = unit * (2.0 * th.rand(n_rows, generator=th.Generator().manual_seed(1)) - 1.0)
    observations, next_observations = data.observations.clone(), data.next_observations.clone()
    observations[:, 2] = next_observations[:, 2] = goal
    return data._replace(observations=observations, next_observations=next_observations)


@pytest.mark.parametrize("unit", [1e-6, 1e-3, 1.0])
@pytest.mark.parametrize("kind", FACTORIES)
def test_a_goal_stays_where_it_is_in_the_rollouts(kind: str, unit: float) -> None:
    data, model = with_goal(unit), built(kind)
    fit(model, data)
    rows = data
    for step in range(5):
        rows = rows._replace(observations=draw(model, rows, seed=step)[0])
    assert th.equal(rows.observations[:, 2], data.observations[:, 2])
    assert bool((rows.observations[:, :2] != data.observations[:, :2]).all(1).float().mean() > 0.9)


@pytest.mark.parametrize("predict", ["delta", "next"])
@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e6])
def test_unit_scale_does_not_depend_on_the_unit(predict: str, unit: float) -> None:
    data, normalizer, reference = make_data(300), Normalizer(3, 2, predict), Normalizer(3, 2, predict)
    small = data._replace(
        observations=unit * data.observations,
        next_observations=unit * data.next_observations,
        rewards=unit * data.rewards,
    )
    reference.fit(data)
    normalizer.fit(small)
    assert th.allclose(normalizer.targets(small), reference.targets(data), atol=1e-4)
    inputs = normalizer.inputs(small.observations, small.actions)
    assert th.allclose(inputs, reference.inputs(data.observations, data.actions), atol=1e-4)
    states, rewards = normalizer.outcomes(normalizer.targets(small), small.observations)
    assert th.allclose(states / unit, data.next_observations, atol=1e-3)
    assert th.allclose(rewards / unit, data.rewards, atol=1e-4)


@pytest.mark.parametrize("predict", ["delta", "next"])
def test_a_constant_reward_is_predicted_whatever_the_network_says(predict: str) -> None:
    data, normalizer = make_data(300)._replace(rewards=th.full((300, 1), 0.1)), Normalizer(3, 2, predict)
    normalizer.fit(data)
    assert bool((normalizer.targets(data)[:, 0] == 0.0).all())
    _, rewards = normalizer.outcomes(th.randn(300, 4), data.observations)
    assert th.equal(rewards, data.rewards)


@pytest.mark.parametrize(("clamp", "expected"), [("range", 10.0), ("margin", 14.5), (None, 20.0)])
@pytest.mark.parametrize("predict", ["delta", "next"])
def test_a_growing_coordinate_goes_on_as_far_as_clamp_says(predict: str, clamp: str | None, expected: float) -> None:
    """x' = 1, ..., 10 so far, a range of width 9; ten more steps of 1 are imagined, and each is paid by where it leads."""
    x = th.arange(10.0).unsqueeze(1)
    data = Transitions(x, th.zeros(10, 1), x + 1.0, x + 1.0, th.zeros(10, 1), th.zeros(10, dtype=th.long))
    normalizer = Normalizer(1, 1, predict, clamp)
    normalizer.fit(data)
    place = th.tensor([[10.0]], requires_grad=True)
    state = place
    for _ in range(10):
        truth = data._replace(observations=state, next_observations=state + 1.0, rewards=state + 1.0)
        state, reward = normalizer.outcomes(normalizer.targets(truth), state)
    th.testing.assert_close(state, th.tensor([[expected]]))
    th.testing.assert_close(reward, th.tensor([[expected]]))
    (gradient,) = th.autograd.grad(state.sum(), place)
    assert float(gradient) == (1.0 if clamp is None else 0.0)


@pytest.mark.parametrize("kind", FACTORIES)
@pytest.mark.parametrize("clamp", ["none", 3, True, ["range"]])
def test_another_clamp_is_refused_by_name(kind: str, clamp: object) -> None:
    classes = {
        "ensemble": ProbabilisticEnsemble,
        "smooth": SmoothEnsemble,
        "mdn": MixtureDensityNetwork,
        "linear": LinearDynamics,
    }
    with pytest.raises(ValueError, match=r"clamp=.* is not allowed; allowed: 'range', 'margin' or None"):
        classes[kind](clamp=clamp)  # type: ignore[arg-type]


@pytest.mark.parametrize("clamp", [*CLAMP_MARGINS])
def test_it_knows_whether_it_was_fitted(clamp: str | None) -> None:
    normalizer, linear = Normalizer(3, 2, "delta", clamp), LinearDynamics(clamp=clamp)
    linear.build(3, 2)
    assert not normalizer.is_fitted and not linear.is_fitted
    assert normalizer.fit(make_data(50)) is None
    fit(linear, make_data(50))
    assert normalizer.is_fitted and linear.is_fitted
    assert normalizer.fit(make_data(60)) is not None


def test_an_observation_that_pauses_keeps_its_unit() -> None:
    """A goal that stays put for a while: weights were learned in its unit, and are right when it moves again."""
    data, normalizer = make_data(200), Normalizer(3, 2, "delta")
    normalizer.fit(data)
    unit = normalizer.input_std.clone()
    still = data.observations.clone()
    still[:, 1] = 5.0
    paused = normalizer.fit(data._replace(observations=still))
    assert paused is not None and float(paused.input_scale[1]) == 1.0 and float(normalizer.input_std[1]) == float(unit[1])
    again = normalizer.fit(data)
    assert again is not None and float(again.input_scale[1]) == 1.0 and th.equal(normalizer.input_std, unit)


def test_an_observation_that_stays_far_from_where_it_was_gets_a_new_unit() -> None:
    """Thousands of its old deviations away it would be the largest input of the network."""
    data, normalizer = make_data(200), Normalizer(3, 2, "delta")
    normalizer.fit(data)
    far = data.observations.clone()
    far[:, 1] = 1e4
    normalizer.fit(data._replace(observations=far))
    assert float(normalizer.inputs(far, data.actions)[:, 1].abs().max()) == 0.0 and float(normalizer.input_std[1]) == 1.0
