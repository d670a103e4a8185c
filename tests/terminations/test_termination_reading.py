"""Which environments and wrappers the rule is read through, in this process and in workers."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control import PendulumEnv
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecCheckNan,
    VecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
)

from sb3_tom.terminations.reading import read_rule

HOPPER = "gymnasium.envs.mujoco.hopper_v5:HopperEnv"


class Renamed(HopperEnv):
    """A subclass that only changes defaults."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(healthy_z_range=(0.9, 2.0), **kwargs)


class OtherHealth(HopperEnv):
    """A subclass with another idea of health."""

    @property
    def is_healthy(self) -> bool:
        return bool(self.data.qpos[1] > 0.2)


class OtherStep(HopperEnv):
    """A subclass that changes what a step returns."""

    def step(self, action: np.ndarray) -> Any:
        return super().step(-action)


class Resetting(gym.Wrapper):
    """A wrapper that leaves ``step`` alone."""

    def reset(self, **kwargs: Any) -> Any:
        return self.env.reset(**kwargs)


class Custom(gym.Wrapper):
    """A wrapper whose ``step`` could do anything, and does nothing."""

    def step(self, action: np.ndarray) -> Any:
        return self.env.step(action)


class ScaledReward(gym.RewardWrapper):
    def reward(self, reward: Any) -> Any:
        return 2.0 * reward


class Shifted(gym.ObservationWrapper):
    def observation(self, observation: Any) -> Any:
        return observation + 1.0


class DoubledRewards(VecEnvWrapper):
    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        observations, rewards, dones, infos = self.venv.step_wait()
        return observations, 2.0 * rewards, dones, infos


class OddVecEnv(DummyVecEnv):
    """A vectorised environment that changes the observations itself."""

    def step_wait(self) -> Any:
        observations, rewards, dones, infos = super().step_wait()
        return observations + 1.0, rewards, dones, infos


gym.register("TermHopper-v0", entry_point=HopperEnv, max_episode_steps=100, kwargs={"healthy_z_range": (0.8, 3.0)})


def hopper(wrap: Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]] = lambda env: env, **kwargs: Any) -> Callable[[], Any]:
    return lambda: wrap(gym.make("Hopper-v5", **kwargs))


def test_a_step_patched_on_an_instance_is_another_env_or_a_wrapper_like_others() -> None:
    made = hopper()()
    made.step = made.env.step
    assert read_rule(DummyVecEnv([lambda: made])) is not None
    inner = hopper()()
    inner.unwrapped.step = lambda action: (np.zeros(11), 0.0, False, False, {})
    assert read_rule(DummyVecEnv([lambda: inner])) is None


@pytest.mark.parametrize(
    ("wrap", "known"),
    [
        (VecMonitor, True),
        (VecCheckNan, True),
        (lambda env: VecMonitor(VecCheckNan(env)), True),
        (VecNormalize, True),  # the buffer holds what was inside of it
        (lambda env: VecMonitor(VecNormalize(env)), True),
        (lambda env: VecFrameStack(env, 2), False),
        (DoubledRewards, True),
    ],
    ids=["monitor", "check-nan", "both", "normalize", "normalize-inside", "frame-stack", "rewards"],
)
def test_vector_wrappers(wrap: Callable[[VecEnv], VecEnv], known: bool) -> None:
    assert (read_rule(wrap(DummyVecEnv([hopper(Monitor)]))) is not None) == known


def test_vectorised_environment_with_its_own_step_hides_the_rule() -> None:
    assert read_rule(OddVecEnv([hopper()])) is None


@pytest.mark.parametrize("env_class", [OtherHealth, OtherStep])
def test_subclass_with_other_behaviour_is_unknown(env_class: type[HopperEnv]) -> None:
    assert read_rule(DummyVecEnv([lambda: Monitor(env_class())])) is None


def test_subclasses_and_ids_are_known_by_their_class_and_read_from_the_instance() -> None:
    renamed = read_rule(DummyVecEnv([lambda: Monitor(Renamed())]))
    registered = read_rule(DummyVecEnv([lambda: gym.make("TermHopper-v0")]))
    assert renamed is not None and registered is not None
    assert renamed["env"] == registered["env"] == HOPPER
    assert renamed["intervals"][0]["low"] == 0.9
    assert registered["intervals"][0] == {"start": 0, "stop": 1, "low": 0.8, "high": 3.0, "closed": False}


