"""
The boundary between SB3 and the buffer: whatever spaces, wrappers, vectorised envs and ends there are, what is stored is what
happened, or a ``ValueError`` refuses it. The oracle is the env's own diary, kept outermost, in copies.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces, wrappers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from sb3_tom import MBPO
from sb3_tom.checks.episode_ends import ENDS
from sb3_tom.envs.copied import CopiedObservations

N_STEPS = 24


class Event(NamedTuple):
    """One step, as the env saw it."""

    observation: np.ndarray
    action: np.ndarray
    reward: float
    next_observation: np.ndarray
    terminated: bool
    truncated: bool


class Source(gym.Env[Any, Any]):
    """Random observations, each another one; ends by chance, by termination, truncation or both at once."""

    def __init__(self, observation_space: spaces.Box, action_space: spaces.Box, in_place: bool, seed: int) -> None:
        self.observation_space, self.action_space, self._in_place = observation_space, action_space, in_place
        self._random = np.random.default_rng(seed)
        self._array = np.zeros(observation_space.shape, observation_space.dtype)

    def _observe(self) -> np.ndarray:
        low, high = (
            np.clip(bound.astype(np.float64), -50, 50) for bound in (self.observation_space.low, self.observation_space.high)
        )
        values = self._random.uniform(low, high).astype(self.observation_space.dtype)
        if not self._in_place:
            return values
        self._array[:] = values
        return self._array

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        terminated, truncated = (bool(value) for value in self._random.random(2) < 0.15)
        return self._observe(), float(self._random.normal()), terminated, truncated, {}


class Diary(gym.Wrapper[Any, Any, Any, Any]):
    """Keeps what comes in and goes out, in copies, and hands on the very objects."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.events: list[Event] = []

    def reset(self, **kwargs: Any) -> Any:
        observation, info = self.env.reset(**kwargs)
        self._last = np.array(observation)
        return observation, info

    def step(self, action: Any) -> Any:
        done = np.array(action)
        observation, reward, terminated, truncated, info = self.env.step(action)
        now = np.array(observation)
        self.events.append(Event(self._last, done, float(reward), now, terminated, truncated))
        self._last = now
        return observation, reward, terminated, truncated, info


class Batch(VecEnv):
    """A vectorised env that steps all at once and resets by itself, with one array for its observations or a new one."""

    def __init__(self, envs: Sequence[gym.Env[Any, Any]], in_place: bool) -> None:
        super().__init__(len(envs), envs[0].observation_space, envs[0].action_space)
        self.envs, self._in_place = envs, in_place
        self._array = np.zeros((len(envs), *envs[0].observation_space.shape), envs[0].observation_space.dtype)

    def _out(self) -> np.ndarray:
        return self._array if self._in_place else self._array.copy()

    def reset(self) -> Any:
        for index, env in enumerate(self.envs):
            self._array[index] = env.reset()[0]
        return self._out()

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> Any:
        rewards, dones, infos = np.zeros(self.num_envs, np.float32), np.zeros(self.num_envs, bool), []
        for index, env in enumerate(self.envs):
            observation, rewards[index], terminated, truncated, _ = env.step(self._actions[index])
            infos.append({"TimeLimit.truncated": truncated and not terminated})
            dones[index] = terminated or truncated
            if dones[index]:
                infos[-1]["terminal_observation"] = np.array(observation)
                observation = env.reset()[0]
            self._array[index] = observation
        return self._out(), rewards, dones, infos

    def close(self) -> None:
        pass

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [None] * self.num_envs if attr_name == "render_mode" else [getattr(env, attr_name) for env in self.envs]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


WRAPPERS: dict[str, Callable[[Any], gym.Env[Any, Any]]] = {
    "time limit": lambda env: wrappers.TimeLimit(env, 5),
    "reward": lambda env: wrappers.TransformReward(env, lambda reward: 100.0 * reward - 3.0),
    "rescaled actions": lambda env: wrappers.RescaleAction(env, np.float32(-2.0), np.float32(0.5)),
    "clipped actions": wrappers.ClipAction,  # whose actions are unbounded
    "floats": lambda env: wrappers.DtypeObservation(env, np.float32),
    "flat": wrappers.FlattenObservation,
    "order": wrappers.OrderEnforcing,
    "copied": CopiedObservations,
}


USUAL = sorted(WRAPPERS.keys() - {"clipped actions"})


@st.composite
def boxes(draw: st.DrawFn, dtypes: Sequence[Any], may_be_unbounded: bool) -> spaces.Box:
    """A Box of shape (n,) and a float type, now and then another one."""
    dtype = draw(st.sampled_from(dtypes))
    shape = draw(st.sampled_from([*[(1,), (2,), (3,)] * 4, (1, 2)]))
    size = int(np.prod(shape))
    low = np.array(draw(st.lists(st.integers(-40, 10), min_size=size, max_size=size))).reshape(shape)
    high = low + np.array(draw(st.lists(st.integers(1, 30), min_size=size, max_size=size))).reshape(shape)
    if np.dtype(dtype).kind != "f":
        return spaces.Box(low.astype(dtype), high.astype(dtype), dtype=dtype)
    low, high = low.astype(dtype), high.astype(dtype)
    if may_be_unbounded:
        low = np.where(draw(st.booleans()), low, -np.inf).astype(dtype)
        high = np.where(draw(st.booleans()), high, np.inf).astype(dtype)
    return spaces.Box(low, high, dtype=dtype)


class Setting(NamedTuple):
    """What is random about an example."""

    observation_space: spaces.Box
    action_space: spaces.Box
    in_place: bool
    chain: tuple[str, ...]
    kind: str
    n_envs: int
    train_freq: Any
    normalize: bool
    seed: int


