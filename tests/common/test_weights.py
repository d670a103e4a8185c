"""Weights become usable in one place."""

import numpy as np
import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_tom import Context, PMACWeighter, Transitions, UniformWeighter, Weighter
from sb3_tom.common.weights import WeightedDraw, effective_sample_size, usable_weights

RAW = st.lists(st.floats(0, 1e6), min_size=1, max_size=40).filter(lambda values: max(values) > 1e-6)


class Bounded(Weighter):
    """A weighter with given bounds."""

    def __init__(self, max_weight: float | None = None, uniform_mix: float = 0.0, ess_floor: float = 0.0) -> None:
        super().__init__()
        self.max_weight, self.uniform_mix, self.ess_floor = max_weight, uniform_mix, ess_floor

    def weights(self, data: Transitions, context: Context) -> th.Tensor:
        raise NotImplementedError


@settings(max_examples=80, deadline=None)
@given(
    raw=RAW,
    max_weight=st.none() | st.floats(1.0, 20.0),
    mix=st.just(0.0) | st.floats(0.01, 1.0),
    floor=st.just(0.0) | st.floats(0.05, 0.9),
)
def test_usable_weights_hold_their_bounds(raw: list[float], max_weight: float | None, mix: float, floor: float) -> None:
    weights = usable_weights(th.tensor(raw), Bounded(max_weight, mix, floor), len(raw))
    assert float(weights.mean()) == pytest.approx(1.0, rel=1e-4)
    assert bool((weights >= 0).all())
    assert weights.dtype == th.float32
    if mix > 0 and floor == 0:
        assert float(weights.min()) >= mix * (1 - 1e-5)
    if floor > 0:
        assert float(effective_sample_size(weights)) >= floor * (1 - 1e-3)
    order = th.tensor(raw).argsort()
    assert bool((weights[order].diff() >= -1e-5 * weights.max()).all())  # nothing changes the order


@settings(max_examples=40, deadline=None)
@given(raw=RAW)
def test_uniform_and_pmac_pass_unchanged(raw: list[float]) -> None:
    expected = th.tensor(raw).double()
    for weighter in (UniformWeighter(), PMACWeighter()):
        weights = usable_weights(th.tensor(raw), weighter, len(raw))
        th.testing.assert_close(weights.double(), expected / expected.mean(), rtol=1e-5, atol=1e-6)


def test_the_bound_is_on_mean_normalised_weights() -> None:
    weights = usable_weights(th.tensor([100.0] + [1.0] * 99), Bounded(max_weight=10.0), 100)
    assert float(weights[0] / weights[1]) == pytest.approx(10.0 / (100.0 / 199.0), rel=1e-4)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (th.ones(3), "shape"),
        (th.ones(4, 1), "shape"),
        (th.tensor([1.0, -1.0, 1.0, 1.0]), "non-negative"),
        (th.tensor([1.0, th.nan, 1.0, 1.0]), "finite"),
        (th.tensor([1.0, th.inf, 1.0, 1.0]), "finite"),
        (th.zeros(4), "zeros"),
    ],
)
def test_bad_weights_end_in_one_error_that_names_the_weighter(raw: th.Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=rf"Bounded\.weights.*{words}"):
        usable_weights(raw, Bounded(), 4)


def test_draws_follow_the_weights() -> None:
    weights = th.tensor([0.0, 1.0, 3.0, 0.0, 4.0])
    rows = WeightedDraw(weights)((200, 100), th.Generator().manual_seed(0))
    shares = np.bincount(rows.flatten().numpy(), minlength=5) / 20_000
    assert shares[0] == shares[3] == 0.0
    np.testing.assert_allclose(shares[[1, 2, 4]], [0.125, 0.375, 0.5], atol=0.012)


def test_small_weights_of_a_large_buffer_are_drawn() -> None:
    """A float32 sum would lose them: 1e-9 of the mass on each of the last 100 rows after ten million."""
    weights = th.ones(10_000_000)
    weights[-100:] = 1e-2
    draw = WeightedDraw(weights)
    assert float(draw._cumulative[-1] - draw._cumulative[-101]) == pytest.approx(1.0, rel=1e-6)


def test_the_last_row_can_be_drawn_and_none_beyond() -> None:
    rows = WeightedDraw(th.tensor([0.0, 0.0, 1.0]))((1000,), th.Generator().manual_seed(0))
    assert rows.unique().tolist() == [2]