def test_environment_without_any_wrapper() -> None:
    rule = read_rule(DummyVecEnv([HopperEnv]))
    assert rule is not None and rule["env"] == HOPPER
    assert read_rule(DummyVecEnv([OtherHealth])) is None
    assert read_rule(DummyVecEnv([HopperEnv, PendulumEnv])) is None


def test_thresholds_that_were_changed_after_construction_are_read() -> None:
    env = DummyVecEnv([hopper(Monitor)])
    env.envs[0].unwrapped._healthy_z_range = (0.5, 0.6)
    rule = read_rule(env)
    assert rule is not None and (rule["intervals"][0]["low"], rule["intervals"][0]["high"]) == (0.5, 0.6)


def test_environments_that_differ_have_no_common_rule() -> None:
    same = DummyVecEnv([hopper(), hopper(Monitor)])
    assert read_rule(same) is not None
    assert read_rule(DummyVecEnv([hopper(), hopper(healthy_z_range=(0.8, 2.0))])) is None
    assert read_rule(DummyVecEnv([hopper(), hopper(Shifted)])) is None
    assert read_rule(DummyVecEnv([hopper(), hopper(terminate_when_unhealthy=False)])) is None


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Acrobot-v1"])
def test_unknown_environments(env_id: str) -> None:
    assert read_rule(DummyVecEnv([lambda: gym.make(env_id)])) is None


@pytest.mark.parametrize("start_method", ["fork", pytest.param(None, marks=pytest.mark.expensive)])
def test_workers_answer_like_this_process_and_stay_alive(start_method: str | None) -> None:
    """The default start method imports everything anew in each worker, which takes seconds."""
    functions = [hopper(Monitor, healthy_z_range=(0.8, 2.0)), hopper(healthy_z_range=(0.8, 2.0))]
    env = SubprocVecEnv(functions, start_method=start_method)
    try:
        rule = read_rule(env)
        assert rule is not None and rule == read_rule(DummyVecEnv(functions))
        assert rule["intervals"][0]["low"] == 0.8
        env.reset()
        assert env.step(np.zeros((2, 3), dtype=np.float32))[0].shape == (2, 11)
    finally:
        env.close()


def test_workers_find_a_wrapper_that_hides_the_rule() -> None:
    env = SubprocVecEnv([hopper(), hopper(Shifted)], start_method="fork")
    try:
        assert read_rule(env) is None
    finally:
        env.close()


def test_workers_survive_questions_about_environments_that_cannot_be_pickled() -> None:
    class Local(PendulumEnv):
        def __init__(self) -> None:
            super().__init__()
            self.secret = lambda: None

        def step(self, action: np.ndarray) -> Any:
            return super().step(action)

    env = SubprocVecEnv([Local, lambda: Custom(Local())], start_method="fork")
    try:
        assert read_rule(env) is None
        assert env.reset().shape == (2, 3)
    finally:
        env.close()


def test_the_time_limit_of_the_rl_zoo_keeps_the_rule() -> None:
    """The RL Zoo replaces Gymnasium's TimeLimit, so that envs made before and after its import are wrapped differently."""
    code = (
        "import gymnasium as gym\n"
        "from stable_baselines3.common.vec_env import DummyVecEnv\n"
        "before = gym.make('Hopper-v5')\n"
        "{first}\n{second}\n"
        "from sb3_tom.terminations.reading import read_rule\n"
        "assert read_rule(DummyVecEnv([lambda: before])) is not None\n"
        "assert read_rule(DummyVecEnv([lambda: gym.make('Hopper-v5')])) is not None\n"
    )
    pytest.importorskip("rl_zoo3", reason="the RL Zoo is not installed")
    imports = ("import rl_zoo3", "import sb3_tom")
    for first, second in (imports, imports[::-1]):
        command = [sys.executable, "-W", "ignore", "-c", code.format(first=first, second=second)]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stderr
