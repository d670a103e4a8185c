r"""
Linear-Gaussian dynamics with a closed-form weighted fit.

With the standardised inputs :math:`x_i`, a one appended, the standardised targets :math:`y_i` and the weights :math:`w_i`:

.. math::
    C = (X^\top W X + \lambda J)^{+} X^\top W Y, \qquad W = \mathrm{diag}(w) / \textstyle\sum_i w_i, \qquad
    \sigma_d^2 = \textstyle\sum_i W_{ii} (y_i - C^\top x_i)_d^2

where J is the identity with a zero for the intercept. It is the weighted maximum likelihood estimate (:math:`\lambda = 0`),
that is the exact minimiser of Eq. 18 of the TOM paper (arXiv:2305.12663) among linear-Gaussian models.
"""

from collections.abc import Callable, Iterable, Iterator

import torch as th
from torch import nn

from sb3_tom.checks.validation import check_bool, check_number
from sb3_tom.compute.chunks import rows_at_once
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.dynamics import Prediction
from sb3_tom.contracts.objective import ModelObjective
from sb3_tom.contracts.types import Transitions
from sb3_tom.dynamics.gaussian import draw
from sb3_tom.dynamics.normalized import NormalizedDynamics
from sb3_tom.dynamics.renormalization import UnitChange

VARIANCE_FLOOR = 1e-12
"""Lower bound of the residual variance in unit scale: smaller residuals are float32 rounding."""

Piece = tuple[th.Tensor, th.Tensor, th.Tensor]
"""
Rows of a regression, in float64: inputs ``[n, P]``, the last column the intercept's; targets ``[n, D]``; shares ``[n]``, which
sum to 1 over all rows.
"""


