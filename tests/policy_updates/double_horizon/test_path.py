"""The path and its value: against finite differences, a naive loop, and SAC's loss where the path has no step."""

import pytest
import torch as th

from sb3_tom.policy_updates.double_horizon.path import Path, path_value, roll
from sb3_tom.policy_updates.sampling import sample_squashed
from tests.policy_updates.double_horizon.cases import GAMMA, UNITS, context, make_sac, make_world, starts

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


@pytest.mark.parametrize("limit", [0.4, 100.0], ids=["episodes end", "none ends"])
def test_the_actors_gradient_is_that_of_finite_differences(limit: float) -> None:
    agent, world, begin = make_sac(), make_world(limit), starts()
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

    def outcome(self, *arguments):
        outcome = self.world.outcome(*arguments)
        self.answers.append(outcome.next_observations)
        return outcome

    def relabel(self, batch, context):
        return self.world.relabel(batch, context)


def test_the_value_is_that_of_a_naive_loop() -> None:
    """Row by row, with Python numbers, from what the world answered; where a path has ended its state stays what it was."""
    agent, begin, horizon, world = make_sac(), starts(), 5, Recording(make_world(limit=0.6))
    path = roll(agent.actor, world, begin, horizon, UNITS, context())
    last = th.randn(len(begin), 1, generator=th.Generator().manual_seed(5), dtype=th.float64)
    found = path_value(path, last, GAMMA, ALPHA, first_entropy=False)
    ended = 0
    for row in range(len(begin)):
        value, discount, goes_on = 0.0, 1.0, True
        for step in range(horizon):
            if goes_on:
                value += discount * float(path.rewards[step][row])
                value -= discount * float(ALPHA * path.log_probs[step][row]) if step else 0.0
            goes_on = goes_on and not float(world.answers[step][row, 0]) > 0.6
            expected = world.answers[step][row] if goes_on else path.observations[step][row]
            assert th.equal(path.observations[step + 1][row], expected)
            discount *= GAMMA
        ended += not goes_on
        value += discount * float(last[row] - ALPHA * path.log_probs[horizon][row]) if goes_on else 0.0
        assert float(found[row]) == pytest.approx(value, rel=1e-12)
    assert 5 < ended < 35
