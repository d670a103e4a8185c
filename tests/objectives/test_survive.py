"""The survive bonus: the model sees rewards without the jump, the policy sees them with it."""

import pytest
import torch as th

from sb3_tom import MBPO
from sb3_tom.contracts.types import Transitions
from sb3_tom.objectives.likelihood import LikelihoodObjective
from sb3_tom.objectives.survive import SurviveBonusObjective
from tests.weighters.small import context, transitions


class Recorder:
    """A model whose likelihood is minus the squared reward."""

    def log_likelihood(self, batch: Transitions) -> th.Tensor:
        return -batch.rewards.squeeze(-1).square()

    fit_likelihood = log_likelihood

    def regularization(self) -> th.Tensor:
        return th.zeros(())


def members(data: Transitions) -> Transitions:
    return Transitions(*(field.unsqueeze(0) for field in data))


def test_loss_is_that_of_rewards_without_the_jump() -> None:
    data, weights = transitions(50), th.rand(1, 50)
    assert 0 < float(data.terminated.sum()) < 50
    smooth = data._replace(rewards=data.rewards + 3.0 * data.terminated)
    expected = LikelihoodObjective().loss(Recorder(), members(smooth), weights, {})
    assert th.equal(SurviveBonusObjective(3.0).loss(Recorder(), members(data), weights, {}), expected)


def test_imagined_rewards_lose_the_bonus_exactly_where_they_terminate() -> None:
    data = transitions(50)
    relabelled = SurviveBonusObjective(10.0).relabel(data, context())
    assert th.equal(relabelled.rewards[data.terminated == 0], data.rewards[data.terminated == 0])
    assert th.equal(relabelled.rewards[data.terminated == 1], data.rewards[data.terminated == 1] - 10.0)
    for name in ("observations", "actions", "next_observations", "terminated"):
        assert th.equal(getattr(relabelled, name), getattr(data, name))


def test_a_known_reward_is_refused() -> None:
    arguments = {"objective": SurviveBonusObjective, "reward_fn": lambda observations, actions, following: actions[:, :1]}
    with pytest.raises(ValueError, match=r"reward_fn=.* is not allowed with SurviveBonusObjective"):
        MBPO("MlpPolicy", "Pendulum-v1", **arguments)


def test_without_a_bonus_nothing_changes() -> None:
    data, weights, objective = transitions(50), th.rand(1, 50), SurviveBonusObjective(0.0)
    assert th.equal(
        objective.loss(Recorder(), members(data), weights, {}),
        LikelihoodObjective().loss(Recorder(), members(data), weights, {}),
    )
    assert th.equal(objective.relabel(data, context()).rewards, data.rewards)


def test_by_its_name_and_wrong_arguments() -> None:
    agent = MBPO("MlpPolicy", "Pendulum-v1", objective="survive_bonus", objective_kwargs={"bonus": 5}, buffer_size=100)
    assert agent.objective.bonus == 5.0
    with pytest.raises(ValueError, match="bonus='a'"):
        SurviveBonusObjective("a")


def test_a_fit_stops_by_the_error_of_what_it_learns() -> None:
    data = transitions(50)
    without_jump = data._replace(rewards=data.rewards + 3.0 * data.terminated)

    class Model:
        def validation_error(self, batch: Transitions) -> th.Tensor:
            return batch.rewards.squeeze(-1).square()

    found = SurviveBonusObjective(3.0).validation_error(Model(), members(data), {})
    assert th.equal(found, members(without_jump).rewards.squeeze(-1).square())
