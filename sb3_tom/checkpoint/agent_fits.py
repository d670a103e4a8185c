"""
Checks that a checkpoint fits an agent, before its numbers are read and before the agent changes: the same names, shapes and
types. PyTorch does not check the shapes of an optimiser's state, which its kernels rely on.
"""

from collections import deque
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.save_util import recursive_getattr
from torch import nn

from sb3_tom.checkpoint.codec import shown
from sb3_tom.checkpoint.fits import NUMBERS, check_array, check_form, check_names, fits, is_same, outline_of
from sb3_tom.checks.validation import check_integer, check_number
from sb3_tom.contracts.plug import growing_of, rows_fit

_OF_SB3 = ("num_timesteps", "_total_timesteps", "_num_timesteps_at_start", "_episode_num", "_n_updates", "_stats_window_size")
_OF_MBPO = ("policy_version", "_env_steps", "_since_phase", "_since_rollouts")
COUNTS = (*_OF_SB3, *_OF_MBPO)
"""Attributes that are non-negative integers."""

_FIXED = ("params", "amsgrad", "maximize", "nesterov", "differentiable", "capturable", "decoupled_weight_decay")
"""Options of an optimiser that determine its state and its steps: they have to equal the agent's."""

_KERNELS = ("fused", "foreach")
"""Options that choose a kernel for the same step: they may differ between machines; at most one is set."""


def check_parameters(agent: Any, saved: Mapping[str, Any]) -> None:
    """
    Check that networks and optimisers are those of the agent.

    :param agent: constructed with the run's arguments
    :param saved: result of ``get_parameters``, or its outline
    :raises ValueError: naming what differs
    """
    try:
        check_names("the part", saved, agent._get_torch_save_params()[0])
        for name, state in saved.items():
            part = recursive_getattr(agent, name)
            if isinstance(part, th.optim.Optimizer):
                _check_optimizer(name, state, part)
            else:
                _check_module(name, state, part)
    except ValueError as error:
        raise ValueError(f"the agent's networks are not those of the run: {error}") from error


def _check_module(place: str, saved: Any, module: nn.Module) -> None:
    own, growing = module.state_dict(), growing_of(module)
    check_form(saved, {}, place)
    if set(saved) != set(own):
        raise ValueError(f"{place} has {sorted(map(str, set(saved) ^ set(own)))} or has not")
    for name, value in own.items():
        if isinstance(value, th.Tensor):
            _check_tensor(f"{place}.{name}", saved[name], value, name in growing)


def _check_tensor(place: str, saved: Any, own: th.Tensor, any_number: bool = False) -> None:
    """Check type and shape; with ``any_number`` the number of rows may differ, and their size where it is not known yet."""
    same = isinstance(saved, th.Tensor) and saved.dtype == own.dtype
    if not same or not (rows_fit(saved, own) if any_number else saved.shape == own.shape):
        raise ValueError(f"{place} is {outline_of(saved)}; allowed: {outline_of(own)}")


def _check_optimizer(place: str, saved: Any, optimizer: th.optim.Optimizer) -> None:
    check_form(saved, {"state": dict, "param_groups": list}, place)
    own = optimizer.state_dict()["param_groups"]
    if len(own) != len(saved["param_groups"]):
        raise ValueError(f"{place} has {len(saved['param_groups'])} groups; allowed: {len(own)}")
    for group, own_group in zip(saved["param_groups"], own, strict=True):
        _check_options(place, group, own_group)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, state in saved["state"].items():
        if type(index) is not int or not 0 <= index < len(parameters):
            raise ValueError(f"{place} has a state of parameter {shown(index)}; allowed: those of its {len(parameters)}")
        _check_moments(f"{place} of parameter {index}", state, parameters[index], optimizer)


def _check_options(place: str, saved: Any, own: Mapping[str, Any]) -> None:
    check_form(saved, {"params": list}, place)
    for name, value in saved.items():
        if not _is_option(name, value, own.get(name)):
            raise ValueError(f"{place} has the option {shown(name)}={shown(value)}; allowed: such as {shown(own.get(name))}")
    if all(saved.get(name) for name in _KERNELS):
        raise ValueError(f"{place} has more than one of the options {_KERNELS}")


