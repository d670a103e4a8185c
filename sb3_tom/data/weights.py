"""The one place that checks, normalises and bounds the weights that a weighter returns, and draws rows by them."""

import torch as th

from sb3_tom.checks.guards import DivergenceError
from sb3_tom.contracts.weighter import Weighter

_BISECTIONS = 30


def effective_sample_size(weights: th.Tensor) -> th.Tensor:
    """
    Kish's effective sample size as a share of the rows: ``(sum w)^2 / (N sum w^2)``, 1 for equal weights.

    :param weights: ``[N]``
    :return: scalar in (0, 1]
    """
    weights = weights.double()
    return weights.sum().square() / (weights.square().sum() * weights.numel())


def usable_weights(raw: th.Tensor, weighter: Weighter, n_rows: int) -> th.Tensor:
    """
    Validate, normalise to mean 1, clip at ``max_weight``, renormalise, mix with uniform weights, hold the ESS floor. Clipping
    comes before the last normalisation: a policy that visits 2 % of the data needs weights of 50, which no bound may forbid.

    :param raw: result of ``weighter.weights``
    :param weighter: its bounds are read
    :param n_rows: number N of rows of the buffer
    :return: float32 ``[N]`` with mean 1
    :raises ValueError: if the weights have a wrong shape; a DivergenceError if they are negative, not finite, or all zero
    """
    name = type(weighter).__name__
    if raw.shape != (n_rows,):
        raise ValueError(f"{name}.weights returned the shape {tuple(raw.shape)}; it must be [N] = ({n_rows},)")
    weights = raw.detach().double()
    if not bool(th.isfinite(weights).all()) or bool((weights < 0).any()):
        raise DivergenceError(
            f"{name}.weights returned values that are not finite and non-negative (min {weights.min().item():g})"
        )
    if not bool((weights > 0).any()):
        raise DivergenceError(f"{name}.weights returned only zeros; at least one row must have a positive weight")
    weights = weights / weights.max()  # so that no sum overflows, and no mean underflows
    weights = weights / weights.mean()
    if weighter.max_weight is not None:
        weights = weights.clamp(max=weighter.max_weight)
        weights = weights / weights.mean()
    if weighter.uniform_mix > 0:
        weights = (1 - weighter.uniform_mix) * weights + weighter.uniform_mix
    if weighter.ess_floor > 0:
        weights = _hold_ess_floor(weights, weighter.ess_floor)
    return weights.float()


def _hold_ess_floor(weights: th.Tensor, floor: float) -> th.Tensor:
    """Temper ``w ** beta`` with the largest beta in [0, 1] whose effective sample size is at least ``floor``."""
    if effective_sample_size(weights) >= floor:
        return weights
    # Zeros stay zero under any positive power, so a floor above the share of positive weights could not be reached.
    weights = weights.clamp(min=weights.max() * 1e-12)
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        beta = (low + high) / 2
        low, high = (beta, high) if effective_sample_size(weights**beta) >= floor else (low, beta)
    tempered = weights**low
    return tempered / tempered.mean()


class WeightedDraw:
    """
    Draws row numbers with replacement, with probability proportional to the weights. Uniform weights take the same
    path, so that a weighter that returns ones reproduces plain MBPO number for number.

    :param weights: ``[N]``, non-negative, not all zero
    """

    def __init__(self, weights: th.Tensor) -> None:
        # float32 sums lose the small weights of a large buffer
        self._cumulative = weights.double().cumsum(0)

    def __call__(self, shape: tuple[int, ...], generator: th.Generator) -> th.Tensor:
        """
        Draw.

        :param shape: shape of the draw
        :param generator: on the device of the weights
        :return: int64 row numbers
        """
        total = self._cumulative[-1]
        points = th.rand(shape, dtype=th.float64, device=self._cumulative.device, generator=generator) * total
        rows = th.searchsorted(self._cumulative, points, right=True)
        return rows.clamp_(max=self._cumulative.numel() - 1)
