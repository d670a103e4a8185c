r"""
The mathematics of transition occupancy matching as pure functions (Ma et al. 2023, arXiv:2305.12663).

==============  ===================================  ==========================================================================
paper           here                                 meaning
==============  ===================================  ==========================================================================
r(s,a,s')       ``r`` ``[B]``                        log-ratio of d^pi to d^D
Q(s,a)          ``q`` ``[B]``                        multiplier of the flow constraint at (s,a)
E_pi Q(s',a')   ``v_next`` ``[B]``                   its value at the next state
E_mu0,pi Q      ``v_start`` scalar                   its value at the start of an episode
gamma           ``gamma``                            discount of the occupancies
(not named)     ``y`` ``[B]``                        residual: the argument of f_* in Eq. 16
f_*, f_*'       ``conjugate``, ``derivative``        convex conjugate of the generator f, and its derivative
d / d^D         ``w`` ``[B]``                        weight of a row, Eq. 17
(not in paper)  ``shift`` scalar, ``mass`` ``[B]``   Q = q + shift / (1 - gamma) moves y by -shift * mass
==============  ===================================  ==========================================================================

The problem solved is Eq. 16 of the paper, the dual of

.. math::
    \max_{d \ge 0}\; E_d[r] - D_f(d \,\|\, d^D) \quad \text{s.t.} \quad
    \textstyle\sum_{s'} d(s,a,s')
    = (1-\gamma) \mu_0(s) \pi(a|s) + \gamma \pi(a|s) \sum_{\tilde s, \tilde a} d(\tilde s, \tilde a, s).

(With the two divergences of Eq. 15 as printed, and f of KL, the optimum would be proportional to sqrt(d^pi d^D).)

What follows the end of an episode is a choice. ``"restart"``: the start of the next one, so that flow is conserved and the
weights have mean 1, also for gamma = 1. ``"mask"``: nothing, so that mass leaks:
``E_D[w (1 - gamma (1 - ended))] = 1 - gamma``.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch as th

TERMINAL = ("restart", "mask")
"""What follows the end of an episode."""

_BISECTIONS = 60


class Divergence(NamedTuple):
    """
    An f-divergence, given by the convex conjugate of f on ``x >= 0`` and its derivative, which turns residuals into weights.

    :param conjugate: f_*
    :param derivative: f_*', non-negative and increasing
    """

    conjugate: Callable[[th.Tensor], th.Tensor]
    derivative: Callable[[th.Tensor], th.Tensor]


def chi2_conjugate(y: th.Tensor) -> th.Tensor:
    """f(x) = (x - 1)^2 / 2 on x >= 0 has ``f_*(y) = y^2 / 2 + y`` for ``y >= -1`` and -1/2 below."""
    y = y.clamp(min=-1.0)
    return 0.5 * y.square() + y


def chi2_derivative(y: th.Tensor) -> th.Tensor:
    """``max(0, y + 1)``, the derivative of :func:`chi2_conjugate`."""
    return (y + 1.0).clamp(min=0.0)


def kl_conjugate(y: th.Tensor) -> th.Tensor:
    """f(x) = x log x - x + 1 has ``f_*(y) = exp(y) - 1``."""
    return y.exp() - 1.0


def kl_derivative(y: th.Tensor) -> th.Tensor:
    """
    ``exp(y)``, the derivative of :func:`kl_conjugate`. Bounded by exp(80), still a float32: only residuals without a mass
    shift, as in the released code, can exceed it.
    """
    return y.clamp(max=80.0).exp()


def log_mean_exp(y: th.Tensor) -> th.Tensor:
    """
    ``log E exp(y)`` is ``min over c of c + E exp(y - c) - 1``: the KL dual after its best shift (with restarts). Estimated on
    minibatches the left side is biased, the right side is not.
    """
    return th.logsumexp(y, 0) - math.log(y.numel())


DIVERGENCES = {"chi2": Divergence(chi2_conjugate, chi2_derivative), "kl": Divergence(kl_conjugate, kl_derivative)}
"""The f-divergences by name."""


def chi2_released_mean(y: th.Tensor) -> th.Tensor:
    """``E (y^2 / 2 + y)``, as the released code has it: with the conjugate of f on all of R, also where w is 0."""
    return (0.5 * y.square() + y).mean()


RELEASED_TERMS: dict[str, Callable[[th.Tensor], th.Tensor]] = {"chi2": chi2_released_mean, "kl": log_mean_exp}
"""The second term of Eq. 16 as the released code has it, by divergence."""


def residual(
    r: th.Tensor,
    q: th.Tensor,
    v_next: th.Tensor,
    v_start: th.Tensor,
    ended: th.Tensor,
    gamma: float,
    terminal: str,
) -> th.Tensor:
    """
    Argument of f_* in Eq. 16.

    :param r: ``[B]``
    :param q: ``[B]``
    :param v_next: ``[B]``
    :param v_start: scalar
    :param ended: ``[B]``, 1.0 where an episode ended: in a terminal state, or where the next state has no row in the data
    :param gamma: discount
    :param terminal: one of :data:`TERMINAL`
    :return: ``y [B]``
    """
    after_end = v_start if terminal == "restart" else th.zeros_like(v_start)
    return r + gamma * th.where(ended > 0, after_end, v_next) - q


def mass_coefficients(ended: th.Tensor, gamma: float, terminal: str) -> th.Tensor:
    """
    Derivative of -y by ``shift`` when ``shift / (1 - gamma)`` is added to Q. The optimal shift makes ``E_D[w mass] = 1``: the
    mass identity of either terminal mode.

    :param ended: ``[B]``
    :param gamma: discount; below 1 for "mask"
    :param terminal: one of :data:`TERMINAL`
    :return: ``mass [B]``, at least 1
    """
    if terminal == "restart":
        return th.ones_like(ended)
    return (1.0 - gamma * (1.0 - ended)) / (1.0 - gamma)


def dual_loss(
    y: th.Tensor,
    v_start: th.Tensor,
    gamma: float,
    conjugate_mean: Callable[[th.Tensor], th.Tensor],
    shift: th.Tensor | float = 0.0,
) -> th.Tensor:
    """
    Eq. 16: ``(1 - gamma) E_mu0,pi Q + E_D f_*(y)``.

    :param y: ``[B]``, the shift included
    :param v_start: scalar, without the shift
    :param gamma: discount
    :param conjugate_mean: ``[B]`` to scalar, estimates ``E_D f_*(y)``
    :param shift: (1 - gamma) times the constant part of Q
    :return: scalar to minimise
    """
    return (1.0 - gamma) * v_start + shift + conjugate_mean(y)


def best_shift(y: th.Tensor, mass: th.Tensor, derivative: Callable[[th.Tensor], th.Tensor]) -> th.Tensor:
    """
    The constant that minimises :func:`dual_loss`: ``E_D[w mass] = 1`` with ``w = derivative(y - shift * mass)``. The weights
    then fulfil the mass identity; for KL with restarts they are N softmax(y).

    :param y: ``[N]``, without a shift
    :param mass: ``[N]``, at least 1
    :param derivative: f_*'
    :return: scalar, float64
    """
    y, mass = y.double(), mass.double()
    # At the lower end every weight is at least 1, at the upper end every weight times its mass is at most 1.
    low, high = (y / mass).amin(), ((y + 1.0 + mass.log()) / mass).amax()
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        too_heavy = (derivative(y - middle * mass) * mass).mean() > 1.0
        low, high = th.where(too_heavy, middle, low), th.where(too_heavy, high, middle)
    return 0.5 * (low + high)
