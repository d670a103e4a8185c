"""Checks that a file's value may replace one of an object. A file may name data only."""

import inspect
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch as th

from sb3_tom.checkpoint.codec import is_plain, shown
from sb3_tom.checkpoint.reading import MALFORMED

_NOTHING = object()

NUMBERS = (bool, int, float, np.number, np.bool_)
"""Types of single numbers."""

_FLAGS = (bool, np.bool_)

NUMBER = (int, float)
"""Python's own types of numbers."""

_GROUPS: tuple[tuple[type, ...], ...] = (
    (*NUMBERS, np.ndarray, th.Tensor),
    (list, tuple, deque, np.ndarray),
    (str,),
    (dict,),
)
"""Groups of types that may replace each other: a number an array, a tuple a list."""


def fits(value: Any, current: Any) -> bool:
    """
    Whether a value is of the kind of an attribute; None is of any kind.

    :param value: of the file
    :param current: value of the attribute
    """
    if value is None or current is None:
        return True
    if isinstance(current, _FLAGS) and isinstance(value, NUMBERS):
        return isinstance(value, _FLAGS) or value in (0, 1)
    return any(isinstance(value, group) and isinstance(current, group) for group in _GROUPS)


def is_same(value: Any, current: Any) -> bool:
    """
    Whether a value equals another and is of its type: True equals 1.

    :param value: from the file
    :param current: the object's value
    """
    return type(value) is type(current) and bool(value == current)


def check_form(state: Any, form: Mapping[str, type | tuple[type, ...]], place: str) -> None:
    """
    Check that a dictionary of a file has certain entries of certain types; further entries are ignored.

    :param state: the dictionary
    :param form: types by key
    :param place: name of the dictionary, for the message
    :raises ValueError: naming the entry
    """
    if not isinstance(state, dict):
        raise ValueError(f"{place} is {shown(state)}; allowed: a dictionary")
    for key, kind in form.items():
        if not isinstance(state[key], kind) or (isinstance(state[key], bool) and kind is not bool):
            raise ValueError(f"{place} has {key}={shown(state[key])}, which no checkpoint has")


def check_array(place: str, value: Any, shape: tuple[int, ...], kinds: str) -> None:
    """
    Check that a value is an array of a shape and a kind of numbers.

    :param place: name of the value, for the message
    :param value: of the file
    :param shape: required shape
    :param kinds: allowed kinds of numpy's types, such as "f"
    :raises ValueError: naming the place
    """
    if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype.kind not in kinds:
        raise ValueError(f"{place} is {outline_of(value)}; allowed: an array of shape {shape}")


def outline_of(value: Any) -> str:
    """
    Description of a value for messages: shape and type of arrays and tensors, whose numbers may not be read yet.

    :param value: plain
    """
    if isinstance(value, np.ndarray | th.Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return shown(value)


def check_names(place: str, names: Any, known: Collection[str]) -> None:
    """
    Check that a file contains known names only.

    :param place: kind of the names, for the message
    :param names: of the file
    :param known: known names
    :raises ValueError: naming the first that is not known
    """
    for name in names:
        if name not in known:
            raise ValueError(f"{place} {shown(name)} is none that a new agent has; allowed: {sorted(known)}")


def data_of(owner: Any, name: Any) -> Any:
    """
    The data of an object under a name, None if there is none yet. Methods and objects that are not saved are refused.

    :param owner: any object
    :param name: of the attribute, from a file
    :raises ValueError: if the attribute is not data
    """
    place = f"the attribute {shown(name)} of {type(owner).__qualname__}"
    if not isinstance(name, str) or not name.isidentifier() or (name.startswith("__") and name.endswith("__")):
        raise ValueError(f"{place} has a name that no checkpoint holds")
    current = vars(owner).get(name, _NOTHING)
    if current is _NOTHING:
        current = inspect.getattr_static(type(owner), name, None)
    if not (is_plain(current) or isinstance(current, np.random.Generator) or is_running_statistics(current)):
        raise ValueError(f"{place} is a {type(current).__qualname__}, which no checkpoint holds")
    return current


def is_running_statistics(value: Any) -> bool:
    """
    Whether a value is a ``RunningMeanStd`` of SB3 or of Gymnasium, whose whole state is in its plain attributes.

    :param value: any
    """
    return type(value).__name__ == "RunningMeanStd"


@contextmanager
def explained(file: str | None) -> Iterator[None]:
    """
    Turn errors about a file that does not fit into ValueErrors that name it.

    :param file: its name
    :raises ValueError: naming the file and what is wrong
    """
    try:
        yield
    except MALFORMED as error:
        if isinstance(error, th.OutOfMemoryError):
            raise
        what = error if isinstance(error, ValueError) else repr(error)
        raise ValueError(f"{file} cannot be gone on with: {what}") from error
