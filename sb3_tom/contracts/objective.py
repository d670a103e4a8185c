"""The contract of a model objective: what a dynamics model minimises on a weighted batch."""

from abc import abstractmethod

import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.dynamics import DynamicsModel
from sb3_tom.contracts.plug import Plug
from sb3_tom.contracts.types import Batch, RewardFunction, Transitions

Extras = dict[str, th.Tensor]
"""What an objective prepared per row of the data, each ``[N, ...]``; a batch receives the same rows of it."""


FITTING = frozenset({"prepare", "loss", "step", "validation_error"})
"""Verbs of an objective that decide a fit."""


class ModelObjective(Plug):
    """Likelihood overrides :meth:`loss` only; value-aware and adversarial objectives the other verbs too."""

    is_likelihood = False
    """
    Whether :meth:`loss` is the weighted negative log-likelihood and nothing else decides the fit: what a model with a closed
    form can be fitted by. A subclass that overrides one of :data:`FITTING` is another objective until it says so itself.
    """

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if not FITTING.isdisjoint(vars(cls)) and "is_likelihood" not in vars(cls):
            cls.is_likelihood = False

    def check_reward_fn(self, reward_fn: RewardFunction | None) -> None:
        """
        Refuse a known reward that this objective cannot go with.

        :param reward_fn: the agent's, None for a learned reward
        :raises ValueError: naming both
        """

    def check_model(self, model: DynamicsModel) -> None:
        """
        Refuse a model that cannot be fitted with this objective; the model's own word is
        :meth:`DynamicsModel.check_objective`. Called when the agent is made, before :meth:`build`: the model has no networks
        yet, but its arguments are known to those that need networks of their own for each member.

        :param model: the agent's dynamics model
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

    def validation_error(self, model: DynamicsModel, batch: Transitions, extras: Extras) -> th.Tensor | None:
        """
        The error on held-out rows that decides when a fit stops, which parameters of a member are kept, and which members
        predict; by default the model's own.

        :param model: the model that is fitted
        :param batch: held-out rows, fields ``[B, ...]``
        :param extras: the same rows of what :meth:`prepare` returned
        :return: ``[E, B]``, lower is better. None: nothing is known to tell, the fit takes its whole budget and keeps the last
            parameters
        """
        return model.validation_error(batch)

    def figures(self, model: DynamicsModel, batch: Transitions, extras: Extras, context: Context) -> dict[str, float]:
        """
        What an objective has to say of a fit when it ends, beside the model's error: nothing by default.

        :param model: as the fit leaves it
        :param batch: held-out rows, fields ``[B, ...]``
        :param extras: the same rows of what :meth:`prepare` returned
        :param context: view of the agent
        :return: numbers for the log, by names that come under ``model/``
        """
        return {}

    def relabel(self, batch: Transitions, context: Context) -> Transitions:
        """Change imagined transitions before they are stored, once; the identity by default."""
        return batch

    def relabel_batch(self, batch: Batch, is_real: th.Tensor, context: Context) -> Batch:
        """
        Change the rows of minibatches when they are drawn for the policy update, for example their rewards by what the critics
        say now; the identity by default, which is never called.

        :param batch: fields ``[..., B, .]`` in the env's own units, several minibatches at once
        :param is_real: bool ``[B, 1]``, which rows of each are real
        :param context: view of the agent
        :return: a batch of the same shapes
        """
        return batch
