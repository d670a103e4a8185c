"""A minimal task of your own: a cart that is to stand still."""

from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_tom import DHMBPO


class Cart(gym.Env[np.ndarray, np.ndarray]):
    """Observes position and speed; actions push; the reward is lower away from 0 and for moving."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gym.spaces.Box(-1.0, 1.0, (1,))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Reset to a random position and speed."""
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-1.0, 1.0, 2)
        return self.state.astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Simulate a tenth of a second."""
        self.state = self.state + 0.1 * np.array([self.state[1], action[0]])
        return self.state.astype(np.float32), -float(self.state @ self.state), False, False, {}


agent = DHMBPO("MlpPolicy", gym.wrappers.TimeLimit(Cart(), 100), learning_starts=300, seed=0)
print(evaluate_policy(agent, agent.get_env()))
agent.learn(1_000)
print(evaluate_policy(agent, agent.get_env()))
