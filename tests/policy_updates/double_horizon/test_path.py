"""The path and its value: against finite differences, a naive loop, and SAC's loss where the path has no step."""

import math
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch as th

from sb3_tom import Confidence, Context, DynamicsModel, Transitions
from sb3_tom.imagination.differentiable import Rollout
from sb3_tom.policy_updates.double_horizon.path import Path, path_confidence, path_value, roll
from sb3_tom.policy_updates.sampling import sample_squashed
from tests.mbpo.toys import Trust
from tests.policy_updates.double_horizon.cases import GAMMA, PLUGS, UNITS, Low, context, make_sac, make_world, starts

ALPHA = th.tensor(0.3, dtype=th.float64)


def objective(agent, world, begin: th.Tensor, horizon: int, push: th.Tensor | None = None) -> th.Tensor:
    """The actor's objective with noise that is the same at each call; ``push`` is added to the first actions."""
    path = roll(agent.actor, world, begin, horizon, UNITS, context())
    if push is not None:
        path = pushed(agent, world, path, push, horizon)
    last = th.stack(agent.critic(path.observations[-1], path.actions[-1])).mean(0)
    return path_value(path, last, GAMMA, ALPHA, first_entropy=True).mean()


def pushed(agent, world, path: Path, push: th.Tensor, horizon: int) -> Path:
    """The path that the first actions, moved by ``push``, lead to: with the noise of the first one, drawn in its order."""
    noise, again = context(), Path([path.observations[0]], [], path.log_probs[:1], path.alive[:1], [])
    for step in range(horizon + 1):
        drawn = th.randn((len(push), 2), generator=noise.generator, dtype=th.float64)
        actions, log_prob = sample_squashed(agent.actor, again.observations[-1], drawn)
        again.actions.append(path.actions[0] + push if step == 0 else actions)
        if step:
            again.log_probs.append(log_prob)
        if step < horizon:
            outcome = world.outcome(again.observations[-1], again.actions[-1], noise)
            again.rewards.append(outcome.rewards)
            again.alive.append(again.alive[-1] * (1.0 - outcome.terminated))
            again.observations.append(outcome.next_observations)
    return again


@pytest.mark.parametrize("limit", [0.4, 100.0], ids=["episodes end", "none ends"])
@pytest.mark.parametrize("horizon", [1, 3, 5])
def test_the_gradient_by_the_first_action_is_that_of_finite_differences(horizon: int, limit: float) -> None:
    agent, world, begin = make_sac(), make_world(limit), starts(6)
    push = th.zeros(6, 2, dtype=th.float64, requires_grad=True)
    (gradient,) = th.autograd.grad(objective(agent, world, begin, horizon, push), push)
    with th.no_grad():
        for row, column in ((0, 0), (3, 1), (5, 0)):
            step = th.zeros_like(push)
            step[row, column] = 1e-5
            pair = [float(objective(agent, world, begin, horizon, push + sign * step)) for sign in (1, -1)]
            assert (pair[0] - pair[1]) / 2e-5 == pytest.approx(float(gradient[row, column]), rel=1e-5, abs=1e-10)


@pytest.mark.parametrize("plugs", ["no plugs", "stop"])
@pytest.mark.parametrize("limit", [0.4, 100.0], ids=["episodes end", "none ends"])
def test_the_actors_gradient_is_that_of_finite_differences(limit: float, plugs: str) -> None:
    agent, world, begin = make_sac(), make_world(limit)._replace(**PLUGS[plugs]), starts()
    parameter = agent.actor.mu.weight
    (gradient,) = th.autograd.grad(objective(agent, world, begin, 4), parameter)
    for index in ((0, 0), (1, 7), (0, 12)):
        pair = []
        for sign in (1, -1):
            with th.no_grad():
                parameter[index] += sign * 1e-6
                pair.append(float(objective(agent, world, begin, 4)))
                parameter[index] -= sign * 1e-6
        assert (pair[0] - pair[1]) / 2e-6 == pytest.approx(float(gradient[index]), rel=1e-4, abs=1e-9)


