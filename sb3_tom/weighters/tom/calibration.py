"""Slope and offset of a log-ratio, fitted on held-out rows."""

from typing import NamedTuple

import torch as th
import torch.nn.functional as F

_STEPS = 30
_RIDGE = 1e-4
"""Ridge on the slope in unit scale: for separable classes it would be infinite without."""
_FARTHEST = 10.0
_HALVINGS = 60
_ERRORS = 2.0
"""A slope within so many standard errors of 0 counts as 0."""


class Calibration(NamedTuple):
    """
    Turns logits into log-ratios: ``slope * logit + offset``. Scalars.

    :param slope: at least 0
    :param offset: of the log-ratio
    :param cross_entropy: of the calibrated logits, summed over the classes
    :param recent: mean log-ratio of the rows of ``recent``
    """

    slope: th.Tensor
    offset: th.Tensor
    cross_entropy: th.Tensor
    recent: th.Tensor


class Logits(NamedTuple):
    """
    Held-out logits of a class.

    :param values: logits ``[n]``
    :param blocks: int64 ``[n]``, equal for rows that are neighbours in time
    """

    values: th.Tensor
    blocks: th.Tensor


def cross_entropies(ours: th.Tensor, theirs: th.Tensor, label: float) -> tuple[th.Tensor, th.Tensor]:
    """
    Cross-entropies of ``recent`` (label 1) and of the buffer.

    :param ours: logits of rows of ``recent``, any shape
    :param theirs: logits of rows of the buffer, any shape
    :param label: of the buffer's rows
    :return: the cross-entropy of each row, in the shapes of ``ours`` and ``theirs``
    """
    # softplus(-x) is the cross-entropy of the label 1, softplus(x) that of the label 0
    return F.softplus(-ours), F.softplus(theirs) - label * theirs


@th.no_grad()
def calibrate(ours: Logits, theirs: Logits, label: float = 0.0) -> Calibration:
    r"""
    Logistic regression of the class on the logit, by Newton's method. With few independent rows a slope may be due to chance:
    it is shrunk as by the nonnegative garrote (Breiman 1995), by :math:`1 - (2 \sigma / \mathrm{slope})^2` or to 0, with its
    standard error :math:`\sigma` over blocks of neighbours (sandwich estimator), which is too small with less than about ten
    blocks of ``recent``. With slope 0 the log-ratio is constant.

    :param ours: logits of ``recent``
    :param theirs: logits of the buffer
    :param label: of the buffer's rows
    """
    values = th.cat([ours.values, theirs.values]).double()
    n_ours, n_theirs = len(ours.values), len(theirs.values)
    weights = th.cat([values.new_full((n,), 1.0 / n) for n in (n_ours, n_theirs)])
    labels = th.cat([values.new_ones(n_ours), values.new_full((n_theirs,), label)])
    unit = values.std(correction=0).clamp(min=1e-12)
    line, error = _newton((values - values.mean()) / unit, weights, labels, th.cat([ours.blocks, theirs.blocks]))
    slope = line * (1.0 - (_ERRORS * error / line).square()).clamp(min=0.0) / unit
    slope = th.where(line > 0, slope, 0.0)  # also where it is NaN
    offset = _offset(slope * values, weights, labels)
    ratio = slope * values + offset
    losses = cross_entropies(ratio[:n_ours], ratio[n_ours:], label)
    return Calibration(slope, offset, losses[0].mean() + losses[1].mean(), ratio[:n_ours].mean())


def _newton(values: th.Tensor, weights: th.Tensor, labels: th.Tensor, blocks: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """The slope of a logistic regression on values in unit scale, and its standard error."""
    inputs = th.stack([values, th.ones_like(values)], dim=1)
    found, pull = values.new_zeros(2), th.tensor([_RIDGE, 0.0], dtype=values.dtype, device=values.device)
    for _ in range(_STEPS):
        chance = (inputs @ found).sigmoid()
        scores = inputs * (weights * (chance - labels))[:, None]
        curvature = (inputs.T * (weights * chance * (1.0 - chance))) @ inputs + pull.diag()
        step = th.linalg.solve_ex(curvature, scores.sum(0) + pull * found)[0]
        found = found - step / step.norm().clamp(min=1.0)
    sums = scores.new_zeros(int(blocks.max()) + 1, 2).index_add(0, blocks, scores)
    inverse = th.linalg.inv_ex(curvature)[0]
    return found[0], (inverse @ (sums.T @ sums) @ inverse)[0, 0].sqrt()


def _offset(ratio: th.Tensor, weights: th.Tensor, labels: th.Tensor) -> th.Tensor:
    """The best offset for a given slope, by bisection."""
    low, high = -ratio.max() - _FARTHEST, -ratio.min() + _FARTHEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        too_high = (weights * ((ratio + middle).sigmoid() - labels)).sum() > 0
        low, high = th.where(too_high, low, middle), th.where(too_high, middle, high)
    return (low + high) / 2
