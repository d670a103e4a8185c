"""Hyperparameters of a YAML file, checked before the RL Zoo converts them. The agent checks the values of its arguments."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from sb3_tom.common.validation import check_integer

OF_THE_ZOO = (
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
"""Keys that the zoo takes out before it calls the constructor."""

FROM_THE_COMMAND_LINE = ("self", "env", "tensorboard_log", "seed", "verbose", "device", "_init_setup_model")
"""Parameters of the constructor that the zoo gives itself."""

REQUIRED = ("n_timesteps", "policy")
COUNTS = ("n_timesteps", "n_envs")
TEXT = ("env_wrapper", "vec_env_wrapper", "callback", "monitor_kwargs", "env_kwargs", "normalize")
"""Keys in which a string that looks like a number may be meant as a string."""

EVALUATED = ("policy_kwargs", "replay_buffer_class", "replay_buffer_kwargs", "monitor_kwargs", "normalize")
"""Keys whose strings the zoo takes for Python."""


class HyperparameterError(ValueError):
    """A bad hyperparameter; the message names file, env, key, what came and what is allowed."""


def check_hyperparams(hyperparams: Any, algorithm: type, place: Callable[[str], str]) -> None:
    """
    Refuse unknown and missing keys, and numbers that YAML 1.1 reads as strings (``3e-4``).

    :param hyperparams: what the zoo has read, not yet converted
    :param algorithm: class that they are for
    :param place: from a key to the file and the env, for the message
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
        except ValueError as error:
            raise HyperparameterError(f"{place(key)}: {error}") from None


def _allowed(algorithm: type) -> set[str] | None:
    """Keys of the zoo and of the constructor; None if the constructor takes any."""
    parameters = inspect.signature(algorithm).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    return {*OF_THE_ZOO, *parameters} - {*FROM_THE_COMMAND_LINE}


def _unknown(key: Any, value: Any, allowed: set[str]) -> str:
    if key in FROM_THE_COMMAND_LINE:
        return f"the key {key}={value!r} is not allowed: the zoo takes it from the command line"
    close = get_close_matches(str(key), sorted(allowed), n=1)
    meant = f"did you mean {close[0]}? " if close else ""
    return f"the key {key}={value!r} is unknown; {meant}allowed: {sorted(allowed)}"


def _check_value(key: str, value: Any) -> None:
    if key not in TEXT:
        for path, text in _strings(key, value):
            if _is_number(text):
                raise ValueError(
                    f"{path}={text!r} is a string, since YAML reads a number without a point or a sign of its exponent so; "
                    f"allowed: {path}: !!float {text}"
                )
    if key in EVALUATED and isinstance(value, str):
        _check_python(key, value)
    if key in COUNTS:
        check_integer(key, value, 1)
    if key == "learning_rate" and isinstance(value, str):
        kind, _, start = value.partition("_")
        if kind != "lin" or not _is_number(start):
            raise ValueError(f"learning_rate={value!r} is not allowed; allowed: a number, or 'lin_' and a number")


def _check_python(key: str, text: str) -> None:
    try:
        compile(text, key, "eval")
    except SyntaxError as error:
        allowed = "a mapping, or a string like 'dict(a=1)'"
        raise ValueError(f"{key}={text!r} is not Python: {error.msg}; allowed: {allowed}") from None


def _strings(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """All strings in nested lists and mappings, each with the way to it."""
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
