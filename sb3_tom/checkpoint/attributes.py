"""Saves and restores the plain attributes of an object: one rule for envs, wrappers, noises and callbacks."""

import copy
import inspect
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecMonitor

from sb3_tom.checkpoint.codec import is_plain, shown
from sb3_tom.checkpoint.fits import NUMBERS, check_form, data_of, fits, is_running_statistics, outline_of
from sb3_tom.checks.validation import check_integer

_CLOCK = "t_start"
"""Attribute of SB3's monitors with a starting ``time.time()``; saved as the time since then."""

_BITS: dict[str, type[np.random.BitGenerator]] = {
    kind.__name__: kind
    for kind in (np.random.MT19937, np.random.PCG64, np.random.PCG64DXSM, np.random.Philox, np.random.SFC64)
}

GENERATOR = "random generator"
"""Key for the state of a numpy generator."""


def generator_state(generator: np.random.Generator) -> dict[str, Any]:
    """
    The state of a numpy generator as plain values.

    :param generator: with any bit generator
    """
    return {GENERATOR: generator.bit_generator.state}


def restore_generator(generator: np.random.Generator, state: dict[str, Any]) -> np.random.Generator:
    """
    Restore a numpy generator; for another kind of bit generator a new one is made.

    :param generator: changed in place if its kind is the same
    :param state: from :func:`generator_state`
    :return: the generator to use
    :raises ValueError: if the state names no bit generator of numpy
    """
    bits = state[GENERATOR]["bit_generator"]
    if not isinstance(bits, str) or bits not in _BITS:
        raise ValueError(f"{shown(bits)} is not a bit generator of numpy")
    if generator.bit_generator.state["bit_generator"] != bits:
        generator = np.random.Generator(_BITS[bits]())
    _check_position(state[GENERATOR])
    generator.bit_generator.state = state[GENERATOR]
    return generator


def _check_position(state: dict[str, Any]) -> None:
    """Check positions within a block of numbers, which numpy does not check before it reads there."""
    if "pos" in state["state"]:
        check_integer("the position of a random generator", state["state"]["pos"], 0, len(state["state"]["key"]))
    if "buffer_pos" in state:
        check_integer("the position of a random generator", state["buffer_pos"], 0, len(state["buffer"]))


def attributes_state(owner: Any, skip: Collection[str] = ()) -> tuple[dict[str, Any], dict[str, str]]:
    """
    Plain attributes, numpy generators and running statistics of an object.

    :param owner: any object
    :param skip: names to leave out
    :return: the state; and, by name, the types of other attributes that may hold state
    """
    state: dict[str, Any] = {}
    unknown: dict[str, str] = {}
    for name, value in vars(owner).items():
        if name in skip or _is_stateless(value):
            continue
        if isinstance(value, np.random.Generator):
            state[name] = generator_state(value)
        elif is_running_statistics(value):
            state[name] = attributes_state(value)[0]
        elif _is_clock(owner, name, value):
            state[name] = time.time() - value
        elif is_plain(value):
            state[name] = copy.deepcopy(value)
        else:
            unknown[name] = type(value).__qualname__
    return state, unknown


def _is_clock(owner: Any, name: str, value: Any) -> bool:
    """Whether an attribute is that of a monitor, and not a user's number of the same name."""
    return name == _CLOCK and isinstance(owner, Monitor | VecMonitor) and isinstance(value, float)


def _is_stateless(value: Any) -> bool:
    """Whether a value is a space, spec, function, class or module. Only the agent's own spaces are sampled from."""
    return isinstance(value, spaces.Space | EnvSpec | type) or inspect.isroutine(value) or inspect.ismodule(value)


