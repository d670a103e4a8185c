r"""TOM: transitions are weighted by how often the current policy visits them (Ma et al. 2023, arXiv:2305.12663)."""

import math
import warnings
from typing import Any

import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.contracts.weighter import Weighter
from sb3_tom.weighters.tom.averaging import average_next
from sb3_tom.weighters.tom.discriminator import TransitionDiscriminator
from sb3_tom.weighters.tom.dual import FlowDual
from sb3_tom.weighters.tom.folds import NumberedRows
from sb3_tom.weighters.tom.footprint import Footprint
from sb3_tom.weighters.tom.settings import tom_settings


class TOMWeighter(Weighter):
    r"""
    Transition occupancy matching, Algorithm 1 of the paper, lines 2-5:

    1. A discriminator separates ``recent`` [n, .] from the buffer [N, .] by (s, a, s'); its logit R(s,a,s') estimates
       :math:`\log d^\pi / d^D` (App. A.2), by default cross-fitted over five networks and clamped to :math:`\pm 5`.
    2. A network Q(s,a) minimises the dual (Eq. 16)

       .. math::
           (1 - \gamma) E_{\mu_0, \pi} Q(s,a) + E_D f_*(y), \qquad y = R(s,a,s') + \gamma E_\pi Q(s',a') - Q(s,a).

    3. The weights ``[N]`` are :math:`w = f_*'(y)` (Eq. 17): :math:`\max(0, y + 1)` for chi2, :math:`\exp(y)` for KL. They are
       averaged over s' by a regression on (s, a) (:mod:`sb3_tom.weighters.tom.averaging`).

    The recent rows are visits without discount, so the flow is undiscounted too: by default gamma is 1 here, and the end of an
    episode, by a termination or a time limit, leads to the start of the next one. The flow constraint behind Q corrects a
    log-ratio that fits no policy in the environment. The agent's weights are 1 until the replay buffer holds ``recent_size``
    rows, unless it is given ``recent``, which may be of any size. They are also 1 if the descent diverges, on which the agent
    stops, and, with a warning, if all are 0, which only happens with chi2 and ``mass_shift=False`` (official).

    :param divergence: "kl" or "chi2" (the paper's experiments); None: the preset's
    :param preset: "default" (corrected, with the choices that did best) or "official" (the choices of the released code)
    :param arguments: override the preset, see the table in :mod:`sb3_tom.weighters.tom.settings`
    :raises ValueError: naming the argument, what came and what is allowed
    """

    needs_recent = True

    def __init__(self, divergence: str | None = None, preset: str = "default", **arguments: Any) -> None:
        super().__init__()
        self.settings = tom_settings(preset, arguments if divergence is None else {"divergence": divergence, **arguments})
        self.recent_size = self.settings.recent_size
        self.max_weight = self.settings.max_weight
        self.uniform_mix = self.settings.uniform_mix
        self.ess_floor = self.settings.ess_floor

    ready: th.Tensor

    def build(self, observation_dim: int, action_dim: int) -> None:
        """Create networks and optimisers; see :meth:`Plug.build`."""
        settings = self.settings
        if settings.discriminator:
            self.discriminator = TransitionDiscriminator(observation_dim, action_dim, settings)
            self.discriminator_optimizer = self.discriminator.optimizer()
        else:
            self.footprint = Footprint(observation_dim, action_dim)
        self.dual = FlowDual(observation_dim, action_dim, settings)
        self.dual_optimizer = self.dual.optimizer()
        self.register_buffer("ready", th.zeros(()))

    def check_gamma(self, gamma: float) -> None:
        """Check that the discount is below 1 with ``terminal="mask"``; see :meth:`Weighter.check_gamma`."""
        self.settings.discount(gamma)

    def fit(
        self,
        data: Transitions,
        recent: Transitions,
        start_observations: th.Tensor,
        context: Context,
    ) -> dict[str, float]:
        """Learn R, then Q; see :meth:`Weighter.fit`."""
        self.ready.fill_(1.0)
        figures = self.fit_log_ratio(data, recent, context)

        def log_ratio(rows: Transitions) -> th.Tensor:
            return self.log_ratio(rows, context)

        figures |= self.dual.fit(NumberedRows.of(data), log_ratio, start_observations, self.dual_optimizer, context)
        if "log_ratio_recent" not in figures:
            figures["log_ratio_recent"] = log_ratio(recent).mean()
        figures["diverged"] = self._diverged()
        values = dict(zip(figures, th.stack(list(figures.values())).tolist(), strict=True))
        if values["diverged"]:
            values["dual_loss"] = math.nan  # the agent stops on it; without an agent, weights are 1
            self.ready.zero_()
            self.dual.reset(self.dual_optimizer, context.generator)
        return values

    def fit_log_ratio(self, data: Transitions, recent: Transitions, context: Context) -> dict[str, th.Tensor]:
        """
        Learn what :meth:`log_ratio` needs. Override both to compute R in another way.

        :param data: N rows of the buffer
        :param recent: on-policy sample
        :param context: view of the agent
        :return: figures for the log, scalars on the device
        """
        if self.settings.discriminator:
            return self.discriminator.fit(data, recent, self.discriminator_optimizer, context)
        self.footprint.remember(recent)
        return {}

    def log_ratio(self, data: Transitions, context: Context) -> th.Tensor:
        """
        R, the estimate of log d^pi / d^D.

        :param data: B rows, any of the buffer's
        :param context: view of the agent
        :return: ``[B]``
        """
        if self.settings.discriminator:
            return self.discriminator.log_ratio(data, context)
        return self.footprint.contains(data).float()

    def weights(self, data: Transitions, context: Context) -> th.Tensor:
        """Weights ``[N]``, float64, by Eq. 17; see :meth:`Weighter.weights`."""
        if bool(self.ready):
            numbered = NumberedRows.of(data)
            weights = self._averaged(numbered, context) if self.settings.average_next else self._of_rows(numbered, context)
            if bool((weights != 0).any()):
                return weights
            warnings.warn("TOM's weights are 0 for all rows: they count alike in this model phase", stacklevel=2)
        return th.ones(data.size, dtype=th.float64, device=data.device)

    def _of_rows(self, data: Transitions, context: Context, numbers: th.Tensor | None = None) -> th.Tensor:
        return self.dual.weights(data, lambda rows: self.log_ratio(rows, context), context, numbers)

    def _averaged(self, data: Transitions, context: Context) -> th.Tensor:
        """Eq. 17 for at most ``pool_size`` rows, clipped as by the agent, and averaged over s' for all rows."""
        rows = th.arange(data.size, device=data.device)
        if self.settings.pool_size is not None and data.size > self.settings.pool_size:
            rows = th.randint(data.size, (self.settings.pool_size,), generator=context.generator, device=data.device)
        weights = self._of_rows(data, context, rows)
        total = weights.sum()
        if not bool(th.isfinite(total) & (total > 0)):
            return total.expand(data.size)  # all 0 or not finite: the callers report it
        if self.max_weight is not None:
            weights = weights.clamp(max=self.max_weight * float(weights.mean()))
        policy_columns = self.discriminator.policy_columns(data, context) if self.settings.policy_input else None
        return average_next(weights, rows, data, self.settings.average_steps, context, policy_columns)

    def _diverged(self) -> th.Tensor:
        """1.0 if a parameter is not finite, as raw inputs of a large scale can cause."""
        finite = [th.isfinite(parameter).all() for parameter in self.parameters()]
        return 1.0 - th.stack(finite).all().float()
