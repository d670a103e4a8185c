"""Parameters are moved to where they began, without a change of their values."""

import copy

import pytest
import torch as th
from torch import nn

from sb3_tom.checkpoint.alignment import LINE, align, alignments


@pytest.mark.parametrize("offset", [0, 4, 12, 16, 60])
def test_parameters_move(offset: int) -> None:
    module = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 1, bias=False))
    before = copy.deepcopy(module.state_dict())
    parameters = [*module.parameters()]
    optimizer = th.optim.SGD(parameters, 0.1)
    align([module], [offset] * 3)
    assert alignments([module]) == [offset] * 3
    assert all(th.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(one is other for one, other in zip(parameters, module.parameters(), strict=True))
    module(th.ones(1, 3)).sum().backward()
    optimizer.step()
    assert not th.equal(module[0].weight, before["0.weight"])
    assert LINE % 16 == 0


def test_parameters_that_begin_there_stay() -> None:
    module = nn.Linear(3, 5)
    addresses = [parameter.data_ptr() for parameter in module.parameters()]
    align([module], alignments([module]))
    align([module], [-1, -1])  # saved on another device
    assert addresses == [parameter.data_ptr() for parameter in module.parameters()]
