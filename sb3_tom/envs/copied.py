"""Observations that stay what they were: many simulators write each into the same array."""

from typing import Any

import gymnasium as gym
import numpy as np


class CopiedObservations(gym.Wrapper[Any, Any, Any, Any]):
    """
    Hands copies of the observations on. SB3 keeps the last observation of an episode, then resets the env; an env that writes
    into one array turns it into the first of the next episode (Gymnasium issue 1132). The agent wraps a single env by itself;
    who makes a ``VecEnv`` of such envs wraps each.

    :param env: any environment with array observations
    """

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the env's, its observation copied."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return np.array(observation), reward, terminated, truncated, info


def copied(env: Any) -> Any:
    """
    An environment whose observations stay what they were.

    :param env: a single environment is wrapped, once; anything else is returned as it is
    """
    if not isinstance(env, gym.Env):
        return env
    layer = env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, CopiedObservations):
            return env
        layer = layer.env
    return CopiedObservations(env)