def restore_attributes(owner: Any, state: dict[str, Any], skip: Collection[str] = ()) -> None:
    """
    The inverse of :func:`attributes_state`. Arrays of equal shape are written in place, since other objects may refer to them,
    unless another attribute is the same array and was not in the saved run. Only data is replaced, by data: other attributes,
    such as methods, are kept, and so are paths of files and folders.

    :param owner: an object of the same class
    :param state: from :func:`attributes_state`
    :param skip: names that were left out
    :raises ValueError: naming what does not fit; nothing has changed then
    """
    check_form(state, {}, f"the state of {type(owner).__qualname__}")
    kept = {name: value for name, value in state.items() if name not in skip}
    currents = {name: data_of(owner, name) for name in kept}
    for name, value in kept.items():
        if not _is_of_kind(value, currents[name]):
            raise ValueError(f"the attribute {name} of {type(owner).__qualname__} is {outline_of(value)}, which does not fit")
    in_place = {name for name, value in kept.items() if _has_form_of(value, currents[name]) and _is_shared(owner, name, kept)}
    for name, value in kept.items():
        if name in in_place:
            currents[name][...] = value
        elif not _is_place(owner, name, value, currents[name]):
            _restore(owner, name, value, currents[name])


def _restore(owner: Any, name: str, value: Any, current: Any) -> None:
    if isinstance(value, dict) and GENERATOR in value:
        old = current if isinstance(current, np.random.Generator) else np.random.default_rng()
        setattr(owner, name, restore_generator(old, value))
    elif is_running_statistics(current):
        restore_attributes(current, value)
    elif _is_clock(owner, name, value):
        setattr(owner, name, time.time() - value)
    elif isinstance(current, Counter | defaultdict) and isinstance(value, dict):
        kept = copy.copy(current)  # of its own class, and with its own default
        kept.clear()
        kept.update(value)
        setattr(owner, name, kept)
    elif isinstance(value, tuple) and hasattr(current, "_make") and len(value) == len(current):
        setattr(owner, name, current._make(value))  # a named tuple
    else:
        setattr(owner, name, value)


def _is_of_kind(value: Any, current: Any) -> bool:
    """Whether a value may replace the current one: a generator a generator, statistics statistics, data data."""
    if isinstance(value, dict) and GENERATOR in value:
        return current is None or isinstance(current, np.random.Generator)
    if isinstance(current, np.random.Generator):
        return False
    if is_running_statistics(current):
        return isinstance(value, dict)
    # A flag of a user's env or callback may have become a number: not yet, then since when
    return fits(value, current) or (isinstance(current, NUMBERS) and isinstance(value, NUMBERS))


def _is_place(owner: Any, name: str, value: Any, current: Any) -> bool:
    """
    Whether an attribute is a path that is kept, because the saved run may have used other folders. The saved value is a path
    too, or the attribute is named like an argument of the constructor.
    """
    return _is_path(current) and (_is_path(value) or name.lstrip("_") in argument_names(type(owner)))


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and ("/" in value or "\\" in value)


def _has_form_of(value: Any, current: Any) -> bool:
    both = isinstance(current, np.ndarray) and isinstance(value, np.ndarray)
    same = both and current.shape == value.shape and current.dtype == value.dtype
    return same and bool(current.flags.writeable)


def _is_shared(owner: Any, name: str, saved: dict[str, Any]) -> bool:
    """Whether all attributes that are an object's array were equal in the saved run too; False for an array of its class."""
    array = vars(owner).get(name)
    same = [other for other, value in vars(owner).items() if value is array]
    return array is not None and all(np.array_equal(saved[other], saved[name]) for other in same if other in saved)


def argument_names(cls: type) -> set[str]:
    """
    Names of the constructor parameters of a class and of its bases.

    :param cls: any class
    """
    return {parameter.name for one in constructors(cls) for parameter in one} - {"args", "kwargs"}


def constructors(cls: type) -> Iterator[list[inspect.Parameter]]:
    """
    Parameters of the constructors of a class and of its bases, from the class on.

    :param cls: any class
    """
    for base in cls.__mro__:
        if "__init__" in vars(base) and base is not object:
            parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
            yield [parameter for parameter in parameters if parameter.name != "self"]
