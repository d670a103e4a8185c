"""Base class of the models that predict in unit scale."""

from abc import abstractmethod

import torch as th

from sb3_tom.checks.validation import check_choice
from sb3_tom.contracts.dynamics import DynamicsModel
from sb3_tom.contracts.types import Transitions
from sb3_tom.dynamics.gaussian import draw, log_density
from sb3_tom.dynamics.normalizer import PREDICT, Normalizer, check_clamp
from sb3_tom.dynamics.renormalization import UnitChange


class NormalizedDynamics(DynamicsModel):
    """
    A model whose ``forward`` predicts in the units of ``self.normalizer``. A subclass implements ``build`` (which first calls
    this one), ``forward``, ``sample``, :meth:`adapt` and ``fit``, which begins with :meth:`fit_normalizer`.

    :param predict: the state targets, "delta" or "next" (:data:`sb3_tom.dynamics.normalizer.PREDICT`)
    :param clamp: "range" keeps samples within the range of the real data, "margin" within twice its width, None leaves them
        (:data:`sb3_tom.dynamics.normalizer.CLAMP_MARGINS`)
    :raises ValueError: naming the argument, what came and what is allowed
    """

    normalizer: Normalizer

    def __init__(self, predict: str = "delta", clamp: str | None = "range") -> None:
        super().__init__()
        self.predict = check_choice("predict", predict, PREDICT)
        self.clamp = check_clamp(clamp)

    def build(self, observation_dim: int, action_dim: int) -> None:
        """Create the normaliser; see :meth:`Plug.build`."""
        self.normalizer = Normalizer(observation_dim, action_dim, self.predict, self.clamp)

    def fit_normalizer(self, data: Transitions) -> None:
        """
        Fit the normaliser; :meth:`adapt` then keeps the model the same function. Called at the beginning of a fit.

        :param data: N rows
        """
        change = self.normalizer.fit(data)
        if change is not None:
            self.adapt(change)

    @abstractmethod
    def adapt(self, change: UnitChange) -> None:
        """
        Change the parameters so that the model is the same function in new units (:mod:`sb3_tom.dynamics.renormalization`).

        :param change: the change of units
        """

    def targets(self, batch: Transitions) -> th.Tensor:
        """See :meth:`DynamicsModel.targets`."""
        return self.normalizer.targets(batch)

    def target_scales(self) -> th.Tensor:
        """See :meth:`DynamicsModel.target_scales`."""
        return self.normalizer.target_std

    def log_likelihood(self, batch: Transitions) -> th.Tensor:
        """Gaussian log-density ``[E, B]``, averaged over dimensions, without its constant."""
        mean, log_var = self(batch.observations, batch.actions)
        return log_density(self.targets(batch), mean, log_var).mean(-1)

    def validation_error(self, batch: Transitions) -> th.Tensor:
        """Squared error of the means in unit scale ``[E, B]``, averaged over dimensions, as MBPO's code does."""
        mean, _ = self(batch.observations, batch.actions)
        return (self.targets(batch) - mean).square().mean(-1)

    def sample_members(
        self,
        observations: th.Tensor,
        actions: th.Tensor,
        generator: th.Generator,
    ) -> tuple[th.Tensor, th.Tensor]:
        """Sample with every member on its own rows; see :meth:`DynamicsModel.sample_members`."""
        return self.normalizer.raw_outcomes(self._draw(observations, actions, generator), observations)

    def _draw(self, observations: th.Tensor, actions: th.Tensor, generator: th.Generator) -> th.Tensor:
        """Samples ``[E, B, D]`` of every member in unit scale."""
        mean, log_var = self(observations, actions)
        return draw(mean, log_var, generator)
