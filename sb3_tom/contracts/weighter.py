"""The contract of a weighter: which past transitions shall the dynamics model be fitted to, and how much?"""

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
    starts of the imagined rollouts.

    :cvar weighs_starts: whether the starts of imagined rollouts are drawn by the weights too, where the agent's
        ``weight_rollout_starts`` does not say otherwise
    :cvar recent_size: number of newest rows that the agent takes as the current policy's footprint, if it is given no other
    :cvar needs_recent: whether fewer rows are too few: until the buffer holds ``recent_size`` the agent does not call the
        weighter, and weights are 1; a ``buffer_size`` without room for them is refused
    :cvar max_weight: weights are cut at so many times their mean, and scaled to mean 1 again, so that the greatest may be
        larger where few rows have most of the weight; at least 1, None for no cut
    :cvar uniform_mix: share in [0, 1] of uniform weights that is mixed in
    :cvar ess_floor: least effective sample size as a share of the rows; weights are tempered until it holds; 0 is off

    The agent refuses other values of these attributes by name, when it is made and in each model phase.
    """

    weighs_starts: bool = True
    recent_size: int = 1000
    needs_recent: bool = False
    max_weight: float | None = None
    uniform_mix: float = 0.0
    ess_floor: float = 0.0

    def check_gamma(self, gamma: float) -> None:
        """
        Refuse a discount that the weights are not defined for.

        :param gamma: the agent's discount factor
        :raises ValueError: naming it
        """

    def fit(
        self,
        data: Transitions,
        recent: Transitions,
        start_observations: th.Tensor,
        context: Context,
    ) -> dict[str, float] | None:
        """
        Learn what the weights need. The default learns nothing.

        :param data: the N rows of the replay buffer
        :param recent: footprint of the current policy, at least one row: whatever ``MBPO.fit_weights`` was given, by default
            the newest ``recent_size`` rows (fewer at first, unless ``needs_recent``)
        :param start_observations: ``[K, O]`` observations after real resets, K > 0
        :param context: view of the agent
        :return: figures for the log, by short name, or None
        """
        return {}

    def end_phase(self, data: Transitions, context: Context) -> None:
        """
        Called when a model phase has ended, weights and model fitted and rollouts made, for example to remember the policy
        (:attr:`Context.snapshot`). The default does nothing.

        :param data: the N rows of the replay buffer
        :param context: view of the agent, with the version that the next transitions will have
        """

    @abstractmethod
    def weights(self, data: Transitions, context: Context) -> th.Tensor | np.ndarray:
        """
        Weigh the rows.

        :param data: the N rows of the replay buffer
        :param context: view of the agent
        :return: ``[N]``, finite and non-negative, a tensor or a numpy array; only ratios matter
        """
