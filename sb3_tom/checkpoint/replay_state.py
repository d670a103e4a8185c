"""The state of SB3's replay buffer and its subclasses: filled rows only."""

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer

from sb3_tom.checkpoint.codec import State, is_plain, shown
from sb3_tom.checkpoint.fits import check_array, check_form, check_names, fits, is_same, outline_of
from sb3_tom.checkpoint.reading import LARGEST_REST
from sb3_tom.checks.validation import check_bool, check_integer
from sb3_tom.data.replay_buffer import WeightedReplayBuffer

_MAY_BE_NONE = ("_expected_observations",)


def replay_state(buffer: ReplayBuffer) -> State:
    """
    Rows ``[size, n_envs, ...]`` of every public array that has one row per position, and all other plain attributes.

    :param buffer: its arrays are not copied
    :raises ValueError: naming an attribute that cannot be saved
    """
    rows = {name: value[: buffer.size()] for name, value in _arrays(buffer).items()}
    others: State = {}
    for name, value in vars(buffer).items():
        if name in rows:
            continue
        if is_plain(value):
            others[name] = value
        elif not isinstance(value, spaces.Space | th.device | type):
            raise ValueError(
                f"the replay buffer's attribute {name} is a {type(value).__qualname__}: no checkpoint can hold it"
            )
    others.pop("device", None)
    return {"class": type(buffer).__qualname__, "rows": rows, "others": others}


def _arrays(buffer: ReplayBuffer) -> dict[str, np.ndarray]:
    """Public arrays with one row per position, ``[buffer_size, n_envs, ...]``."""
    shape = (buffer.buffer_size, buffer.n_envs)
    return {
        name: value
        for name, value in vars(buffer).items()
        if not name.startswith("_") and isinstance(value, np.ndarray) and value.shape[:2] == shape
    }


def check_replay(buffer: ReplayBuffer, state: State) -> None:
    """
    Check that a state fits a buffer.

    :param buffer: made with the same arguments
    :param state: from :func:`replay_state`, or its outline
    :raises ValueError: if the buffer has another size or class, or the state is malformed
    """
    check_form(state, {"class": str, "rows": dict, "others": dict}, "the replay buffer")
    saved = state["others"]
    for name in ("n_envs", "buffer_size", "obs_shape", "action_dim", "optimize_memory_usage", "handle_timeout_termination"):
        if not is_same(saved[name], getattr(buffer, name)):
            raise ValueError(
                f"the agent's replay buffer has {name}={getattr(buffer, name)}; allowed: the run's {shown(saved[name])}"
            )
    if type(buffer).__qualname__ != state["class"]:
        raise ValueError(
            f"replay_buffer_class={type(buffer).__qualname__} is not allowed; allowed: the run's {shown(state['class'])}"
        )
    _check_rows(buffer, state["rows"], saved)
    _check_others(buffer, saved)


def check_room(inflated: int, buffer: ReplayBuffer) -> None:
    """
    Check that compressed arrays are not larger than an agent's can be.

    :param inflated: their uncompressed size in bytes
    :param buffer: the agent's
    :raises ValueError: if they are larger
    """
    most = LARGEST_REST + sum(array.nbytes for array in _arrays(buffer).values())
    if inflated > most:
        raise ValueError(f"its compressed arrays have {inflated:.3g} bytes; allowed with this replay buffer: {most:.3g}")


def _check_rows(buffer: ReplayBuffer, rows: State, saved: State) -> None:
    arrays = _arrays(buffer)
    check_names("the replay buffer's array", rows, arrays)
    position, full = check_integer("pos", saved["pos"], 0, buffer.buffer_size - 1), check_bool("full", saved["full"])
    size = buffer.buffer_size if full else position
    for name, own in arrays.items():
        if outline_of(rows[name]) != outline_of(own[:size]):
            raise ValueError(f"the replay buffer's {name} are {outline_of(rows[name])}; allowed: {outline_of(own[:size])}")


def _check_others(buffer: ReplayBuffer, saved: State) -> None:
    arrays = _arrays(buffer)
    own = {name: value for name, value in vars(buffer).items() if name not in arrays and is_plain(value)}
    check_names("the replay buffer's attribute", saved, own)
    for name, value in saved.items():
        has_form = outline_of(value) == outline_of(own[name]) or not isinstance(own[name], np.ndarray)
        if not fits(value, own[name]) or (not has_form and name not in _MAY_BE_NONE):
            raise ValueError(f"the replay buffer's {name} is {outline_of(value)}; allowed: {outline_of(own[name])}")
    if isinstance(buffer, WeightedReplayBuffer):
        for name in ("policy_version", "_n_starts", "_n_added"):
            check_integer(name, saved[name], 0)
        if saved["_rule_began"] is not None:
            check_integer("_rule_began", saved["_rule_began"], 0)
        if saved["_expected_observations"] is not None:
            check_array("_expected_observations", saved["_expected_observations"], (buffer.n_envs, *buffer.obs_shape), "f")


def restore_replay(buffer: ReplayBuffer, state: State) -> None:
    """
    Fill a buffer that was made with the same arguments.

    :param buffer: changed
    :param state: from :func:`replay_state`
    :raises ValueError: see :func:`check_replay`
    """
    check_replay(buffer, state)
    for name, value in state["rows"].items():
        getattr(buffer, name)[: len(value)] = value
    for name, value in state["others"].items():
        setattr(buffer, name, value)
    if isinstance(buffer, WeightedReplayBuffer):
        buffer.forget_copies()
