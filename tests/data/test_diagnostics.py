"""Figures for the log."""

from itertools import pairwise

import numpy as np
import pytest
import torch as th

from sb3_tom.data.diagnostics import weight_by_age


@pytest.mark.parametrize("n_rows", [1, 7, 10, 51, 1003])
def test_weight_by_age_is_the_mean_of_equal_parts_newest_first(n_rows: int) -> None:
    weights = th.rand(n_rows)
    figures = weight_by_age(weights)
    n_bins = min(10, n_rows)
    assert list(figures) == [f"{index:02}" for index in range(n_bins)] + ["rows"] and figures["rows"] == n_rows
    newest_first = weights.numpy()[::-1].astype(np.float64)
    edges = [index * n_rows // n_bins for index in range(n_bins + 1)]
    sizes = np.diff(edges)
    assert sizes.max() - sizes.min() <= 1
    expected = [newest_first[low:high].mean() for low, high in pairwise(edges)]
    np.testing.assert_allclose(list(figures.values())[:-1], expected, rtol=1e-5)
    assert np.dot(list(figures.values())[:-1], sizes) / n_rows == pytest.approx(float(weights.mean()), rel=1e-5)
