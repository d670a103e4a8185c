r"""
VaGraM, value-gradient weighted model learning (Voelcker et al. 2022, ICLR, arXiv:2204.01464): a squared error in which each
dimension of the next state is weighted by the squared gradient of the value. To first order the model's error changes
:math:`r + V(s')` (without discount, as in the authors' code) by
:math:`\hat r - r + \sum_d \partial_d V(s')\,(f_d - s'_d)`; the paper bounds its square by one term per dimension, whose only
minimum is the right prediction. Per row, in squared units of the rewards:

.. math::
    (\hat r - r)^2 + \sum_{d=1}^O \Bigl(\tfrac 1 C \sum_{c=1}^C \bigl(\partial_d V_c(s')\bigr)^2\Bigr) (f_d - s'_d)^2, \qquad
    V_c(s') = Q_c(s', \bar\pi(s')).

=============================  ==========================================================================
symbol                         meaning
=============================  ==========================================================================
:math:`f`, :math:`\hat r`      predicted next state and reward: the model's mean (a mixture's: of all components)
:math:`s'`, :math:`r`          the real ones; gradients are taken there, once per fit
:math:`Q_c`                    the critics and their targets, C in all, as in the authors' code
:math:`\bar\pi(s')`            the deterministic action, a constant to the gradient, as in the authors' code
=============================  ==========================================================================

Differences from the authors' code, besides the corrections listed in docs/differences.md:

======================  =================================================================================
part                    here
======================  =================================================================================
scale                   divided by the mean coefficient over rows and targets in unit scale: the loss does
                        not depend on the units of observations and rewards
clip                    of the root of a row's summed coefficients, in the unit of the rewards, with one
                        bound for all rows; the authors' code compares raw gradients within a minibatch
plain error             replaces the other in the first fits, whose critics are untrained; the authors' code
                        adds it in the first 1,000 steps
noise                   the model stays probabilistic: its variance is fitted by the Gaussian likelihood of
                        the detached squared error, which gives the mean no gradient. The authors' model is
                        deterministic
emphasis                the weighted error is divided by its value at the beginning of a fit, as a likelihood
                        divides by the variance. Gradients of a squared error shrink with it, those of
                        variances do not, and would dominate in shared layers
terminal rows           count like others: the predicted state decides where an episode ends
======================  =================================================================================
"""

import math

import torch as th

from sb3_tom.checks.validation import check_integer, check_number
from sb3_tom.compute.chunks import evenly, joined, rows_at_once
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.dynamics import DynamicsModel
from sb3_tom.contracts.objective import Extras, ModelObjective
from sb3_tom.contracts.types import Transitions
from sb3_tom.data.scales import one_for_zero

LEVEL_ROWS = 5000
"""Maximum number of rows for the error at the beginning of a fit."""
LEAST_LEVEL = 1e-8
"""Lower bound of that error: float32 rounding."""
KEPT_PASSES = 4
"""Memory of a pass whose activations are kept, in passes without gradients."""


