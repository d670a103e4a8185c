r"""
The mixture density network, the model of the TOM paper.

One network gives K weights :math:`\pi_k` and K diagonal Gaussians over all D = 1 + O targets (reward, then state) together:

.. math:: p(y \mid s, a) = \sum_{k=1}^K \pi_k(s, a) \prod_{d=1}^D \mathcal N(y_d; \mu_{kd}(s, a), \sigma^2_{kd}(s, a))

The authors' code gives each dimension an independent mixture of its own, so that a sample can combine the position of one
mode with the velocity of another. Here one draw of k decides for all dimensions.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch as th
import torch.nn.functional as F
from torch import nn

from sb3_tom.checks.validation import check_integer, check_integers, check_number
from sb3_tom.compute.ensemble_linear import EnsembleLinear
from sb3_tom.compute.optimizers import set_options
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.dynamics import Prediction
from sb3_tom.contracts.objective import ModelObjective
from sb3_tom.contracts.types import Transitions
from sb3_tom.dynamics.fitting import FitSettings, fit_by_gradient
from sb3_tom.dynamics.gaussian import SoftBounds, draw, log_density
from sb3_tom.dynamics.normalized import NormalizedDynamics
from sb3_tom.dynamics.renormalization import UnitChange, preserve_outputs


class MixtureDensityNetwork(NormalizedDynamics):
    """
    A mixture of ``n_components`` joint diagonal Gaussians over (reward, next state) in unit scale (Bishop 1994; TOM,
    arXiv:2305.12663, Sec. 5.2). A model of one member.

    :param n_components: K
    :param net_arch: widths of the hidden layers
    :param learning_rate: of Adam
    :param weight_decay: L2 coefficient of every layer
    :param predict: the state targets, "delta" or "next" (:data:`sb3_tom.dynamics.normalizer.PREDICT`)
    :param clamp: "range" keeps samples within the range of the real data, "margin" within twice its width, None leaves them
        (:data:`sb3_tom.dynamics.normalizer.CLAMP_MARGINS`)
    :param fit_kwargs: settings of :class:`sb3_tom.dynamics.fitting.FitSettings`
    :raises ValueError: naming the argument, what came and what is allowed
    """

    recordable = True
    is_reparameterised = False

    def __init__(
        self,
        n_components: int = 10,
        net_arch: Sequence[int] = (200, 200, 200, 200),
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        predict: str = "delta",
        clamp: str | None = "range",
        **fit_kwargs: float,
    ) -> None:
        super().__init__(predict, clamp)
        self.n_components = check_integer("n_components", n_components, 1)
        self.net_arch = check_integers("net_arch", net_arch)
        self.learning_rate = check_number("learning_rate", learning_rate, 0.0, 1.0, low_open=True)
        self.weight_decay = check_number("weight_decay", weight_decay, 0.0)
        self.settings = FitSettings(**fit_kwargs)  # type: ignore[arg-type]

    def build(self, observation_dim: int, action_dim: int) -> None:
        """Create network, normaliser and optimiser; see :meth:`Plug.build`."""
        super().build(observation_dim, action_dim)
        self.n_targets = 1 + observation_dim
        widths = [observation_dim + action_dim, *self.net_arch, self.n_components * (1 + 2 * self.n_targets)]
        self.layers = nn.ModuleList(EnsembleLinear(1, n_inputs, n_outputs) for n_inputs, n_outputs in pairwise(widths))
        self.bounds = SoftBounds(self.n_targets)
        groups = [
            {"params": self.layers.parameters(), "weight_decay": self.weight_decay},
            {"params": self.bounds.parameters(), "weight_decay": 0.0},
        ]
        self.optimizer = th.optim.Adam(groups, lr=self.learning_rate, fused=True)

    def _components(self, observations: th.Tensor, actions: th.Tensor) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """Logits ``[1, B, K]``, means and unbounded log-variances ``[1, B, K, D]``."""
        hidden = self.normalizer.inputs(observations, actions)
        hidden = hidden if hidden.dim() == 3 else hidden.unsqueeze(0)
        for layer in self.layers[:-1]:
            hidden = F.silu(layer(hidden))
        size = self.n_components * self.n_targets
        logits, mean, log_var = self.layers[-1](hidden).split([self.n_components, size, size], dim=-1)
        shape = (self.n_components, self.n_targets)
        return logits, mean.unflatten(-1, shape), log_var.unflatten(-1, shape)

    def forward(self, observations: th.Tensor, actions: th.Tensor) -> Prediction:
        """Mean and variance of the mixture (the Gaussian of the same moments); see :meth:`DynamicsModel.forward`."""
        logits, means, log_vars = self._components(observations, actions)
        shares = th.softmax(logits, dim=-1).unsqueeze(-1)
        mean = (shares * means).sum(-2)
        # Law of total variance; about the mean, since E[x^2] - E[x]^2 cancels in float32
        spread = (means - mean.unsqueeze(-2)).square()
        variance = (shares * (self.bounds(log_vars).exp() + spread)).sum(-2)
        return Prediction(mean, variance.log())

    def log_likelihood(self, batch: Transitions) -> th.Tensor:
        """Log-density of the mixture ``[1, B]``, divided by D, without its constant."""
        logits, means, log_vars = self._components(batch.observations, batch.actions)
        targets = self.normalizer.targets(batch).unsqueeze(-2)
        joint = log_density(targets, means, self.bounds(log_vars)).sum(-1)
        return th.logsumexp(th.log_softmax(logits, dim=-1) + joint, dim=-1) / self.n_targets

    def validation_error(self, batch: Transitions) -> th.Tensor:
        """Negative log-likelihood ``[1, B]``: the squared error of the mean ignores the modes."""
        return -self.log_likelihood(batch)

    def regularization(self) -> th.Tensor:
        """Penalty on the distance of the log-variance bounds."""
        return self.bounds.penalty()

    def sample(
        self,
        observations: th.Tensor,
        actions: th.Tensor,
        generator: th.Generator,
    ) -> tuple[th.Tensor, th.Tensor]:
        """
        Draw one component per row by inverse transform sampling, then a reparameterised Gaussian of that component (logits get
        no gradient). See :meth:`DynamicsModel.sample`.
        """
        return self.normalizer.outcomes(self._draw(observations, actions, generator).squeeze(0), observations)

    def _draw(self, observations: th.Tensor, actions: th.Tensor, generator: th.Generator) -> th.Tensor:
        """Samples ``[1, B, D]`` in unit scale."""
        logits, means, log_vars = (values.squeeze(0) for values in self._components(observations, actions))
        cumulative = th.softmax(logits.detach(), dim=-1).cumsum(-1)
        points = th.rand(cumulative.shape[0], 1, generator=generator, device=cumulative.device) * cumulative[:, -1:]
        component = (cumulative <= points).sum(-1).clamp(max=self.n_components - 1)
        rows = th.arange(component.numel(), device=component.device)
        return draw(means[rows, component], self.bounds(log_vars[rows, component]), generator).unsqueeze(0)

    def adapt(self, change: UnitChange) -> None:
        """Compensate the first layer, each component of the last, and the bounds; see :meth:`NormalizedDynamics.adapt`."""
        n = self.n_components
        scales, shifts = (change.target_scale, change.log_variance_scale), (change.target_shift, change.log_variance_shift)
        scale = th.cat([change.target_scale.new_ones(n), *(part.repeat(n) for part in scales)])
        shift = th.cat([change.target_shift.new_zeros(n), *(part.repeat(n) for part in shifts)])
        preserve_outputs(self.layers, self.bounds, change, (scale, shift), self.optimizer)

    def fit(
        self,
        data: Transitions,
        weights: th.Tensor,
        objective: ModelObjective,
        context: Context,
        weighting: str = "sample",
    ) -> dict[str, float]:
        """Warm-started fit; see :meth:`DynamicsModel.fit`."""
        self.fit_normalizer(data)
        set_options(self.optimizer, self.learning_rate, (self.weight_decay, 0.0))
        _, figures = fit_by_gradient(self, self.optimizer, data, weights, objective, context, weighting, self.settings)
        return figures
