"""Weights by what critics and model say of the rows: against loops, on known critics; and on agents."""

from dataclasses import replace

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_tom.checks.guards import DivergenceError
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.dynamics import Prediction
from sb3_tom.contracts.types import Transitions
from sb3_tom.contracts.weighter import Weighter
from sb3_tom.data.weights import usable_weights
from sb3_tom.weighters.critics import row_values, td_errors
from sb3_tom.weighters.maper import MaPERWeighter, squared_errors
from sb3_tom.weighters.model_errors import squared_errors_of_members
from sb3_tom.weighters.per import PERWeighter
from sb3_tom.weighters.recall import RecallWeighter
from sb3_tom.weighters.value import ValueWeighter
from tests.mbpo.small import SMALL_MODELS, small_agent
from tests.weighters.small import context, transitions
from tests.weighters.test_critics import known

CLASSES: dict[str, type[Weighter]] = {
    "per": PERWeighter,
    "recall": RecallWeighter,
    "maper": MaPERWeighter,
    "value": ValueWeighter,
}


class Model:
    """Two members, whose means miss the rewards and the next states by known amounts."""

    is_fitted = True
    scales = (1.0, 1.0, 1.0, 1.0)

    def targets(self, batch: Transitions) -> th.Tensor:
        return th.cat([batch.rewards, batch.next_observations], dim=-1)

    def target_scales(self) -> th.Tensor:
        return th.tensor(self.scales)

    def forward(self, observations: th.Tensor, actions: th.Tensor) -> Prediction:
        assert len(observations) <= 2_048, "a large buffer comes in pieces"
        mean = th.cat([actions[:, :1], observations], dim=-1)
        return Prediction(th.stack([mean, 2.0 * mean]), th.zeros(2, *mean.shape))


def modelled() -> Context:
    return replace(known(), model=Model())


def normalised(weights: list[float]) -> np.ndarray:
    return np.array(weights) / np.mean(weights)


def usable(weighter: Weighter, data: Transitions, view: Context) -> np.ndarray:
    return usable_weights(weighter.weights(data, view), weighter, data.size).numpy()


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0, 3.0])
@pytest.mark.parametrize("epsilon", [1e-6, 0.5])
def test_priorities_are_those_of_a_loop(alpha: float, epsilon: float) -> None:
    data = transitions(60)
    deltas = td_errors(data, known()).double().numpy()
    expected = []
    for row in range(60):
        size = 0.0
        for critic in range(3):
            size += abs(deltas[critic, row]) / 3
        expected.append((size + epsilon) ** alpha)
    np.testing.assert_allclose(usable(PERWeighter(alpha, epsilon), data, known()), normalised(expected), rtol=1e-5)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.25, 0.5, 1.0])
def test_the_top_share_is_that_of_a_sorted_list(share: float) -> None:
    data = transitions(80)
    values = row_values(data, known()).tolist()
    best = sorted(range(80), key=lambda row: -values[row])[: max(1, round(share * 80))]
    found = RecallWeighter(share).weights(data, known())
    assert sorted(th.nonzero(found).flatten().tolist()) == sorted(best)
    assert set(found.tolist()) <= {0.0, 1.0}


def test_equal_values_are_taken_together() -> None:
    data = transitions(40)
    twice = Transitions(*(th.cat([field, field]) for field in data))
    found = RecallWeighter(0.2).weights(twice, known())
    assert th.equal(found[:40], found[40:]) and int(found.sum()) == 16


