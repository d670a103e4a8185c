"""Nobody else moves the envs of an agent between two of its steps: the transition across the gap never occurred."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import SubprocVecEnv, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvWrapper

from sb3_tom.envs.moves import CountedCalls
from tests.mbpo.small import small_agent
from tests.mbpo.test_interrupted import Counting

TINY: dict[str, Any] = {"learning_starts": 1000, "policy_kwargs": {"net_arch": [8]}, "rollout_batch_size": 20}


def by_the_vec_env(agent: Any, env: Any) -> None:
    evaluate_policy(agent, agent.get_env(), 1, warn=False)


def by_the_env_itself(agent: Any, env: Any) -> None:
    evaluate_policy(agent, env, 1, warn=False)


def by_hand(agent: Any, env: Any) -> None:
    agent.get_env().step(np.zeros((1, 1), np.float32))


@pytest.mark.parametrize("use", [by_the_vec_env, by_the_env_itself, by_hand])
def test_after_another_use_between_two_calls_there_are_new_episodes(use: Callable[[Any, Any], None]) -> None:
    env = gym.wrappers.TimeLimit(Counting(), 10)
    agent = small_agent(env, **TINY).learn(13)
    use(agent, env)
    agent.learn(20, reset_num_timesteps=False)
    rows = agent.replay_buffer.transitions()
    assert (rows.next_observations - rows.observations).unique(dim=0).tolist() == [[0.0, 1.0]]


def test_without_another_use_the_episode_goes_on() -> None:
    agent = small_agent(Counting(), **TINY).learn(13).learn(13, reset_num_timesteps=False)
    assert agent.replay_buffer.transitions().observations[13].tolist() == [1.0, 3.0]


def test_envs_of_other_processes_and_their_statistics() -> None:
    env = VecNormalize(make_vec_env("Pendulum-v1", 2, vec_env_cls=SubprocVecEnv))
    try:
        agent = small_agent(env, **TINY).learn(20)
        before = agent._last_obs
        env.reset()
        agent.learn(2, reset_num_timesteps=False)
        assert not np.array_equal(agent.replay_buffer.observations[10], before)
        assert isinstance(env.reset, CountedCalls) and env.reset.calls.number == 13  # the test's, and that of the second learn
    finally:
        env.close()


class Evaluates(BaseCallback):
    """Evaluates on the training env, and keeps it nowhere."""

    def __init__(self, method: str) -> None:
        super().__init__()
        setattr(self, method, lambda: self.evaluate())

    def evaluate(self) -> bool:
        if self.num_timesteps == 12:
            evaluate_policy(self.model, self.model.get_env(), 1, warn=False)  # type: ignore[arg-type]
        return True

    def _on_step(self) -> bool:
        return True


@pytest.mark.parametrize("method", ["_on_step", "_on_rollout_start", "_on_rollout_end"])
def test_a_callback_that_moves_them_is_refused(method: str) -> None:
    agent = small_agent(Counting(), **TINY)
    with pytest.raises(ValueError, match="a callback has stepped or reset the environment that the agent trains on"):
        agent.learn(30, callback=Evaluates(method))
    agent.learn(20, reset_num_timesteps=False)
    rows = agent.replay_buffer.transitions()
    assert (rows.next_observations - rows.observations).unique(dim=0).tolist() == [[0.0, 1.0]]
    assert bool(th.isfinite(rows.rewards).all())


class StepsItself(VecEnvWrapper):
    """Overrides ``step``, repeats actions, and resets within a step: legitimate, and one call of the agent."""

    def reset(self) -> Any:
        return self.venv.reset()

    def step(self, actions: np.ndarray) -> Any:
        for _ in range(2):
            self.venv.step_async(actions)
            result = self.venv.step_wait()
        return result

    def step_wait(self) -> Any:
        return self.venv.step_wait()


class ResetsWithin(StepsItself):
    """The same for a reset of all envs."""

    def step(self, actions: np.ndarray) -> Any:
        _, rewards, dones, infos = super().step(actions)
        return self.reset(), rewards, dones, infos


@pytest.mark.parametrize("kind", [StepsItself, ResetsWithin])
def test_envs_with_steps_of_their_own_are_allowed(kind: type[VecEnvWrapper]) -> None:
    small_agent(kind(make_vec_env("Pendulum-v1", 1)), **TINY).learn(30)


@pytest.mark.parametrize("inner", [False, True])
def test_a_callback_that_moves_a_layer_is_refused(inner: bool) -> None:
    env = VecNormalize(make_vec_env(Counting, 1))

    class Resets(BaseCallback):
        def _on_step(self) -> bool:
            (env.venv if inner else env).reset()
            return True

    with pytest.raises(ValueError, match="a callback has stepped or reset"):
        small_agent(env, **TINY).learn(30, callback=Resets())


def test_files_of_the_envs_are_as_ever(tmp_path: Path) -> None:
    env = VecNormalize(make_vec_env("Pendulum-v1", 1))
    small_agent(env, **TINY).learn(20)
    env.save(str(tmp_path / "statistics.pkl"))
    assert b"sb3_tom" not in (tmp_path / "statistics.pkl").read_bytes()
    loaded = VecNormalize.load(str(tmp_path / "statistics.pkl"), make_vec_env("Pendulum-v1", 1))
    assert loaded.reset().shape == (1, 3) and not isinstance(vars(loaded).get("reset"), CountedCalls)


def test_a_copy_of_an_agent_has_envs_of_its_own() -> None:
    agent = small_agent(**TINY).learn(20)
    copied = copy.deepcopy(agent)
    before = agent._last_obs.copy()  # type: ignore[union-attr]
    copied.learn(5, reset_num_timesteps=False)
    np.testing.assert_array_equal(copied.replay_buffer.next_observations[19], copied.replay_buffer.observations[20])
    assert np.array_equal(agent._last_obs, before)
    agent.learn(5, reset_num_timesteps=False)
    np.testing.assert_array_equal(agent.replay_buffer.next_observations[19], agent.replay_buffer.observations[20])


def test_a_run_that_is_saved_after_another_use_begins_new_episodes_too(tmp_path: Path) -> None:
    agent = small_agent(Counting(), **TINY).learn(13)
    evaluate_policy(agent, agent.get_env(), 1, warn=False)
    agent.save_checkpoint(tmp_path / "run.zip")
    resumed = small_agent(Counting(), **TINY)
    resumed.load_checkpoint(tmp_path / "run.zip")
    resumed.learn(20, reset_num_timesteps=False)
    rows = resumed.replay_buffer.transitions()
    assert (rows.next_observations - rows.observations).unique(dim=0).tolist() == [[0.0, 1.0]]


class OddData(Counting):
    """Its ``data.time`` is no number."""

    data = type("Data", (), {"time": np.zeros(3)})()


def test_data_of_an_env_may_be_anything() -> None:
    small_agent(OddData(), **TINY).learn(13).learn(5, reset_num_timesteps=False)
