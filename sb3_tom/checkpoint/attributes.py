"""The state of a Python object as the plain values among its attributes: one rule for envs, wrappers, noises and callbacks."""

import copy
import inspect
import time
from collections.abc import Collection
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from sb3_tom.checkpoint.codec import is_plain

_RUNNING_STATISTICS = ("RunningMeanStd",)
"""Classes, of SB3 and of Gymnasium, whose objects are their plain attributes and nothing else."""

_CLOCKS = ("t_start",)
"""Attributes that hold the ``time.time()`` at which something began: what is kept is how long ago that was."""

GENERATOR = "random generator"
"""The key under which the state of a numpy generator is kept."""


def generator_state(generator: np.random.Generator) -> dict[str, Any]:
    """
    The state of a numpy generator as plain values.

    :param generator: of any kind of bits
    """
    return {GENERATOR: generator.bit_generator.state}


def restore_generator(generator: np.random.Generator, state: dict[str, Any]) -> np.random.Generator:
    """
    Give a numpy generator a state; another kind of bits needs another generator.

    :param generator: changed in place if its kind fits
    :param state: from :func:`generator_state`
    :return: the generator to use
    :raises ValueError: if the state names no kind of numpy's
    """
    bits = state[GENERATOR]["bit_generator"]
    if generator.bit_generator.state["bit_generator"] != bits:
        kind = getattr(np.random, bits, None) if isinstance(bits, str) else None
        if not (isinstance(kind, type) and issubclass(kind, np.random.BitGenerator)):
            raise ValueError(f"{bits!r} is not a bit generator of numpy")
        generator = np.random.Generator(kind())
    generator.bit_generator.state = state[GENERATOR]
    return generator


def attributes_state(owner: Any, skip: Collection[str] = ()) -> tuple[dict[str, Any], dict[str, str]]:
    """
    Plain attributes, numpy generators and running statistics of an object.

    :param owner: any object
    :param skip: names to leave out
    :return: the state; and the type of each attribute that may hold state but is none of these, by name
    """
    state: dict[str, Any] = {}
    unknown: dict[str, str] = {}
    for name, value in vars(owner).items():
        if name in skip or _is_stateless(value):
            continue
        if isinstance(value, np.random.Generator):
            state[name] = generator_state(value)
        elif type(value).__name__ in _RUNNING_STATISTICS:
            state[name] = attributes_state(value)[0]
        elif name in _CLOCKS and isinstance(value, float):
            state[name] = time.time() - value
        elif is_plain(value):
            state[name] = copy.deepcopy(value)
        else:
            unknown[name] = type(value).__qualname__
    return state, unknown


def _is_stateless(value: Any) -> bool:
    """Spaces, specs, functions and classes. A space draws from a generator of its own, which only the agent's own do here."""
    return isinstance(value, spaces.Space | EnvSpec | type) or inspect.isroutine(value) or inspect.ismodule(value)


def restore_attributes(owner: Any, state: dict[str, Any]) -> None:
    """
    The inverse of :func:`attributes_state`. Arrays of equal shape are written in place: others may look at them.

    :param owner: an object of the same class
    :param state: what was saved of the other
    """
    for name, value in state.items():
        current = getattr(owner, name, None)
        if isinstance(value, dict) and GENERATOR in value:
            old = current if isinstance(current, np.random.Generator) else np.random.default_rng()
            setattr(owner, name, restore_generator(old, value))
        elif type(current).__name__ in _RUNNING_STATISTICS:
            restore_attributes(current, value)
        elif name in _CLOCKS and isinstance(value, float):
            setattr(owner, name, time.time() - value)
        elif isinstance(value, np.ndarray) and _fits(current, value):
            current[...] = value  # type: ignore[index]
        else:
            setattr(owner, name, value)


def _fits(current: Any, value: np.ndarray) -> bool:
    same = isinstance(current, np.ndarray) and current.shape == value.shape and current.dtype == value.dtype
    return same and bool(current.flags.writeable)


def argument_names(cls: type) -> set[str]:
    """
    Names of the constructor's parameters of a class and of its bases: what an object was told, not what it has seen.

    :param cls: any class
    """
    names: set[str] = set()
    for base in cls.__mro__:
        if "__init__" in vars(base) and base is not object:
            names |= set(inspect.signature(vars(base)["__init__"]).parameters)
    return names - {"self", "args", "kwargs"}