def _is_option(name: Any, value: Any, own: Any) -> bool:
    """Whether a value is allowed for an option; options of other versions of PyTorch are numbers and have no effect."""
    if name in _FIXED and own is not None:
        return type(value) is type(own) and bool(value == own)
    if name in _KERNELS or isinstance(own, bool):
        return value is None or isinstance(value, bool)
    if isinstance(own, tuple):
        return isinstance(value, tuple) and len(value) == len(own) and all(isinstance(entry, NUMBERS) for entry in value)
    if isinstance(value, th.Tensor):  # a learning rate on the device
        return value.numel() == 1
    return isinstance(value, NUMBERS) or (value is None and own is None)


def _check_moments(place: str, saved: Any, parameter: th.Tensor, optimizer: th.optim.Optimizer) -> None:
    """Check an optimiser's state: Adam's moments have their parameter's size, since kernels write to them; others no more."""
    check_form(saved, {}, place)
    is_adam = isinstance(optimizer, th.optim.Adam)
    if is_adam and not {"step", "exp_avg", "exp_avg_sq"} <= set(saved):
        raise ValueError(f"{place} has {sorted(map(str, saved))}; allowed: step, exp_avg and exp_avg_sq")
    for name, value in saved.items():
        if is_adam and name != "step":
            _check_tensor(f"{place}.{name}", value, parameter)
        elif value is not None and not isinstance(value, NUMBERS):
            most = 1 if name == "step" else max(parameter.numel(), 1)
            if not isinstance(value, th.Tensor) or value.numel() > most:
                raise ValueError(f"{place} has {shown(name)}={outline_of(value)}; allowed: at most {most} numbers")


def check_variables(agent: Any, saved: Mapping[str, Any]) -> None:
    """
    Check that single tensors, such as the logarithm of the temperature, are those of the agent.

    :param agent: constructed with the run's arguments
    :param saved: by name
    :raises ValueError: naming what differs
    """
    names = agent._get_torch_save_params()[1]
    check_names("the variable", saved, names)
    for name in names:
        _check_tensor(name, saved[name], recursive_getattr(agent, name))


def check_attributes(agent: Any, saved: Mapping[str, Any], names: Collection[str]) -> None:
    """
    Check that attributes are data that a new agent has, with the same types.

    :param agent: constructed with the run's arguments
    :param saved: by name
    :param names: of the agent's attributes that hold data
    :raises ValueError: naming the attribute
    """
    check_names("the attribute", saved, names)
    for name, value in saved.items():
        if name in COUNTS:
            check_integer(name, value, 0)
        elif name in _CHECKS:
            _CHECKS[name](agent, name, value)
        elif not fits(value, getattr(agent, name)):
            raise ValueError(f"the attribute {name} is {outline_of(value)}; allowed: what {getattr(agent, name)!r} may become")


def _same(agent: Any, name: str, value: Any) -> None:
    if not is_same(value, getattr(agent, name)):
        raise ValueError(f"the agent has {name}={getattr(agent, name)}; allowed: the run's {shown(value)}")


def _progress(agent: Any, name: str, value: Any) -> None:
    check_number(name, value)


def _observations(agent: Any, name: str, value: Any) -> None:
    if value is not None:
        check_array(name, value, (agent.n_envs, *agent.observation_space.shape), "biuf")


def _flags(agent: Any, name: str, value: Any) -> None:
    if value is not None:
        check_array(name, value, (agent.n_envs,), "b")


def _episodes(agent: Any, name: str, value: Any) -> None:
    """Check returns and lengths of episodes, which SB3 averages."""
    entries = () if value is None else value
    whole = (value is None or isinstance(value, deque)) and all(
        isinstance(entry, dict) and isinstance(entry["r"], NUMBERS) and isinstance(entry["l"], NUMBERS) for entry in entries
    )
    if not whole:
        raise ValueError(f"{name} is {shown(value)}; allowed: returns and lengths of episodes")


def _successes(agent: Any, name: str, value: Any) -> None:
    entries = () if value is None else value
    if not (value is None or isinstance(value, deque)) or not all(
        isinstance(entry, (*NUMBERS, np.ndarray)) for entry in entries
    ):
        raise ValueError(f"{name} is {shown(value)}; allowed: numbers")


_CHECKS: dict[str, Any] = {
    "n_envs": _same,
    "_current_progress_remaining": _progress,
    "_last_obs": _observations,
    "_last_original_obs": _observations,
    "_last_episode_starts": _flags,
    "ep_info_buffer": _episodes,
    "ep_success_buffer": _successes,
}
"""Checks of attributes that are None in a new agent, or whose shape other code relies on."""
