"""Weights by the log-ratio alone: TOM without its dual and its average over s', to measure the effect of the dual."""

from typing import Any

import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.contracts.weighter import Weighter
from sb3_tom.weighters.tom.discriminator import TransitionDiscriminator
from sb3_tom.weighters.tom.folds import NumberedRows
from sb3_tom.weighters.tom.settings import tom_settings


class RatioWeighter(Weighter):
    r"""
    Weights ``[N]`` :math:`\exp R(s,a,s')`, with R the discriminator's estimate of :math:`\log d^\pi / d^D` (Ma et al. 2023,
    App. A.2), learned as in :class:`~sb3_tom.weighters.tom.weighter.TOMWeighter`. Unlike TOM's, these weights need not be the
    occupancy of a policy in the environment. The agent's weights are 1 until the replay buffer holds ``recent_size`` rows.

    :param preset: of the discriminator, "default" or "official"
    :param arguments: override the preset, see the table in :mod:`sb3_tom.weighters.tom.settings`; those of the dual and
        ``average_next`` have no effect: what the dual adds is seen beside TOM with ``average_next=False``
    :raises ValueError: naming the argument, what came and what is allowed
    """

    needs_recent = True

    ready: th.Tensor

    def __init__(self, preset: str = "default", **arguments: Any) -> None:
        super().__init__()
        self.settings = tom_settings(preset, arguments)
        if not self.settings.discriminator:
            raise ValueError("discriminator=False is not allowed for a RatioWeighter: the ratio is all it has; allowed: True")
        self.recent_size = self.settings.recent_size
        self.max_weight = self.settings.max_weight
        self.uniform_mix = self.settings.uniform_mix
        self.ess_floor = self.settings.ess_floor

    def build(self, observation_dim: int, action_dim: int) -> None:
        """Create network and optimiser; see :meth:`Plug.build`."""
        self.discriminator = TransitionDiscriminator(observation_dim, action_dim, self.settings)
        self.discriminator_optimizer = self.discriminator.optimizer()
        self.register_buffer("ready", th.zeros(()))

    def fit(
        self,
        data: Transitions,
        recent: Transitions,
        start_observations: th.Tensor,
        context: Context,
    ) -> dict[str, float]:
        """Learn R; see :meth:`Weighter.fit`."""
        self.ready.fill_(1.0)
        figures = self.discriminator.fit(data, recent, self.discriminator_optimizer, context)
        return {name: float(value) for name, value in figures.items()}

    def weights(self, data: Transitions, context: Context) -> th.Tensor:
        """Weights ``[N]``, float64; see :meth:`Weighter.weights`."""
        if not bool(self.ready):
            return th.ones(data.size, dtype=th.float64, device=data.device)
        return self.discriminator.log_ratio(NumberedRows.of(data), context).double().exp()
