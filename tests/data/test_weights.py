"""From raw to usable weights, and the weighted draw."""

import math

import numpy as np
import pytest
import torch as th
from hypothesis import given
from hypothesis import strategies as st

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.contracts.weighter import Weighter
from sb3_tom.data.weights import WeightedDraw, effective_sample_size, usable_weights


class Bounded(Weighter):
    """Carries bounds; its weights are given to the functions directly."""

    def __init__(self, max_weight: float | None = None, uniform_mix: float = 0.0, ess_floor: float = 0.0) -> None:
        super().__init__()
        self.max_weight, self.uniform_mix, self.ess_floor = max_weight, uniform_mix, ess_floor

    def weights(self, data: Transitions, context: Context) -> th.Tensor:
        raise NotImplementedError


positive_somewhere = st.lists(st.one_of(st.just(0.0), st.floats(1e-30, 1e30)), min_size=1, max_size=40).filter(any)


def usable(raw: list[float], **bounds: float | None) -> th.Tensor:
    return usable_weights(th.tensor(raw), Bounded(**bounds), len(raw))


@given(raw=positive_somewhere, scale=st.sampled_from([1e-3, 1.0, 7.0, 1e5]))
def test_without_bounds_only_the_scale_changes(raw: list[float], scale: float) -> None:
    weights = usable(raw)
    expected = np.array(raw, dtype=np.float32).astype(np.float64)
    np.testing.assert_allclose(weights, expected / expected.mean(), rtol=1e-6, atol=1e-37)
    np.testing.assert_allclose(usable([scale * value for value in raw]), weights, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("value", [1e-30, 0.1, 1.0, 3.7, 1e30])
@pytest.mark.parametrize("bounds", [{}, {"max_weight": 1.0}, {"uniform_mix": 0.3}, {"ess_floor": 1.0}])
def test_equal_weights_are_exactly_one(value: float, bounds: dict[str, float]) -> None:
    """The condition for TOM with equal weights, or PMAC with one block, to be plain MBPO number for number."""
    assert th.equal(usable([value] * 7, **bounds), th.ones(7))


@given(
    raw=positive_somewhere,
    max_weight=st.one_of(st.none(), st.floats(1.0, 20.0)),
    uniform_mix=st.floats(0.0, 1.0),
    ess_floor=st.floats(0.0, 1.0),
)
def test_usable_whatever_the_bounds(raw: list[float], max_weight: float | None, uniform_mix: float, ess_floor: float) -> None:
    weights = usable(raw, max_weight=max_weight, uniform_mix=uniform_mix, ess_floor=ess_floor)
    assert weights.dtype == th.float32
    assert th.isfinite(weights).all()
    assert (weights >= 0).all()
    assert float(weights.double().mean()) == pytest.approx(1.0, rel=1e-5)
    assert float(effective_sample_size(weights)) >= ess_floor - 1e-5
    # No bound turns the order of two rows round
    order = np.argsort(np.array(raw, dtype=np.float32), kind="stable")
    assert (np.diff(weights.numpy()[order]) >= -1e-5).all()


@given(raw=positive_somewhere, max_weight=st.floats(1.0, 20.0))
def test_max_weight_cuts_before_the_last_normalisation(raw: list[float], max_weight: float) -> None:
    values = np.array(raw, dtype=np.float32).astype(np.float64)
    cut = np.minimum(values / values.mean(), max_weight)
    np.testing.assert_allclose(usable(raw, max_weight=max_weight), cut / cut.mean(), rtol=1e-5, atol=1e-30)


@given(raw=positive_somewhere, uniform_mix=st.floats(0.0, 1.0))
def test_uniform_mix_is_a_least_weight(raw: list[float], uniform_mix: float) -> None:
    plain, mixed = usable(raw), usable(raw, uniform_mix=uniform_mix)
    np.testing.assert_allclose(mixed, (1 - uniform_mix) * plain + uniform_mix, rtol=1e-5, atol=1e-7)


@given(raw=positive_somewhere, ess_floor=st.floats(0.01, 1.0))
def test_ess_floor_changes_nothing_that_holds_it(raw: list[float], ess_floor: float) -> None:
    plain, held = usable(raw), usable(raw, ess_floor=ess_floor)
    if float(effective_sample_size(plain)) >= ess_floor + 1e-6:
        assert th.equal(held, plain)
    elif min(raw) > 0 and max(raw) < 1e9 * min(raw):  # then no clamp of zeros took part: a power of the weights
        log_plain, log_held = plain.double().log(), held.double().log()
        power = (log_held.max() - log_held.min()) / (log_plain.max() - log_plain.min())
        np.testing.assert_allclose(log_held - log_held.max(), power * (log_plain - log_plain.max()), atol=1e-3)
        assert float(effective_sample_size(held)) <= ess_floor + 1e-3  # tempered no more than needed


@given(raw=positive_somewhere)
def test_effective_sample_size(raw: list[float]) -> None:
    values = np.array(raw, dtype=np.float32).astype(np.float64)
    share = float(effective_sample_size(th.tensor(raw)))
    assert share == pytest.approx(values.sum() ** 2 / (len(raw) * np.square(values).sum()), rel=1e-9)
    assert 0.99 / len(raw) <= share <= 1.0 + 1e-12


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (th.ones(3), r"shape \(3,\); it must be \[N\] = \(4,\)"),
        (th.ones(4, 1), r"shape \(4, 1\)"),
        (th.tensor([1.0, -1e-9, 1.0, 1.0]), "not finite and non-negative"),
        (th.tensor([1.0, math.nan, 1.0, 1.0]), "not finite and non-negative"),
        (th.tensor([1.0, math.inf, 1.0, 1.0]), "not finite and non-negative"),
        (th.zeros(4), "only zeros"),
    ],
)
def test_refused(raw: th.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"Bounded.weights returned .*{message}"):
        usable_weights(raw, Bounded(), 4)


