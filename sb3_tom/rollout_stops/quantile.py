r"""
Rollouts stop where the members of an ensemble disagree more than they usually do at real states (MACURA: Frauenknecht et al.
2024, ICML, arXiv:2405.19014; code: Data-Science-in-Mechanical-Engineering/macura).

The disagreement of two members is the geometric Jensen-Shannon divergence of their Gaussians, in its dual form with equal
shares (Nielsen 2020, arXiv:1904.04017), over the D targets:

.. math:: u_{ij} = \frac12 \sum_d \Big[\frac{(\mu_{id} - \mu_{jd})^2}{2 (\sigma^2_{id} + \sigma^2_{jd})}
    + \log \cosh \tfrac12 \log \frac{\sigma^2_{id}}{\sigma^2_{jd}}\Big]

and that of all members is the mean over pairs. It has no unit, being relative to the noise that the members predict.
"""

import math

import torch as th

from sb3_tom.checks.validation import check_integer, check_number
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.dynamics import DynamicsModel, Prediction
from sb3_tom.contracts.imagination import RolloutStop
from sb3_tom.contracts.types import Transitions


class QuantileStop(RolloutStop):
    r"""
    Stops a rollout before a transition whose disagreement is above

    .. math:: \kappa = \xi \cdot \operatorname{mean}_{\text{rounds}} q_\zeta(u),

    with the quantile :math:`q_\zeta(u)` of the disagreement on a round's first transitions, those from real states. The
    quantiles of the rounds are saved and resumed.

    :param quantile: :math:`\zeta`, in [0, 1]
    :param factor: :math:`\xi`, above 0; the one number that MACURA tunes for each task, from 0.3 to 30
    :param n_rounds: number of latest rounds of rollouts in the mean
    :raises ValueError: naming the argument, what came and what is allowed
    """

    growing = ("quantiles",)
    quantiles: th.Tensor

    def __init__(self, quantile: float = 0.95, factor: float = 1.0, n_rounds: int = 2000) -> None:
        super().__init__()
        self.quantile = check_number("quantile", quantile, 0.0, 1.0)
        self.factor = check_number("factor", factor, 0.0, low_open=True)
        self.n_rounds = check_integer("n_rounds", n_rounds, 1)

    def check_model(self, model: DynamicsModel) -> None:
        """Refuse a model of one member; see :meth:`Judge.check_model`."""
        self._needs_members(model, "rollout_stop='quantile'")

    def build(self, observation_dim: int, action_dim: int) -> None:
        """Create an empty buffer of quantiles; see :meth:`Plug.build`."""
        self.register_buffer("quantiles", th.zeros(0))

    @property
    def limit(self) -> th.Tensor:
        """Disagreement above which a rollout stops, a scalar; NaN before the first round, when none stops."""
        return self.factor * self.quantiles.mean()

    def begin(self, model: DynamicsModel, batch: Transitions, context: Context) -> None:
        """Add the quantile of a new round; see :meth:`RolloutStop.begin`."""
        new = th.quantile(disagreement(model, batch).float(), self.quantile).reshape(1)
        self.quantiles = th.cat([self.quantiles, new])[-self.n_rounds :]

    def forward(self, model: DynamicsModel, batch: Transitions, context: Context) -> th.Tensor:
        """``[B, 1]``; see :meth:`RolloutStop.forward`."""
        return disagreement(model, batch) > self.limit


def disagreement(model: DynamicsModel, batch: Transitions) -> th.Tensor:
    """
    Disagreement of the members, see the equation of this module.

    :param model: of E members
    :param batch: B rows, in the env's own units
    :return: ``[B, 1]``, at least 0
    """
    varies = model.target_scales() > 0  # targets that never varied are predicted exactly
    return th.where(varies, mean_divergence(model(batch.observations, batch.actions)), 0.0).sum(-1, keepdim=True)


def mean_divergence(prediction: Prediction) -> th.Tensor:
    """
    Geometric Jensen-Shannon divergence of each dimension, averaged over pairs of members.

    :param prediction: ``[E, B, D]``
    :return: ``[B, D]``
    """
    n_members = len(prediction.mean)
    one, other = th.triu_indices(n_members, n_members, offset=1, device=prediction.mean.device)
    squares = (prediction.mean[one] - prediction.mean[other]).square()
    variances = prediction.log_var.exp()
    ratios = 0.5 * (prediction.log_var[one] - prediction.log_var[other])
    cosh = th.logaddexp(ratios, -ratios) - math.log(2.0)
    return 0.5 * (0.5 * squares / (variances[one] + variances[other]) + cosh).mean(0)
