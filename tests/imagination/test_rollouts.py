"""Branched rollouts against a loop over single rollouts."""

from typing import Any

import pytest
import torch as th

from sb3_tom import MBPO
from sb3_tom.checks.guards import DivergenceError
from sb3_tom.compute.chunks import rows_at_once
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.data.imagined import ImaginedBuffer
from sb3_tom.imagination.rollouts import branched_rollouts
from sb3_tom.imagination.world import World
from sb3_tom.objectives.likelihood import LikelihoodObjective
from sb3_tom.objectives.survive import SurviveBonusObjective
from tests.mbpo.small import small_agent
from tests.mbpo.toys import Halt, Trust


class Counting:
    """A deterministic world: each step adds the action (0.5) to both dimensions; the reward is the new first dimension."""

    def sample(self, observations: th.Tensor, actions: th.Tensor, generator: th.Generator) -> tuple[th.Tensor, th.Tensor]:
        return observations + actions, (observations + actions)[:, :1]


def above(limit: float):
    return lambda observations, actions, next_observations: next_observations[:, :1] > limit


def context() -> Context:
    generator = th.Generator().manual_seed(0)
    policy = lambda observations: (th.full((len(observations), 1), 0.5), th.zeros(len(observations), 1))  # noqa: E731
    return Context(policy, lambda observations, actions: th.zeros(2, len(observations)), 0.99, 3, generator)


def expected_rows(starts: th.Tensor, length: int, limit: float) -> list[tuple[float, float, float]]:
    found = []
    for start in starts[:, 0].tolist():
        value = start
        for _ in range(length):
            value, before = value + 0.5, value
            found.append((before, value, float(value > limit)))
            if value > limit:
                break
    return sorted(found)


def test_against_single_rollouts() -> None:
    starts = (th.arange(23) / 8 - 1).unsqueeze(1).repeat(1, 2)
    ring = ImaginedBuffer(1000, 2, 1, "cpu")
    figures = branched_rollouts(World(Counting(), above(2.0), LikelihoodObjective(), None), starts, 4, context(), ring)
    observations, actions, next_observations, rewards, terminated = ring.gather(th.arange(ring.size))
    found = sorted(zip(observations[:, 0].tolist(), next_observations[:, 0].tolist(), terminated[:, 0].tolist(), strict=True))
    expected = expected_rows(starts, 4, 2.0)
    assert found == expected
    assert th.equal(rewards, next_observations[:, :1])
    assert th.equal(actions, th.full_like(actions, 0.5))
    ends = sum(end for *_, end in expected)
    assert abs(figures["length"] - len(expected) / 23) < 1e-6
    assert abs(figures["terminated_share"] - ends / len(expected)) < 1e-6


def test_all_chunks_are_rolled_out() -> None:
    n_starts = 2 * rows_at_once(th.device("cpu")) + 3
    ring = ImaginedBuffer(5 * n_starts, 2, 1, "cpu")
    branched_rollouts(World(Counting(), above(1e9), LikelihoodObjective(), None), th.zeros(n_starts, 2), 2, context(), ring)
    assert ring.size == 2 * n_starts


def test_figures_are_those_of_what_is_stored() -> None:
    """A bonus of 3 is lost where a rollout ends; the third step of the starts at 1.0 is the last, at 2.5."""
    ring, starts = ImaginedBuffer(1000, 2, 1, "cpu"), th.tensor([[1.0, 1.0], [-9.0, -9.0]]).repeat(50, 1)
    world = World(Counting(), above(2.0), SurviveBonusObjective(3.0), None)
    figures = branched_rollouts(world, starts, 4, context(), ring)
    rewards, terminated = ring.gather(th.arange(ring.size))[3:]
    assert float(terminated.mean()) == pytest.approx(figures["terminated_share"]) == pytest.approx(1 / 7)
    assert float(rewards.mean()) == pytest.approx(figures["reward_mean"])
    assert figures["return_high"] == pytest.approx(1.5 + 2.0 + 2.5 - 3.0)
    assert figures["return_low"] == pytest.approx(-8.5 - 8.0 - 7.5 - 7.0)


def test_returns_in_the_log_are_those_of_whole_rollouts() -> None:
    """A third of them is stopped after two steps: as the returns of four steps they would look far too low."""
    ring, starts = ImaginedBuffer(1000, 2, 1, "cpu"), th.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]).repeat(20, 1)
    world = World(Counting(), above(1e9), LikelihoodObjective(), None, rollout_stop=Halt(3.0))
    figures = branched_rollouts(world, starts, 4, context(), ring)
    assert figures["stopped_share"] == pytest.approx(1 / 3)
    assert figures["return_low"] == pytest.approx(0.5 + 1.0 + 1.5 + 2.0)
    assert figures["return_high"] == pytest.approx(1.5 + 2.0 + 2.5 + 3.0)
    all_stopped = branched_rollouts(world._replace(rollout_stop=Halt(-9.0)), starts, 4, context(), ring)
    assert "return_low" not in all_stopped and all_stopped["length"] == 0.0


@pytest.mark.parametrize("says", [1.0, th.ones(3), th.ones(1, 3), th.ones(3, 1, dtype=th.complex64)])
def test_a_reward_function_of_another_shape_is_named(says: Any) -> None:
    world = World(Counting(), above(1e9), LikelihoodObjective(), lambda *_: says)
    with pytest.raises(ValueError, match=r"^reward_fn returned .*; allowed: a tensor of real numbers, of shape \(3, 1\)"):
        branched_rollouts(world, th.zeros(3, 2), 1, context(), ImaginedBuffer(10, 2, 1, "cpu"))


