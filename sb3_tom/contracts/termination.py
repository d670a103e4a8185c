"""The contract of a termination function."""

from abc import abstractmethod
from typing import Any

import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.plug import Plug
from sb3_tom.contracts.types import Transitions


class Termination(Plug):
    """
    Decides which imagined transitions end in a terminal state. A time-out is never a termination.

    The agent calls :meth:`fit` once per model phase, and :meth:`forward` in imagined rollouts.
    """

    wants_rule = False
    """Whether the agent passes the envs' own rule to :meth:`set_rule`, when it is made and after ``set_env``."""

    @abstractmethod
    def forward(self, observations: th.Tensor, actions: th.Tensor, next_observations: th.Tensor) -> th.Tensor:
        """
        Whether each transition is terminal.

        :param observations: ``[B, O]``
        :param actions: ``[B, A]`` in [-1, 1]
        :param next_observations: ``[B, O]``
        :return: bool ``[B, 1]``, True where the transition terminates the episode
        """

    def check(self, observations: th.Tensor, actions: th.Tensor) -> None:
        """
        Called once after :meth:`build`, on the agent's device; nothing by default.

        :param observations: ``[B, O]`` zeros
        :param actions: ``[B, A]`` zeros
        :raises ValueError: if the termination cannot be used
        """

    def advice(self) -> str:
        """Advice for the warning that it contradicts real transitions. The default is for a user's function."""
        return "it is stale or of another env; correct it, or use termination_fn='auto' or 'learned'"

    def fit(self, data: Transitions, context: Context) -> dict[str, float] | None:
        """
        Learn from the real ``terminated`` flags; nothing by default.

        :param data: the N rows of the replay buffer; after a :meth:`set_rule` those collected since, possibly none
        :param context: view of the agent
        :return: figures for the log, by short name, or None
        """
        return {}

    def set_rule(self, rule: dict[str, Any] | None) -> None:
        """
        Use the rule of new envs for the rows to come; does nothing by default.

        :param rule: plain data, or None if the envs have no known rule
        """
