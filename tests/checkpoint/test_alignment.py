"""Parameters are moved to where they began, without a change of their values."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch as th
from torch import nn

from sb3_tom import MBPO
from sb3_tom.checkpoint.alignment import LINE, align, alignments
from tests.checkpoint.runs import make_agent


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


def test_a_resumed_agent_has_its_parameters_where_the_run_had_them(tmp_path: Path) -> None:
    """Layers of odd widths, which the update keeps side by side: the second head of the actor begins at an odd place."""
    agent = make_agent(policy_kwargs={"net_arch": [13, 11]}).learn(60)
    agent.save_checkpoint(tmp_path / "file.zip")
    places = alignments([agent.policy])
    assert any(place % 16 for place in places)
    resumed = MBPO.resume(tmp_path / "file.zip", "Pendulum-v1")
    assert alignments([resumed.policy]) == places != alignments([make_agent(policy_kwargs={"net_arch": [13, 11]}).policy])
    observations = np.random.default_rng(0).normal(size=(200, 1, 3)).astype(np.float32)
    for observation in observations:
        values = [one.actor.get_action_dist_params(th.from_numpy(observation))[:2] for one in (agent, resumed)]
        assert all(th.equal(left, right) for left, right in zip(*values, strict=True))


def test_parameters_that_begin_there_stay() -> None:
    module = nn.Linear(3, 5)
    addresses = [parameter.data_ptr() for parameter in module.parameters()]
    align([module], alignments([module]))
    align([module], [-1, -1])  # saved on another device
    assert addresses == [parameter.data_ptr() for parameter in module.parameters()]
