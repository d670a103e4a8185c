"""Checks of arguments. Each raises one ValueError that names the argument, what came and what is allowed."""

import math
from collections.abc import Collection, Sequence
from numbers import Integral, Real
from typing import Any


def check_number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    low_open: bool = False,
    high_open: bool = False,
) -> float:
    """
    A finite real number in the interval from ``low`` to ``high``; strings and booleans are refused.

    :param name: the argument's name
    :param value: what came
    :param low: least value; itself excluded if ``low_open``
    :param high: greatest value; itself excluded if ``high_open``
    :return: the value as float
    """
    opening = "(" if low_open or low == -math.inf else "["
    closing = ")" if high_open or high == math.inf else "]"
    allowed = f"a number in {opening}{low:g}, {high:g}{closing}"
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(float(value)):
        raise ValueError(f"{name}={value!r} is not allowed; allowed: {allowed}")
    number = float(value)
    below = number <= low if low_open else number < low
    above = number >= high if high_open else number > high
    if below or above:
        raise ValueError(f"{name}={value!r} is not allowed; allowed: {allowed}")
    return number


def check_integer(name: str, value: Any, low: int | None = None) -> int:
    """
    An integer of at least ``low``; floats with an integral value (``1e5``) are accepted, strings and booleans are not.

    :param name: the argument's name
    :param value: what came
    :param low: least value, None for no bound
    :return: the value as int
    """
    integral = isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not integral or (low is not None and value < low):
        bound = "" if low is None else f" of at least {low}"
        raise ValueError(f"{name}={value!r} is not allowed; allowed: an integer{bound}")
    return int(value)


def check_bool(name: str, value: Any) -> bool:
    """
    True or False.

    :param name: the argument's name
    :param value: what came
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name}={value!r} is not allowed; allowed: True or False")
    return value


def check_choice(name: str, value: Any, choices: Collection[Any]) -> Any:
    """
    One of ``choices``.

    :param name: the argument's name
    :param value: what came
    :param choices: allowed values
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}={value!r} is not allowed; allowed: one of {sorted(choices)}")
    return value


def check_integers(name: str, value: Any, low: int = 1, least: int = 0) -> tuple[int, ...]:
    """
    A list or tuple of integers, for example layer sizes.

    :param name: the argument's name
    :param value: what came
    :param low: least value of each entry
    :param least: least number of entries
    :return: the entries as a tuple
    """
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) < least:
        raise ValueError(f"{name}={value!r} is not allowed; allowed: a list of at least {least} integers of at least {low}")
    return tuple(check_integer(f"{name}[{index}]", entry, low) for index, entry in enumerate(value))
