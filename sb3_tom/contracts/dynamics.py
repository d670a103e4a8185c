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

    In a model of E > 1 members, E is the first axis of each parameter, so that the best parameters of each member can be
    restored.

    Call order: ``__init__`` (hyperparameters only), :meth:`build` (networks, normalisers, optimiser), then :meth:`fit` once
    per model phase and :meth:`sample` many times in between.
    """

    n_members: int = 1
    """E. Set it in ``__init__`` if it is above 1; plugs that compare members need at least 2."""

    is_reparameterised: bool = True
    """Whether samples are differentiable in inputs and parameters; False for mixtures, whose component is drawn."""

    beta_nll: float = 0.0
    """
    Power of the predicted variance by which :meth:`fit_likelihood` weights the log-density of each dimension. Objectives
    weight what they add to it in the same way.
    """

    @property
    def is_fitted(self) -> bool:
        """
        Whether it has been fitted at least once; by default whether its optimisers have state. A model without optimisers or
        whose optimisers keep no state overrides this.
        """
        optimizers = self.optimizers().values()
        return bool(optimizers) and all(optimizer.state for optimizer in optimizers)

    def check_objective(self, objective: "ModelObjective") -> None:
        """
        Check that this model can be fitted with an objective.

        :param objective: the agent's model objective
        :raises ValueError: if it cannot; names both
        """

    @abstractmethod
    def forward(self, observations: th.Tensor, actions: th.Tensor) -> Prediction:
        """
        Predict with every member, in normalised units.

        :param observations: ``[B, O]``, or ``[E, B, O]`` with own rows for each member
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
        What the fit maximises. Default: :meth:`log_likelihood`; a model may weight rows differently.

        :param batch: fields ``[B, ...]`` or ``[E, B, ...]``
        :return: ``[E, B]``
        """
        return self.log_likelihood(batch)

    @abstractmethod
    def validation_error(self, batch: Transitions) -> th.Tensor:
        """
        Error used for early stopping and for the choice of elites; lower is better.

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
        Sample next observation and reward in raw units; this package's models keep them near the real data. Reparameterised
        where :attr:`is_reparameterised` says so: gradients flow to parameters and inputs unless under ``torch.no_grad``.

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
        Sample with every member, each on its own rows, for objectives that learn from samples: :meth:`sample` uses the best
        members only. Raw units, reparameterised, not clamped.

        :param observations: ``[E, B, O]``
        :param actions: ``[E, B, A]``
        :param generator: source of randomness, on the same device
        :return: next observations ``[E, B, O]``, rewards ``[E, B, 1]``
        :raises ValueError: if the model does not implement it
        """
        self._cannot("sample_members")

    def targets(self, batch: Transitions) -> th.Tensor:
        """
        Targets of :meth:`forward` for real transitions, in normalised units.

        :param batch: fields ``[..., .]``
        :return: ``[..., D]``, the reward first
        :raises ValueError: if the model does not implement it
        """
        self._cannot("targets")

    def target_scales(self) -> th.Tensor:
        """
        Scale of each target.

        :return: ``[D]``, one normalised unit in raw units; 0 where a target never varied
        :raises ValueError: if the model does not implement it
        """
        self._cannot("target_scales")

    def _cannot(self, verb: str) -> NoReturn:
        raise ValueError(f"{type(self).__name__} has no {verb}; allowed: a dynamics model that implements it")

    def regularization(self) -> th.Tensor:
        """A scalar that is added to the loss; 0 by default."""
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
