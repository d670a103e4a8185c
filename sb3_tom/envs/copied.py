"""A wrapper that copies observations: many simulators write all of them into one array."""

from typing import Any

import gymnasium as gym
import numpy as np


class CopiedObservations(gym.Wrapper[Any, Any, Any, Any]):
    """
    Returns copies of the observations. SB3 keeps the last observation of an episode, then resets the env; an env that writes
    into one array turns it into the first of the next episode (Gymnasium issue 1132). The agent wraps a single env by itself;
    in a ``VecEnv`` the user has to wrap each such env.

    :param env: any environment with array observations
    """

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the env and copy its observation."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return np.array(observation), reward, terminated, truncated, info


def with_copied_observations(env: Any) -> Any:
    """
    Wrap an environment in :class:`CopiedObservations`.

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
