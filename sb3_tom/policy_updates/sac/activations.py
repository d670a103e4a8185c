r"""
Activations of networks with hand-written passes:

.. math::
    \mathrm{relu}(z) = \max(0, z), \quad \mathrm{relu}'(z) = [\mathrm{relu}(z) > 0], \quad
    \mathrm{silu}(z) = z \, s(z), \quad \mathrm{silu}'(z) = s(z) \, \big(1 + z \, (1 - s(z))\big)

with the logistic function :math:`s(z) = 1 / (1 + e^{-z})`.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch as th
from torch import nn


class Activation(NamedTuple):
    """
    An elementwise function and its derivative, which allocate no memory.

    :param forward: writes the function of its first argument into its second, and returns that
    :param backward: multiplies its first argument by the derivative, in place, and returns it; its second argument is the
        function's inputs or outputs, see :attr:`keeps_inputs`
    :param keeps_inputs: whether the derivative is computed from the inputs; if not, from the outputs, which overwrite the
        inputs
    """

    forward: Callable[[th.Tensor, th.Tensor], th.Tensor]
    backward: Callable[[th.Tensor, th.Tensor], th.Tensor]
    keeps_inputs: bool


def _relu(inputs: th.Tensor, outputs: th.Tensor) -> th.Tensor:
    return inputs.relu_()  # inputs and outputs are one tensor


def _relu_backward(delta: th.Tensor, outputs: th.Tensor) -> th.Tensor:
    return th.ops.aten.threshold_backward.grad_input(delta, outputs, 0, grad_input=delta)


def _silu(inputs: th.Tensor, outputs: th.Tensor) -> th.Tensor:
    return th.ops.aten.silu.out(inputs, out=outputs)


def _silu_backward(delta: th.Tensor, inputs: th.Tensor) -> th.Tensor:
    return th.ops.aten.silu_backward.grad_input(delta, inputs, grad_input=delta)


ACTIVATIONS: dict[type[nn.Module], Activation] = {
    nn.ReLU: Activation(_relu, _relu_backward, keeps_inputs=False),
    nn.SiLU: Activation(_silu, _silu_backward, keeps_inputs=True),
}
"""Supported activations by the class in ``policy_kwargs={"activation_fn": ...}``."""
