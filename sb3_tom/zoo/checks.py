"""Checks hyperparameters of a YAML file before the RL Zoo converts them. The agent checks the values of its arguments."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from sb3_tom.checks.validation import check_integer
from sb3_tom.contracts.plug import Plug
from sb3_tom.mbpo.axes import AXES

ZOO_KEYS = (
    "n_timesteps",
    "n_envs",
    "normalize",
    "env_wrapper",
    "vec_env_wrapper",
    "callback",
    "frame_stack",
    "monitor_kwargs",
    "env_kwargs",
    "noise_type",
    "noise_std",
)
"""Keys that the zoo removes before it calls the constructor."""

COMMAND_LINE_KEYS = ("self", "env", "tensorboard_log", "seed", "verbose", "device", "_init_setup_model")
"""Parameters of the constructor that the zoo sets itself."""

REQUIRED = ("n_timesteps", "policy")
COUNTS = ("n_timesteps", "n_envs")
TEXT = ("env_wrapper", "vec_env_wrapper", "callback", "monitor_kwargs", "env_kwargs", "normalize")
"""Keys in which a string like "4" may be intended; one like "3e-4" is not."""

EVALUATED = ("policy_kwargs", "replay_buffer_class", "replay_buffer_kwargs", "monitor_kwargs", "normalize")
"""Keys whose strings the zoo evaluates as Python."""

IMPORTED = ("env_wrapper", "vec_env_wrapper", "callback")
"""Keys whose strings the zoo imports: a class or a list; each class may be a mapping to its arguments."""

PLUG_KWARGS = frozenset(axis.kwargs_argument for axis in AXES.values())
"""Constructor arguments with the keyword arguments of plugs."""

MAPPINGS: dict[str, Any] = {
    "env_kwargs": Mapping,
    "monitor_kwargs": Mapping | str,
    **dict.fromkeys(PLUG_KWARGS, Mapping | None),
}
"""Keys that are unpacked as arguments; the zoo evaluates strings of those in :data:`EVALUATED` only."""

NOISE = ("normal", "ornstein-uhlenbeck")


class HyperparameterError(ValueError):
    """A bad hyperparameter; the message names file, env, key, what came and what is allowed."""


def check_hyperparams(hyperparams: Any, algorithm: type, place: Callable[[str], str]) -> None:
    """
    Refuse unknown and missing keys, numbers that YAML 1.1 reads as strings (``3e-4``), and values that the zoo cannot convert.

    :param hyperparams: read by the zoo, not yet converted
    :param algorithm: class that they are for
    :param place: returns the file and the env of a key, for the message
    :raises HyperparameterError: naming file, env, key, what came and what is allowed
    """
    if not isinstance(hyperparams, Mapping):
        raise HyperparameterError(f"{place('')}: {hyperparams!r} is not allowed; allowed: a mapping of hyperparameters")
    allowed = _allowed(algorithm)
    for key in REQUIRED:
        if key not in hyperparams:
            raise HyperparameterError(f"{place(key)}: the key {key} is missing")
    for key, value in hyperparams.items():
        try:
            if allowed is not None and key not in allowed:
                raise ValueError(_unknown(key, value, allowed))
            _check_value(key, value)
            _check_conversion(key, value)
        except ValueError as error:
            raise HyperparameterError(f"{place(key)}: {error}") from None


def _allowed(algorithm: type) -> set[str] | None:
    """Keys of the zoo and of the constructor; None if the constructor takes any."""
    parameters = inspect.signature(algorithm).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    return {*ZOO_KEYS, *parameters} - {*COMMAND_LINE_KEYS}


def _unknown(key: Any, value: Any, allowed: set[str]) -> str:
    if key in COMMAND_LINE_KEYS:
        return f"the key {key}={value!r} is not allowed: the zoo takes it from the command line"
    close = get_close_matches(str(key), sorted(allowed), n=1)
    meant = f"did you mean {close[0]}? " if close else ""
    return f"the key {key}={value!r} is unknown; {meant}allowed: {sorted(allowed)}"


def _check_value(key: str, value: Any) -> None:
    for path, text in _strings(key, value):
        if _is_number(text) and (key not in TEXT or "e" in text.lower()):
            raise ValueError(
                f"{path}={text!r} is a string, since YAML reads a number without a point or a sign of its exponent so; "
                f"allowed: {path}: !!float {text}"
            )
    if key in COUNTS:
        check_integer(key, value, 1)
    if key == "learning_rate" and isinstance(value, str):
        kind, _, start = value.partition("_")
        if kind != "lin" or not _is_number(start):
            raise ValueError(f"learning_rate={value!r} is not allowed; allowed: a number, or 'lin_' and a number")


def _check_conversion(key: str, value: Any) -> None:
    """Refuse values that the zoo could not convert, since its errors name no key."""
    if key in EVALUATED and isinstance(value, str):
        _check_python(key, value)
    if key in IMPORTED:
        for entry in value if isinstance(value, list) else [value]:
            _check_import(key, next(iter(entry), None) if isinstance(entry, Mapping) else entry)
    if key == "policy":
        _check_policy(value)
    if isinstance(value, Plug):
        raise ValueError(
            f"{key}=a {type(value).__name__} is not allowed: the zoo saves hyperparameters as YAML; "
            f"allowed: a name or 'package.module:Class', and {key}_kwargs"
        )
    if key in MAPPINGS and not isinstance(value, MAPPINGS[key]):
        raise ValueError(f"{key}={value!r} is not allowed; allowed: a mapping")
    if key == "noise_type" and value is not None and not any(name in str(value) for name in NOISE):
        raise ValueError(f"noise_type={value!r} is not allowed; allowed: one of {list(NOISE)}, with noise_std")


def _check_python(key: str, text: str) -> None:
    from rl_zoo3 import exp_manager

    allowed = "a class" if key == "replay_buffer_class" else "a mapping, or a string like 'dict(a=1)'"
    try:
        value = eval(text, dict(vars(exp_manager)))  # as the zoo itself is about to do, with the names of this module
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{key}={text!r} cannot be evaluated: {reason}; allowed: {allowed}") from None
    if not isinstance(value, type if key == "replay_buffer_class" else Mapping):
        raise ValueError(f"{key}={text!r} is not allowed; allowed: {allowed}")


def _check_policy(value: Any) -> None:
    if isinstance(value, str) and "." in value:
        _check_import("policy", value)
    elif not isinstance(value, str | type):
        raise ValueError(f"policy={value!r} is not allowed; allowed: 'MlpPolicy', or the path of a class")


def _check_import(key: str, value: Any) -> None:
    """Check that a class can be imported; other values are classes or instances from Python files of hyperparameters."""
    if not isinstance(value, str):
        return
    module, _, name = value.rpartition(".")
    try:
        getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        allowed = "the path of a class, such as package.module.Class"
        raise ValueError(f"{key}={value!r} cannot be imported: {error}; allowed: {allowed}") from None


def _strings(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """All strings in nested lists and mappings, each with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _strings(f"{path}.{key}", entry)
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            yield from _strings(f"{path}[{index}]", entry)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
