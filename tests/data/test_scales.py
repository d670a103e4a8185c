"""Columns that vary and columns of rounding, in any unit."""

import pytest
import torch as th

from sb3_tom.data.scales import one_for_zero, varies


@pytest.mark.parametrize("unit", [1e-12, 1e-3, 1.0, 1e6])
def test_what_varies_does_not_depend_on_the_unit(unit: float) -> None:
    generator = th.Generator().manual_seed(0)
    noise = th.randn(1000, generator=generator)
    columns = unit * th.stack([noise, 1.0 + 1e-5 * noise, th.ones(1000), th.zeros(1000)], dim=1)
    std, magnitude = columns.double().std(0, correction=0), columns.abs().amax(0)
    assert varies(std, magnitude).tolist() == [True, True, False, False]


def test_differences_of_rounded_values_do_not_vary() -> None:
    positions = 100.0 * th.rand(1000, generator=th.Generator().manual_seed(0), dtype=th.float64)
    steps = (positions + 0.25).float() - positions.float()
    assert 0 < float(steps.double().std()) < 1e-5
    assert not bool(varies(steps.double().std(), positions.float().abs().amax()))


def test_what_does_not_vary_is_divided_by_one() -> None:
    assert one_for_zero(th.tensor([0.0, 1e-30, 2.0])).tolist() == pytest.approx([1.0, 1e-30, 2.0], rel=1e-6)
