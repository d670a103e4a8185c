"""
A custom environment, whose episodes end by a rule that MBPO does not know: it is learned from the real terminations.

A point mass on an unstable slope has to be held near the middle; the episode ends where it leaves [-1, 1].
"""

import argparse
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

from sb3_tom import MBPO
from sb3_tom.callbacks.evaluation import evaluate

STEP = 0.1
"""Seconds per step."""


class Slope(gym.Env[np.ndarray, np.ndarray]):
    """State: position and velocity. Action: force. The slope pushes the mass away from the middle."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), dtype=np.float32)
        self._state = np.zeros(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Reset to a position near the middle."""
        super().reset(seed=seed)
        self._state = self.np_random.uniform(-0.2, 0.2, 2)
        return self._state.astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Move the mass; the reward is high near the middle and for small forces."""
        position, velocity = self._state
        velocity = velocity + STEP * (2.0 * position + 2.0 * float(action[0]))
        position = position + STEP * velocity
        self._state = np.array([position, velocity])
        reward = 1.0 - position**2 - 0.1 * float(action[0]) ** 2
        terminated = abs(position) > 1.0
        return self._state.astype(np.float32), reward, bool(terminated), False, {}


def make_slope() -> gym.Env[np.ndarray, np.ndarray]:
    """The env with a limit of 100 steps; a time-out is not a termination."""
    return TimeLimit(Slope(), 100)


def agreement(agent: MBPO) -> tuple[float, float]:
    """
    How well the learned termination agrees with the env.

    :return: share of the states of a grid at which it agrees with the env; the same further than 0.05 from the border
    """
    position, velocity = (axis.reshape(-1, 1) for axis in np.meshgrid(np.linspace(-1.2, 1.2, 241), np.linspace(-1, 1, 21)))
    after = np.concatenate([position, velocity], axis=1).astype(np.float32)
    before = np.concatenate([position - STEP * velocity, velocity], axis=1).astype(np.float32)
    device = agent.device
    actions = th.zeros(len(after), 1, device=device)
    found = agent.termination(th.as_tensor(before, device=device), actions, th.as_tensor(after, device=device))
    agrees = found.cpu().numpy() == (np.abs(position) > 1.0)
    return float(agrees.mean()), float(agrees[np.abs(np.abs(position) - 1.0) > 0.05].mean())


def main() -> None:
    """Train, then compare the learned termination with the env's rule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    # termination_fn="auto", the default, knows the rules of MuJoCo tasks only; here it learns one.
    agent = MBPO("MlpPolicy", make_slope(), learning_starts=500, update_to_data_ratio=5.0, seed=arguments.seed, verbose=1)
    agent.learn(arguments.steps, log_interval=10)
    returns = evaluate(agent, [make_slope() for _ in range(10)]).returns
    everywhere, away = agreement(agent)
    print(f"Mean return of 10 episodes: {returns.mean():.1f} of at most 100")
    print(f"The learned termination agrees with the env at {everywhere:.1%} of a grid, {away:.1%} away from the border")


if __name__ == "__main__":
    main()
