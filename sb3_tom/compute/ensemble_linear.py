"""Linear layers of several networks in one tensor."""

import math

import torch as th
from torch import nn


class EnsembleLinear(nn.Module):
    """
    E linear layers in one tensor.

    :param n_members: E
    :param n_inputs: width of the input
    :param n_outputs: width of the output
    """

    def __init__(self, n_members: int, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        # MBPO's initialisation: a normal distribution truncated at two standard deviations
        std = 1.0 / (2.0 * math.sqrt(n_inputs))
        weight = th.empty(n_members, n_inputs, n_outputs)
        self.weight = nn.Parameter(nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std))
        self.bias = nn.Parameter(th.zeros(n_members, 1, n_outputs))

    def forward(self, inputs: th.Tensor, members: th.Tensor | None = None) -> th.Tensor:
        """
        Apply the layers of the members, each to its own rows.

        :param inputs: ``[E, B, n_inputs]``
        :param members: numbers of the members to use, all by default
        :return: ``[E, B, n_outputs]``
        """
        if members is None:
            return th.baddbmm(self.bias, inputs, self.weight)
        return th.baddbmm(self.bias[members], inputs, self.weight[members])
