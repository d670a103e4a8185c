"""Nobody else moves the envs of an agent between two of its steps: the transition across the gap never occurred."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import SubprocVecEnv, VecNormalize

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
        assert isinstance(env.reset, CountedCalls) and env.reset.count == 2  # the test's, and that of the second learn
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
