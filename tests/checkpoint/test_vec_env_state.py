"""Vectorised envs and their wrappers that are restored go on as the saved ones do."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecCheckNan,
    VecEnv,
    VecEnvWrapper,
    VecMonitor,
    VecNormalize,
)

from sb3_tom.checkpoint.vec_env_state import boundary_reasons, restore_vec_env, vec_env_state
from tests.checkpoint.equal import assert_equal


def venv_steps(venv: Any, n: int) -> list[Any]:
    actions = np.random.default_rng(1).uniform(-1, 1, (n, venv.num_envs, 1)).astype(np.float32)
    answers = []
    for action in actions:
        observations, rewards, dones, infos = venv.step(action)
        ends = [{key: info.get(key) for key in ("terminal_observation", "TimeLimit.truncated")} for info in infos]
        answers.append((observations, rewards, dones, ends, [info.get("episode", {}).get("r") for info in infos]))
    return answers


class LowPass(VecEnvWrapper):
    """A filter of a user, whose state is called like a buffer of SB3's."""

    def reset(self) -> Any:
        self._actions = self.actions = np.zeros((self.num_envs, 1))
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = self.actions = 0.5 * self._actions + 0.5 * actions
        self.venv.step_async(self._actions.astype(np.float32))

    def step_wait(self) -> Any:
        return self.venv.step_wait()


WRAPPERS: dict[str, Callable[[VecEnv], VecEnv]] = {
    "plain": lambda venv: venv,
    "normalised": VecNormalize,
    "checked": VecCheckNan,
    "filtered": LowPass,
}


@pytest.mark.parametrize("kind", [*WRAPPERS, "monitored"])
def test_a_restored_vec_env_goes_on(kind: str) -> None:
    def make() -> Any:
        if kind == "monitored":
            return VecMonitor(DummyVecEnv([lambda: gym.make("InvertedPendulum-v5")] * 3))
        return WRAPPERS[kind](make_vec_env("InvertedPendulum-v5", 3))

    venv, other = make(), make()
    venv.seed(4)
    venv.reset()
    venv_steps(venv, 20)
    state = vec_env_state(venv)
    assert boundary_reasons(state) == []
    assert restore_vec_env(other, state) is None
    assert_equal(venv_steps(other, 40), venv_steps(venv, 40))


def test_another_number_of_envs_is_refused() -> None:
    with pytest.raises(ValueError, match=r"DummyVecEnv with 1 envs is not allowed.*DummyVecEnv with 2 envs"):
        restore_vec_env(make_vec_env("Pendulum-v1", 1), vec_env_state(make_vec_env("Pendulum-v1", 2)))
    normalised = vec_env_state(VecNormalize(make_vec_env("Pendulum-v1", 2)))
    with pytest.raises(ValueError, match=r"allowed: as the run had it, VecNormalize\(DummyVecEnv\) with 2 envs"):
        restore_vec_env(make_vec_env("Pendulum-v1", 2), normalised)
