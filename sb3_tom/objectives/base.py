"""The contract of a model objective: what a dynamics model minimises on a weighted batch."""

from abc import abstractmethod
from typing import TYPE_CHECKING

import torch as th

from sb3_tom.common.plug import Plug
from sb3_tom.common.types import Context, Transitions
from sb3_tom.dynamics.base import DynamicsModel

if TYPE_CHECKING:
    from sb3_tom.common.rollouts import RewardFunction

Extras = dict[str, th.Tensor]
"""What an objective prepared per row of the data, each ``[N, ...]``; a batch receives the same rows of it."""


class ModelObjective(Plug):
    """Likelihood overrides :meth:`loss` only; value-aware and adversarial objectives the other verbs too."""

    def check_reward_fn(self, reward_fn: "RewardFunction | None") -> None:
        """
        Refuse a known reward that this objective cannot go with.

        :param reward_fn: the agent's, None for a learned reward
        :raises ValueError: naming both
        """

    def prepare(self, model: DynamicsModel, data: Transitions, context: Context) -> Extras:
        """
        Compute once per model phase what the loss needs beside the data, for example value gradients at its predictions.

        :param model: the model before the fit
        :param data: N rows of the buffer
        :param context: view of the agent
        :return: tensors ``[N, ...]``, row by row beside ``data``
        """
        return {}

    @abstractmethod
    def loss(self, model: DynamicsModel, batch: Transitions, weights: th.Tensor, extras: Extras) -> th.Tensor:
        """
        What a gradient step minimises.

        :param model: the model to fit
        :param batch: fields ``[E, B, ...]``, own rows for each member
        :param weights: ``[E, B]``
        :param extras: the same rows of what :meth:`prepare` returned
        :return: scalar
        """

    def step(
        self,
        model: DynamicsModel,
        optimizer: th.optim.Optimizer,
        batch: Transitions,
        weights: th.Tensor,
        extras: Extras,
        context: Context,
    ) -> None:
        """One optimiser step on one batch; adversarial objectives update their own networks here too."""
        loss = self.loss(model, batch, weights, extras)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def relabel(self, batch: Transitions, context: Context) -> Transitions:
        """Change imagined transitions before they are stored; the identity by default."""
        return batch
