"""The contract of a dynamics model."""

from abc import abstractmethod
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.plug import Plug
from sb3_tom.contracts.types import Transitions

if TYPE_CHECKING:
    from sb3_tom.contracts.objective import ModelObjective


class Prediction(NamedTuple):
    """
    Gaussian (or moment-matched) prediction of reward and next state, in normalised units; D = 1 + O, the reward first.

    :param mean: ``[E, B, D]`` for a model of E members
    :param log_var: ``[E, B, D]``
    """

    mean: th.Tensor
    log_var: th.Tensor


class DynamicsModel(Plug):
    """
    A stochastic model of ``(observation, action) -> (next observation, reward)``.

    A model of E > 1 members keeps them apart: E is the first axis of each of its parameters, so that each member can be
    given back its own best ones.

    Call order: ``__init__`` (hyperparameters only), :meth:`build` (networks, normalisers, optimiser), then :meth:`fit` once
    per model phase and :meth:`sample` many times in between.
    """

    n_members: int = 1
    """E. A model of more members says so in ``__init__``: those who compare members refuse others."""

    is_reparameterised: bool = True
    """Whether a sample has gradients of all that decides it; a mixture draws a component, whose chance has none."""

    @property
    def is_fitted(self) -> bool:
        """
        Whether it was ever fitted. By default it was if its optimisers have stepped; a model without any, or whose optimisers
        have no moments, overrides this.
        """
        return all(optimizer.state for optimizer in self.optimizers().values())

    def check_objective(self, objective: "ModelObjective") -> None:
        """
        Refuse an objective that this model cannot be fitted with.

        :param objective: the agent's model objective
        :raises ValueError: naming both
        """

    @abstractmethod
    def forward(self, observations: th.Tensor, actions: th.Tensor) -> Prediction:
        """
        Predict with every member, in normalised units.

        :param observations: ``[B, O]``, or ``[E, B, O]`` for other rows per member
        :param actions: ``[B, A]`` or ``[E, B, A]``
        """

    @abstractmethod
    def log_likelihood(self, batch: Transitions) -> th.Tensor:
        """
        Log-likelihood of the real rewards and next observations in normalised units, averaged over the D dimensions.

        :param batch: fields ``[B, ...]`` or ``[E, B, ...]``
        :return: ``[E, B]``
        """

    def fit_likelihood(self, batch: Transitions) -> th.Tensor:
        """
        What a fit climbs in the place of :meth:`log_likelihood`, if that is not the same: one may stress other rows.

        :param batch: fields ``[B, ...]`` or ``[E, B, ...]``
        :return: ``[E, B]``
        """
        return self.log_likelihood(batch)

    @abstractmethod
    def validation_error(self, batch: Transitions) -> th.Tensor:
        """
        The error that decides early stopping and elites; lower is better.

        :param batch: fields ``[B, ...]``
        :return: ``[E, B]``
        """

    @abstractmethod
    def sample(
        self,
        observations: th.Tensor,
        actions: th.Tensor,
        generator: th.Generator,
    ) -> tuple[th.Tensor, th.Tensor]:
        """
        Sample next observation and reward in raw units; this package's models keep them near the real data. Reparameterised:
        gradients flow to parameters and inputs unless under ``torch.no_grad``.

        :param observations: ``[B, O]``
        :param actions: ``[B, A]``
        :param generator: source of randomness, on the same device
        :return: next observations ``[B, O]``, rewards ``[B, 1]``
        """

    def sample_members(
        self,
        observations: th.Tensor,
        actions: th.Tensor,
        generator: th.Generator,
    ) -> tuple[th.Tensor, th.Tensor]:
        """
        Sample with every member, each on its own rows: what an objective that learns from samples needs, since :meth:`sample`
        asks the best members only. Raw units, reparameterised, not clamped.

        :param observations: ``[E, B, O]``
        :param actions: ``[E, B, A]``
        :param generator: source of randomness, on the same device
        :return: next observations ``[E, B, O]``, rewards ``[E, B, 1]``
        :raises ValueError: from a model that cannot
        """
        self._cannot("sample_members")

    def targets(self, batch: Transitions) -> th.Tensor:
        """
        What :meth:`forward` predicts of real transitions, in normalised units.

        :param batch: fields ``[..., .]``
        :return: ``[..., D]``, the reward first
        :raises ValueError: from a model that does not say
        """
        self._cannot("targets")

    def target_scales(self) -> th.Tensor:
        """
        The unit of each target.

        :return: ``[D]``, what one normalised unit is in raw units; 0 where a target never varied
        :raises ValueError: from a model that does not say
        """
        self._cannot("target_scales")

    def _cannot(self, verb: str) -> NoReturn:
        raise ValueError(f"{type(self).__name__} has no {verb}; allowed: a dynamics model that implements it")

    def regularization(self) -> th.Tensor:
        """A scalar that is added to a likelihood loss."""
        return th.zeros((), device=next(self.parameters()).device)

    @abstractmethod
    def fit(
        self,
        data: Transitions,
        weights: th.Tensor,
        objective: "ModelObjective",
        context: Context,
        weighting: str = "sample",
    ) -> dict[str, float] | None:
        """
        Fit the model to weighted data.

        :param data: N rows
        :param weights: ``[N]``, usable: finite, non-negative, mean 1
        :param objective: what to minimise
        :param context: view of the agent
        :param weighting: "sample" draws rows in proportion to their weights, "loss" multiplies the loss by them
        :return: figures for the log, by short name, such as ``validation_error`` and ``gradient_steps``, or None
        """
