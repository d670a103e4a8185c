"""Checks and converts a replay buffer that another run has filled."""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer

from sb3_tom.checks.episode_ends import check_stored_ends
from sb3_tom.checks.guards import check_rows
from sb3_tom.data.replay_buffer import WeightedReplayBuffer


def adopted(
    loaded: ReplayBuffer,
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    n_envs: int,
    device: th.device,
) -> WeightedReplayBuffer:
    """
    Check a loaded replay buffer and convert it if need be.

    :param loaded: a :class:`WeightedReplayBuffer` is used as it is, a plain SB3 buffer is converted
    :param observation_space: the agent's
    :param action_space: the agent's
    :param n_envs: the agent's number of envs
    :param device: the agent's
    :raises ValueError: naming what differs from the agent's, or false episode ends; a DivergenceError for unusable rows
    """
    for name, found, expected in (
        ("observation_space", loaded.observation_space.shape, observation_space.shape),
        ("action_space", loaded.action_space, action_space),  # actions are stored scaled by its bounds
        ("n_envs", loaded.n_envs, n_envs),
    ):
        if found != expected:
            raise ValueError(f"the replay buffer's {name}={found} is not allowed; allowed: the agent's, {expected}")
    if not isinstance(loaded, WeightedReplayBuffer):
        loaded = WeightedReplayBuffer.from_replay_buffer(loaded)
    for name in ("observations", "actions", "next_observations", "rewards"):
        check_rows(f"the replay buffer's array {name}", getattr(loaded, name)[: loaded.size()])
    order = (loaded.pos - loaded.size() + np.arange(loaded.size())) % loaded.buffer_size
    check_stored_ends(loaded.observations[order], loaded.next_observations[order], loaded.dones[order])
    loaded.device = device
    return loaded
