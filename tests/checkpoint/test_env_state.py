"""Environments that are restored go on as the originals do, bit for bit."""

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.monitor import Monitor

from sb3_tom import MBPO
from sb3_tom.checkpoint import env_state as adapters
from sb3_tom.checkpoint.env_state import env_state, register_env, restore_env
from tests.checkpoint.equal import assert_equal
from tests.mbpo.small import small_agent

ENVS = ("Pendulum-v1", "MountainCarContinuous-v0", "Hopper-v5", "Ant-v5", "Humanoid-v5", "Reacher-v5", "Pusher-v5")
OLD_ENVS = (
    "Ant-v4",
    "Hopper-v4",
    "Reacher-v4",
    "InvertedDoublePendulum-v5",
    "HumanoidStandup-v5",
    "Swimmer-v5",
    "Walker2d-v5",
)


def made(name: str) -> gym.Env[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # version 4 is out of date
        return Monitor(gym.wrappers.RecordEpisodeStatistics(gym.make(name, max_episode_steps=40)))


def steps(env: gym.Env[Any, Any], actions: np.ndarray) -> list[Any]:
    """What an env answers; episodes that end are begun anew."""
    answers: list[Any] = []
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        episode = {name: value for name, value in info.get("episode", {}).items() if name != "t"}
        answers.append((observation, float(reward), bool(terminated), bool(truncated), episode))
        if terminated or truncated:
            answers.append(env.reset()[0])
    return answers


def actions_of(env: gym.Env[Any, Any], n: int) -> np.ndarray:
    low, high = env.action_space.low, env.action_space.high
    return np.random.default_rng(0).uniform(low, high, (n, *low.shape)).astype(np.float32)


@pytest.mark.parametrize("name", [*ENVS, *(pytest.param(name, marks=pytest.mark.expensive) for name in OLD_ENVS)])
def test_a_restored_env_goes_on(name: str) -> None:
    env, other = made(name), made(name)
    before, after = np.split(actions_of(env, 120), [33])
    env.reset(seed=5)
    steps(env, before)
    state = env_state(env)
    other.reset(seed=8)
    steps(other, before[:50])
    restore_env(other, state)
    assert_equal(steps(other, after), steps(env, after))


class RandomBody(HopperEnv):
    """Draws another body, and another world, in each episode."""

    def reset_model(self) -> np.ndarray:
        self.model.body_mass[1:] = self.np_random.uniform(1.0, 5.0, self.model.nbody - 1)
        self.model.geom_friction[:, 0] = self.np_random.uniform(0.5, 2.0, self.model.ngeom)
        self.model.opt.gravity[2] = self.np_random.uniform(-12.0, -8.0)
        self.model.opt.timestep = self.np_random.uniform(0.0015, 0.0025)
        return super().reset_model()


def test_drawn_physics_go_on() -> None:
    env, other = (TimeLimit(RandomBody(), 50) for _ in range(2))
    before, after = np.split(actions_of(env, 120), [3])
    env.reset(seed=5)
    steps(env, before)
    state = env_state(env)
    assert "boundary" not in state
    other.reset(seed=8)
    restore_env(other, state)
    assert other.unwrapped.model.opt.timestep == env.unwrapped.model.opt.timestep
    assert_equal(steps(other, after), steps(env, after))
    state["inner"]["model"] = state["inner"]["model"][:-1]  # of another release
    restore_env(other, state)


def test_the_state_is_a_copy() -> None:
    env = made("Hopper-v5")
    env.reset(seed=1)
    state = env_state(env)
    integration = state["inner"]["integration"].copy()
    steps(env, actions_of(env, 5))
    np.testing.assert_array_equal(state["inner"]["integration"], integration)


def test_another_env_or_wrapper_is_refused() -> None:
    env = made("Pendulum-v1")
    env.reset()
    with pytest.raises(ValueError, match=r"Continuous_MountainCarEnv where the run had .*PendulumEnv"):
        restore_env(made("MountainCarContinuous-v0"), env_state(env))
    with pytest.raises(ValueError, match="allowed: the same env with the same wrappers"):
        restore_env(gym.make("Pendulum-v1"), env_state(env))


class Drift(gym.Env[np.ndarray, np.ndarray]):
    """An env whose state is partly in an object."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,))
    action_space = gym.spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, handle: bool = False) -> None:
        if handle:
            self.handle = type("Handle", (), {"place": 0.0})()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = np.zeros(1)
        return self.place.astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.place = self.place + action + self.np_random.normal(size=1)
        if hasattr(self, "handle"):
            self.handle.place += float(self.place[0])
            return np.array([self.handle.place], np.float32), 0.0, False, False, {}
        return self.place.astype(np.float32), 0.0, False, False, {}


@pytest.fixture
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "_ADAPTERS", dict(adapters._ADAPTERS))


def register_nothing() -> None:
    return None


def register_plain() -> None:
    register_env(Drift)


def register_handle() -> None:
    def restore(env: Drift, state: dict[str, Any]) -> None:
        env.handle.place = state["at"]

    register_env(Drift, lambda env: {"at": env.handle.place}, restore, handled=("handle",))


@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize(
    ("handle", "register", "reason"),
    [
        (False, register_nothing, "has no adapter"),
        (True, register_nothing, "'handle': 'Handle'"),
        (False, register_plain, None),
        (True, register_plain, "'handle': 'Handle'"),
        (True, register_handle, None),
    ],
)
def test_registered_envs(handle: bool, register: Callable[[], None], reason: str | None) -> None:
    register()
    env, other = (gym.wrappers.TimeLimit(Drift(handle), 1000) for _ in range(2))
    actions = actions_of(env, 20)
    env.reset(seed=1)
    other.reset(seed=2)
    steps(env, actions)
    state = env_state(env)
    if reason is not None:
        assert reason in state["boundary"]
        restore_env(other, state)
        assert_equal(other.reset()[0], env.reset()[0])
    else:
        restore_env(other, state)
    if reason is None or not handle:  # a handle that nobody restores makes another env
        assert_equal(steps(other, actions), steps(env, actions))


class Reference(Drift):
    """Attributes of the user's that are called like those of a display or of a monitor."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        answer = super().reset(seed=seed)
        self.clock, self.screen, self.t_start = 0, None, float(self.np_random.uniform())
        return answer

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.clock += 1
        self.screen = object()
        observation, *rest = super().step(action)
        return np.float32(observation + self.t_start + self.clock), *rest  # type: ignore[return-value]


@pytest.mark.usefixtures("_registry")
def test_a_users_clock_is_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    register_env(Reference)
    env, other = (Monitor(TimeLimit(Reference(), 1000)) for _ in range(2))
    actions = actions_of(env, 20)
    env.reset(seed=1)
    other.reset(seed=2)
    steps(env, actions)
    state, passed = env_state(env), env.t_start
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 100.0)
    restore_env(other, state)
    assert other.t_start - passed == pytest.approx(100.0, abs=1.0), "the monitor's is the time since its start"
    assert_equal(steps(other, actions), steps(env, actions))