class VaGraMObjective(ModelObjective):
    """
    Squared error weighted by the value gradient (VaGraM). For models whose mean is fitted by gradients: ``"ensemble"``,
    ``"smooth"``, ``"mdn"`` (not ``"linear"``). The authors' change from real to imagined rows is the agent's ``real_ratio``.

    :param clip_quantile: bound of a row's value gradient, as a quantile over all rows in (0, 1]; 1 is no bound
    :param plain_fits: number of first fits of an agent that minimise the plain squared error in unit scale, at least 0. Four
        fits are the authors' 1,000 env steps at the default ``model_train_freq``
    :raises ValueError: naming the argument, what came and what is allowed
    """

    recordable = True
    n_fits: th.Tensor

    def __init__(self, clip_quantile: float = 0.95, plain_fits: int = 4) -> None:
        super().__init__()
        self.clip_quantile = check_number("clip_quantile", clip_quantile, 0.0, 1.0, low_open=True)
        self.plain_fits = check_integer("plain_fits", plain_fits, 0)

    def build(self, observation_dim: int, action_dim: int) -> None:
        """Create the counter of fits; see :meth:`Plug.build`."""
        self.register_buffer("n_fits", th.zeros((), dtype=th.int64))

    def prepare(self, model: DynamicsModel, data: Transitions, context: Context) -> Extras:
        """
        Coefficients ``[N, D]`` of the squared errors in unit scale, the reward's first, with mean 1, or all 0 if neither
        reward nor value vary; and their emphasis relative to the noise ``[N, 1]``, the same for all rows. See
        :meth:`ModelObjective.prepare`.
        """
        self.n_fits += 1
        is_plain = int(self.n_fits) <= self.plain_fits
        ones = th.ones_like(model.target_scales()).expand(data.size, -1)
        coefficients = ones if is_plain else self._coefficients(model.target_scales(), data, context)
        level = self._level(model, data, coefficients)
        return {"coefficients": coefficients, "emphasis": (1.0 / level).expand(data.size, 1)}

    def _coefficients(self, scales: th.Tensor, data: Transitions, context: Context) -> th.Tensor:
        pieces = data.next_observations.split(rows_at_once(data.device, KEPT_PASSES))
        coefficients = joined((_with_rewards(squared_gradients(rows, context)) for rows in pieces), data.size)
        coefficients *= scales.square()
        coefficients[:, 1:] *= clip_factors(coefficients[:, 1:].sum(-1, keepdim=True), self.clip_quantile)
        coefficients /= one_for_zero(coefficients.mean(dtype=th.float64).float())
        return coefficients

    @th.no_grad()
    def _level(self, model: DynamicsModel, data: Transitions, coefficients: th.Tensor) -> th.Tensor:
        """Weighted error at the beginning of a fit, averaged over members and a sample of the rows; 1 if it is 0."""
        rows = evenly(data.size, LEVEL_ROWS, data.device)
        level = self.validation_error(model, data.rows(rows), {"coefficients": coefficients[rows]}).mean()
        return th.where(level > 0, level.clamp(min=LEAST_LEVEL), 1.0)

    def loss(self, model: DynamicsModel, batch: Transitions, weights: th.Tensor, extras: Extras) -> th.Tensor:
        """The weighted errors and the likelihood of the noise, summed over members; see :meth:`ModelObjective.loss`."""
        mean, log_var = model(batch.observations, batch.actions)
        squares = (model.targets(batch) - mean).square()
        noise = squares.detach() * th.exp(-log_var) + log_var  # twice the negative log-density
        losses = (extras["emphasis"] * extras["coefficients"] * squares + noise).mean(-1)
        return (weights * losses).mean(-1).sum() + model.regularization()

    def validation_error(self, model: DynamicsModel, batch: Transitions, extras: Extras) -> th.Tensor:
        """Weighted errors ``[E, B]``, averaged over targets, without the noise; see :class:`ModelObjective`."""
        mean, _ = model(batch.observations, batch.actions)
        return (extras["coefficients"] * (model.targets(batch) - mean).square()).mean(-1)


def squared_gradients(observations: th.Tensor, context: Context) -> th.Tensor:
    """
    Squared value gradients: each critic's gradient squared, then averaged over the critics.

    :param observations: ``[B, O]``
    :param context: view of the agent
    :return: ``[B, O]``, in squared units of rewards per squared unit of observations
    """
    with th.no_grad():
        actions = context.mean_action(observations)
    with th.enable_grad():
        inputs = observations.detach().requires_grad_()
        values = th.cat([context.values(inputs, actions), context.target_values(inputs, actions)])
        total = th.zeros_like(observations)
        for critic in range(values.shape[0]):
            (gradient,) = th.autograd.grad(values[critic].sum(), inputs, retain_graph=True)
            total += gradient.square()
    return total / values.shape[0]


def clip_factors(squared_norms: th.Tensor, quantile: float) -> th.Tensor:
    """
    Factors that clip rows at a quantile of all.

    :param squared_norms: ``[N, 1]``
    :param quantile: in (0, 1]; the bound is the least number that this share of the rows does not exceed
    :return: ``[N, 1]``, bound divided by squared norm where that exceeds it, 1 elsewhere
    """
    rank = math.ceil(quantile * squared_norms.numel())
    bound = squared_norms.flatten().sort().values[rank - 1]
    return th.where(squared_norms > bound, bound / squared_norms, 1.0)


def _with_rewards(squares: th.Tensor) -> th.Tensor:
    """Prepend the reward's derivative, 1, to those of the state."""
    return th.cat([th.ones_like(squares[:, :1]), squares], dim=-1)
