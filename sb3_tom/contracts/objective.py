"""The contract of a model objective: what a dynamics model minimises on a weighted batch."""

from abc import abstractmethod

import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.dynamics import DynamicsModel
from sb3_tom.contracts.plug import Plug
from sb3_tom.contracts.types import Batch, RewardFunction, Transitions

Extras = dict[str, th.Tensor]
"""Tensors that an objective prepared for each row of the data, ``[N, ...]``; a batch gets the same rows of them."""


FITTING = frozenset({"prepare", "loss", "step", "validation_error"})
"""Methods whose override makes an objective more than the likelihood."""


class ModelObjective(Plug):
    """What the model minimises. The likelihood overrides :meth:`loss` only; other objectives override more."""

    is_likelihood = False
    """
    Whether the fit minimises the weighted negative log-likelihood and nothing else, as models with a closed form require. It
    is False in a subclass that overrides one of :data:`FITTING`, unless the subclass sets it.
    """

    keeps_rewards = True
    """
    Whether the policy learns from the env's own rewards. If :meth:`relabel` and :meth:`relabel_batch` give it other ones, its
    returns and values are not compared with real rewards.
    """

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if not FITTING.isdisjoint(vars(cls)) and "is_likelihood" not in vars(cls):
            cls.is_likelihood = False

    def check_reward_fn(self, reward_fn: RewardFunction | None) -> None:
        """
        Check that this objective can be used with a known reward function.

        :param reward_fn: the agent's, None for a learned reward
        :raises ValueError: if it cannot; names both
        """

    def check_model(self, model: DynamicsModel) -> None:
        """
        Check that a model can be fitted with this objective; :meth:`DynamicsModel.check_objective` is the model's own check.
        Called when the agent is made, before :meth:`build`. The model has no networks yet; an objective that needs networks
        for each member can read ``n_members`` here.

        :param model: the agent's dynamics model
        :raises ValueError: if it cannot; names both
        """

    def prepare(self, model: DynamicsModel, data: Transitions, context: Context) -> Extras:
        """
        Compute once per model phase what the loss needs besides the data, for example value gradients.

        :param model: the model before the fit
        :param data: N rows of the buffer
        :param context: view of the agent
        :return: tensors ``[N, ...]``, a row for each row of ``data``
        """
        return {}

    @abstractmethod
    def loss(self, model: DynamicsModel, batch: Transitions, weights: th.Tensor, extras: Extras) -> th.Tensor:
        """
        The loss of a gradient step.

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
        if not isinstance(loss, th.Tensor) or loss.numel() != 1:
            came = getattr(loss, "shape", loss)
            raise ValueError(f"{type(self).__name__}.loss returned {came}; allowed: a scalar tensor")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def validation_error(self, model: DynamicsModel, batch: Transitions, extras: Extras) -> th.Tensor | None:
        """
        Error on held-out rows. It decides when a fit stops, which parameters of a member are kept, and which members predict.
        Default: the model's own error.

        :param model: the model that is fitted
        :param batch: held-out rows, fields ``[B, ...]``
        :param extras: the same rows of what :meth:`prepare` returned
        :return: ``[E, B]``, lower is better. None: there is no such error; the fit takes its whole budget and keeps the last
            parameters
        """
        return model.validation_error(batch)

    def learned(self, batch: Transitions) -> Transitions:
        """
        Real transitions as the model learns them, for plugs that compare its predictions with them (``context.model``):
        changed where the objective fits other rewards or states than the real ones. The identity by default.

        :param batch: fields ``[..., .]``
        """
        return batch

    def figures(self, model: DynamicsModel, batch: Transitions, extras: Extras, context: Context) -> dict[str, float]:
        """
        Metrics of the finished fit for the log, besides the model's error; none by default.

        :param model: the fitted model
        :param batch: held-out rows, fields ``[B, ...]``
        :param extras: the same rows of what :meth:`prepare` returned
        :param context: view of the agent
        :return: numbers by name; logged under ``model/``
        """
        return {}

    def relabel(self, batch: Transitions, context: Context) -> Transitions:
        """Change imagined rows, once, when they are made; real rows never. The identity by default."""
        return batch

    def relabel_batch(self, batch: Batch, is_real: th.Tensor, context: Context) -> Batch:
        """
        Change minibatches, real and imagined rows, each time they are drawn for the policy update, for example their rewards
        by the current critics. The identity by default, which is never called.

        :param batch: fields ``[..., B, .]`` in the env's own units, several minibatches at once
        :param is_real: bool ``[B, 1]``, which rows of each are real
        :param context: view of the agent
        :return: a batch of the same shapes
        """
        return batch