def test_without_a_step_it_is_sacs_objective() -> None:
    agent, begin = make_sac(), starts()
    path = roll(agent.actor, make_world(), begin, 0, UNITS, context())
    noise = th.randn(len(begin), 2, generator=context().generator, dtype=th.float64)
    actions, log_prob = sample_squashed(agent.actor, begin, noise)
    values = th.stack(agent.critic(begin, actions)).amin(0)
    sac = -(ALPHA * log_prob - values).mean()
    assert path.rewards == [] and th.equal(path.actions[0], actions)
    th.testing.assert_close(path_value(path, values, GAMMA, ALPHA, first_entropy=True).mean(), sac)


def test_where_an_episode_ends_in_the_first_step_only_its_reward_counts() -> None:
    agent, begin = make_sac(), starts()
    path = roll(agent.actor, make_world(limit=-1e9), begin, 5, UNITS, context())
    last = th.full((len(begin), 1), 1e6, dtype=th.float64)
    expected = path.rewards[0] - ALPHA * path.log_probs[0]
    th.testing.assert_close(path_value(path, last, GAMMA, ALPHA, first_entropy=True), expected)
    th.testing.assert_close(path_value(path, last, GAMMA, ALPHA, first_entropy=False), path.rewards[0])


class Recording:
    """Keeps the next states that a world says."""

    def __init__(self, world) -> None:
        self.world, self.answers = world, []

    def step(self, *arguments):
        outcome = self.world.step(*arguments)
        self.answers.append(outcome.next_observations)
        return outcome

    def __getattr__(self, verb: str):
        return getattr(self.world, verb)


class Naive(NamedTuple):
    """One row's path, step by step in Python numbers."""

    value: float
    length: int
    goes_on: bool
    trust: list[float]


def followed(world, path: Path, answers: list[th.Tensor], row: int) -> Naive:
    """Rewards and entropies until the row has ended, or is stopped; its state stays what it was from there on."""
    value, trust, goes_on, horizon = 0.0, [], True, len(answers)
    length = horizon
    for step, answer in enumerate(answers):
        after, here = answer[row], path.observations[step][row]
        if world.rollout_stop is not None and goes_on and length == horizon and float(after[1]) < world.rollout_stop.limit:
            length = step
        if goes_on and length == horizon:
            value += GAMMA**step * float(path.rewards[step][row])
            value -= GAMMA**step * float(ALPHA * path.log_probs[step][row]) if step else 0.0
            trust.append(1.0 / (1.0 + abs(float(after[0]))) if world.confidence is not None else 1.0)
            goes_on = not float(after[0]) > 0.6
        assert th.equal(path.observations[step + 1][row], after if goes_on and length == horizon else here)
    return Naive(value, length, goes_on, trust)


@pytest.mark.parametrize("plugs", PLUGS)
def test_the_value_is_that_of_a_naive_loop(plugs: str) -> None:
    """A stopped path has the value of the last state that was trusted, discounted by the steps that lead there."""
    world = make_world(limit=0.6)._replace(**PLUGS[plugs])
    agent, begin, horizon, recording = make_sac(), starts(60), 5, Recording(world)
    path = roll(agent.actor, recording, begin, horizon, UNITS, context())
    last = th.randn(len(begin), 1, generator=th.Generator().manual_seed(5), dtype=th.float64)
    found = path_value(path, last, GAMMA, ALPHA, first_entropy=False)
    rows = [followed(world, path, recording.answers, row) for row in range(len(begin))]
    for row, naive in enumerate(rows):
        value = naive.value
        if naive.goes_on:
            value += GAMMA**naive.length * float(last[row] - ALPHA * path.log_probs[horizon][row])
        assert float(found[row]) == pytest.approx(value, rel=1e-12)
    assert 5 < sum(not naive.goes_on for naive in rows) < 55
    if world.rollout_stop is not None:
        assert {naive.length for naive in rows} == {0, 1, 2, 3, 4, 5}
        assert path.length.flatten().tolist() == [float(naive.length) for naive in rows]
    if not PLUGS[plugs]:
        assert path.length is path.confidence is path.weights is None
        return
    expected = [math.prod(naive.trust) ** (1.0 / len(naive.trust)) if naive.trust else 0.0 for naive in rows]
    assert path.weights.flatten().tolist() == pytest.approx(expected, rel=1e-12)
    assert path.confidence is (path.weights if world.confidence is not None else None)


