"""The contracts of a confidence (how much an imagined row counts) and of a rollout stop (where a rollout is cut)."""

from abc import abstractmethod

import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.dynamics import DynamicsModel
from sb3_tom.contracts.plug import Plug
from sb3_tom.contracts.types import Transitions


class Judge(Plug):
    """Base of :class:`Confidence` and :class:`RolloutStop`, which evaluate imagined rows."""

    def check_model(self, model: DynamicsModel) -> None:
        """
        Check that the plug can be used with a model. Called once, when the agent is made; the model has no networks yet.

        :param model: the agent's dynamics model
        :raises ValueError: if it cannot; names both
        """

    def _needs_members(self, model: DynamicsModel, what: str) -> None:
        """
        Refuse a model of one member.

        :param what: argument of the agent, for the message
        """
        if model.n_members < 2:
            raise ValueError(
                f"{what} is not allowed with {type(model).__name__}, whose n_members is {model.n_members}: a single member "
                "cannot disagree; allowed: a dynamics model with n_members of at least 2, such as 'ensemble' or 'smooth'"
            )


class Confidence(Judge):
    """Weight of each imagined transition in the critics' loss. Real ones count 1."""

    @abstractmethod
    def forward(self, model: DynamicsModel, batch: Transitions, context: Context) -> th.Tensor:
        """
        Confidence of imagined transitions, evaluated when they are made. Called without gradients.

        :param model: the model that made them
        :param batch: B imagined rows, in the env's own units
        :param context: view of the agent
        :return: ``[B, 1]``, non-negative and finite
        """


class RolloutStop(Judge):
    """Truncates imagined rollouts. Unlike a termination, a stop is not a terminal state: the value after it still counts."""

    def begin(self, model: DynamicsModel, batch: Transitions, context: Context) -> None:
        """
        Called once per round of rollouts, before :meth:`forward`, without gradients: a limit relative to the model's usual
        predictions is updated here. Does nothing by default.

        :param model: the model that made them
        :param batch: first transitions of B rollouts from real states, in the env's own units; a part of a large round
        :param context: view of the agent
        """

    @abstractmethod
    def forward(self, model: DynamicsModel, batch: Transitions, context: Context) -> th.Tensor:
        """
        Whether each rollout stops at its next transition. Called without gradients, in rounds of rollouts and by policy
        updates on their own paths.

        :param model: the model that made it
        :param batch: B imagined rows, in the env's own units
        :param context: view of the agent
        :return: bool ``[B, 1]``, True where the rollout stops before this transition, which is not kept
        """
