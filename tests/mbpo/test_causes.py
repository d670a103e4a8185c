"""Advice goes by what lies behind a sign: numbers out of scale, time limits, and who says that episodes end."""

import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_tom import MBPO
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from sb3_tom.mbpo.causes import LARGE, episode_lengths, time_limit
from sb3_tom.terminations import AutoTermination, LearnedTermination
from tests.mbpo.small import small_agent
from tests.mbpo.test_health import TINY, logged
from tests.mbpo.test_mbpo import Corridor


class OldLimit(gym.Wrapper):
    """A time limit as environments before Gymnasium had it."""

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated or truncated, False, info


class Lottery(gym.Wrapper):
    """Episodes end by a matter of luck."""

    def step(self, action: Any) -> Any:
        observation, reward, _, truncated, info = self.env.step(action)
        return observation, reward, bool(self.np_random.random() < 0.15), truncated, info


class Entry(gym.ObservationWrapper):
    """One more entry of the observations, of another size."""

    def __init__(self, env: gym.Env[Any, Any], size: float) -> None:
        super().__init__(env)
        self.size, self.time = size, 0
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)

    def observation(self, observation: Any) -> Any:
        self.time += 1
        return np.array([observation[0], self.size + self.time])


def messages(call: Callable[[], object], sign: str) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(one.message) for one in caught if str(one.message).startswith(f"health/{sign}")]


def collected(env: Any, steps: int = 300, **settings: Any) -> MBPO:
    """An agent that has collected and not trained."""
    return small_agent(env, **{"learning_starts": 1000, **TINY, **settings}).learn(steps, log_interval=None)


def unread() -> LearnedTermination:
    """A head that has no time to learn 300 rows by heart."""
    return LearnedTermination(first_gradient_steps=5)


def unread_auto() -> AutoTermination:
    return AutoTermination(head=unread())


@pytest.mark.parametrize(
    ("termination_fn", "n_envs"),
    [
        *((lambda: "auto", 1), (unread_auto, 2), (unread, 1), (unread, 2), (lambda: "never", 1), (lambda: "never", 2)),
        *((lambda: lambda *rows: rows[2] > 1e9, n_envs) for n_envs in (1, 2)),
    ],
)
def test_a_time_limit_that_comes_back_as_terminated_is_called_one(termination_fn: Any, n_envs: int) -> None:
    env = make_vec_env(lambda: OldLimit(Corridor(limit=12)), n_envs)
    agent = collected(env, termination_fn=termination_fn())
    (message,) = messages(agent.fit_model, "termination_mismatch")
    assert "episode of exactly 12 steps, and none is longer" in message and "truncated, not as terminated" in message
    assert "use termination_fn" not in message


@pytest.mark.parametrize(
    ("termination_fn", "advice"),
    [
        (unread_auto, "it was learned, .* add that to the observations"),
        (unread, "it was learned, .* add that to the observations"),
        (lambda: "never", "it is stale or of another env; correct it"),
        (lambda: lambda *rows: rows[2] > 1e9, "it is stale or of another env; correct it"),
    ],
    ids=["auto", "learned", "never", "function"],
)
def test_advice_about_terminations_goes_by_who_says_them(termination_fn: Any, advice: str) -> None:
    agent = collected(Lottery(Corridor(limit=500)), termination_fn=termination_fn())
    with pytest.warns(UserWarning, match=f"(?s)health/termination_mismatch=.*{advice}"):
        agent.fit_model()


def test_a_rule_that_is_in_use_has_advice_of_its_own() -> None:
    pytest.importorskip("mujoco")
    agent = small_agent("InvertedPendulum-v5", **TINY)
    assert "the env's own rule" in agent.termination.advice()
    agent.termination.set_rule(None)
    assert "it was learned" in agent.termination.advice()


