"""The state of an agent between two collections of transitions, apart from its env, its random streams and its clock."""

import warnings
from collections.abc import Iterable
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.save_util import recursive_getattr
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from sb3_tom.checkpoint.agent_fits import check_attributes, check_parameters, check_variables
from sb3_tom.checkpoint.alignment import LINE, align, alignments
from sb3_tom.checkpoint.attributes import argument_names
from sb3_tom.checkpoint.codec import State, is_plain
from sb3_tom.checkpoint.fits import check_form, check_names, data_of
from sb3_tom.checkpoint.replay_state import check_replay, replay_state, restore_replay
from sb3_tom.checks.validation import check_integer
from sb3_tom.old_names import upgrade_state

_FORM: dict[str, type] = {
    **dict.fromkeys(("parameters", "variables", "replay_buffer", "objects", "attributes"), dict),
    "alignments": list,
}

ALIASES = ("batch_norm_stats", "batch_norm_stats_target")
"""SB3's lists of tensors that belong to the critics."""

_ELSEWHERE = ("env", "_vec_normalize_env", "_logger", "_custom_logger", "generator", "start_time", "_plug_specs", "_saved_by")
_NOT_OF_THE_RUN = ("plugs", "guard", "checkpointer", "termination_rule")
HANDLED = (*_ELSEWHERE, *_NOT_OF_THE_RUN)
"""Attributes that are saved elsewhere, or do not belong to the run: the termination rule is the env's."""


def agent_state(agent: Any) -> State:
    """
    Networks, optimisers and plugs by their ``state_dict``, the temperature, the buffers, objects with a ``state_dict``, and
    every plain attribute that is not an argument of the constructor.

    :param agent: SB3's, an MBPO or another off-policy one
    :return: values that refer to the agent's memory: write them before training continues
    :raises ValueError: naming an attribute that may hold state but has no ``state_dict``
    """
    _, variables = agent._get_torch_save_params()
    attributes: State = {}
    objects: State = {}
    for name, value in _own_attributes(agent):
        if _keeps_state(value):
            objects[name] = value.state_dict()
        elif is_plain(value):
            attributes[name] = value
        elif not _is_rebuilt(value):
            raise ValueError(
                f"the agent's attribute {name} is a {type(value).__qualname__}, which a checkpoint cannot hold; "
                "allowed: plain values, and objects with state_dict and load_state_dict"
            )
    return {
        "parameters": agent.get_parameters(),
        "alignments": alignments(_modules(agent)),
        "variables": {name: recursive_getattr(agent, name) for name in variables},
        "replay_buffer": replay_state(agent.replay_buffer),
        "objects": objects,
        "attributes": attributes,
    }


def _modules(agent: Any) -> list[nn.Module]:
    parts = (recursive_getattr(agent, name) for name in agent._get_torch_save_params()[0])
    return [part for part in parts if isinstance(part, nn.Module)]


def _own_attributes(agent: Any) -> Iterable[tuple[str, Any]]:
    """Attributes that are neither arguments of the constructor nor saved in another way."""
    state_names, variables = agent._get_torch_save_params()
    skipped = {*argument_names(type(agent)), *state_names, *variables, *ALIASES, *HANDLED, "replay_buffer"}
    return ((name, value) for name, value in vars(agent).items() if name not in skipped)


def _keeps_state(value: Any) -> bool:
    """Whether a value has a state to save; networks and optimisers do not count, ``get_parameters`` returns them."""
    if isinstance(value, nn.Module | th.optim.Optimizer | type):
        return False
    return hasattr(value, "state_dict") and hasattr(value, "load_state_dict")


def _is_rebuilt(value: Any) -> bool:
    """Whether constructor, ``set_env`` or ``learn`` make the value again; schedules are functions of the env step."""
    made = (nn.Module, th.optim.Optimizer, spaces.Space, VecEnv, Logger, ReplayBuffer, ActionNoise, th.device, type)
    return isinstance(value, made) or callable(value)


def check_agent(agent: Any, state: State) -> None:
    """
    Check that a state fits an agent, without changing the agent.

    :param agent: constructed with the run's arguments
    :param state: from :func:`agent_state`, or its outline; an old one is updated
    :raises ValueError: naming what does not fit
    """
    check_form(state, _FORM, "the agent's state")
    if hasattr(agent, "_env_steps"):  # an agent of this package
        upgrade_state(state)
    for name in HANDLED:  # present in older files
        state["attributes"].pop(name, None)
    check_parameters(agent, state["parameters"])
    for offset in state["alignments"]:
        check_integer("the place of a parameter", offset, -1, LINE - 1)
    check_variables(agent, state["variables"])
    check_replay(agent.replay_buffer, state["replay_buffer"])
    own = dict(_own_attributes(agent))
    objects = {name for name, value in own.items() if _keeps_state(value)}
    check_names("the object", state["objects"], objects)
    for name, value in state["objects"].items():
        check_form(value, {}, name)
    data = {name for name, value in own.items() if name not in objects and is_plain(value)}
    strangers = _strangers(agent, state)
    for name in strangers:
        data_of(agent, name)
    check_attributes(agent, {name: value for name, value in state["attributes"].items() if name not in strangers}, data)


def _strangers(agent: Any, state: State) -> list[str]:
    """Names of attributes that the run's agent got after its construction."""
    return [name for name in state["attributes"] if name not in vars(agent)]


def restore_agent(agent: Any, state: State) -> None:
    """
    The inverse of :func:`agent_state`, into an agent that was constructed with the same arguments.

    :param agent: changed
    :param state: from :func:`agent_state`
    :raises ValueError: if the state does not fit the agent
    """
    check_agent(agent, state)
    for name in _strangers(agent, state):
        del state["attributes"][name]
        warnings.warn(
            f"The attribute {name} of the run's agent is none that the constructor makes: it is not restored. Make it "
            "there, or keep it in a callback.",
            stacklevel=2,
        )
    try:
        agent.set_parameters(state["parameters"], exact_match=True, device=agent.device)
    except (RuntimeError, ValueError, KeyError) as error:
        raise ValueError(f"the agent's networks are not those of the run: {error}") from error
    align(_modules(agent), state["alignments"])
    with th.no_grad():
        for name, value in state["variables"].items():
            recursive_getattr(agent, name).copy_(value)
    restore_replay(agent.replay_buffer, state["replay_buffer"])
    for name, value in state["objects"].items():
        getattr(agent, name).load_state_dict(value)
    for name, value in state["attributes"].items():
        setattr(agent, name, value)
