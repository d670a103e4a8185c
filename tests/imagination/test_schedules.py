"""Rollout lengths."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sb3_tom.imagination.schedules import RolloutSchedule, phases_kept, rollout_schedule


def test_published_hopper_schedule() -> None:
    schedule = rollout_schedule([20_000, 150_000, 1, 15])
    assert [schedule(step) for step in (0, 20_000, 85_000, 149_999, 150_000, 10**6)] == [1, 1, 8, 14, 15, 15]


@given(
    start=st.integers(0, 1000),
    width=st.integers(0, 1000),
    first=st.integers(1, 30),
    last=st.integers(1, 30),
    steps=st.lists(st.integers(0, 3000), min_size=2, max_size=20),
)
def test_length_is_monotone_and_bounded(start: int, width: int, first: int, last: int, steps: list[int]) -> None:
    schedule = RolloutSchedule(start, start + width, first, last)
    lengths = [schedule(step) for step in sorted(steps)]
    assert all(min(first, last) <= length <= max(first, last) for length in lengths)
    assert lengths == sorted(lengths, reverse=last < first)
    assert schedule(0) == first or start == width == 0
    assert schedule(start + width) == last


@pytest.mark.parametrize(
    "value", [0, -1, 1.5, "3", True, None, [1, 2, 3], (1, 2, 3, 4, 5), [5, 1, 1, 1], [0, 1, 0, 1], ["a", 1, 1, 1]]
)
def test_bad_schedules_are_named(value: object) -> None:
    with pytest.raises(ValueError, match=r"rollout_schedule.*allowed"):
        rollout_schedule(value)


def test_a_list_is_not_changed() -> None:
    value = [1, 2.0, 3, 4]
    rollout_schedule(value)
    assert value == [1, 2.0, 3, 4]


@pytest.mark.parametrize(("epochs", "frequency", "phases"), [(1, 250, 4), (5, 1000, 5), (1, 300, 4), (1, 5000, 1)])
def test_phases_kept(epochs: int, frequency: int, phases: int) -> None:
    assert phases_kept(epochs, frequency) == phases