@pytest.mark.parametrize("temperature", [0.001, 0.5, 1.0, 1000.0])
def test_values_weigh_as_a_loop_says(temperature: float) -> None:
    data = transitions(60)
    values = row_values(data, known()).double().numpy()
    spread = np.sqrt(sum((value - sum(values) / 60) ** 2 for value in values) / 60)
    expected = [np.exp(-(max(values) - value) / (temperature * spread)) for value in values]
    found = usable(ValueWeighter(temperature), data, known())
    np.testing.assert_allclose(found, normalised(expected), rtol=1e-4, atol=1e-30)
    assert found.argmax() == values.argmax()


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("model_coef", [0.0, 1.0, 5.0])
def test_three_errors_are_added_as_in_a_loop(alpha: float, model_coef: float) -> None:
    data = transitions(60)
    deltas = td_errors(data, known()).double().numpy()
    of_critics, of_reward, of_state = np.zeros(60), np.zeros(60), np.zeros(60)
    for row in range(60):
        of_critics[row] = sum(delta**2 for delta in deltas[:, row]) / 3
        for factor in (1.0, 2.0):
            of_reward[row] += (factor * float(data.actions[row, 0]) - float(data.rewards[row])) ** 2 / 2
            for entry in range(3):
                missed = factor * float(data.observations[row, entry]) - float(data.next_observations[row, entry])
                of_state[row] += missed**2 / 6
    both = of_reward / of_reward.mean() + of_state / of_state.mean()
    expected = (of_critics / of_critics.mean() + model_coef * both + 1e-6) ** alpha
    np.testing.assert_allclose(usable(MaPERWeighter(alpha, model_coef), data, modelled()), normalised(expected), rtol=1e-4)


def test_model_errors_come_in_pieces() -> None:
    """More rows than go through the members at once."""
    data = transitions(5_000)
    found = squared_errors(Model(), data)
    last = squared_errors(Model(), data.rows(th.arange(4_990, 5_000)))
    assert all(th.equal(whole[4_990:], part) and whole.dtype == th.float64 for whole, part in zip(found, last, strict=True))


def test_targets_that_never_varied_have_no_error() -> None:
    """The model predicts them exactly whatever its networks say, which would be a third of MaPER's priorities otherwise."""
    data, model = transitions(60), Model()
    model.scales = (0.0, 1.0, 0.0, 1.0)
    of_reward, of_state = squared_errors(model, data)
    assert not of_reward.any()
    (of_members,) = squared_errors_of_members(model, data)
    assert th.equal(of_state, of_members.mean(0)[:, 1:].mean(-1)) and not of_members[..., 2].any()
    assert of_members[..., 1].all() and of_members[..., 3].all()


def test_without_a_fitted_model_the_critics_are_alone() -> None:
    data, fresh = transitions(60), Model()
    fresh.is_fitted = False
    found = MaPERWeighter().weights(data, replace(known(), model=fresh))
    assert th.equal(found, MaPERWeighter(model_coef=0.0).weights(data, modelled()))
    with pytest.raises(ValueError, match=r"context\.model=None is not allowed for a plug that reads it; allowed: the agent"):
        MaPERWeighter().weights(data, known())


@pytest.mark.parametrize("name", CLASSES)
def test_the_order_of_the_rows_does_not_matter(name: str) -> None:
    data, order = transitions(70), th.randperm(70)
    weighter = CLASSES[name]()
    whole, mixed = (usable(weighter, rows, modelled()) for rows in (data, data.rows(order)))
    np.testing.assert_allclose(mixed, whole[order], rtol=1e-5)


@pytest.mark.parametrize("name", ["recall", "value", "maper"])
@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_the_unit_of_the_rewards_does_not_matter(name: str, unit: float) -> None:
    """Prioritised replay has an epsilon in that unit."""
    data, view = transitions(70), modelled()
    other = replace(
        view,
        values=lambda *pair: unit * view.values(*pair),
        target_values=lambda *pair: unit * view.target_values(*pair),
        ent_coef=unit * view.ent_coef,
    )
    scaled = data._replace(rewards=unit * data.rewards)
    other = replace(other, model=Model())
    other.model.targets = lambda _: Model().targets(data)  # a model has units of its own
    np.testing.assert_allclose(*(usable(CLASSES[name](), *pair) for pair in ((data, view), (scaled, other))), rtol=1e-3)


@pytest.mark.parametrize("name", CLASSES)
def test_without_an_opinion_weights_are_uniform(name: str) -> None:
    """Critics of 0, no rewards, and a model that is right."""
    data = transitions(30)._replace(rewards=th.zeros(30, 1))
    right = Model()
    right.forward = lambda observations, _: Prediction(right.targets(data)[None, : len(observations)], th.zeros(0))
    view = replace(context(), model=right, target_values=context().values)
    assert th.equal(CLASSES[name]().weights(data, view).double(), th.ones(30).double())


