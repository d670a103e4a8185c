"""TD errors and values against loops over the rows, and against the agent's own critics."""

from dataclasses import replace

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_tom.contracts.context import Context
from sb3_tom.weighters.critics import row_values, td_errors
from tests.mbpo.small import small_agent
from tests.weighters.small import context, transitions

GAMMA, ENT_COEF = 0.9, 0.3


def linear(weights: list[list[float]], name: str) -> object:
    """Critics that are linear in observation and action; C rows of weights."""
    matrix = th.tensor(weights)

    def values(observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        assert not th.is_grad_enabled() and len(observations) <= 4_096, name  # a large buffer comes in pieces
        return matrix @ th.cat([observations, actions], dim=1).t()

    return values


CRITICS = [[0.5, -1.0, 0.2, 0.1, 0.0], [0.4, -0.9, 0.1, 0.3, 0.2], [1.0, 1.0, 1.0, 1.0, 1.0]]
TARGETS = [[0.3, 0.3, -0.2, 0.1, 0.4], [-0.2, 0.6, 0.1, -0.5, 0.1]]


def known() -> Context:
    """A policy that does not draw, so that a loop can ask it again."""

    def policy(observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        return th.tanh(observations[:, :2]), observations[:, 2:3]

    parts = {"policy": policy, "values": linear(CRITICS, "critics"), "target_values": linear(TARGETS, "targets")}
    return replace(context(gamma=GAMMA), ent_coef=th.tensor(ENT_COEF), **parts)


def test_errors_and_values_are_those_of_a_loop() -> None:
    """More rows than go through a network at once; a time-out ends nothing."""
    data = transitions(5_000)
    data = data._replace(truncated=1.0 - data.terminated)
    found, values = td_errors(data, known()), row_values(data, known())
    assert found.shape == (3, 5_000) and values.shape == (5_000,)
    for row in [*range(50), 4_095, 4_096, 4_999]:
        following = data.next_observations[row].double().numpy()
        seen = np.concatenate([following, np.tanh(following[:2])])
        value = min(float(np.dot(weights, seen)) for weights in TARGETS) - ENT_COEF * following[2]
        target = float(data.rewards[row]) + (0.0 if data.terminated[row] else GAMMA * value)
        here = np.concatenate([data.observations[row].numpy(), data.actions[row].numpy()])
        of_critics = [float(np.dot(weights, here)) for weights in CRITICS]
        np.testing.assert_allclose(found[:, row], [target - value for value in of_critics], atol=1e-5)
        assert float(values[row]) == pytest.approx(min(of_critics), abs=1e-5)


def test_a_context_without_an_entropy_coefficient_has_none() -> None:
    data, free = transitions(20), replace(known(), ent_coef=None)
    assert th.equal(td_errors(data, free), td_errors(data, replace(known(), ent_coef=th.tensor(0.0))))


def test_a_context_without_target_critics_says_so() -> None:
    with pytest.raises(ValueError, match="this context was made without that part of an agent; allowed: "):
        td_errors(transitions(3), context())


def test_errors_of_an_agent_are_in_the_unit_of_its_rewards() -> None:
    """SB3's target is in the units of ``VecNormalize``: the same times the scale of the rewards, where none is clipped."""
    env = VecNormalize(make_vec_env("Pendulum-v1", 2), clip_reward=np.inf)
    agent = small_agent(env, ent_coef=0.2).learn(80)
    data, rows = agent.replay_buffer.transitions(), agent.replay_buffer.n_transitions
    agent.generator.manual_seed(5)
    found = td_errors(data, agent._context())
    agent.generator.manual_seed(5)
    with th.no_grad():
        seen, following = (
            th.as_tensor(env.normalize_obs(part.numpy()), dtype=th.float32)
            for part in (data.observations, data.next_observations)
        )
        actions, log_prob = agent._context().policy(data.next_observations)
        values = th.cat(agent.critic_target(following, actions), 1).min(1, keepdim=True).values - 0.2 * log_prob
        rewards = th.as_tensor(env.normalize_reward(data.rewards.numpy()), dtype=th.float32)
        targets = rewards + agent.gamma * (1.0 - data.terminated) * values
        expected = (targets - th.cat(agent.critic(seen, data.actions), 1)).t() * float(np.sqrt(env.ret_rms.var + env.epsilon))
    assert rows == 80 and found.shape == (2, 80)
    th.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert float(found.abs().mean()) > 0.1
