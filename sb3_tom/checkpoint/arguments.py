"""Constructor arguments as plain values, to check a checkpoint against an agent or to make an agent of it."""

import inspect
import re
import warnings
from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import Any

from stable_baselines3.common.utils import ConstantSchedule

from sb3_tom.checkpoint.attributes import constructors
from sb3_tom.checkpoint.codec import shown
from sb3_tom.data.replay_buffer import WeightedReplayBuffer

NOT_KEPT = frozenset({"env", "device", "_init_setup_model"})
"""Arguments of a process, not of a run."""

SEED = "seed"
"""Not compared: random streams are restored. The agent gets the run's seed."""

LOGS = "tensorboard_log"
"""Where this process logs; the value in a file is used for a warning only."""

FREE = frozenset({SEED, "verbose", LOGS, "stats_window_size"})
"""Arguments that may differ in an agent that resumes a run."""

_NO_PLACE = re.compile(r"[^:/\\]*")
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_SIZES = re.compile(r"n_.*|.*(arch|sizes)")
"""Names of arguments that are sizes: a file with them holds at least as many numbers."""


def constructor_arguments(agent: Any) -> tuple[dict[str, Any], list[str]]:
    """
    Constructor arguments of an agent.

    :param agent: an MBPO
    :return: those that are None, booleans, numbers, words, and lists and dictionaries of these; names of the others, which
        could not be made from a file without running code, or are paths
    """
    plain: dict[str, Any] = {}
    others: list[str] = []
    for name, given in _given(agent).items():
        value = given.val if type(given) is ConstantSchedule else given  # the Zoo turns numbers into schedules
        if name in FREE or _is_json(value):
            plain[name] = _as_json(value)
        else:
            others.append(name)
    return plain, others


def different_arguments(saved: Mapping[str, Any], others: Collection[str], agent: Any) -> list[str]:
    """
    Descriptions of the arguments of an agent that differ from saved ones. Values that a checkpoint cannot hold, such as
    functions, are not compared with each other.

    :param saved: plain arguments from :func:`constructor_arguments`
    :param others: names of the saved arguments that are not plain, from the same function
    :param agent: the agent that is to resume the run
    """
    given = _given(agent)
    own, own_others = constructor_arguments(agent)
    others = [name for name in others if isinstance(name, str)]
    compared = {name: value for name, value in saved.items() if name in own and name not in FREE}
    different = [name for name, value in compared.items() if not _is_json(value) or own[name] != value]
    different += [name for name in saved if name in own_others]
    # Older checkpoints have a constant schedule among the others
    different += [name for name in others if name in own and not isinstance(given[name], ConstantSchedule)]
    had = {**dict.fromkeys(others, "what a checkpoint cannot hold"), **{name: shown(value) for name, value in saved.items()}}
    return [f"{name}={own.get(name, given[name])!r} (the run has {had[name]})" for name in different]


def arguments_of_file(
    cls: type, saved: Mapping[str, Any], given: Collection[str], others: Collection[str], elements: int
) -> dict[str, Any]:
    """
    Arguments of a file for making an agent. They are checked with the filter that they were written with, so that a file can
    name neither code nor paths, nor a network that is larger than its own contents.

    :param cls: class of the agent
    :param saved: from the file, which is not trusted
    :param given: names of arguments that the caller gives, which override the file's
    :param others: names of arguments that are not plain values, from the file
    :param elements: how many numbers the file holds
    :return: those that the caller does not give
    :raises ValueError: naming the argument, what came and what is allowed
    """
    missing = [name for name in others if not isinstance(name, str) or name not in given]
    if missing:
        names = ", ".join(map(str, missing))
        raise ValueError(f"resume needs {names}: a checkpoint holds no code; allowed: what the run was constructed with")
    known = [name for name in constructor_parameters(cls) if name not in NOT_KEPT]
    for name, value in saved.items():
        if name not in known:
            raise ValueError(f"the argument {shown(name)}={shown(value)} is none that a checkpoint of {cls.__name__} holds")
        if name not in given and name != LOGS and not _is_json(value):
            raise ValueError(
                f"{name}={shown(value)} is not allowed in a checkpoint, which holds no code and no places of a machine; "
                f"allowed: resume(..., {name}=what the run was constructed with)"
            )
        if name not in given:
            _check_sizes(name, value, elements)
    if saved.get(LOGS) is not None and LOGS not in given:
        warnings.warn(
            f"The run logged to TensorBoard, to {shown(saved[LOGS])}; a checkpoint does not say where this process writes: "
            f"resume(..., {LOGS}=...) goes on there, {LOGS}=None without a log and without this warning.",
            stacklevel=4,
        )
    return {name: value for name, value in saved.items() if name not in given and name != LOGS}


def constructor_parameters(cls: type) -> list[str]:
    """
    Names of the constructor's parameters, also of those that it passes on to a base class as ``**kwargs``.

    :param cls: any class
    """
    names: dict[str, None] = {}
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    for parameters in constructors(cls):
        names |= dict.fromkeys(parameter.name for parameter in parameters if parameter.kind in named)
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
            break
    return [*names]


def _check_sizes(name: str, value: Any, elements: int, is_size: bool = False) -> None:
    """Refuse sizes that the file cannot hold: N units or members have at least N parameters, two layers their product."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            _check_sizes(f"{name}[{key!r}]", entry, elements, is_size or bool(_SIZES.fullmatch(key)))
        return
    sizes = [size for size in (value if isinstance(value, list | tuple) else [value]) if type(size) is int]
    if is_size and max([*sizes, *(one * other for one, other in pairwise(sizes))], default=0) > elements:
        raise ValueError(
            f"{name}={shown(value)} is more than the {elements} numbers in the checkpoint; "
            "allowed: to give it again, resume(..., argument=...), if the run was constructed with it"
        )


def _given(agent: Any) -> dict[str, Any]:
    """The constructor's arguments, in its order, as the user gave them where the agent keeps that."""
    aliases = {cls: alias for alias, cls in agent.policy_aliases.items()}
    changed: dict[str, Any] = {
        "policy": aliases.get(agent.policy_class, agent.policy_class),
        "policy_kwargs": {key: entry for key, entry in agent.policy_kwargs.items() if key != "use_sde"},  # SB3 adds it
        "train_freq": (agent.train_freq.frequency, agent.train_freq.unit.value),
    }
    if agent.replay_buffer_class is WeightedReplayBuffer:
        changed["replay_buffer_class"] = None
    if hasattr(agent, "plug_arguments"):  # SB3's SAC has no plugs
        changed |= agent.plug_arguments()
    names = [name for name in constructor_parameters(type(agent)) if name not in NOT_KEPT]
    own = {name: getattr(agent, name) for name in names if hasattr(agent, name)} | changed
    return {name: own[name] for name in names if name in own}


def _is_json(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(type(key) is str and _is_json(entry) for key, entry in value.items())
    if isinstance(value, list | tuple):
        return all(_is_json(entry) for entry in value)
    if type(value) is str:  # "package.module:Name" would be imported, "folder/name" may be opened
        return bool(_NO_PLACE.fullmatch(value)) and not _DOTTED.fullmatch(value)
    return value is None or type(value) in (bool, int, float)


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_json(entry) for key, entry in value.items()}
    return [_as_json(entry) for entry in value] if isinstance(value, list | tuple) else value