@pytest.mark.parametrize("weighter", [*CLASSES, "pdml"])
@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("normalised", [False, True])
def test_after_two_phases_weights_differ(weighter: str, n_envs: int, normalised: bool) -> None:
    """With a ring that has closed; offline verbs go on from there."""
    env = make_vec_env("Pendulum-v1", n_envs)
    agent = small_agent(VecNormalize(env) if normalised else env, weighter, buffer_size=60, learning_starts=30).learn(90)
    assert agent.replay_buffer.full and agent.policy_version >= 2
    assert len(agent.replay_buffer.row_weights().unique()) > 1
    assert all(bool(th.isfinite(parameter).all()) for parameter in agent.policy.parameters())
    for _ in range(2):
        agent.train_policy(5)
        weights = agent.fit_weights()
        assert len(weights) == 60 and float(weights.mean()) == pytest.approx(1.0, rel=1e-5)
        agent.fit_model()
        agent.imagine()
        agent.end_phase()


@pytest.mark.parametrize("dynamics", SMALL_MODELS)
def test_every_model_has_errors(dynamics: str) -> None:
    agent = small_agent(weighter="maper", dynamics=dynamics).learn(80)
    rewards, states = squared_errors(agent.dynamics, agent.replay_buffer.transitions())
    assert rewards.shape == states.shape == (80,) and min(len(rewards.unique()), len(states.unique())) > 10
    assert (
        float(rewards.min()) >= 0.0 and float(states.min()) >= 0.0 and min(float(rewards.mean()), float(states.mean())) > 0.0
    )
    weights = agent.fit_weights()
    agent.weighter.model_coef = 0.0
    alone = agent.fit_weights()
    assert len(weights.unique()) > 10 and not th.allclose(weights, alone, rtol=1e-3)


@pytest.mark.parametrize("weighter", ["recall", "value"])
def test_other_policies_values_are_the_critics(weighter: str) -> None:
    """Values are of the stored actions: a policy of interest changes nothing."""
    agent = small_agent(weighter=weighter).learn(60)
    other = agent.fit_weights(policy=lambda observations: (th.zeros(len(observations), 1), th.zeros(len(observations), 1)))
    assert th.equal(agent.fit_weights(), other)


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("per", "alpha", -0.1),
        ("per", "alpha", "0.6"),
        ("per", "epsilon", 0.0),
        ("recall", "share", 0.0),
        ("recall", "share", 1.1),
        ("recall", "share", True),
        ("maper", "alpha", 11.0),
        ("maper", "model_coef", -1.0),
        ("maper", "epsilon", -1.0),
        ("value", "temperature", 0.0),
        ("value", "temperature", None),
    ],
)
def test_arguments_are_checked(name: str, argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{argument}=.* is not allowed; allowed: a number in"):
        CLASSES[name](**{argument: value})


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["per", "value"])
def test_bad_critics_are_refused(name: str, bad: float) -> None:
    """Not taken for critics without an opinion."""
    data = transitions(6, 3)
    values = th.tensor([[0.0, 1.0, bad, 2.0, 3.0, 4.0]])
    view = replace(known(), values=lambda observations, actions: values)
    with pytest.raises(DivergenceError, match="not finite"):
        usable(CLASSES[name](), data, view)


def test_the_error_of_a_model_is_that_of_the_rewards_that_it_learns() -> None:
    """The bonus that a termination does not pay is subtracted from imagined rows: the model does not learn it."""
    agent = small_agent("InvertedPendulum-v5", objective="survive_bonus", objective_kwargs={"bonus": 3.0}).learn(60)
    model, data = agent._context().model, agent.replay_buffer.transitions()
    ends = data.terminated[:, 0] > 0
    assert bool(ends.any()) and not bool(ends.all())
    difference = (model.targets(data) - agent.dynamics.targets(data))[:, 0] * agent.dynamics.target_scales()[0]
    th.testing.assert_close(difference, 3.0 * data.terminated[:, 0])
    paid = data._replace(rewards=data.rewards + 3.0 * data.terminated)
    th.testing.assert_close(model.validation_error(data), agent.dynamics.validation_error(paid))
    th.testing.assert_close(model.log_likelihood(data), agent.dynamics.log_likelihood(paid))
