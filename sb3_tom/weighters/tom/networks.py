"""Small networks that are re-initialised in place, so that optimisers keep their parameters."""

import functools
import itertools
from collections.abc import Callable, Sequence

import torch as th
from torch import nn

from sb3_tom.compute.ensemble_linear import EnsembleLinear
from sb3_tom.data.moments import Moments

Linear = Callable[[int, int], nn.Module]
"""Makes a linear layer, given the sizes of its input and its output."""


def linear_of(n_members: int) -> Linear:
    """
    Maker of linear layers for one network, or for several in one tensor.

    :param n_members: number K of networks
    """
    return nn.Linear if n_members == 1 else functools.partial(EnsembleLinear, n_members)


def mlp(sizes: Sequence[int], activation: type[nn.Module], linear: Linear = nn.Linear) -> nn.Sequential:
    """
    Linear layers with an activation after each.

    :param sizes: sizes of input and layers; a single size gives the identity
    :param activation: class of the activation
    :param linear: makes the layers
    """
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        layers += [linear(fan_in, fan_out), activation()]
    return nn.Sequential(*layers)


@th.no_grad()
def reinitialize(module: nn.Module, generator: th.Generator) -> None:
    """
    Re-initialise all linear layers in place: Xavier's uniform weights, zero biases.

    :param module: its linear layers are re-initialised
    :param generator: source of randomness
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, EnsembleLinear):
            for weight in layer.weight:
                nn.init.xavier_uniform_(weight, generator=generator)
            nn.init.zeros_(layer.bias)


class Standardizer(nn.Module):
    """
    Scales columns to mean 0 and standard deviation 1 and clips at :attr:`bound` standard deviations. The identity before
    :meth:`fit`.

    :param n_columns: number D of columns
    """

    bound = 10.0

    def __init__(self, n_columns: int) -> None:
        super().__init__()
        self.register_buffer("mean", th.zeros(n_columns))
        self.register_buffer("std", th.ones(n_columns))
        self.register_buffer("limit", th.tensor(th.inf))

    mean: th.Tensor
    std: th.Tensor
    limit: th.Tensor

    @th.no_grad()
    def fit(self, moments: Moments | None) -> None:
        """
        Set mean and standard deviation.

        :param moments: statistics of the columns; a constant column gets the scale 1. None: become the identity
        """
        if moments is None:
            self.mean.zero_()
            self.std.fill_(1.0)
            self.limit.fill_(th.inf)
            return
        self.mean.copy_(moments.mean)
        self.std.copy_(moments.scale)
        self.limit.fill_(self.bound)

    def forward(self, columns: th.Tensor) -> th.Tensor:
        """
        Scale and clip.

        :param columns: ``[..., D]``
        :return: ``[..., D]``
        """
        return ((columns - self.mean) / self.std).clamp(-self.limit, self.limit)


class Encoders(nn.Module):
    """
    The first layer of the released discriminator: one tanh layer each for state, action and next state.

    :param sizes: sizes of the parts
    :param width: units of each layer
    :param linear: makes the layers
    """

    def __init__(self, sizes: Sequence[int], width: int, linear: Linear = nn.Linear) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.layers = nn.ModuleList(linear(size, width) for size in sizes)

    def forward(self, inputs: th.Tensor) -> th.Tensor:
        """
        Encode each part by its own layer.

        :param inputs: ``[..., sum of sizes]``
        :return: ``[..., 3 width]``
        """
        parts = inputs.split(self.sizes, dim=-1)
        return th.cat([layer(part) for layer, part in zip(self.layers, parts, strict=True)], dim=-1).tanh()
