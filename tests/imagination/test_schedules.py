"""Schedules, and how long imagined rows are kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sb3_tom.imagination.schedules import Ramp, Window, rollout_schedule


def test_published_hopper_schedule() -> None:
    schedule = rollout_schedule([20_000, 150_000, 1, 15])
    assert [int(schedule(step)) for step in (0, 20_000, 85_000, 149_999, 150_000, 10**6)] == [1, 1, 8, 14, 15, 15]


@given(
    start=st.integers(0, 1000),
    width=st.integers(0, 1000),
    first=st.integers(1, 30),
    last=st.integers(1, 30),
    steps=st.lists(st.integers(0, 3000), min_size=2, max_size=20),
)
def test_length_is_monotone_and_bounded(start: int, width: int, first: int, last: int, steps: list[int]) -> None:
    schedule = Ramp(start, start + width, first, last)
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


@pytest.mark.parametrize(
    ("epochs", "frequency", "phases"), [(1, 250, 4), (5, 1000, 5), (1, 300, 4), (1, 5000, 1), (0.25, 250, 1), (0.1, 250, 1)]
)
def test_a_window_keeps_so_many_phases(epochs: float, frequency: int, phases: int) -> None:
    window, made_at = Window.of_epochs(epochs, frequency, None), []
    assert window.most == phases
    for step in range(0, 20 * frequency, frequency):
        made_at = window.within(made_at, step)
    assert len(made_at) == phases and made_at[-1] == 19 * frequency


@pytest.mark.parametrize(("collection", "kept"), [(1, 4), (100, 4), (300, 4), (500, 2), (1000, 1), (3000, 1)])
def test_collections_that_are_longer_than_the_pace_keep_fewer(collection: int, kept: int) -> None:
    """All rows that are kept are younger than the window, and none that is younger is dropped."""
    window, made_at = Window(1000, (250,)), []
    interval = -(-250 // collection) * collection
    for step in range(0, 10_000, interval):
        made_at = window.within(made_at, step)
    assert len(made_at) == kept == len([step for step in range(0, 10_000, interval) if made_at[-1] - step < 1000])


def test_both_paces_imagine_and_repeated_calls_do_not_grow() -> None:
    window = Window(1000, (250, 100))
    assert window.most == 14
    made_at: list[int] = []
    for _ in range(50):  # offline: no env step in between
        made_at = window.within(made_at, 7)
    assert made_at == [7] * 14
