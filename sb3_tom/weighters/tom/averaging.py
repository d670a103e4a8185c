r"""
Weights that do not depend on the next state.

In rows drawn by a weight w(s, a, s') the law of s' is :math:`P(s'|s,a)\, w(s,a,s') / E[w|s,a]` instead of P. Weights of (s, a)
alone do not change it, so w is replaced by its mean :math:`\bar w(s,a) = E_D[w | s, a]`: a Poisson regression, in which a
network outputs :math:`\log \bar w`. It is cross-fitted, because a network trained on a row has fitted the noise in its s'.
"""

import itertools
from collections.abc import Callable
from typing import cast

import torch as th
from torch import nn

from sb3_tom.compute.chunks import joined, rows_at_once
from sb3_tom.compute.ensemble_linear import EnsembleLinear
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.data.moments import moments_of_columns
from sb3_tom.weighters.tom.folds import shuffled_blocks
from sb3_tom.weighters.tom.holdout import BLOCK, descend_to_best
from sb3_tom.weighters.tom.networks import Standardizer

_FOLDS = 4
_WIDTHS = (64, 64)
_BATCH = 256
_LEARNING_RATE = 2e-3
_STEEPEST = 20.0
"""Upper bound of the log-weights: sums of its exponential fit into float32."""

Inputs = Callable[[th.Tensor], th.Tensor]
"""Network inputs of rows by their numbers: int64 ``[...]`` to ``[..., D]``."""


class _Regression(nn.Module):
    """A network per fold, ``[F, B, D]`` to ``[F, B]``, and the loss of a minibatch."""

    def __init__(self, n_inputs: int) -> None:
        super().__init__()
        sizes = itertools.pairwise((n_inputs, *_WIDTHS, 1))
        self.layers = nn.ModuleList(EnsembleLinear(_FOLDS, fan_in, fan_out) for fan_in, fan_out in sizes)

    def _linear(self) -> list[EnsembleLinear]:
        return [cast(EnsembleLinear, layer) for layer in self.layers]

    @th.no_grad()
    def reset(self, generator: th.Generator) -> None:
        """Re-initialise; the last layer is 0, so that all weights are equal."""
        for layer in self._linear():
            layer.weight.normal_(0.0, layer.weight.shape[1] ** -0.5, generator=generator)
            layer.bias.zero_()
        layer.weight.zero_()

    def forward(self, inputs: th.Tensor, members: th.Tensor | None = None) -> th.Tensor:
        *hidden, last = self._linear()
        for layer in hidden:
            inputs = nn.functional.silu(layer(inputs, members))
        values: th.Tensor = last(inputs, members).squeeze(-1)
        return values.clamp(max=_STEEPEST)

    def loss(self, inputs: th.Tensor, weights: th.Tensor) -> th.Tensor:
        """Negative Poisson log-likelihood, least at the mean: inputs ``[F, B, D]``, weights ``[F, B]``."""
        values = self(inputs)
        return (values.exp() - weights * values).mean(1).sum()

    @th.no_grad()
    def of_fold(self, number: int, rows: th.Tensor, inputs: Inputs) -> th.Tensor:
        """Log-weights ``[B]`` of rows of a fold, given by number ``[B]``, from the network that was not trained on it."""
        member = th.tensor([number], device=rows.device)
        parts = (self(inputs(some).unsqueeze(0), member).squeeze(0) for some in rows.split(rows_at_once(rows.device)))
        return joined(parts, len(rows))


