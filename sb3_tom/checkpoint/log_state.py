"""Saves and restores the log of a run: the values that SB3's logger has not written yet, and its TensorBoard folder."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.logger import TensorBoardOutputFormat, configure
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.utils import configure_logger

from sb3_tom.checkpoint.codec import State, is_plain, shown
from sb3_tom.checkpoint.fits import NUMBERS, check_form, check_names

COLLECTED = ("name_to_value", "name_to_count", "name_to_excluded")
"""Attributes of SB3's logger with the values that it has collected since it last wrote."""

FOLDER, FIRST_FILE = "folder", "first_file"
"""Keys of the TensorBoard folder: its name without the path, and a digest that tells it from other folders of that name."""

_LOGGED = (*NUMBERS, str, tuple, np.ndarray, th.Tensor)
"""Types of the values that SB3's logger can write and a checkpoint hold; others are dropped."""

_FOLDER_NAME = re.compile(r"[^/\\:\0]+_\d+")


def log_state(agent: Any) -> State:
    """
    The log of an agent as plain values; empty if it has not logged yet.

    :param agent: an agent of SB3
    """
    if not hasattr(agent, "_logger"):
        return {}
    kept = _kept(agent.logger.name_to_value)
    state: State = {
        name: {key: value for key, value in getattr(agent.logger, name).items() if key in kept} for name in COLLECTED
    }
    folder = agent.logger.get_dir()
    is_own = folder is not None and not agent._custom_logger and agent.tensorboard_log is not None
    if is_own and any(isinstance(one, TensorBoardOutputFormat) for one in agent.logger.output_formats):
        state |= {FOLDER: Path(folder).name, FIRST_FILE: _first_file(Path(folder))}
    return state


def restore_log(agent: Any, state: State) -> None:
    """
    Restore the values that the logger had collected.

    :param agent: within ``learn``
    :param state: from :func:`log_state`
    :raises ValueError: if the state is malformed
    """
    collected = {name: values for name, values in state.items() if name not in (FOLDER, FIRST_FILE)}
    check_names("the log's", collected, COLLECTED)
    for name, values in collected.items():
        check_form(values, {}, name)
        if not all(isinstance(key, str) for key in values):
            raise ValueError(f"{name} holds {shown(values)}; allowed: values by name")
    kept = _kept(collected[COLLECTED[0]])
    for name, values in collected.items():
        current = getattr(agent.logger, name)
        current.clear()
        current.update({key: value for key, value in values.items() if key in kept})


def log_name_of(state: State) -> str | None:
    """
    The ``tb_log_name`` of a run.

    :param state: from :func:`log_state`
    :return: None if the run has no TensorBoard folder
    """
    name = state.get(FOLDER)
    return name.rpartition("_")[0] if isinstance(name, str) and _FOLDER_NAME.fullmatch(name) else None


def _kept(values: State) -> set[str]:
    """Names of what is kept: SB3's formats need each name in all dictionaries of the logger, or in none."""
    return {name for name, value in values.items() if isinstance(value, _LOGGED) and is_plain(value)}


@contextmanager
def continued_log(agent: OffPolicyAlgorithm, state: State) -> Iterator[None]:
    """
    Let ``learn`` write to the TensorBoard folder of the run if that is in ``tensorboard_log``, else to a new folder there. SB3
    would use the newest folder, even if it belongs to another run.

    :param agent: the agent, about to learn
    :param state: from :func:`log_state`; a name that SB3 gives no folder is ignored
    """
    name, place = log_name_of(state), agent.tensorboard_log
    if agent._custom_logger or place is None or name is None:
        yield
        return
    folder = Path(place) / state[FOLDER]
    if folder.is_dir() and state.get(FIRST_FILE) == _first_file(folder):
        agent.set_logger(configure(str(folder), [*(["stdout"] if agent.verbose else []), "tensorboard"]))
    else:
        agent.set_logger(configure_logger(agent.verbose, place, name))
    try:
        yield
    finally:
        agent._custom_logger = False


def _first_file(folder: Path) -> str:
    """
    Identifies a folder: a digest of the name of its oldest file (TensorBoard puts the name of the host in it). Empty if the
    folder was moved away meanwhile.
    """
    try:
        name = min((path.name for path in folder.iterdir()), default="")
    except OSError:
        return ""
    return hashlib.sha256(name.encode()).hexdigest()
