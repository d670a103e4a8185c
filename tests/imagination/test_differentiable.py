"""Gradients through imagined rollouts against finite differences, and where they end."""

from typing import Any

import pytest
import torch as th

from sb3_tom import Context
from sb3_tom.dynamics.linear import LinearDynamics
from sb3_tom.imagination.differentiable import roll_out
from sb3_tom.imagination.world import World
from sb3_tom.objectives.likelihood import LikelihoodObjective
from sb3_tom.objectives.survive import SurviveBonusObjective
from sb3_tom.terminations.user_function import CallableTermination
from tests.dynamics.cases import make_context, make_data
from tests.mbpo.toys import Halt

DISCOUNT = 0.9


def make_world(limit: float) -> World:
    """A linear-Gaussian world in float64, without bounds; episodes end above a limit."""
    data, model = make_data(200), LinearDynamics(clamp=None)
    model.build(3, 2)
    model.fit(data, th.ones(200), LikelihoodObjective(), make_context())
    model.double()
    ends = CallableTermination(lambda observations, actions, after: after[:, :1] > limit)
    return World(model, ends, LikelihoodObjective(), None)


def value(world: World, gain: th.Tensor, starts: th.Tensor, length: int) -> th.Tensor:
    """Discounted rewards of a linear policy with noise, the same noise at each call."""
    generator, noise = th.Generator().manual_seed(0), th.Generator().manual_seed(1)

    def policy(observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        drawn = th.randn(observations.shape[0], 2, generator=noise, dtype=th.float64)
        return th.tanh(observations @ gain + 0.3 * drawn), observations[:, :1]

    context = Context(policy, lambda *_: th.zeros(1), DISCOUNT, 0, generator)
    rollout = roll_out(world, starts, length, context)
    returns = (
        DISCOUNT**t * step.rewards * on for t, (step, on) in enumerate(zip(rollout.steps, rollout.counted, strict=True))
    )
    return sum(returns, start=th.zeros_like(starts[:, :1])).mean()


@pytest.mark.parametrize("limit", [0.8, 100.0], ids=["episodes end", "none ends"])
def test_gradients_of_policy_and_starts_are_those_of_finite_differences(limit: float) -> None:
    world, generator = make_world(limit), th.Generator().manual_seed(2)
    gain = (0.1 * th.randn(3, 2, generator=generator, dtype=th.float64)).requires_grad_()
    starts = (th.randn(40, 3, generator=generator, dtype=th.float64) * th.tensor([0.3, 5.0, 0.02])).requires_grad_()
    gradients = th.autograd.grad(value(world, gain, starts, 5), (gain, starts))
    for point, gradient in zip((gain, starts), gradients, strict=True):
        for index in (0, 3, 5):
            step = th.zeros_like(point).view(-1)
            step[index] = 1e-6
            step = step.view(point.shape)
            pair = []
            for sign in (1.0, -1.0):
                moved: list[Any] = [gain.detach(), starts.detach()]
                moved[0 if point is gain else 1] = (point + sign * step).detach()
                pair.append(float(value(world, *moved, 5)))
            assert (pair[0] - pair[1]) / 2e-6 == pytest.approx(float(gradient.view(-1)[index]), rel=1e-4, abs=1e-9)


def test_nothing_after_an_end_counts() -> None:
    world, starts = make_world(-100.0), th.zeros(4, 3, dtype=th.float64)  # every step ends its episode
    policy = lambda observations: (th.zeros(4, 2, dtype=th.float64), observations)  # noqa: E731
    rollout = roll_out(world, starts, 3, Context(policy, policy, 0.9, 0, th.Generator().manual_seed(0)))
    assert [float(on.sum()) for on in rollout.counted] == [4.0, 0.0, 0.0] and len(rollout.steps) == 3
    assert th.equal(rollout.steps[2].observations, starts) and not rollout.alive.any()


def test_the_objective_relabels_and_a_stop_ends() -> None:
    """The survive bonus goes where an episode ends; a transition before which a rollout stops counts no more."""
    world = make_world(-100.0)._replace(objective=SurviveBonusObjective(bonus=7.0))
    policy = lambda observations: (th.zeros(4, 2, dtype=th.float64), observations)  # noqa: E731

    def rolled(world: World) -> Any:
        context = Context(policy, policy, 0.9, 0, th.Generator().manual_seed(0))
        return roll_out(world, th.zeros(4, 3, dtype=th.float64), 2, context)

    plain = rolled(world._replace(objective=LikelihoodObjective())).steps[0].rewards
    th.testing.assert_close(rolled(world).steps[0].rewards, plain - 7.0)
    assert [float(on.sum()) for on in rolled(world._replace(rollout_stop=Halt(-1e9))).counted] == [0.0, 0.0]