def test_extreme_float64_weights() -> None:
    """Neither the sum of huge weights nor the mean of tiny ones leaves float64's range."""
    for scale in (1e308, 5e-324, 1e-310):
        th.testing.assert_close(usable_weights(th.full((4,), scale, dtype=th.float64), Bounded(), 4), th.ones(4))


def test_no_gradient_leaves() -> None:
    raw = th.ones(4, requires_grad=True)
    assert not usable_weights(2 * raw, Bounded(), 4).requires_grad


@given(raw=positive_somewhere, seed=st.integers(0, 2**31))
def test_rows_without_weight_are_never_drawn(raw: list[float], seed: int) -> None:
    rows = WeightedDraw(th.tensor(raw))((50,), th.Generator().manual_seed(seed))
    assert rows.dtype == th.int64
    assert all(raw[row] > 0 for row in rows.tolist())


def test_frequencies_of_a_draw() -> None:
    """Chi-squared statistic of 100,000 draws; its 1 - 1e-6 quantile at 9 degrees of freedom is 43.9."""
    weights = th.tensor([0.0, 1.0, 2.0, 0.5, 0.0, 10.0, 1e-3, 3.0, 3.0, 0.2, 1.0, 0.3])
    rows = WeightedDraw(weights)((100, 1000), th.Generator().manual_seed(0))
    assert rows.shape == (100, 1000)
    counts = rows.flatten().bincount(minlength=12).double()
    expected = weights.double() / weights.double().sum() * 100_000
    held = expected > 0
    assert float(((counts - expected).square() / expected)[held].sum()) < 43.9
    assert (counts[~held] == 0).all()


def test_small_weights_of_a_large_buffer_keep_their_share() -> None:
    """Sums in float32 are multiples of 8 near 1e8: of sixteen rows of weight 0.5 only one would ever be drawn."""
    weights = th.cat([th.full((100_000,), 1e3), th.full((100_000,), 0.5)])
    rows = WeightedDraw(weights)((400_000,), th.Generator().manual_seed(0))
    light = rows[rows >= 100_000]
    assert len(light) == pytest.approx(400_000 * 0.5 / 1000.5, abs=5 * 200**0.5)
    assert set((light % 16).tolist()) == set(range(16))


@pytest.mark.parametrize("point", [0.0, 1.0 - 2.0**-53])
@pytest.mark.parametrize("positive", [1.0, 0.1, 3.3, 1e-20])
def test_extreme_points_fall_on_rows_with_weight(monkeypatch: pytest.MonkeyPatch, point: float, positive: float) -> None:
    """The least and the greatest number that a generator can give."""
    monkeypatch.setattr(th, "rand", lambda shape, **_: th.full(shape, point, dtype=th.float64))
    rows = WeightedDraw(th.tensor([0.0, 0.0, positive, 0.0, positive, 0.0]))((1,), th.Generator())
    assert rows.tolist() == ([2] if point == 0.0 else [4])


def test_equal_weights_of_any_value_draw_the_same_rows() -> None:
    ones, threes = (WeightedDraw(th.full((1000,), value))((500,), th.Generator().manual_seed(1)) for value in (1.0, 4.0))
    assert th.equal(ones, threes)