class Doubles(Counting):
    """Predicts in float64."""

    def sample(self, observations: th.Tensor, actions: th.Tensor, generator: th.Generator) -> tuple[th.Tensor, th.Tensor]:
        after, rewards = super().sample(observations, actions, generator)
        return after.double(), rewards.double()


def test_predictions_and_rewards_of_another_precision_become_the_buffers() -> None:
    """As weights from numpy make them; a confidence and the next step of the policy would take them for a fault of theirs."""
    ring = ImaginedBuffer(30, 2, 1, "cpu", with_confidence=True)
    for model, reward_fn in ((Doubles(), None), (Counting(), lambda _o, _a, after: after[:, :1].double())):
        world = World(model, above(1e9), LikelihoodObjective(), reward_fn, Trust(0.5))
        branched_rollouts(world, th.zeros(3, 2), 2, context(), ring)
    assert ring.size == 12 and {field.dtype for field in ring.gather(th.arange(12))} == {th.float32}


def test_a_known_reward_and_relabelling() -> None:
    class Relabelled(LikelihoodObjective):
        def relabel(self, batch: Transitions, context: Context) -> Transitions:
            return batch._replace(rewards=batch.rewards + 100.0)

    ring = ImaginedBuffer(10, 2, 1, "cpu")
    world = World(Counting(), above(1e9), Relabelled(), lambda observations, actions, next_observations: actions * 2)
    branched_rollouts(world, th.zeros(3, 2), 1, context(), ring)
    assert ring.gather(th.arange(3))[3].tolist() == [[101.0]] * 3


def _doubles(observations: th.Tensor, actions: th.Tensor, after: th.Tensor) -> th.Tensor:
    actions *= 2.0
    after /= 10.0
    return -actions.square()[:, :1]


def _ends(observations: th.Tensor, actions: th.Tensor, after: th.Tensor) -> th.Tensor:
    after.mul_(0.0)
    return after[:, :1] > 1.0


@pytest.mark.filterwarnings("ignore:health/")
def test_functions_of_the_user_may_write_into_what_they_get() -> None:
    def trained(reward_fn: Any, termination_fn: Any) -> MBPO:
        return small_agent(reward_fn=reward_fn, termination_fn=termination_fn, dynamics="linear").learn(80)

    pure = trained(lambda o, a, after: -(2.0 * a).square(), lambda o, a, after: after[:, :1] > 9.0)
    careless = trained(_doubles, _ends)
    assert all(map(th.equal, pure.imagined.gather(th.arange(40)), careless.imagined.gather(th.arange(40))))
    assert all(map(th.equal, pure.replay_buffer.transitions(), careless.replay_buffer.transitions()))


class Paid(LikelihoodObjective):
    """Learns from larger rewards, and from no end."""

    def relabel(self, batch: Transitions, context: Context) -> Transitions:
        return batch._replace(rewards=batch.rewards + 100.0, terminated=th.zeros_like(batch.terminated))


class OfReward(Trust):
    """The less, the larger the reward is."""

    def forward(self, model: Any, batch: Transitions, context: Context) -> th.Tensor:
        return 1.0 / (1.0 + batch.rewards.abs())


def test_rollouts_end_and_are_trusted_by_what_they_were_before_they_were_relabelled() -> None:
    ring = ImaginedBuffer(100, 2, 1, "cpu", with_confidence=True)
    figures = branched_rollouts(World(Counting(), above(2.0), Paid(), None, OfReward()), th.ones(4, 2), 5, context(), ring)
    assert figures["length"] == 3.0 and ring.size == 12
    *_, rewards, _, trust = ring.gather(th.arange(12))
    th.testing.assert_close(trust, 1.0 / (rewards - 99.0))


def test_the_mean_confidence_is_that_of_the_stored_rows() -> None:
    """One of two rollouts ends after three of five steps."""
    ring = ImaginedBuffer(100, 2, 1, "cpu", with_confidence=True)
    world = World(Counting(), above(2.0), LikelihoodObjective(), None, OfReward())
    figures = branched_rollouts(world, th.tensor([[1.0, 1.0], [-3.0, -3.0]]), 5, context(), ring)
    trust = ring.gather(th.arange(ring.size))[-1]
    assert ring.size == 8
    assert figures["confidence_mean"] == pytest.approx(float(trust.mean()))
    assert figures["confidence_effective_share"] == pytest.approx(float(trust.mean() ** 2 / trust.square().mean()))


def test_the_model_is_not_asked_about_states_after_an_end() -> None:
    class Narrow(Counting):
        def sample(self, observations: th.Tensor, actions: th.Tensor, generator: th.Generator) -> tuple[th.Tensor, th.Tensor]:
            after, rewards = super().sample(observations, actions, generator)
            return th.where(observations > 2.0, th.nan, after), rewards

    ring = ImaginedBuffer(100, 2, 1, "cpu")
    branched_rollouts(World(Narrow(), above(2.0), LikelihoodObjective(), None), th.ones(4, 2), 5, context(), ring)
    assert ring.size == 12


def test_all_chunks_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sb3_tom.imagination.rollouts.rows_at_once", lambda device: 1)
    world = World(Counting(), above(1e30), LikelihoodObjective(), lambda _o, _a, after: 0.0 * after[:, :1])
    with pytest.raises(DivergenceError, match="next observations"):
        branched_rollouts(world, th.tensor([[1e20, 0.0], [0.0, 0.0]]), 1, context(), ImaginedBuffer(10, 2, 1, "cpu"))