def test_what_says_nothing_changes_nothing() -> None:
    """A stop that stops nothing, and a confidence of 1: the same path with the same value."""
    agent, begin = make_sac(), starts()
    last = th.randn(len(begin), 1, generator=th.Generator().manual_seed(5), dtype=th.float64)
    plain, judged = (
        roll(agent.actor, make_world(0.6)._replace(**plugs), begin, 5, UNITS, context())
        for plugs in ({}, {"confidence": Trust(1.0), "rollout_stop": Low(-1e9)})
    )
    assert all(
        th.equal(one, other) for pair in zip(plain[:5], judged[:5], strict=True) for one, other in zip(*pair, strict=True)
    )
    assert bool((judged.confidence == 1.0).all()) and bool((judged.length == 5.0).all())
    values = [path_value(path, last, GAMMA, ALPHA, first_entropy=True) for path in (plain, judged)]
    th.testing.assert_close(*values, rtol=1e-14, atol=0.0)


class Curious(Confidence):
    """Looks at what the policy would do at s', and says 1."""

    def forward(self, model: DynamicsModel, batch: Transitions, context: Context) -> th.Tensor:
        return th.ones_like(context.policy(batch.next_observations)[0][:, :1])


def test_a_plug_that_asks_the_policy_takes_no_part_in_the_path() -> None:
    agent, begin = make_sac(), starts()
    asked = replace(context(), policy=lambda rows: sample_squashed(agent.actor, rows, th.zeros(len(rows), 2).double()))
    plain = roll(agent.actor, make_world(), begin, 5, UNITS, context())
    looked_at = roll(agent.actor, make_world()._replace(confidence=Curious()), begin, 5, UNITS, asked)
    assert len(looked_at.log_probs) == len(looked_at.actions) == 6
    for one, other in zip(plain.log_probs, looked_at.log_probs, strict=True):
        assert th.equal(one, other)


def test_a_path_that_is_stopped_at_once_has_the_value_of_its_start() -> None:
    """For the actor that is SAC's objective; the critics learn nothing of it, as they would learn what they say."""
    agent, begin = make_sac(), starts()
    path = roll(agent.actor, make_world()._replace(rollout_stop=Low(1e9)), begin, 5, UNITS, context())
    assert th.equal(path.observations[-1], begin) and not bool(path.weights.any()) and not bool(path.length.any())
    values = th.stack(agent.critic(begin, path.actions[-1])).amin(0)
    expected = values - ALPHA * path.log_probs[-1]
    th.testing.assert_close(path_value(path, values, GAMMA, ALPHA, first_entropy=True), expected)


def test_the_same_trust_in_all_steps_is_that_of_the_path_whether_it_ends_or_not() -> None:
    path = roll(make_sac().actor, make_world(0.6)._replace(confidence=Trust(0.25)), starts(), 5, UNITS, context())
    assert 0.1 < float(path.alive[-1].mean()) < 0.9
    th.testing.assert_close(path.confidence, th.full((40, 1), 0.25, dtype=th.float64))


def test_nothing_is_judged_with_a_gradient() -> None:
    """Stop and confidence say which paths count; the policy is not to be pulled to where the model agrees with itself."""
    path = roll(make_sac().actor, make_world()._replace(**PLUGS["both"]), starts(), 3, UNITS, context())
    assert path.observations[-1].requires_grad and not path.confidence.requires_grad and not path.length.requires_grad


def test_a_long_path_of_little_confidence_keeps_its_mean() -> None:
    """The product of its steps is 0 in float32."""
    trust = [th.full((4, 1), 0.004)] * 20
    rollout = Rollout([], [th.ones(4, 1)] * 20, th.zeros(4, 3), th.ones(4, 1), None, trust)
    th.testing.assert_close(path_confidence(rollout), trust[0])
