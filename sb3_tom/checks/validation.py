"""Checks of arguments. Each raises one ValueError that names the argument, what came and what is allowed."""

import math
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any

import numpy as np

from sb3_tom.checks.guards import LIMIT

LARGEST_INTEGER = 2**63 - 1
"""The largest int64."""


def check_number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    low_open: bool = False,
    high_open: bool = False,
) -> float:
    """
    Check a finite real number in the interval from ``low`` to ``high``. Strings, booleans and numbers whose square overflows
    float32 are refused.

    :param name: the argument's name
    :param value: what came
    :param low: lower bound; excluded if ``low_open``
    :param high: upper bound; excluded if ``high_open``
    :return: the value as float
    """
    opening = "(" if low_open or low == -math.inf else "["
    closing = ")" if high_open or high == math.inf else "]"
    allowed = f"a number in {opening}{low:g}, {high:g}{closing}"
    number = _as_float(value)
    if math.isfinite(number) and abs(number) > LIMIT:
        raise ValueError(f"{name}={value!r} is not allowed; allowed: {allowed}, {LIMIT:g} at most")
    if not math.isfinite(number):
        raise ValueError(f"{name}={_shown(value)} is not allowed; allowed: {allowed}")
    below = number <= low if low_open else number < low
    above = number >= high if high_open else number > high
    if below or above:
        raise ValueError(f"{name}={_shown(value)} is not allowed; allowed: {allowed}")
    return number


def _as_float(value: Any) -> float:
    """The value as float; NaN if it is not a number, or too large for a float."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def _shown(value: Any) -> str:
    """A value for a message; Python refuses to print an int of thousands of digits."""
    if isinstance(value, int) and abs(value) > 10**20:
        return f"an integer of about {math.log10(abs(value)):.0f} digits"
    return repr(value)


def check_integer(name: str, value: Any, low: int | None = None, high: int = LARGEST_INTEGER) -> int:
    """
    Check an integer of at least ``low``; floats with an integral value (``1e5``) are accepted, strings and booleans are not.

    :param name: the argument's name
    :param value: what came
    :param low: lower bound; None: no bound
    :param high: upper bound
    :return: the value as int
    """
    integral = isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not integral or not (-high if low is None else low) <= value <= high:
        bound = "" if low is None else f" of at least {low}"
        too_large = isinstance(value, int | float) and value > high
        bound += f" and at most {high}" if too_large or high != LARGEST_INTEGER else ""
        raise ValueError(f"{name}={_shown(value)} is not allowed; allowed: an integer{bound}")
    return int(value)


def check_seed(value: Any) -> int:
    """
    Check a seed, as numpy takes it.

    :param value: what came
    :return: the value as int
    """
    return check_integer("seed", value, 0, 2**32 - 1)


def check_bool(name: str, value: Any) -> bool:
    """
    Check a boolean; numpy's are accepted.

    :param name: the argument's name
    :param value: what came
    :return: the value as bool
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name}={value!r} is not allowed; allowed: True or False")
    return bool(value)


def check_choice(name: str, value: Any, choices: Collection[Any]) -> Any:
    """
    Check that a value is one of ``choices``.

    :param name: the argument's name
    :param value: what came
    :param choices: allowed values
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}={value!r} is not allowed; allowed: one of {sorted(choices)}")
    return value


def close_names(name: str, allowed: Collection[str]) -> str:
    """
    The allowed name that is closest to an unknown one, for messages where there are too many to list.

    :param name: what came
    :param allowed: the allowed names
    """
    close = get_close_matches(name, allowed, n=1)
    return f"{close[0]!r}, or another of {len(allowed)}" if close else f"one of {sorted(allowed)[:12]}, ..."


def check_integers(name: str, value: Any, low: int = 1, least: int = 0) -> tuple[int, ...]:
    """
    Check a list or tuple of integers, for example layer sizes.

    :param name: the argument's name
    :param value: what came
    :param low: lower bound of each entry
    :param least: minimum number of entries
    :return: the entries as a tuple
    """
    if isinstance(value, str | bytes) or not isinstance(value, Sequence) or len(value) < least:
        raise ValueError(f"{name}={value!r} is not allowed; allowed: a list of at least {least} integers of at least {low}")
    return tuple(check_integer(f"{name}[{index}]", entry, low) for index, entry in enumerate(value))


def plain(value: Any) -> Any:
    """
    Convert arguments to Python's own types, so that files can store them and SB3 accepts them: numpy's scalars and other
    packages' lists and dictionaries (OmegaConf's ``ListConfig`` and ``DictConfig``).

    :param value: any; objects of other types are returned as they are
    :return: the converted value; containers are new objects
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if type(value) is tuple:
        return tuple(plain(entry) for entry in value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview | tuple):
        return [plain(entry) for entry in value]
    return value
