"""The double horizon's update: how many steps it makes, of which networks, and what it says of them."""

import pytest
import torch as th

from tests.dynamics.cases import make_data
from tests.policy_updates.double_horizon.cases import Fixed, context, made, make_sac, make_world, parts_of, starts


def test_after_a_fit_the_critics_alone_make_as_many_steps_as_asked() -> None:
    agent = make_sac()
    made(critic_warmup=3).end_phase(parts_of(agent), make_data(60), Fixed(starts()), make_world(), context())
    assert {float(state["step"]) for state in agent.critic.optimizer.state.values()} == {3.0}
    assert not agent.actor.optimizer.state and not agent.ent_coef_optimizer.state


def test_figures_are_means_over_the_steps() -> None:
    """Of three calls of one step each, where no step changes anything."""
    agent, world, source = make_sac(tau=0.0, learning_rate=0.0), make_world(0.6), context()
    single = [made().update(parts_of(agent), Fixed(starts()), world, source, 1, 40) for _ in range(3)]
    together = made().update(parts_of(agent), Fixed(starts()), world, context(), 3, 40)
    assert len({figures["critic_loss"] for figures in single}) == 3
    for name, value in together.items():
        assert value == pytest.approx(sum(figures[name] for figures in single) / 3, rel=1e-6), name


def test_targets_move_in_the_first_step_and_in_every_third() -> None:
    agent = make_sac(tau=0.5, learning_rate=0.0, target_update_interval=3)
    before = [1.0 + parameter.detach() for parameter in agent.critic_target.parameters()]
    th.nn.utils.vector_to_parameters(th.nn.utils.parameters_to_vector(before), agent.critic_target.parameters())
    made().update(parts_of(agent), Fixed(starts()), make_world(), context(), 4, 40)
    for old, target, critic in zip(before, agent.critic_target.parameters(), agent.critic.parameters(), strict=True):
        th.testing.assert_close(target, critic + 0.25 * (old - critic))


def test_the_average_is_that_of_the_parameters_after_the_step() -> None:
    """The first average is the actor itself."""
    agent = make_sac(policy_kwargs={"averaging": 0.0})
    made().update(parts_of(agent), Fixed(starts()), make_world(), context(), 1, 40)
    for name, parameter in agent.actor.named_parameters():
        assert th.equal(agent.policy.averaged_actor.get_buffer(name), parameter.detach()), name
