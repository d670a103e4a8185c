r"""
A network whose units move, as the same function.

With each fit the normaliser takes new means and standard deviations. A network that is fitted already would be another one in
the new units, for no reason: its first layer reads other inputs, its last one is read otherwise. Both are affine in what has
moved, and so can take the move upon themselves. With old inputs :math:`z = a z' + b` of new ones, and new targets
:math:`y' = c y + d` of old ones,

.. math:: W_1' = a W_1, \quad \beta_1' = \beta_1 + b W_1, \qquad W_L' = W_L c, \quad \beta_L' = \beta_L c + d,
    \quad \log \sigma'^2 = \log \sigma^2 + 2 \log c.

Adam's moments move along, as gradients do (:math:`\partial / \partial W' = a^{-1} \partial / \partial W`, but for the shift).
They are not cleared: an Adam that begins anew takes its first steps at full length, away from where the last fit has ended.
"""

from typing import NamedTuple, cast

import torch as th
from torch import nn

from sb3_tom.compute.ensemble_linear import EnsembleLinear
from sb3_tom.data.scales import one_for_zero
from sb3_tom.dynamics.gaussian import ConstantNoise, SoftBounds


class Move(NamedTuple):
    """
    How units have moved.

    :param input_scale: ``[I]``, a: an old input is ``input_scale * new + input_shift``
    :param input_shift: ``[I]``, b
    :param target_scale: ``[D]``, c: a new target is ``target_scale * old + target_shift``; 0 where the old one never varied
    :param target_shift: ``[D]``, d
    """

    input_scale: th.Tensor
    input_shift: th.Tensor
    target_scale: th.Tensor
    target_shift: th.Tensor

    @property
    def log_variance_shift(self) -> th.Tensor:
        """``[D]``, what is added to a log-variance; nothing where the old target never varied, which says nothing of noise."""
        return 2.0 * one_for_zero(self.target_scale).log()


@th.no_grad()
def move_network(
    layers: nn.ModuleList | nn.Sequential,
    noise: SoftBounds | ConstantNoise,
    move: Move,
    outputs: tuple[th.Tensor, th.Tensor],
    optimizer: th.optim.Optimizer,
) -> None:
    """
    Make a network the same function of new inputs, in new units of its targets.

    :param layers: :class:`EnsembleLinear`; the first and the last change
    :param noise: bounds of its log-variances, or these themselves, move along
    :param move: of the units
    :param outputs: scale and shift ``[n_outputs]`` of what the last layer says
    :param optimizer: its moments change along
    """
    first, last = cast(tuple[EnsembleLinear, EnsembleLinear], (layers[0], layers[-1]))
    first.bias.add_((move.input_shift @ first.weight.double()).unsqueeze(1))
    _scale(first.weight, move.input_scale.unsqueeze(-1), optimizer)
    scale, shift = outputs
    _scale(last.weight, scale, optimizer)
    _scale(last.bias, scale, optimizer)
    last.bias.add_(shift)
    noise.shift(move.log_variance_shift.float())


def _scale(parameter: th.Tensor, factor: th.Tensor, optimizer: th.optim.Optimizer) -> None:
    """What is 0 from now on keeps its moments: they are of no size that could be taken over."""
    parameter.copy_(parameter.double() * factor)
    inverse = 1.0 / one_for_zero(factor)
    state = optimizer.state.get(parameter, {})
    for name, power in (("exp_avg", 1), ("exp_avg_sq", 2)):
        if name in state:
            state[name].copy_(state[name].double() * inverse**power)
