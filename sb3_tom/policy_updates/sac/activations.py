r"""
What may be between two layers of a network whose passes are written by hand:

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
    A function of each number, and its derivative, without memory of their own.

    :param forward: writes the function of its first argument into its second, and returns that
    :param backward: multiplies its first argument with the derivative, in place, and returns it; its second argument is what
        :attr:`keeps_inputs` says
    :param keeps_inputs: whether the derivative is one of the function's inputs. If not, it is known from the outputs, which
        take the place of the inputs
    """

    forward: Callable[[th.Tensor, th.Tensor], th.Tensor]
    backward: Callable[[th.Tensor, th.Tensor], th.Tensor]
    keeps_inputs: bool


def _relu(inputs: th.Tensor, outputs: th.Tensor) -> th.Tensor:
    return inputs.relu_()  # the two are one


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
"""By the module that SB3 makes of ``policy_kwargs={"activation_fn": ...}``."""
