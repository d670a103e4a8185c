"""What a run of a sweep costs, of known seconds."""

import pytest
import sweep


def test_overhead_and_speed_up_of_known_seconds() -> None:
    """Ten for Ray; four runs of 20 s of training and 5 s more: 110 s one at a time, 60 s two at a time."""
    one, two = sweep.summary({1: (110.0, 10.0, 80.0), 2: (60.0, 10.0, 80.0)}, runs=4, n_timesteps=7)
    assert set(one) == set(sweep.COLUMNS)
    assert (one["seconds_per_run"], one["speed_up"]) == pytest.approx((5.0, 1.0))
    assert (two["seconds_per_run"], two["speed_up"]) == pytest.approx((2.5, 2.0))
