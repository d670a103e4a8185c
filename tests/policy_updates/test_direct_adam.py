"""The direct steps of Adam against PyTorch's own."""

import pytest
import torch as th
from torch import nn

from sb3_tom.policy_updates import direct_adam
from sb3_tom.policy_updates.direct_adam import Steppers


def started(rate: float = 1e-2) -> tuple[list[nn.Parameter], th.optim.Adam]:
    """An optimiser that can be stepped directly."""
    parameters = [nn.Parameter(th.linspace(-1.0, 1.0, 5)), nn.Parameter(th.ones(3))]
    optimizer = th.optim.Adam(parameters, rate, fused=True)
    for parameter in parameters:
        parameter.grad = parameter.detach().clone()
    optimizer.step()
    return parameters, optimizer


@pytest.mark.parametrize("missing", [(), (0,), (1,), (0, 1)])
def test_a_parameter_without_a_gradient_is_left_out_as_by_pytorch(missing: tuple[int, ...]) -> None:
    (plain, optimizer), (direct, other) = started(), started()
    steppers = Steppers([other])
    assert steppers.all_direct
    for step in range(6):
        for parameters in (plain, direct):
            for number, parameter in enumerate(parameters):
                parameter.grad = None if step in (2, 3) and number in missing else th.full_like(parameter, step - 2.5)
        optimizer.step()
        steppers(other)
        assert all(map(th.equal, plain, direct))
    counts = [
        [float(one.state[parameter]["step"]) for parameter in one.param_groups[0]["params"]] for one in (optimizer, other)
    ]
    assert counts[0] == counts[1] and (not missing or min(counts[0]) == 5.0)


def test_a_rate_is_read_from_the_optimiser_after_its_state_was_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading replaces the groups, and leaves the tensors where they are: a graph of the steps goes on."""
    monkeypatch.setattr(direct_adam, "uses_cuda_graphs", lambda device: True)
    parameters, optimizer = started()
    steppers = Steppers([optimizer])
    known = steppers.signature()
    optimizer.load_state_dict(optimizer.state_dict())
    assert Steppers([optimizer]).signature() == known
    optimizer.param_groups[0]["lr"] = 0.0
    steppers.refresh_learning_rates()
    before = [parameter.detach().clone() for parameter in parameters]
    steppers(optimizer)
    assert all(map(th.equal, parameters, before))


def test_another_optimiser_of_the_same_tensors_has_another_signature() -> None:
    """Its learning rate is another one."""
    parameters, optimizer = started()
    other = th.optim.Adam(parameters, 1e-3, fused=True)
    other.load_state_dict(optimizer.state_dict())
    assert Steppers([other]).all_direct
    assert Steppers([other]).signature() != Steppers([optimizer]).signature()
