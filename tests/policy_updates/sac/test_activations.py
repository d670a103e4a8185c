"""Activations with derivatives by hand against autograd, each in the memory that it is given."""

import pytest
import torch as th
from torch import nn

from sb3_tom.policy_updates.sac.activations import ACTIVATIONS

ENDS = [-1e300, -1e3, -20.0, -0.0, 0.0, 20.0, 1e3, 1e300]


@pytest.mark.parametrize("kind", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [th.float32, th.float64])
def test_equals_autograd(kind: type[nn.Module], dtype: th.dtype) -> None:
    activation = ACTIVATIONS[kind]
    inputs = th.cat([th.tensor(ENDS).to(dtype).clamp(-1e30, 1e30), th.linspace(-6, 6, 1001, dtype=dtype)])
    delta = th.linspace(-2, 3, len(inputs), dtype=dtype)
    traced = inputs.clone().requires_grad_()
    expected = kind()(traced)
    expected.backward(delta)

    kept = inputs.clone()
    into = th.full_like(kept, th.nan) if activation.keeps_inputs else kept
    outputs = activation.forward(kept, into)
    assert outputs is into
    assert th.equal(outputs, expected)
    assert not activation.keeps_inputs or th.equal(kept, inputs)
    changed = delta.clone()
    assert activation.backward(changed, kept) is changed
    assert th.equal(changed, traced.grad)
    assert changed.isfinite().all()


def test_known_answers() -> None:
    """silu(z) = z s(z), and its slope s(z) (1 + z (1 - s(z))), which is 1/2 at 0."""
    inputs = th.tensor([0.0, 1.0, -1.0], dtype=th.float64)
    logistic = 1 / (1 + (-inputs).exp())
    outputs = ACTIVATIONS[nn.SiLU].forward(inputs, th.empty_like(inputs))
    slope = ACTIVATIONS[nn.SiLU].backward(th.ones_like(inputs), inputs)
    th.testing.assert_close(outputs, inputs * logistic, rtol=1e-15, atol=0)
    th.testing.assert_close(slope, logistic * (1 + inputs * (1 - logistic)), rtol=1e-15, atol=0)
    assert float(slope[0]) == 0.5
