"""Saves and restores all streams of random numbers of a run, or only the global ones."""

import random
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces

from sb3_tom.checkpoint.attributes import generator_state, restore_generator
from sb3_tom.checkpoint.codec import State
from sb3_tom.checks.validation import check_integer


def global_streams() -> State:
    """States of the global streams of Python, numpy and torch, CUDA included."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (str(kind), np.array(keys), *rest),
        "torch": th.get_rng_state(),
        "cuda": th.cuda.get_rng_state_all() if th.cuda.is_available() else [],
    }


def restore_global_streams(state: State) -> None:
    """
    The inverse of :func:`global_streams`. CUDA streams are skipped if the number of devices differs.

    :param state: from :func:`global_streams` or :func:`random_state`
    """
    check_integer("the position of numpy's stream", state["numpy"][2], 0, len(state["numpy"][1]))  # numpy does not check it
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    th.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == th.cuda.device_count():
        th.cuda.set_rng_state_all(state["cuda"])


def random_state(agent: Any) -> State:
    """
    The global streams, those of the agent's spaces, and the agent's own generator.

    :param agent: with ``action_space`` and ``observation_space``, and a ``generator`` if it has one of its own
    """
    return {
        **global_streams(),
        "agent": agent.generator.get_state() if hasattr(agent, "generator") else None,
        "action_space": _space_state(agent.action_space),
        "observation_space": _space_state(agent.observation_space),
    }


def restore_random(agent: Any, state: State) -> None:
    """
    The inverse of :func:`random_state`. Streams that were saved on other devices are skipped.

    :param agent: its streams and the global ones are changed
    :param state: from :func:`random_state`
    """
    restore_global_streams(state)
    own = state["agent"]
    if own is not None and agent.generator.get_state().shape == own.shape:  # else it was saved on another kind of device
        agent.generator.set_state(own)
    _restore_space(agent.action_space, state["action_space"])
    _restore_space(agent.observation_space, state["observation_space"])


def _space_state(space: spaces.Space[Any]) -> State:
    # Reading np_random seeds a space that had no seed; this draws from no other stream
    return generator_state(space.np_random)


def _restore_space(space: spaces.Space[Any], state: State) -> None:
    space._np_random = restore_generator(space.np_random, state)
