"""The inter-quartile mean and its interval against references that share no code with them."""

import numpy as np
import pytest

pytest.importorskip("arch", reason="arch is not installed: pip install 'sb3_tom[plots]'")

from sb3_tom.plots.statistics import interquartile_mean, summarize


@pytest.mark.parametrize(("n_seeds", "cut"), [(2, 0), (3, 0), (4, 1), (7, 1), (8, 2), (10, 2)])
def test_mean_of_the_middle_half(n_seeds: int, cut: int) -> None:
    values = np.random.default_rng(0).normal(size=(n_seeds, 5)) ** 3
    expected = [np.mean(sorted(column)[cut : n_seeds - cut]) for column in values.T]
    np.testing.assert_allclose(interquartile_mean(values), expected)


def test_an_outlier_does_not_count() -> None:
    curves = [{10: value} for value in (1.0, 2.0, 3.0, 1e6)]
    assert summarize(curves).center == [2.5]


def test_interval_is_that_of_a_percentile_bootstrap() -> None:
    generator = np.random.default_rng(1)
    values = generator.normal(size=(9, 3)) * [1.0, 5.0, 0.1] + [0.0, 10.0, 1.0]
    curves = [dict(zip((10, 20, 30), row.tolist(), strict=True)) for row in values]
    summary = summarize(curves)
    resampled = [np.sort(values[generator.integers(9, size=9)], axis=0)[2:7].mean(0) for _ in range(20_000)]
    expected = np.quantile(resampled, [0.025, 0.975], axis=0)
    # 2,000 resamples know a 2.5 % quantile to about a tenth of the width's half
    tolerance = 0.1 * (expected[1] - expected[0])
    assert (np.abs(summary.low - expected[0]) < tolerance).all() and (np.abs(summary.high - expected[1]) < tolerance).all()
    again = summarize(curves)
    assert np.array_equal(again.low, summary.low) and np.array_equal(again.high, summary.high)


def test_equal_seeds_have_an_interval_without_width() -> None:
    summary = summarize([{10: 2.0, 20: 3.0}] * 3)
    assert summary.low.tolist() == summary.center.tolist() == summary.high.tolist() == [2.0, 3.0]


def test_one_seed_has_no_interval() -> None:
    summary = summarize([{10: 2.0}])
    assert summary.center.tolist() == [2.0] and np.isnan(summary.low).all() and np.isnan(summary.high).all()


def test_only_common_steps_are_summarised() -> None:
    summary = summarize([{10: 1.0, 20: 5.0, 30: 3.0}, {10: 3.0, 20: 7.0, 25: 0.0}])
    assert (summary.steps.tolist(), summary.center.tolist()) == ([10, 20], [2.0, 6.0])
    assert summarize([{10: 1.0}, {20: 1.0}]).steps.size == 0


def test_logs_are_interpolated_within_the_range_of_all() -> None:
    summary = summarize([{0: 0.0, 10: 10.0, 20: 0.0, 30: 30.0}, {5: 1.0, 15: 3.0, 25: 5.0}], interpolate=True)
    assert summary.steps.tolist() == [5, 15, 25]
    np.testing.assert_allclose(summary.center, [(5 + 1) / 2, (5 + 3) / 2, (15 + 5) / 2])