def test_statistics_of_a_wrapper_come_back_at_a_boundary_too(tmp_path: Path) -> None:
    """The env itself cannot be read; the policy and all rows are in the units of its wrapper."""

    def make() -> gym.Env[Any, Any]:
        return gym.wrappers.NormalizeObservation(gym.wrappers.TimeLimit(Unread(), 20))

    with pytest.warns(UserWarning, match="NormalizeObservation or NormalizeReward whose statistics are updated"):
        agent = small_agent(make(), learning_starts=1000).learn(50)
    agent.save_checkpoint(tmp_path / "run.zip")
    mine = agent.env.get_attr("obs_rms")[0]  # type: ignore[union-attr]
    resumed = MBPO.resume(tmp_path / "run.zip", make())
    with pytest.warns(UserWarning, match="with the statistics of the wrappers that can be read"):
        resumed.learn(1, reset_num_timesteps=False)
    again = resumed.env.get_attr("obs_rms")[0]  # type: ignore[union-attr]
    assert mine.count < again.count < mine.count + 5 and np.allclose(mine.mean, again.mean, rtol=0.2)
    with pytest.raises(ValueError, match=r"env lacks the layer gymnasium.*:NormalizeObservation of the run"):
        MBPO.resume(tmp_path / "run.zip", gym.wrappers.TimeLimit(Unread(), 20)).learn(1, reset_num_timesteps=False)


class Unread(gym.Env[np.ndarray, np.ndarray]):
    """A drifting number, in an object that no checkpoint holds."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,))
    action_space = gym.spaces.Box(-2.0, 2.0, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.simulator = object()
        self.place = self.np_random.normal(3.0, 1.0, 3)
        return self.place.astype(np.float32), {}

    def step(self, action: np.ndarray) -> Any:
        self.place = self.place + 0.1
        return self.place.astype(np.float32), 0.0, False, False, {}