def random_folds(n_rows: int, generator: th.Generator, n_envs: int = 1) -> th.Tensor:
    """
    Random folds of whole blocks of neighbours.

    :param n_rows: number N of rows, in the order of collection
    :param generator: source of randomness
    :param n_envs: environments whose rows alternate
    :return: fold of each row, int64 ``[N]``
    """
    block = max(1, min(BLOCK, n_rows // (4 * _FOLDS * n_envs)))  # shorter for few rows, so that no fold is empty
    blocks, order = shuffled_blocks(n_rows, block, n_envs, generator)
    return (order % _FOLDS)[blocks]


def average_next(
    weights: th.Tensor,
    rows: th.Tensor,
    data: Transitions,
    n_steps: int,
    context: Context,
    policy_columns: th.Tensor | None = None,
) -> th.Tensor:
    """
    The mean of weights over s', as a function of (s, a).

    :param weights: ``[M]``, non-negative, of some rows
    :param rows: numbers ``[M]`` of these rows in the data
    :param data: N rows, in the order of collection
    :param n_steps: gradient steps
    :param context: its generator and ``n_envs`` are used
    :param policy_columns: ``[N, X]``, further inputs that are functions of (s, a), of the order of 1
    :return: ``[N]`` for all rows, float64, positive with mean 1; ones if a fold has none of the M rows
    """
    folds = random_folds(data.size, context.generator, context.n_envs)
    own = folds[rows]
    if int(th.bincount(own, minlength=_FOLDS).amin()) == 0:
        return th.ones(data.size, dtype=th.float64, device=data.device)
    n_columns = data.observations.shape[1] + data.actions.shape[1]
    if policy_columns is None:
        policy_columns = data.actions[:, :0]
    with th.device("meta"):  # does not draw from torch's global generator
        regression, scale = _Regression(n_columns + policy_columns.shape[1]), Standardizer(n_columns)
    regression.to_empty(device=data.device).reset(context.generator)

    def columns(numbers: th.Tensor) -> th.Tensor:
        return th.cat([data.observations[numbers], data.actions[numbers]], dim=-1)

    def inputs(numbers: th.Tensor) -> th.Tensor:
        return th.cat([scale(columns(numbers)), policy_columns[numbers]], dim=-1)

    scale.to_empty(device=data.device).fit(moments_of_columns(len(rows), lambda some: columns(rows[some])))
    _fit(regression, rows, inputs, (weights / weights.mean()).float(), own, n_steps, context.generator)
    return of_all_rows(regression, folds, inputs)


def of_all_rows(regression: _Regression, folds: th.Tensor, inputs: Inputs) -> th.Tensor:
    """
    Evaluate the regression on all rows: the part whose time grows with their number.

    :param regression: fitted
    :param folds: int64 ``[N]``
    :param inputs: network inputs of any rows
    :return: ``[N]``, float64, with mean 1
    """
    result = th.empty(len(folds), dtype=th.float64, device=folds.device)
    for number in range(_FOLDS):
        mine = th.nonzero(folds == number).squeeze(1)
        result[mine] = regression.of_fold(number, mine, inputs).double().exp()
    return result / result.mean()


def _fit(
    regression: _Regression,
    rows: th.Tensor,
    inputs: Inputs,
    weights: th.Tensor,
    folds: th.Tensor,
    n_steps: int,
    generator: th.Generator,
) -> None:
    """Fit the networks, and restore the parameters that were best on the held-out rows."""
    theirs = [th.nonzero(folds != number).squeeze(1) for number in range(_FOLDS)]
    own = [th.nonzero(folds == number).squeeze(1) for number in range(_FOLDS)]
    shape = (n_steps, _BATCH)
    drawn = [th.randint(len(others), shape, generator=generator, device=rows.device) for others in theirs]
    batches = th.stack([others[numbers] for others, numbers in zip(theirs, drawn, strict=True)], dim=1)

    @th.no_grad()
    def unseen() -> th.Tensor:
        values = th.cat([regression.of_fold(number, rows[mine], inputs) for number, mine in enumerate(own)])
        return (values.exp() - weights[th.cat(own)] * values).mean()

    made = ((inputs(rows[chosen]), weights[chosen]) for chosen in batches)
    descend_to_best(regression, regression.loss, unseen, made, n_steps, _LEARNING_RATE, "mean of the weights over s'")
