"""What the dynamics models share about diagonal Gaussians: the log-density and learned bounds of the log-variance."""

import torch as th
import torch.nn.functional as F
from torch import nn


def log_density(targets: th.Tensor, mean: th.Tensor, log_var: th.Tensor) -> th.Tensor:
    """
    Log-density of each dimension, without the constant ``-log(2 pi) / 2``.

    :param targets: ``[..., D]``
    :param mean: ``[..., D]``
    :param log_var: ``[..., D]``
    :return: ``[..., D]``
    """
    return -0.5 * ((targets - mean).square() * th.exp(-log_var) + log_var)


class SoftBounds(nn.Module):
    """
    Learned soft bounds of a log-variance (Chua et al. 2018, arXiv:1805.12114, App. A.1): without them a network can drive a
    variance to zero, which wins any likelihood, or to infinity.

    :param n_targets: number D of dimensions, each with bounds of its own
    """

    def __init__(self, n_targets: int) -> None:
        super().__init__()
        self.high = nn.Parameter(th.full((n_targets,), 0.5))
        self.low = nn.Parameter(th.full((n_targets,), -10.0))

    def forward(self, log_var: th.Tensor) -> th.Tensor:
        """
        :param log_var: ``[..., D]``, what the network says
        :return: ``[..., D]``, within the bounds (to about 3e-5 above the upper one at their initial distance)
        """
        log_var = self.high - F.softplus(self.high - log_var)
        return self.low + F.softplus(log_var - self.low)

    def penalty(self) -> th.Tensor:
        """Draws the bounds together; the factor 0.01 is that of the MBPO authors' code."""
        return 0.01 * (self.high.sum() - self.low.sum())
