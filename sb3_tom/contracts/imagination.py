"""The contracts of two plugs of imagination: how much an imagined row counts, and where a rollout stops."""

from abc import abstractmethod

import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.dynamics import DynamicsModel
from sb3_tom.contracts.plug import Plug
from sb3_tom.contracts.types import Transitions


class Judge(Plug):
    """What both plugs have in common: they look at what a dynamics model has made."""

    def check_model(self, model: DynamicsModel) -> None:
        """
        Refuse a model that cannot be judged. Called once, when the agent is made; the model has no networks yet.

        :param model: the agent's dynamics model
        :raises ValueError: naming both
        """

    def _needs_members(self, model: DynamicsModel, what: str) -> None:
        """
        Refuse a model of one member.

        :param what: argument of the agent, and what is missing, for the message
        """
        if model.n_members < 2:
            raise ValueError(
                f"{what} is not allowed with {type(model).__name__}, whose n_members is {model.n_members}: there is nobody to "
                "disagree; allowed: a dynamics model with n_members of at least 2, such as 'ensemble' or 'smooth'"
            )


class Confidence(Judge):
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


class RolloutStop(Judge):
    """Where imagined rollouts stop, beside terminations: a stopped rollout has no end that a policy could learn from."""

    def begin(self, model: DynamicsModel, batch: Transitions, context: Context) -> None:
        """
        Look at what a round of rollouts begins with, before any of its transitions is judged: a limit that is relative to the
        model's usual predictions learns here. Called once per round, without gradients; nothing by default.

        :param model: that made them
        :param batch: B first transitions of rollouts from real states, in the env's own units; of a large round a part
        :param context: view of the agent
        """

    @abstractmethod
    def forward(self, model: DynamicsModel, batch: Transitions, context: Context) -> th.Tensor:
        """
        Judge the next transition of each rollout. Called without gradients, and not only by rounds of rollouts: a policy
        update asks along its own paths.

        :param model: that made it
        :param batch: B imagined rows, in the env's own units
        :param context: view of the agent
        :return: bool ``[B, 1]``, True where the rollout stops before this transition, which is not kept
        """
