"""The contract of a weighter: how much each past transition counts in the fit of the dynamics model."""

from abc import abstractmethod

import numpy as np
import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.plug import Plug
from sb3_tom.contracts.types import Transitions


class Weighter(Plug):
    """
    Gives each transition of the replay buffer a weight. The agent validates and normalises the weights in one place
    (:func:`sb3_tom.data.weights.usable_weights`) and uses that one vector for the model fit, its validation and the
    starts of the imagined rollouts. The attributes are checked when the agent is made and in each model phase.
    """

    weighs_starts: bool = True
    """Whether the starts of imagined rollouts are drawn by the weights too, unless ``weight_rollout_starts`` is given."""

    recent_size: int = 1000
    """Number of newest rows that :meth:`fit` gets as ``recent`` by default; at least 1."""

    needs_recent: bool = False
    """
    Whether weights are 1, and the weighter is not called, until the buffer holds ``recent_size`` rows. A smaller
    ``buffer_size`` is refused then.
    """

    max_weight: float | None = None
    """
    Weights are clipped at this multiple of their mean and scaled to mean 1 again, after which the largest may exceed it; at
    least 1, None for no clipping.
    """

    uniform_mix: float = 0.0
    """Share in [0, 1] of uniform weights that is mixed in."""

    ess_floor: float = 0.0
    """Lower bound of the effective sample size as a share of the rows, held by tempering the weights; 0 is off."""

    def check_gamma(self, gamma: float) -> None:
        """
        Check that the weights are defined for a discount.

        :param gamma: the agent's discount factor
        :raises ValueError: if they are not; names it
        """

    def fit(
        self,
        data: Transitions,
        recent: Transitions,
        start_observations: th.Tensor,
        context: Context,
    ) -> dict[str, float] | None:
        """
        Learn what the weights need; does nothing by default.

        :param data: the N rows of the replay buffer
        :param recent: on-policy sample of at least one row, rows that stand for the current policy's visits (called its
            footprint here): the argument of ``MBPO.fit_weights``, by default the newest ``recent_size`` rows (fewer at first,
            unless ``needs_recent``)
        :param start_observations: ``[K, O]`` observations after real resets, K > 0
        :param context: view of the agent
        :return: figures for the log, by short name, or None
        """
        return {}

    def end_phase(self, data: Transitions, context: Context) -> None:
        """
        Called at the end of a model phase, after the fits and the rollouts, for example to keep the policy
        (:attr:`Context.snapshot`). Does nothing by default.

        :param data: the N rows of the replay buffer
        :param context: view of the agent, with the version that the next transitions will have
        """

    @abstractmethod
    def weights(self, data: Transitions, context: Context) -> th.Tensor | np.ndarray:
        """
        Weights of all rows.

        :param data: the N rows of the replay buffer
        :param context: view of the agent
        :return: ``[N]``, finite and non-negative, a tensor or a numpy array; only ratios matter
        """