@pytest.mark.parametrize("verb", ["fit_weights", "fit_model"])
def test_an_observation_out_of_scale_is_named_before_anything_else_is_advised(verb: str) -> None:
    agent = collected(Entry(Corridor(), 1.7e9), gamma=0.5, ent_coef=0.01, steps=100)
    (message,) = messages(getattr(agent, verb), "largest_observation")
    assert "entry 1 of the observations runs from 17000000" in message and "a clock" in message
    assert logged(agent)["health/largest_observation"] == pytest.approx(1.7e9, rel=1e-6)
    agent.fit_model()
    messages(agent.imagine, "")
    (message,) = messages(lambda: agent.train_policy(2), "critic_to_bound")
    assert message.endswith("first see to entry 1 of the observations (health/largest_observation)")
    assert "learning_rate" not in message


def test_rewards_out_of_scale_come_first() -> None:
    agent = collected(gym.wrappers.TransformReward(Corridor(), lambda reward: 1e6 + reward), steps=100)
    (message,) = messages(agent.fit_model, "largest_reward")
    assert "rewards are out of scale" in message
    assert agent.health._advice("other") == "first scale the rewards (health/largest_reward)"
    again = type(agent.health)()
    again.load_state_dict(agent.health.state_dict())
    assert again._advice("other") == agent.health._advice("other")


@pytest.mark.parametrize(("size", "silent"), [(9e4, True), (2e5, False)])
def test_the_scale_has_a_bound(size: float, silent: bool) -> None:
    agent = collected(Entry(Corridor(), size), steps=60)
    assert (not messages(agent.fit_model, "largest")) == silent
    assert (agent.health._advice("usual") == "usual") == silent


@pytest.mark.parametrize("env_id", ["Humanoid-v5", "Ant-v5", "HumanoidStandup-v5"])
def test_the_largest_observations_of_gymnasium_are_in_scale(env_id: str) -> None:
    pytest.importorskip("mujoco")
    env = gym.make(env_id)
    env.action_space.seed(0)
    largest = np.abs(env.reset(seed=0)[0]).max()
    for _ in range(1000):
        observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
        largest = max(largest, np.abs(observation).max())
        if terminated or truncated:
            env.reset()
    assert largest < LARGE / 10


def test_what_vec_normalize_brings_into_scale_is_in_scale() -> None:
    env = VecNormalize(make_vec_env(lambda: Entry(Corridor(), 1e7), 1))
    agent = collected(env, steps=100)
    assert not messages(agent.fit_model, "largest")
    assert logged(agent)["health/largest_observation"] <= env.clip_obs


@pytest.mark.parametrize("rows", [1, 3, 30, 47, 90])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_episode_lengths_are_those_of_a_walk(rows: int, n_envs: int) -> None:
    generator = np.random.default_rng(0)
    buffer = WeightedReplayBuffer(40 * n_envs, Corridor.observation_space, Corridor.action_space, "cpu", n_envs=n_envs)
    running, expected = np.zeros(n_envs, dtype=int), np.zeros((40, n_envs), dtype=int)
    began = np.zeros(n_envs, dtype=int)
    for row in range(rows):
        zeros, dones = np.zeros((n_envs, 1)), generator.random(n_envs) < 0.2
        buffer.add(zeros, zeros.copy(), zeros, np.zeros(n_envs), dones, [{}] * n_envs)
        running += 1
        whole = began >= rows - 40  # its first row is still there at the end
        expected[row % 40] = np.where(dones & whole, running, 0)
        began[dones], running[dones] = row + 1, 0
    found = episode_lengths(buffer).reshape(-1, n_envs)
    if buffer.full:  # that the oldest row begins an episode is not known
        oldest = expected[np.roll(np.arange(40), -buffer.pos)]
        for env in range(n_envs):
            first = np.flatnonzero(buffer.dones[np.roll(np.arange(40), -buffer.pos), env])[:1]
            oldest[first, env] = 0
        expected = np.roll(oldest, buffer.pos, axis=0)
    assert np.array_equal(found, expected[: buffer.size()])


def test_a_task_of_one_step_has_no_time_limit() -> None:
    buffer = WeightedReplayBuffer(40, Corridor.observation_space, Corridor.action_space, "cpu")
    for _ in range(20):
        buffer.add(np.zeros((1, 1)), np.zeros((1, 1)), np.zeros((1, 1)), np.zeros(1), np.ones(1), [{}])
    assert time_limit(buffer, np.arange(20)) is None
