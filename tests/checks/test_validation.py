"""Each check accepts exactly what it says, and its one error names the argument, what came and what is allowed."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sb3_tom.checks.validation import check_bool, check_choice, check_integer, check_integers, check_number, plain

NO_NUMBERS = ["3e-4", "1", True, False, None, [1.0], (1.0,), {}, 1j, math.nan, math.inf, -math.inf, np.array([1.0]), np.True_]
NO_INTEGERS = [*NO_NUMBERS, 1.5, "7", np.float64(2.5)]


def refuses(check: Callable[[], Any], *parts: str) -> None:
    """``check`` raises a ValueError whose message holds every part."""
    with pytest.raises(ValueError) as error:
        check()
    for part in parts:
        assert part in str(error.value)


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.floats(-2e6, 2e6), st.booleans(), st.booleans())
def test_number_accepts_exactly_the_interval(low: float, width: float, value: float, low_open: bool, high_open: bool) -> None:
    high = low + width
    inside = (low < value if low_open else low <= value) and (value < high if high_open else value <= high)
    if inside:
        assert check_number("gamma", value, low, high, low_open, high_open) == value
    else:
        refuses(lambda: check_number("gamma", value, low, high, low_open, high_open), "gamma", repr(value), f"{high:g}")


@pytest.mark.parametrize("low_open", [False, True])
def test_number_at_its_bounds(low_open: bool) -> None:
    assert check_number("tau", 1, 0, 1, low_open) == 1.0
    if low_open:
        refuses(lambda: check_number("tau", 0, 0, 1, low_open), "tau=0", "(0, 1]")
    else:
        assert check_number("tau", 0, 0, 1, low_open) == 0.0
    refuses(lambda: check_number("tau", 1.0, 0, 1, high_open=True), "tau=1.0", "[0, 1)")


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_number_refuses_other_types(value: Any) -> None:
    refuses(lambda: check_number("learning_rate", value), f"learning_rate={value!r}", "a number in (-inf, inf)")


@pytest.mark.parametrize("value", [3, np.float32(0.25), np.int64(3), np.float64(1e-3)], ids=repr)
def test_number_accepts_numpy_and_gives_a_float(value: Any) -> None:
    number = check_number("x", value)
    assert type(number) is float
    assert number == float(value)


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9))
def test_integer_accepts_exactly_what_is_not_below(value: int, low: int) -> None:
    for form in (value, float(value), np.int64(value)):
        if value >= low:
            number = check_integer("batch_size", form, low)
            assert type(number) is int
            assert number == value
        else:
            refuses(lambda form=form: check_integer("batch_size", form, low), f"batch_size={form!r}", f"at least {low}")


@pytest.mark.parametrize("value", NO_INTEGERS, ids=repr)
def test_integer_refuses_other_types(value: Any) -> None:
    refuses(lambda: check_integer("buffer_size", value), f"buffer_size={value!r}", "an integer")


def test_bool() -> None:
    assert check_bool("flag", True) is True
    assert check_bool("flag", False) is False
    assert check_bool("flag", np.True_) is True
    assert check_bool("flag", np.False_) is False
    for value in (0, 1, "True", None, np.int64(1), np.array(True)):
        refuses(lambda value=value: check_bool("flag", value), f"flag={value!r}", "True or False")


def test_choice() -> None:
    assert check_choice("divergence", "kl", {"chi2": 1, "kl": 2}) == "kl"
    for value in ("KL", "", None, 2, ["kl"]):
        refuses(
            lambda value=value: check_choice("divergence", value, {"chi2", "kl"}), f"divergence={value!r}", "['chi2', 'kl']"
        )


@given(st.lists(st.integers(1, 1000), max_size=5))
def test_integers_gives_a_tuple(values: list[int]) -> None:
    for form in (values, tuple(values), [float(value) for value in values]):
        assert check_integers("hidden_sizes", form) == tuple(values)


def test_integers_refuses() -> None:
    for value in ("[200]", 200, None, {200}):
        refuses(lambda value=value: check_integers("hidden_sizes", value), f"hidden_sizes={value!r}", "a list")
    refuses(lambda: check_integers("hidden_sizes", [], least=1), "hidden_sizes=[]", "at least 1 integers")
    refuses(lambda: check_integers("hidden_sizes", [200, 0]), "hidden_sizes[1]=0", "at least 1")
    refuses(lambda: check_integers("hidden_sizes", [200, "200"]), "hidden_sizes[1]='200'")


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3) | st.tuples(inner),
    max_leaves=8,
)


@given(TREES)
def test_plain_values_stay_what_they_are(value: Any) -> None:
    assert plain(value) == value and type(plain(value)) is type(value)


def test_plain_leaves_other_objects_alone() -> None:
    array, kind = np.ones(2), np.float32
    found = plain({"a": array, "b": (kind, range(2)), "c": [check_bool]})
    assert found["a"] is array and found["b"] == (kind, [0, 1]) and found["c"][0] is check_bool
