"""Diagonal Gaussians for the dynamics models: log-density, samples, and learned bounds of the log-variance."""

import math

import torch as th
import torch.nn.functional as F
from torch import nn

BOUND_PENALTY = 0.01
"""Coefficient of MBPO's code, for the likelihood's own gradients."""


def log_density(targets: th.Tensor, mean: th.Tensor, log_var: th.Tensor) -> th.Tensor:
    """
    Log-density of each dimension, without the constant ``-log(2 pi) / 2``.

    :param targets: ``[..., D]``
    :param mean: ``[..., D]``
    :param log_var: ``[..., D]``
    :return: ``[..., D]``
    """
    return -0.5 * ((targets - mean).square() * th.exp(-log_var) + log_var)


def draw(mean: th.Tensor, log_var: th.Tensor, generator: th.Generator, n_exact: int = 0) -> th.Tensor:
    """
    A reparameterised sample: gradients reach mean and variance.

    :param mean: ``[..., D]``
    :param log_var: ``[..., D]``
    :param generator: source of randomness, on their device
    :param n_exact: number of leading dimensions without noise
    :return: ``[..., D]``
    """
    noise = th.randn(mean.shape, generator=generator, device=mean.device)
    if n_exact:
        noise[..., :n_exact].zero_()
    return mean + noise * th.exp(0.5 * log_var)


class SoftBounds(nn.Module):
    """
    Learned soft bounds of a log-variance (Chua et al. 2018, arXiv:1805.12114, App. A.1). Without them a network can drive a
    variance to zero, where the likelihood is unbounded, or to infinity.

    :param n_targets: number D of dimensions, each with its own bounds
    :param n_members: E, for bounds of each member of an ensemble; None for one model
    :param coefficient: of :meth:`penalty`
    """

    HIGH, LOW = 0.5, -10.0
    """Initial bounds."""

    def __init__(self, n_targets: int, n_members: int | None = None, coefficient: float = BOUND_PENALTY) -> None:
        super().__init__()
        self._coefficient = coefficient
        shape = (n_targets,) if n_members is None else (n_members, 1, n_targets)
        self.high = nn.Parameter(th.full(shape, self.HIGH))
        self.low = nn.Parameter(th.full(shape, self.LOW))

    def forward(self, log_var: th.Tensor, members: th.Tensor | None = None) -> th.Tensor:
        """
        Bound log-variances softly.

        :param log_var: ``[..., D]``, outputs of the network; ``[E, B, D]`` for an ensemble
        :param members: indices of the members of the first axis, all by default
        :return: ``[..., D]``, within the bounds (to about 3e-5 above the upper one at their initial distance); where the
            penalty has moved the upper one below the other, nearly constant and above both
        """
        high, low = (self.high, self.low) if members is None else (self.high[members], self.low[members])
        log_var = high - F.softplus(high - log_var)
        return low + F.softplus(log_var - low)

    def shift(self, amount: th.Tensor) -> None:
        """
        Move the bounds together with log-variances that are shifted by ``amount``.

        :param amount: ``[D]``
        """
        self.high.add_(amount)
        self.low.add_(amount)

    def reset(self, which: th.Tensor) -> None:
        """
        Set bounds to their initial values.

        :param which: ``[D]``, bool
        """
        self.high[..., which] = self.HIGH
        self.low[..., which] = self.LOW

    def penalty(self) -> th.Tensor:
        """Penalty on the distance of the bounds, averaged over members."""
        n_members = self.high.shape[0] if self.high.dim() > 1 else 1
        return self._coefficient * (self.high - self.low).sum() / n_members


class ConstantNoise(nn.Module):
    """
    A learned log-variance that does not depend on the input; has the interface of :class:`SoftBounds`.

    :param n_targets: number D of dimensions
    :param n_members: E
    """

    LEAST = 2.0 * math.log(1e-3)
    """Lower bound of the log-variance in unit scale; a deterministic system would drive it to minus infinity."""

    def __init__(self, n_targets: int, n_members: int) -> None:
        super().__init__()
        self.log_var = nn.Parameter(th.zeros(n_members, 1, n_targets))

    def forward(self, mean: th.Tensor, members: th.Tensor | None = None) -> th.Tensor:
        """
        The log-variances.

        :param mean: ``[E, B, D]``; gives the shape
        :param members: indices of the members of the first axis, all by default
        :return: ``[E, B, D]``
        """
        log_var = self.log_var if members is None else self.log_var[members]
        # Not a clamp, which has no gradient below the bound
        return (self.LEAST + F.softplus(log_var - self.LEAST)).expand_as(mean)

    def shift(self, amount: th.Tensor) -> None:
        """
        Shift the log-variances, to no less than 0.1 above the lower bound.

        :param amount: ``[D]``
        """
        above = (F.softplus(self.log_var - self.LEAST) + amount).clamp(min=0.1)
        self.log_var.copy_(self.LEAST + above + th.log(-th.expm1(-above)))  # the inverse of softplus

    def reset(self, which: th.Tensor) -> None:
        """
        Set log-variances to their initial values.

        :param which: ``[D]``, bool
        """
        self.log_var[..., which] = 0.0

    def penalty(self) -> th.Tensor:
        """Zero: there are no bounds."""
        return self.log_var.new_zeros(())
