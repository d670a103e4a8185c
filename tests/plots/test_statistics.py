"""Means over seeds against references that share no code with them, and how often their intervals are right."""

import csv
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed: pip install 'sb3_tom[plots]'")

from sb3_tom.plots.statistics import LEAST_SEEDS, interquartile_mean, mean_interval, summarize

RESULTS = Path(__file__).parents[2] / "docs" / "results"
RAREST = 0.3
"""Share of the rarer kind from which on returns count as bimodal here; of what is rarer no few seeds tell anything."""
REPEATS = 40_000


@pytest.mark.parametrize(("n_seeds", "cut"), [(2, 0), (3, 0), (4, 1), (7, 1), (8, 2), (10, 2)])
def test_mean_of_the_middle_half(n_seeds: int, cut: int) -> None:
    values = np.random.default_rng(0).normal(size=(n_seeds, 5)) ** 3
    expected = [np.mean(sorted(column)[cut : n_seeds - cut]) for column in values.T]
    np.testing.assert_allclose(interquartile_mean(values), expected)


@pytest.mark.parametrize("n_seeds", range(1, 12))
def test_the_estimator_does_not_depend_on_the_number_of_seeds(n_seeds: int) -> None:
    """A column of methods with other numbers of seeds holds one kind of figure."""
    values = np.random.default_rng(0).normal(size=(n_seeds, 2)) ** 3
    summary = summarize([{10: float(a), 20: float(b)} for a, b in values])
    np.testing.assert_allclose(summary.center, [sum(column) / n_seeds for column in values.T.tolist()])
    assert summary.has_interval == (n_seeds >= LEAST_SEEDS)
    assert np.isnan([*summary.low, *summary.high]).all() == (n_seeds < LEAST_SEEDS)


def evaluations() -> dict[tuple[str, int], np.ndarray]:
    """The returns of all methods and seeds at each env step of each task."""
    found: dict[tuple[str, int], list[float]] = {}
    with (RESULTS / "curves.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault((row["task"], int(row["env_step"])), []).append(float(row["return_mean"]))
    return {place: np.array(values) for place, values in found.items() if len(values) >= 30}


def is_bimodal(returns: np.ndarray) -> bool:
    """Two kinds, neither of them rare, and little between them: runs that balance, and runs that do not yet."""
    places = (returns - returns.min()) / np.ptp(returns)
    between = np.mean((places > 1 / 3) & (places < 2 / 3))
    return RAREST <= np.mean(places > 0.5) <= 1.0 - RAREST and between < 0.15


def coverage(draws: np.ndarray, mean: float) -> float:
    """How often the interval of samples ``[S, REPEATS]`` holds the true mean."""
    _, low, high = mean_interval(draws)
    return float(np.mean((low <= mean) & (mean <= high)))


@pytest.mark.parametrize("n_seeds", [LEAST_SEEDS, 8, 10, 20])
def test_an_interval_covers_the_mean_of_normal_returns(n_seeds: int) -> None:
    found = coverage(np.random.default_rng(n_seeds).normal(3.0, 2.0, (n_seeds, REPEATS)), 3.0)
    print(f"normal, {n_seeds} seeds: {found:.3f}")
    assert found == pytest.approx(0.95, abs=0.006)


@pytest.mark.parametrize("n_seeds", [LEAST_SEEDS, 8, 10, 20])
def test_an_interval_covers_the_mean_of_our_own_bimodal_returns(n_seeds: int) -> None:
    bimodal = {place: returns for place, returns in evaluations().items() if is_bimodal(returns)}
    assert len(bimodal) >= 3
    for (task, env_step), returns in bimodal.items():
        draws = np.random.default_rng(n_seeds).choice(returns, (n_seeds, REPEATS))
        found = coverage(draws, float(returns.mean()))
        print(f"{task} at {env_step}, {n_seeds} seeds: {found:.3f}")
        assert found >= 0.9


@pytest.mark.parametrize(("n_seeds", "covered"), [(2, 0.42), (3, 0.63), (4, 0.75), (5, 0.83), (6, 0.88), (7, 0.91)])
def test_fewer_seeds_have_none_because_it_would_not(n_seeds: int, covered: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The least number is not larger than it has to be. Of two values the rarer of which has a share of 0.3, so many samples hold
    both; no interval without a width covers the mean.
    """
    monkeypatch.setattr("sb3_tom.plots.statistics.LEAST_SEEDS", 2)
    assert 1.0 - 0.7**n_seeds - 0.3**n_seeds == pytest.approx(covered, abs=0.01)
    draws = (np.random.default_rng(n_seeds).random((n_seeds, REPEATS)) < RAREST).astype(float)
    assert coverage(draws, RAREST) == pytest.approx(covered, abs=0.01)
    assert (n_seeds >= LEAST_SEEDS) == (covered >= 0.9)


def test_what_is_rare_is_not_covered() -> None:
    """A limit of all intervals of few seeds: of one run in ten, a third of all samples of ten hold none."""
    draws = (np.random.default_rng(0).random((10, REPEATS)) < 0.1).astype(float)
    assert coverage(draws, 0.1) < 0.7


def test_equal_seeds_have_an_interval_without_width() -> None:
    summary = summarize([{10: 2.0, 20: 3.0}] * LEAST_SEEDS)
    assert summary.low.tolist() == summary.center.tolist() == summary.high.tolist() == [2.0, 3.0]


def test_an_evaluation_that_is_not_a_number_costs_the_interval_of_its_step_only() -> None:
    curves = [{10: float(seed), 20: float(seed), 30: float(seed)} for seed in range(LEAST_SEEDS)]
    curves[0][20] = float("nan")
    summary = summarize(curves)
    assert summary.has_interval and np.isnan(summary.low).tolist() == np.isnan(summary.high).tolist() == [False, True, False]


def test_only_common_steps_are_summarised() -> None:
    summary = summarize([{10: 1.0, 20: 5.0, 30: 3.0}, {10: 3.0, 20: 7.0, 25: 0.0}])
    assert (summary.steps.tolist(), summary.center.tolist()) == ([10, 20], [2.0, 6.0])
    assert summarize([{10: 1.0}, {20: 1.0}]).steps.size == 0
    assert not summarize([{10 + seed: 1.0} for seed in range(LEAST_SEEDS)]).has_interval


def test_logs_are_interpolated_within_the_range_of_all() -> None:
    summary = summarize([{0: 0.0, 10: 10.0, 20: 0.0, 30: 30.0}, {5: 1.0, 15: 3.0, 25: 5.0}], interpolate=True)
    assert summary.steps.tolist() == [5, 15, 25]
    np.testing.assert_allclose(summary.center, [(5 + 1) / 2, (5 + 3) / 2, (15 + 5) / 2])
