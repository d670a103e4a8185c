"""The state of SB3's replay buffer and its subclasses: filled rows only."""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer

from sb3_tom.checkpoint.codec import is_plain
from sb3_tom.data.replay_buffer import WeightedReplayBuffer

State = dict[str, Any]


def replay_state(buffer: ReplayBuffer) -> State:
    """
    Rows ``[size, n_envs, ...]`` of every public array that has one row per position, and all other plain attributes.

    :param buffer: its arrays are referred to, not copied
    :raises ValueError: naming an attribute that is nothing of this kind
    """
    shape = (buffer.buffer_size, buffer.n_envs)
    rows: State = {}
    others: State = {}
    for name, value in vars(buffer).items():
        if not name.startswith("_") and isinstance(value, np.ndarray) and value.shape[:2] == shape:
            rows[name] = value[: buffer.size()]
        elif is_plain(value):
            others[name] = value
        elif not isinstance(value, spaces.Space | th.device | type):
            raise ValueError(
                f"the replay buffer's attribute {name} is a {type(value).__qualname__}: no checkpoint can hold it"
            )
    others.pop("device", None)
    return {"class": type(buffer).__qualname__, "rows": rows, "others": others}


def restore_replay(buffer: ReplayBuffer, state: State) -> None:
    """
    Fill a buffer that was made with the same arguments.

    :param buffer: changes
    :param state: from :func:`replay_state`
    :raises ValueError: if the buffer is of another size or kind
    """
    saved, rows = state["others"], state["rows"]
    for name in ("n_envs", "buffer_size", "obs_shape", "action_dim"):
        if getattr(buffer, name) != saved[name]:
            raise ValueError(f"the agent's replay buffer has {name}={getattr(buffer, name)}; allowed: the run's {saved[name]}")
    if type(buffer).__qualname__ != state["class"]:
        raise ValueError(
            f"replay_buffer_class={type(buffer).__qualname__} is not allowed; allowed: the run's {state['class']}"
        )
    for name, value in rows.items():
        getattr(buffer, name)[: len(value)] = value
    for name, value in saved.items():
        setattr(buffer, name, value)
    if isinstance(buffer, WeightedReplayBuffer):
        buffer.forget_copies()
