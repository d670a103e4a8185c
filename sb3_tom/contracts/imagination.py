"""The contracts of two plugs of imagination: how much an imagined row counts, and where a rollout stops."""

from abc import abstractmethod

import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.dynamics import DynamicsModel
from sb3_tom.contracts.plug import Plug
from sb3_tom.contracts.types import Transitions


class Confidence(Plug):
    """How much each imagined transition counts in the critics' loss. Real ones count 1."""

    @abstractmethod
    def forward(self, model: DynamicsModel, batch: Transitions, context: Context) -> th.Tensor:
        """
        Judge imagined transitions when they are made. Called without gradients.

        :param model: that made them
        :param batch: B imagined rows, in the env's own units
        :param context: view of the agent
        :return: ``[B, 1]``, non-negative and finite
        """


class RolloutStop(Plug):
    """Where imagined rollouts stop, beside terminations: a stopped rollout has no end that a policy could learn from."""

    @abstractmethod
    def forward(self, model: DynamicsModel, batch: Transitions, context: Context) -> th.Tensor:
        """
        Judge the next transition of each rollout. Called without gradients.

        :param model: that made it
        :param batch: B imagined rows, in the env's own units
        :param context: view of the agent
        :return: bool ``[B, 1]``, True where the rollout stops before this transition, which is not kept
        """
