"""Checks and converts a replay buffer that another run has filled."""

import io
import os
import pathlib
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.save_util import load_from_pkl

from sb3_tom.checks.episode_ends import check_stored_ends
from sb3_tom.checks.guards import check_rows
from sb3_tom.data.replay_buffer import WeightedReplayBuffer


def buffer_of_file(path: str | pathlib.Path | io.BufferedIOBase, verbose: int = 0) -> ReplayBuffer:
    """
    Load a file of ``save_replay_buffer``. It is unpickled, which runs code in the file.

    :param path: pickle file
    :param verbose: as in SB3
    :raises ValueError: if it holds something else
    """
    loaded = load_from_pkl(path, verbose)
    if not isinstance(loaded, ReplayBuffer):
        name = os.fspath(path) if isinstance(path, str | os.PathLike) else path
        came = f"path={name!r} is not allowed: it holds a {type(loaded).__name__}"
        raise ValueError(f"{came}; allowed: a file of save_replay_buffer")
    if not hasattr(loaded, "handle_timeout_termination"):  # before SB3 2.1
        loaded.handle_timeout_termination, loaded.timeouts = False, np.zeros_like(loaded.dones)
    return loaded


def adopt(
    loaded: ReplayBuffer,
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    n_envs: int,
    device: th.device,
) -> WeightedReplayBuffer:
    """
    Check a loaded replay buffer, and convert it if it is SB3's.

    :param loaded: a :class:`WeightedReplayBuffer` is used as it is, a plain SB3 buffer is converted
    :param observation_space: of the agent
    :param action_space: of the agent
    :param n_envs: number of envs of the agent
    :param device: of the agent
    :raises ValueError: naming what differs from the agent, or wrong episode ends
    :raises DivergenceError: naming the array with unusable values
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
    order = loaded.positions_oldest_first()
    check_stored_ends(loaded.observations[order], loaded.next_observations[order], loaded.dones[order])
    loaded.device = device
    return loaded