SETTINGS = st.builds(
    Setting,
    boxes([*[np.float32, np.float64] * 5, np.float16, np.int32], may_be_unbounded=True),
    boxes([*[np.float32, np.float64] * 5, np.int8], may_be_unbounded=False),
    st.booleans(),
    st.lists(st.sampled_from([*[*USUAL] * 2, "clipped actions"]), max_size=2, unique=True).map(tuple),
    st.sampled_from(["single", "dummy", "batch", "batch in one array"]),
    st.sampled_from([1, 2, 3, 2]),
    st.sampled_from([1, 2, 3, 5, 7, (1, "episode")]),
    st.booleans(),
    st.integers(0, 2**16),
)
PLAIN = spaces.Box(-1.0, 1.0, (2,), np.float32)


def make_envs(setting: Setting) -> tuple[list[Diary], Any]:
    """The diaries, and what the agent gets."""
    diaries = []
    for number in range(1 if setting.kind == "single" else setting.n_envs):
        env: Any = Source(setting.observation_space, setting.action_space, setting.in_place, setting.seed + number)
        for name in setting.chain:
            env = WRAPPERS[name](env)
        diaries.append(Diary(env))
    if setting.kind == "single":
        return diaries, diaries[0]
    if setting.kind == "dummy":
        made: VecEnv = DummyVecEnv([partial(lambda diary: diary, diary) for diary in diaries])
    else:
        made = Batch(diaries, in_place=setting.kind.endswith("array"))
    return diaries, VecNormalize(made, clip_obs=1.0, clip_reward=1.0) if setting.normalize else made


def check_stored(agent: MBPO, diaries: list[Diary]) -> None:
    """Row by row."""
    buffer = agent.replay_buffer
    assert buffer.size() * buffer.n_envs == agent.num_timesteps >= N_STEPS
    low, high = (bound.astype(np.float64) for bound in (agent.action_space.low, agent.action_space.high))
    for index, diary in enumerate(diaries):
        columns = [np.array(column) for column in zip(*diary.events[: buffer.size()], strict=True)]
        observations, actions, rewards, next_observations, terminated, truncated = columns
        rows = slice(0, len(observations))
        assert len(diary.events) == buffer.size()
        np.testing.assert_array_equal(buffer.observations[rows, index], observations.astype(np.float32))
        np.testing.assert_array_equal(buffer.next_observations[rows, index], next_observations.astype(np.float32))
        np.testing.assert_array_equal(buffer.rewards[rows, index], rewards.astype(np.float32))
        np.testing.assert_array_equal(buffer.terminated[rows, index], terminated)
        np.testing.assert_array_equal(buffer.dones[rows, index], terminated | truncated)
        done = low + 0.5 * (buffer.actions[rows, index].astype(np.float64) + 1.0) * (high - low)
        np.testing.assert_allclose(done, actions, rtol=0.0, atol=1e-6 * float(np.abs([low, high]).max() + 1.0))
        assert (actions >= low - 1e-4).all() and (actions <= high + 1e-4).all() and len(np.unique(actions)) > 1


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=200, deadline=None)
@given(SETTINGS)
@example(Setting(PLAIN, PLAIN, True, (), "single", 1, 1, False, 0))
@example(Setting(PLAIN, PLAIN, True, (), "dummy", 2, 1, False, 0))
@example(Setting(PLAIN, PLAIN, False, ("time limit",), "batch in one array", 2, 3, False, 0))
@example(Setting(PLAIN, PLAIN, False, ("time limit",), "batch in one array", 2, 3, True, 0))
def test_what_is_stored_is_what_happened(setting: Setting) -> None:
    try:
        diaries, env = make_envs(setting)
        agent = MBPO(
            "MlpPolicy",
            env,
            learning_starts=8,  # random actions first, the policy's then
            gradient_steps=0,  # nothing is trained
            train_freq=setting.train_freq,
            buffer_size=1000,
            policy_kwargs={"net_arch": [4]},
            dynamics="linear",
            seed=setting.seed,
            device="cpu",
        )
    except ValueError as error:
        assert "is not allowed" in str(error) and is_refusable(setting), error
        return
    try:
        agent.learn(N_STEPS)
    except ValueError as error:
        assert "the last observation of an episode is missing" in str(error), error
        assert setting.in_place and setting.kind == "dummy" and not hides_the_array(setting)
        return
    n_ends = sum(event.terminated or event.truncated for diary in diaries for event in diary.events)
    if setting.in_place and setting.kind == "dummy" and not hides_the_array(setting):
        assert n_ends < ENDS, "ends that look like starts were stored without a word"
        return
    check_stored(agent, diaries)


def hides_the_array(setting: Setting) -> bool:
    """Whether a wrapper hands copies on."""
    return not {"copied", "floats", "flat"}.isdisjoint(setting.chain)


def is_refusable(setting: Setting) -> bool:
    """What no agent is made for: other shapes and types, unbounded actions, episodes of several envs."""
    shapes = [setting.observation_space.shape] if "flat" not in setting.chain else []
    kinds = [setting.observation_space.dtype.kind] if "floats" not in setting.chain else []
    several = setting.kind != "single" and setting.n_envs > 1 and isinstance(setting.train_freq, tuple)
    return (
        any(len(shape) > 1 for shape in (*shapes, setting.action_space.shape))
        or any(kind != "f" for kind in (*kinds, setting.action_space.dtype.kind))
        or "clipped actions" in setting.chain
        or several
    )
