"""Evaluation changes nothing but its result."""

import random
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th

from sb3_tom.callbacks.evaluation import evaluate, preserved_random_state


class NoisyPolicy:
    """Draws from all global random streams, and its actions depend on the row's observation only."""

    def predict(self, observation: np.ndarray, deterministic: bool = False, **_: Any) -> tuple[np.ndarray, None]:
        random.random(), np.random.rand(), th.rand(1)
        assert deterministic
        return 3.0 * np.sin(40.0 * observation[:, :1]).astype(np.float32), None


def make_envs(count: int) -> list[gym.Env]:
    return [gym.make("InvertedPendulum-v5") for _ in range(count)]


def played_alone(seed: int) -> tuple[float, int]:
    """Return and length of one episode, by the plainest loop."""
    env, total, length, done = make_envs(1)[0], 0.0, 0, False
    observation, _ = env.reset(seed=seed)
    while not done:
        action, _ = NoisyPolicy().predict(observation[None], deterministic=True)
        observation, reward, terminated, truncated, _ = env.step(action[0])
        total, length, done = total + float(reward), length + 1, terminated or truncated
    return total, length


@pytest.mark.parametrize("n_envs", [1, 3, 7, 10])
def test_same_as_one_episode_after_the_other(n_envs: int) -> None:
    expected = [played_alone(50 + episode) for episode in range(7)]
    assert len({length for _, length in expected}) > 1, "episodes of one length would not test the waiting"
    result = evaluate(NoisyPolicy(), make_envs(n_envs), n_episodes=7, seed=50)
    assert list(zip(result.returns.tolist(), result.lengths.tolist(), strict=True)) == expected


def test_one_environment_for_two_episodes_is_refused() -> None:
    (env,) = make_envs(1)
    for same in ([env, env], [env, env.unwrapped]):
        with pytest.raises(ValueError, match=r"^envs: the same environment came twice"):
            evaluate(NoisyPolicy(), same, n_episodes=2)
    assert evaluate(NoisyPolicy(), [env, env], n_episodes=1, seed=50).lengths.tolist() == [played_alone(50)[1]]


def test_random_streams_are_restored() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(th.rand(1))

    with preserved_random_state():
        expected = draw()
    evaluate(NoisyPolicy(), make_envs(2), n_episodes=2)
    assert draw() == expected
    with pytest.raises(RuntimeError), preserved_random_state():
        expected = draw()
        raise RuntimeError
    assert draw() == expected, "restored after an error too"