class LinearDynamics(NormalizedDynamics):
    """
    Reward and next state as linear functions of observation and action, with independent Gaussian noise. A model of one
    member, fitted in one step.

    :param ridge: lambda, the L2 coefficient of the slopes relative to the mean square of a standardised input
    :param deterministic: sample the mean, without the residual noise
    :param predict: the state targets, "delta" or "next"; with ``ridge=0`` both give the same predictions
    :param clamp: "range" keeps samples within the range of the real data, "margin" within twice its width, None leaves them
        (:data:`sb3_tom.dynamics.normalizer.CLAMP_MARGINS`)
    :raises ValueError: naming the argument, what came and what is allowed
    """

    def __init__(
        self, ridge: float = 1e-8, deterministic: bool = False, predict: str = "delta", clamp: str | None = "range"
    ) -> None:
        super().__init__(predict, clamp)
        self.ridge = check_number("ridge", ridge, 0.0)
        self.deterministic = check_bool("deterministic", deterministic)

    def build(self, observation_dim: int, action_dim: int) -> None:
        """Create normaliser and parameters, which predict the mean target; see :meth:`Plug.build`."""
        super().build(observation_dim, action_dim)
        n_targets = 1 + observation_dim
        self.slopes = nn.Parameter(th.zeros(observation_dim + action_dim, n_targets))
        self.intercept = nn.Parameter(th.zeros(n_targets))
        self.log_var = nn.Parameter(th.zeros(n_targets))

    @property
    def is_fitted(self) -> bool:
        """Whether the normaliser was fitted; see :attr:`DynamicsModel.is_fitted`."""
        return self.normalizer.is_fitted

    def check_objective(self, objective: ModelObjective) -> None:
        """Refuse other objectives than the likelihood, which alone has a closed form."""
        if not objective.is_likelihood:
            raise ValueError(
                f"{type(self).__name__} cannot be fitted with objective={type(objective).__name__}: its closed form is that "
                "of the likelihood; use that objective or another dynamics model"
            )

    def forward(self, observations: th.Tensor, actions: th.Tensor) -> Prediction:
        """The prediction ``[1, B, D]``; see :meth:`DynamicsModel.forward`."""
        inputs = self.normalizer.inputs(observations, actions)
        mean = (inputs if inputs.dim() == 3 else inputs.unsqueeze(0)) @ self.slopes + self.intercept
        return Prediction(mean, self.log_var.expand_as(mean))

    def sample(
        self,
        observations: th.Tensor,
        actions: th.Tensor,
        generator: th.Generator,
    ) -> tuple[th.Tensor, th.Tensor]:
        """The mean, plus the residual noise unless ``deterministic``; see :meth:`DynamicsModel.sample`."""
        drawn = self._draw(observations, actions, generator).squeeze(0)
        return self.normalizer.outcomes(drawn, observations)

    def _draw(self, observations: th.Tensor, actions: th.Tensor, generator: th.Generator) -> th.Tensor:
        mean, log_var = self(observations, actions)
        return mean if self.deterministic else draw(mean, log_var, generator)

    def adapt(self, change: UnitChange) -> None:
        """Do nothing: a fit does not depend on the parameters before it; see :meth:`NormalizedDynamics.adapt`."""

    @th.no_grad()
    def fit(
        self,
        data: Transitions,
        weights: th.Tensor,
        objective: ModelObjective,
        context: Context,
        weighting: str = "sample",
    ) -> dict[str, float]:
        """
        One weighted least-squares solve in float64. Nothing is random, so both kinds of ``weighting`` are the same. No rows
        are held out: ``validation_error`` is the weighted leave-one-out error, which a linear fit gives for free.
        See :meth:`DynamicsModel.fit`.
        """
        self.check_objective(objective)
        self.fit_normalizer(data)
        shares = weights.double() / weights.double().sum()

        def pieces() -> Iterator[Piece]:
            size = rows_at_once(data.device)
            for rows, their_shares in zip(data.split(size), shares.split(size), strict=True):
                inputs = self.normalizer.inputs(rows.observations, rows.actions).double()
                inputs = th.cat([inputs, th.ones_like(inputs[:, :1])], dim=-1)
                yield inputs, self.normalizer.targets(rows).double(), their_shares

        coefficients, variance, left_out = weighted_least_squares(pieces, self.ridge)
        self.slopes.copy_(coefficients[:-1])
        self.intercept.copy_(coefficients[-1])
        self.log_var.copy_(variance.clamp(min=VARIANCE_FLOOR).log())
        return {"validation_error": float(left_out.mean()), "gradient_steps": 0.0}


def weighted_least_squares(pieces: Callable[[], Iterable[Piece]], ridge: float) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
    """
    Minimise ``sum_i shares_i |targets_i - C^T inputs_i|^2 + ridge |slopes|^2``. Among several minimisers (fewer rows than
    columns and no ridge) the one of least norm is taken.

    :param pieces: returns an iterator over chunks of all rows at each call
    :param ridge: L2 coefficient of all rows of C but the last
    :return: C ``[P, D]``; the weighted mean square of the residuals ``[D]``, and that of the leave-one-out residuals ``[D]``
    """
    gram, cross = th.zeros(()), th.zeros(())
    for inputs, targets, shares in pieces():
        weighted = inputs * shares.unsqueeze(-1)
        gram = gram.to(inputs) + inputs.T @ weighted
        cross = cross.to(inputs) + weighted.T @ targets
    penalty = th.full_like(gram[0], ridge)
    penalty[-1] = 0.0
    inverse = th.linalg.pinv(gram + penalty.diag(), hermitian=True)
    coefficients = inverse @ cross
    variance, left_out = th.zeros_like(cross[0]), th.zeros_like(cross[0])
    for inputs, targets, shares in pieces():
        residuals = targets - inputs @ coefficients
        # The derivative of each row's prediction by its own target. Where it is 1, the row alone decides its prediction: its
        # residual is 0 and stays so
        leverages = ((inputs @ inverse) * inputs * shares.unsqueeze(-1)).sum(-1, keepdim=True)
        variance += shares @ residuals.square()
        left_out += shares @ (residuals / (1.0 - leverages).clamp(min=1e-3)).square()
    return coefficients, variance, left_out
