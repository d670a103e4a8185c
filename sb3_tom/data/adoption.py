"""Checks and converts a replay buffer that another run has filled."""

import io
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
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


def adopt(loaded: ReplayBuffer, own: WeightedReplayBuffer, kwargs: Mapping[str, Any]) -> WeightedReplayBuffer:
    """
    Check a loaded replay buffer, and convert it if it is SB3's.

    :param loaded: a :class:`WeightedReplayBuffer` is used as it is, a plain SB3 buffer is converted
    :param own: the agent's, which is to be replaced
    :param kwargs: the agent's ``replay_buffer_kwargs``
    :raises ValueError: naming what differs from the agent, or wrong episode ends
    :raises DivergenceError: naming the array with unusable values
    """
    for name, found, expected in (
        ("observation_space", loaded.observation_space.shape, own.observation_space.shape),
        ("action_space", loaded.action_space, own.action_space),  # actions are stored scaled by its bounds
        ("n_envs", loaded.n_envs, own.n_envs),
    ):
        _check_same(name, found, expected)
    if isinstance(loaded, WeightedReplayBuffer):
        _check_same("replay_buffer_class", type(loaded).__name__, type(own).__name__)
        _check_same("n_start_observations", loaded.n_start_observations, own.n_start_observations)
    else:
        loaded = type(own).from_replay_buffer(loaded, **kwargs)
    for name in ("observations", "actions", "next_observations", "rewards"):
        check_rows(f"the replay buffer's array {name}", getattr(loaded, name)[: loaded.size()])
    largest = float(np.abs(loaded.actions[: loaded.size()]).max(initial=0.0))
    if largest > 1.0 + 1e-4:
        raise ValueError(
            f"the replay buffer's actions are up to {largest:g} and not allowed: a buffer of SB3 holds them in the policy's "
            "scale; allowed: [-1, 1], as agent.policy.scale_action(action) gives"
        )
    order = loaded.positions_oldest_first()
    check_stored_ends(loaded.observations[order], loaded.next_observations[order], loaded.dones[order])
    if loaded.device != own.device:
        loaded.forget_copies()
        loaded.device = own.device
    return loaded


def _check_same(name: str, found: object, expected: object) -> None:
    if found != expected:
        raise ValueError(f"the replay buffer's {name}={found} is not allowed; allowed: the agent's, {expected}")
