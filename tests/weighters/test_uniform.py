"""Uniform weights are the identity of the whole chain."""

import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.data.weights import usable_weights
from sb3_tom.weighters.uniform import UniformWeighter
from tests.weighters.small import context, transitions


def test_all_rows_count_the_same() -> None:
    data, view = transitions(37), context()
    weighter = UniformWeighter()
    weighter.build(3, 2)
    weights = weighter.weights(data, view)
    assert weights.shape == (37,)
    assert th.equal(usable_weights(weights, weighter, 37), th.ones(37))


def test_nothing_to_learn() -> None:
    data: Transitions = transitions(37)
    view: Context = context()
    weighter = UniformWeighter()
    weighter.build(3, 2)
    before = view.generator.get_state()
    assert weighter.fit(data, data, data.observations, view) == {}
    assert weighter.state_dict() == {}
    assert weighter.optimizers() == {}
    assert th.equal(view.generator.get_state(), before)  # no random number is used: runs stay those of plain MBPO
