"""The probabilistic ensemble of MBPO, its members batched into one tensor."""

from collections.abc import Sequence
from itertools import pairwise

import torch as th
import torch.nn.functional as F
from torch import nn

from sb3_tom.checks.validation import check_bool, check_integer, check_integers, check_number
from sb3_tom.compute.ensemble_linear import EnsembleLinear
from sb3_tom.compute.optimizers import set_options
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.dynamics import Prediction
from sb3_tom.contracts.objective import ModelObjective
from sb3_tom.contracts.types import Transitions
from sb3_tom.dynamics.fitting import FitSettings, fit_by_gradient
from sb3_tom.dynamics.gaussian import BOUND_PENALTY, ConstantNoise, SoftBounds, draw, log_density
from sb3_tom.dynamics.normalized import NormalizedDynamics
from sb3_tom.dynamics.renormalization import UnitChange, preserve_outputs

MBPO_WEIGHT_DECAY = (2.5e-5, 5e-5, 7.5e-5, 1e-4)
"""L2 coefficients of the MBPO authors' code: first layer, second, the other hidden ones, the output."""

NOISE_RATE = 10.0
"""Learning-rate factor of a constant noise; at 1 it would stay near its initial value for the hundreds of steps of a fit."""


class ProbabilisticEnsemble(NormalizedDynamics):
    """
    E networks that each predict a diagonal Gaussian over (reward, next state) in unit scale. Each row is predicted by a random
    one of the ``n_elites`` that are best by held-out error (Chua et al. 2018, arXiv:1805.12114; MBPO,
    arXiv:1906.08253, App. C).

    :param n_members: E
    :param n_elites: members that predict
    :param net_arch: widths of the hidden layers
    :param learning_rate: of Adam
    :param weight_decay: L2 coefficient of every layer; None takes those of MBPO's code, which rise from input to output
    :param predict: the state targets, "delta" or "next" (:data:`sb3_tom.dynamics.normalizer.PREDICT`)
    :param clamp: "range" keeps samples within the range of the real data, "margin" within twice its width, None leaves them
        (:data:`sb3_tom.dynamics.normalizer.CLAMP_MARGINS`)
    :param soft_norm: a layer normalisation without scale or shift before every layer but the first, with an epsilon of 1, 0.1
        and 0.01 from the input on: it keeps small activations small (the code of DHMBPO, Kubo et al. 2025)
    :param homoscedastic: a noise for each target that does not depend on the input, learned with ten times the rate
    :param beta_nll: each dimension's log-density is weighted by its own predicted variance to this power, a constant to the
        gradient (Seitzer et al. 2022, arXiv:2203.09168, Eq. 6). 0 is the likelihood, in which hard rows can be explained away
        as noise; 1 trains the means by squared error; 0.5 is in between
    :param bound_penalty: coefficient of the penalty on the distance of the bounds of the log-variance. The default is that of
        MBPO's code. With ``beta_nll`` the likelihood's pull on the bounds is smaller and the penalty's is not: after thousands
        of gradient steps variances have a floor of about ``(bound_penalty * D / E) ** (1 / beta_nll)``
    :param reward_noise: whether sampled rewards have noise; False: they are means
    :param dropout_rate: share of the units of each hidden layer that are dropped in the fit; predictions use all
    :param fit_kwargs: settings of :class:`sb3_tom.dynamics.fitting.FitSettings`
    :raises ValueError: naming the argument, what came and what is allowed
    """

    elites: th.Tensor
    rollout_recordable = True

    def __init__(
        self,
        n_members: int = 7,
        n_elites: int = 5,
        net_arch: Sequence[int] = (200, 200, 200, 200),
        learning_rate: float = 1e-3,
        weight_decay: float | None = None,
        predict: str = "delta",
        clamp: str | None = "range",
        soft_norm: bool = False,
        homoscedastic: bool = False,
        beta_nll: float = 0.0,
        reward_noise: bool = True,
        dropout_rate: float = 0.0,
        bound_penalty: float = BOUND_PENALTY,
        **fit_kwargs: float,
    ) -> None:
        super().__init__(predict, clamp)
        self.n_members = check_integer("n_members", n_members, 1)
        self.n_elites = check_integer("n_elites", n_elites, 1)
        if self.n_elites > self.n_members:
            raise ValueError(f"n_elites={n_elites} is not allowed; allowed: at most n_members={n_members}")
        self.net_arch = check_integers("net_arch", net_arch)
        self.learning_rate = check_number("learning_rate", learning_rate, 0.0, 1.0, low_open=True)
        self.weight_decay = None if weight_decay is None else check_number("weight_decay", weight_decay, 0.0)
        self.soft_norm = check_bool("soft_norm", soft_norm)
        self.homoscedastic = check_bool("homoscedastic", homoscedastic)
        self.beta_nll = check_number("beta_nll", beta_nll, 0.0, 1.0)
        self.reward_noise = check_bool("reward_noise", reward_noise)
        self.dropout_rate = check_number("dropout_rate", dropout_rate, 0.0, 1.0, high_open=True)
        self.bound_penalty = check_number("bound_penalty", bound_penalty, 0.0)
        self._masks: th.Generator | None = None  # source of the dropout masks, during a fit
        self.settings = FitSettings(**fit_kwargs)  # type: ignore[arg-type]

    @property
    def recordable(self) -> bool:  # type: ignore[override]
        """False with dropout, whose masks come from the agent's generator; see :class:`Plug`."""
        return self.dropout_rate == 0.0

    def build(self, observation_dim: int, action_dim: int) -> None:
        """Create networks, normaliser and optimiser; see :meth:`Plug.build`."""
        super().build(observation_dim, action_dim)
        n_targets = 1 + observation_dim
        n_outputs = n_targets if self.homoscedastic else 2 * n_targets
        widths = [observation_dim + action_dim, *self.net_arch, n_outputs]
        self.layers = nn.ModuleList(
            EnsembleLinear(self.n_members, width, next_width) for width, next_width in pairwise(widths)
        )
        self.bounds: SoftBounds | ConstantNoise = (
            ConstantNoise(n_targets, self.n_members)
            if self.homoscedastic
            else SoftBounds(n_targets, self.n_members, self.bound_penalty)
        )
        self.register_buffer("elites", th.arange(self.n_elites, dtype=th.float32))
        modules = [*self.layers, self.bounds]
        groups = [
            {"params": module.parameters(), "weight_decay": decay}
            for module, decay in zip(modules, self._decays(), strict=True)
        ]
        self.optimizer = th.optim.Adam(groups, lr=self.learning_rate, fused=True)

    def _decays(self) -> list[float]:
        """L2 coefficients of the layers, and of the bounds of the log-variance."""
        n_layers = len(self.layers)
        if self.weight_decay is not None:
            return [*[self.weight_decay] * n_layers, 0.0]
        first, second, hidden, last = MBPO_WEIGHT_DECAY
        before_last = [first, second, *[hidden] * max(n_layers - 3, 0)][: n_layers - 1]
        return [*before_last, last, 0.0]

    def forward(self, observations: th.Tensor, actions: th.Tensor) -> Prediction:
        """Prediction of every member; see :meth:`DynamicsModel.forward`."""
        return self._predict(self.normalizer.inputs(observations, actions), None)

    def _predict(self, inputs: th.Tensor, members: th.Tensor | None, drop: bool = False) -> Prediction:
        n_used = self.n_members if members is None else members.numel()
        hidden = inputs if inputs.dim() == 3 else inputs.expand(n_used, *inputs.shape)
        *layers, last = self.layers
        for number, layer in enumerate(layers):
            hidden = F.silu(layer(self._norm(hidden, number), members))
            hidden = self._dropped(hidden) if drop else hidden
        outputs = last(self._norm(hidden, len(layers)), members)
        if self.homoscedastic:
            return Prediction(outputs, self.bounds(outputs, members))
        mean, log_var = outputs.chunk(2, dim=-1)
        return Prediction(mean, self.bounds(log_var, members))

    def _dropped(self, hidden: th.Tensor) -> th.Tensor:
        """Inverted dropout."""
        kept = th.rand(hidden.shape, generator=self._masks, device=hidden.device) >= self.dropout_rate
        return hidden * kept / (1.0 - self.dropout_rate)

    def _norm(self, hidden: th.Tensor, number: int) -> th.Tensor:
        """Normalised input of a layer."""
        if not self.soft_norm or number == 0:
            return hidden
        return F.layer_norm(hidden, hidden.shape[-1:], eps=10.0 ** -min(number - 1, 2))

    def fit_likelihood(self, batch: Transitions) -> th.Tensor:
        """Log-density weighted by ``beta_nll``, with dropout; see :meth:`DynamicsModel.fit_likelihood`."""
        if self.dropout_rate:
            mean, log_var = self._predict(self.normalizer.inputs(batch.observations, batch.actions), None, drop=True)
        elif self.beta_nll:
            mean, log_var = self(batch.observations, batch.actions)
        else:
            return self.log_likelihood(batch)
        return (th.exp(self.beta_nll * log_var).detach() * log_density(self.targets(batch), mean, log_var)).mean(-1)

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
        Each row by one random elite: a random permutation assigns the rows evenly, so that only one member is
        evaluated per row. See :meth:`DynamicsModel.sample`.
        """
        n_rows, device, members = observations.shape[0], observations.device, self._predicting()
        per_member = -(-n_rows // self.n_elites)
        if (self.n_elites - 1) * per_member >= n_rows:  # not each has a row: those that have are drawn
            chosen = th.randperm(self.n_elites, generator=generator, device=device)
            members = chosen if members is None else members[chosen]
        order = th.randperm(n_rows, generator=generator, device=device)
        n_dealt = self.n_elites * per_member
        dealt = order if n_dealt == n_rows else order[th.arange(n_dealt, device=device) % n_rows]
        inputs = self.normalizer.inputs(observations, actions)[dealt].view(self.n_elites, per_member, -1)
        mean, log_var = (values.flatten(0, 1) for values in self._predict(inputs, members))
        if len(mean) > n_rows:  # even a full slice would copy the gradient
            mean, log_var = mean[:n_rows], log_var[:n_rows]
        drawn = self._noisy(mean, log_var, generator)
        return self.normalizer.outcomes(th.empty_like(drawn).index_copy(0, order, drawn), observations)

    def _predicting(self) -> th.Tensor | None:
        """Indices of the elites; None if all members are, so that no parameters are gathered."""
        return None if self.n_elites == self.n_members else self.elites.long()

    def _draw(self, observations: th.Tensor, actions: th.Tensor, generator: th.Generator) -> th.Tensor:
        """Samples ``[E, B, D]`` of every member, elite or not, in unit scale."""
        mean, log_var = self(observations, actions)
        return self._noisy(mean, log_var, generator)

    def _noisy(self, mean: th.Tensor, log_var: th.Tensor, generator: th.Generator) -> th.Tensor:
        return draw(mean, log_var, generator, n_exact=0 if self.reward_noise else 1)

    def adapt(self, change: UnitChange) -> None:
        """Compensate the first and the last layer and the noise; see :meth:`NormalizedDynamics.adapt`."""
        scale, shift = change.target_scale, change.target_shift
        if not self.homoscedastic:
            scale, shift = th.cat([scale, change.log_variance_scale]), th.cat([shift, change.log_variance_shift])
        preserve_outputs(self.layers, self.bounds, change, (scale, shift), self.optimizer)

    def fit(
        self,
        data: Transitions,
        weights: th.Tensor,
        objective: ModelObjective,
        context: Context,
        weighting: str = "sample",
    ) -> dict[str, float]:
        """Warm-started fit of all members, then choice of the elites; see :meth:`DynamicsModel.fit`."""
        self.fit_normalizer(data)
        factors = [*[1.0] * len(self.layers), NOISE_RATE if self.homoscedastic else 1.0]
        set_options(self.optimizer, self.learning_rate, self._decays(), factors)
        self._masks = context.generator if self.dropout_rate else None
        try:
            errors, figures = fit_by_gradient(
                self, self.optimizer, data, weights, objective, context, weighting, self.settings
            )
        finally:
            self._masks = None
        elites = th.argsort(errors)[: self.n_elites]
        self.elites.copy_(elites)
        return {**figures, "validation_error": float(errors[elites].mean())}
