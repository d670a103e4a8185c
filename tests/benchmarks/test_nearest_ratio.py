"""Density ratios by nearest neighbours: against a k-d tree, a ratio that is known, and one that is 1 everywhere."""

from pathlib import Path

import nearest_ratio
import numpy as np
import pytest
from nearest_ratio import distances, distances_and_halves, matches, mean_one, same_units
from scipy.spatial import cKDTree
from weights_truth import rank_correlation
from weights_truth_data import fresh_rows, linear_system

from sb3_tom.callbacks.tables import read_table

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def normal(n_rows: int, seed: int, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1.0, (n_rows, 3))


def test_neighbours_are_those_of_a_tree() -> None:
    buffer, fresh, k = normal(1500, 0), normal(2300, 1, 0.5), 7
    own, _ = cKDTree(buffer).query(buffer, k + 1)
    theirs, _ = cKDTree(fresh).query(buffer, k)
    expected = 3 * np.log(own[:, -1] / theirs[:, -1]) + np.log(1499 / 2300)
    np.testing.assert_allclose(distances(buffer, fresh, k), expected, atol=1e-2)
    _, found = cKDTree(buffer).query(fresh, k)
    counts = np.bincount(found.ravel(), minlength=1500) * 1500 / (2300 * k)
    assert (np.abs(matches(buffer, fresh, k) - counts) > 1e-9).mean() < 0.01  # float32 sees some ties otherwise
    assert matches(buffer, fresh, k).mean() == pytest.approx(1.0)


def test_halves_are_those_of_the_fresh_rows() -> None:
    buffer, fresh = normal(300, 0), normal(501, 1, 0.5)
    whole, first, second = distances_and_halves(buffer, fresh, 5)
    tree, _ = cKDTree(buffer).query(buffer, 6)
    for found, part in ((whole, fresh), (first, fresh[:251]), (second, fresh[251:])):
        theirs, _ = cKDTree(part).query(buffer, 5)
        np.testing.assert_allclose(found, 3 * np.log(tree[:, -1] / theirs[:, -1]) + np.log(299 / len(part)), atol=1e-2)


def test_where_the_policies_are_the_same_all_weighs_one() -> None:
    """As many rows of both, so that the balls are equal: with ten times as many the smaller ones see less of the edge."""
    buffer, fresh = normal(10_000, 0), normal(10_000, 1)
    inside = np.abs(buffer).max(1) < 1.0
    for weights in (mean_one(distances(buffer, fresh)), matches(buffer, fresh)):
        assert weights[:1000].mean() == pytest.approx(1.0, abs=0.1)
        assert weights[inside].mean() == pytest.approx(1.0, abs=0.1)


def test_a_known_ratio_is_found() -> None:
    """N(0.8, 1) over N(0, 1) has the log-ratio 0.8 x - 0.32 in each of three dimensions."""
    buffer = normal(4000, 0)
    true = (0.8 * buffer - 0.32).sum(1)
    log_ratio = distances(buffer, normal(20_000, 1, 0.8))
    assert rank_correlation(log_ratio, true) >= 0.97
    assert np.polyfit(true, log_ratio, 1)[0] == pytest.approx(0.9, abs=0.15)
    weights = mean_one(log_ratio)
    assert weights.mean() == pytest.approx(1.0)
    high, expected = true > np.quantile(true, 0.9), np.exp(np.sort(true)[-400:]).mean()
    for found in (weights, matches(buffer, normal(20_000, 1, 0.8))):
        assert 0.5 * expected < found[high].mean() < expected, "neighbours flatten what is rare"


def test_rows_that_are_there_several_times_have_numbers() -> None:
    buffer, fresh = np.zeros((300, 2)), np.zeros((300, 2))
    assert np.isfinite(distances(buffer, fresh)).all()


def test_units_are_the_buffers_and_a_constant_column_stays() -> None:
    buffer = normal(500, 0) * [2.0, 3.0, 0.0] + [1.0, 0.0, 4.0]
    rows, fresh = same_units(buffer, buffer[:10] + np.array([2.0, 0.0, 1.0]))
    np.testing.assert_allclose(rows.std(0), [1.0, 1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(fresh - rows[:10], np.tile([2.0 / buffer[:, 0].std(), 0.0, 1.0], (10, 1)), atol=1e-9)


def test_equal_weights_order_nothing() -> None:
    assert rank_correlation(np.ones(5), np.arange(5.0)) == 0.0
    assert rank_correlation(np.arange(5.0) ** 3, np.arange(5.0)) == pytest.approx(1.0)


def test_fresh_rows_are_the_second_policys() -> None:
    known = linear_system(3, 2, "shift", 0, n_rows=40_000, n_recent=20_000)
    columns = np.hstack([known.data.observations.numpy(), known.data.actions.numpy()])
    fresh = fresh_rows(3, 2, "shift", 0, 20_000)
    np.testing.assert_allclose(fresh.mean(0), columns[20_000:].mean(0), atol=0.05)
    assert np.abs(fresh.mean(0) - columns[:20_000].mean(0)).max() > 0.2
    assert (fresh[:100, None].astype(np.float32) != columns).any(2).all(), "the rows are others"


def test_run_measures_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def few(size: int, n_actions: int, kind: str, seed: int) -> dict[str, dict[str, float]]:
        asked.append(seed)
        return {name: {"rank": 0.5, "newest": 2.0, "newest_true": 2.5} for name in ("distances", "matches")}

    monkeypatch.setattr(nearest_ratio, "measure", few)
    monkeypatch.setattr(nearest_ratio, "DATA", {"few rows": (2, 1, "shift")})
    table = tmp_path / "nearest_ratio.csv"
    nearest_ratio.run([0], table)
    nearest_ratio.run([0, 1], table)
    assert asked == [0, 1]
    assert "| few rows | `matches` | 2 | 0.50, 0.50 | - | 2.00, 2.00 | 2.50, 2.50 |" in nearest_ratio.page_text(
        read_table(table)
    )


@pytest.mark.expensive
def test_a_ratio_by_formula_in_17_dimensions() -> None:
    figures = nearest_ratio.measure(17, 6, "shift", 0)["distances"]
    assert figures["rank"] >= 0.9
    assert 0.6 <= figures["slope"] <= 1.2


def test_the_page_is_that_of_the_table() -> None:
    page = (RESULTS / "curated_buffer.md").read_text()
    between = page.partition(nearest_ratio.BEGIN + "\n")[2].partition(nearest_ratio.END)[0]
    assert between == nearest_ratio.page_text(read_table(RESULTS / "nearest_ratio.csv"))
