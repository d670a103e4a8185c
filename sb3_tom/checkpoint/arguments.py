"""What an agent was constructed with, as plain values: to check a checkpoint against an agent, or to make one of it."""

import inspect
from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.type_aliases import TrainFreq

from sb3_tom.data.replay_buffer import WeightedReplayBuffer

NOT_KEPT = frozenset({"env", "device", "_init_setup_model"})
"""Arguments that belong to a process, not to a run."""

SEED = "seed"
"""Has done its work when a run goes on: its random streams are restored. The agent takes over the run's."""

FREE = frozenset({SEED, "verbose", "tensorboard_log", "stats_window_size"})
"""Arguments that may be others in an agent that goes on with a run."""


def constructor_arguments(agent: Any) -> tuple[dict[str, Any], list[str]]:
    """
    Arguments that made an agent.

    :param agent: an MBPO
    :return: those that are None, booleans, numbers, strings, and lists and dictionaries of these; names of the others, which
        nobody can make from a file without running code
    """
    plain: dict[str, Any] = {}
    others: list[str] = []
    for name in inspect.signature(type(agent).__init__).parameters:
        if name in NOT_KEPT or not _has(agent, name):
            continue
        value = _argument(agent, name)
        if name in FREE or _is_json(value):
            plain[name] = _as_json(value)
        else:
            others.append(name)
    return plain, others


def different_arguments(saved: Mapping[str, Any], agent: Any) -> list[str]:
    """
    In words, the arguments of an agent that are not those of a saved one.

    :param saved: plain arguments from :func:`constructor_arguments`
    :param agent: the agent that is to go on with the run
    """
    own, _ = constructor_arguments(agent)
    names = [name for name in saved if name in own and name not in FREE and own[name] != saved[name]]
    return [f"{name}={own[name]!r} (the run has {saved[name]!r})" for name in names]


def _has(agent: Any, name: str) -> bool:
    return name == "policy" or name in _of_plugs(agent) or hasattr(agent, name)


def _of_plugs(agent: Any) -> Mapping[str, Any]:
    """Arguments that an agent with plugs keeps apart from what was made of them."""
    return agent.plug_arguments() if hasattr(agent, "plug_arguments") else {}


def _argument(agent: Any, name: str) -> Any:
    """The value of a constructor's parameter, as the user gave it where SB3 keeps that."""
    of_plugs = _of_plugs(agent)
    if name in of_plugs:
        return of_plugs[name]
    if name == "policy":
        aliases = {cls: alias for alias, cls in agent.policy_aliases.items()}
        return aliases.get(agent.policy_class, agent.policy_class)
    value = getattr(agent, name)
    if name == "replay_buffer_class" and value is WeightedReplayBuffer:
        return None
    if name == "policy_kwargs":
        return {key: entry for key, entry in value.items() if key != "use_sde"}  # SB3 adds it
    return (value.frequency, value.unit.value) if isinstance(value, TrainFreq) else value


def _is_json(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(type(key) is str and _is_json(entry) for key, entry in value.items())
    if isinstance(value, list | tuple):
        return all(_is_json(entry) for entry in value)
    if type(value) is str:
        return ":" not in value  # "package.module:name" would be imported
    return value is None or type(value) in (bool, int, float)


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_json(entry) for key, entry in value.items()}
    return [_as_json(entry) for entry in value] if isinstance(value, list | tuple) else value
