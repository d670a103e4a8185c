"""Which rows the measurement of the model's noise calls calm."""

import model_noise
import torch as th

from tests.weighters.small import transitions


def test_calm_rows_come_ten_steps_before_an_end() -> None:
    data = transitions(40)
    ends = th.zeros(40, 1)
    ends[[12, 30]] = 1.0
    found = model_noise.calm(data._replace(terminated=ends)).tolist()
    expected = [not any(row <= end < row + model_noise.CALM for end in (12, 30)) for row in range(40)]
    assert found == expected and sum(found) == 20


def test_the_last_rows_are_no_ends() -> None:
    data = transitions(15)
    assert bool(model_noise.calm(data._replace(terminated=th.zeros(15, 1))).all())
