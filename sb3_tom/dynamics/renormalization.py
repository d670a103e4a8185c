r"""
Keep a network's function when its normalisation changes: the idea of Pop-Art (van Hasselt et al. 2016, arXiv:1602.07714:
"preserving outputs precisely"), here for inputs too.

With each fit the normaliser takes new means and standard deviations, which would change the function of a fitted network. The
first and the last layer are affine, and so can compensate. With old inputs :math:`z = a z' + b` as a function of the new ones,
and new targets :math:`y' = c y + d` as a function of the old ones,

.. math:: W_1' = a W_1, \quad \beta_1' = \beta_1 + b W_1, \qquad W_L' = W_L c, \quad \beta_L' = \beta_L c + d,
    \quad \log \sigma'^2 = \log \sigma^2 + 2 \log c.

Adam's moments are scaled as gradients are (:math:`\partial / \partial W' = a^{-1} \partial / \partial W`, up to the shift).
They are not cleared: a new Adam takes its first steps at full length, away from where the last fit has ended.

A target that begins to vary is the exception. The noise of a constant was fitted to errors of 0; with it, the first values,
tens of their standard deviation away, would have losses of 10^7 that Adam's second moments remember for thousands of steps, in
every layer. So its log-variance is again what it was at initialisation, and the moments of its outputs are cleared.
"""

from typing import NamedTuple, cast

import torch as th
from torch import nn

from sb3_tom.compute.ensemble_linear import EnsembleLinear
from sb3_tom.data.scales import one_for_zero
from sb3_tom.dynamics.gaussian import ConstantNoise, SoftBounds


class UnitChange(NamedTuple):
    """
    A change of units.

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
    def is_new(self) -> th.Tensor:
        """Which targets ``[D]`` have begun to vary."""
        return self.target_scale == 0.0

    @property
    def log_variance_scale(self) -> th.Tensor:
        """Scale of the network's log-variances ``[D]``: 0 for new targets, so that they depend on the bounds alone; else 1."""
        return 1.0 - self.is_new.double()

    @property
    def log_variance_shift(self) -> th.Tensor:
        """Shift of the log-variances ``[D]``; 0 where the old target never varied, so that its noise is unknown."""
        return 2.0 * one_for_zero(self.target_scale).log()


@th.no_grad()
def preserve_outputs(
    layers: nn.ModuleList | nn.Sequential,
    noise: SoftBounds | ConstantNoise,
    change: UnitChange,
    outputs: tuple[th.Tensor, th.Tensor],
    optimizer: th.optim.Optimizer,
) -> None:
    """
    Change a network so that it is the same function in the new units of its inputs and targets.

    :param layers: :class:`EnsembleLinear`; the first and the last are changed
    :param noise: bounds of the log-variances, or these themselves; shifted, or initial again for new targets
    :param change: change of the units
    :param outputs: scale and shift ``[n_outputs]`` of the last layer's outputs
    :param optimizer: its moments are scaled
    """
    first, last = cast(tuple[EnsembleLinear, EnsembleLinear], (layers[0], layers[-1]))
    first.bias.add_((change.input_shift @ first.weight.double()).unsqueeze(1))
    _scale(first.weight, change.input_scale.unsqueeze(-1), optimizer)
    scale, shift = outputs
    _scale(last.weight, scale, optimizer)
    _scale(last.bias, scale, optimizer)
    last.bias.add_(shift)
    noise.shift(change.log_variance_shift.float())
    noise.reset(change.is_new)
    for parameter in noise.parameters():
        for moment in _moments(parameter, optimizer):
            moment[..., change.is_new] = 0.0


def _scale(parameter: th.Tensor, factor: th.Tensor, optimizer: th.optim.Optimizer) -> None:
    """Scale a parameter and its moments; where the factor is 0 all become 0."""
    parameter.copy_(parameter.double() * factor)
    inverse = th.where(factor == 0.0, 0.0, 1.0 / one_for_zero(factor))
    for power, moment in enumerate(_moments(parameter, optimizer), start=1):
        moment.copy_(moment.double() * inverse**power)


def _moments(parameter: th.Tensor, optimizer: th.optim.Optimizer) -> list[th.Tensor]:
    """Adam's first and second moment of a parameter; empty before its first step."""
    state = optimizer.state.get(parameter, {})
    return [state[name] for name in ("exp_avg", "exp_avg_sq") if name in state]
