"""Times of judged runs: of whole runs only, compared on the seeds that both have, spread as the gradient steps are."""

import judge_pace
import numpy as np
import pytest
from judge_chance import chances
from judge_rules import Better


def rows_of(seed: int, core_seconds: str, seconds: str = "500.0") -> list[dict[str, str]]:
    """A run of 4,000 env steps, with two gradient steps per env step after 1,000."""
    labels = {"seed": str(seed), "core_seconds": core_seconds, "seconds": seconds}
    return [labels | {"env_step": str(step), "n_updates": str(2 * step - 2_000)} for step in range(1_000, 4_001, 1_000)]


def test_paces_are_of_runs_that_were_not_interrupted() -> None:
    rows = [*rows_of(10, "40.0"), *rows_of(11, "", "9999.0")]
    assert judge_pace.paces(rows) == {"10": 10.0} and judge_pace.paces(rows, "seconds") == {"10": 125.0}
    assert judge_pace.pace_text(judge_pace.paces(rows[4:]), {}) == "-"


def test_paces_are_compared_on_the_seeds_that_both_have() -> None:
    """The second is on another machine for the other method."""
    first, other = {"10": 50.0, "11": 100.0, "12": 52.0}, {"11": 130.0, "12": 80.0, "13": 200.0}
    assert judge_pace.relative_pace(other, first) == (pytest.approx((1.3 + 80 / 52) / 2), 2)
    assert judge_pace.pace_text(other, first) == "80 to 200, x 1.42 (2)"
    assert judge_pace.pace_text(first, first) == "50 to 100" and judge_pace.pace_text({"3": 7.0}, first) == "7"


def test_random_steps_at_the_start_take_no_time() -> None:
    rows = rows_of(10, "60.0")
    assert judge_pace.spent(rows, judge_pace.paces(rows)) == {1_000: 0.0, 2_000: 20.0, 3_000: 40.0, 4_000: 60.0}
    slower = judge_pace.spent(rows_of(10, "120.0"), judge_pace.paces(rows))
    assert slower[4_000] == 120.0, "the ratio on the seed that both have, times the time of the first"
    assert judge_pace.spent(rows_of(10, ""), {}) == {}


def test_means_within_a_time_are_of_what_each_run_has_reached_by_then() -> None:
    """A run of 60 core-seconds has made no gradient step at 1,000, and a third of them at 2,000."""
    rows = [
        row | {"return_mean": str(k)} for seed, time in ((10, "60.0"), (11, "")) for k, row in enumerate(rows_of(seed, time))
    ]
    assert judge_pace.totals(rows) == {"10": 60.0}
    assert judge_pace.mean_within(rows, {"10": 60.0, "11": 60.0}) == {"10": 1.5}
    assert judge_pace.mean_within(rows, {"10": 39.0}) == {"10": 0.5} and judge_pace.mean_within(rows, {"12": 1.0}) == {}


def test_the_chance_of_a_verdict_without_an_effect() -> None:
    """An interval of 95 % is wrong one time in twenty, half of it in favour; two that share nothing almost twice as often."""
    first, other = Better("", "", "task", "a", "b", (0, 1)), Better("", "", "other task", "a", "b", (0, 1))
    decided, yes = chances((first,), np.random.default_rng(1))
    assert decided == pytest.approx(0.05, abs=0.003) and yes == pytest.approx(0.025, abs=0.002)
    assert chances((first, other), np.random.default_rng(1))[0] == pytest.approx(1 - 0.95**2, abs=0.004)
    assert chances((first, first), np.random.default_rng(1))[0] == pytest.approx(0.05, abs=0.003)
