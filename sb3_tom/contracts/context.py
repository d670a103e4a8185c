"""What a plug may see of the agent (:class:`Context`). A plug never gets the agent itself."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, NoReturn, Protocol

import torch as th

from sb3_tom.contracts.types import ActionSampler, PolicyFunction, Transitions, ValueFunction


class FrozenPolicy(Protocol):
    """A copy of the policy that later training does not change; a :data:`~sb3_tom.contracts.types.PolicyFunction`."""

    def __call__(self, observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """Sampled actions ``[B, A]`` in [-1, 1] at observations ``[B, O]``, and their log-probabilities ``[B, 1]``."""

    def mean_action(self, observations: th.Tensor) -> th.Tensor:
        """The deterministic actions ``[B, A]``, in [-1, 1], at observations ``[B, O]``."""

    def log_prob(self, observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """Log-probabilities ``[B, 1]`` of given actions ``[B, A]`` in [-1, 1] at observations ``[B, O]``."""

    def gaussian(self, observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """Mean and log standard deviation, ``[B, A]`` each, of the Gaussian before tanh, at observations ``[B, O]``."""

    def state(self) -> th.Tensor:
        """Its parameters as one float32 vector ``[P]``, which a plug can keep in a buffer."""

    def restore(self, state: th.Tensor) -> None:
        """Load the result ``[P]`` of :meth:`state` of a snapshot of the same agent; exact up to float32 rounding."""


class ReadableModel(Protocol):
    """The methods of :class:`~sb3_tom.contracts.dynamics.DynamicsModel` that change nothing."""

    @property
    def is_fitted(self) -> bool:
        """Whether the model has been fitted at least once."""

    def forward(self, observations: th.Tensor, actions: th.Tensor) -> Any:
        """Predict with every member, in normalised units."""

    def log_likelihood(self, batch: Transitions) -> th.Tensor:
        """Log-likelihood ``[E, B]`` of real transitions."""

    def validation_error(self, batch: Transitions) -> th.Tensor:
        """The model's own error ``[E, B]`` on real transitions."""

    def sample(self, observations: th.Tensor, actions: th.Tensor, generator: th.Generator) -> tuple[th.Tensor, th.Tensor]:
        """Next observations ``[B, O]`` and rewards ``[B, 1]``."""

    def targets(self, batch: Transitions) -> th.Tensor:
        """Training targets of real transitions, as the objective has the model learn them, in normalised units."""

    def target_scales(self) -> th.Tensor:
        """One normalised unit of each target in raw units, ``[D]``."""


class Arrival(NamedTuple):
    """
    Insertion order of the replay buffer's rows. When the buffer is full, the oldest row is overwritten first.

    :param n_rows: number N of rows
    :param oldest: number of the oldest row
    :param n_stored: transitions ever stored, overwritten ones included
    """

    n_rows: int
    oldest: int
    n_stored: int


def _absent(part: str, *_: Any) -> NoReturn:
    reason = f"context.{part}: this context was made without that part of an agent"
    raise ValueError(f"{reason}; allowed: the one that the agent gives to its plugs (fit_weights without policy=)")


@dataclass(frozen=True)
class Context:
    """
    A read-only view of the agent, built anew for each step of a model phase: weights, fit, imagined rollouts. Observations,
    rewards and values are in the env's own units, also under ``VecNormalize``. Optional callables that were not given raise a
    ValueError when called.

    :param policy: samples the current policy, see :data:`~sb3_tom.contracts.types.PolicyFunction`
    :param values: the current critics, see :data:`~sb3_tom.contracts.types.ValueFunction`
    :param gamma: discount factor
    :param policy_version: version that new transitions get now
    :param generator: the only source of randomness of a plug, on the device of the data
    :param action_sampler: samples several actions per row with one pass through the policy; None: rows are repeated
    :param n_envs: environments whose rows alternate in the data: row ``i + n_envs`` continues the trajectory of row ``i``
    :param target_values: the target critics, called like ``values``
    :param ent_coef: the entropy coefficient, a scalar in the unit of the rewards; None in a context without an agent
    :param mean_action: ``mean_action(observations [B, O]) -> [B, A]``, the policy's deterministic actions in [-1, 1]
    :param log_prob: ``log_prob(observations [B, O], actions [B, A]) -> [B, 1]`` of given actions in [-1, 1]
    :param snapshot: returns a copy of the policy that training does not change
    :param model: the dynamics model, read-only; None in a context without an agent
    :param arrival: insertion order of the replay buffer's rows; None: they are in this order already
    """

    policy: PolicyFunction = field(default=partial(_absent, "policy"))
    values: ValueFunction = field(default=partial(_absent, "values"))
    gamma: float = 0.99
    policy_version: int = 0
    generator: th.Generator = field(default_factory=th.Generator)
    action_sampler: ActionSampler | None = None
    n_envs: int = 1
    target_values: ValueFunction = field(default=partial(_absent, "target_values"))
    ent_coef: th.Tensor | None = None
    mean_action: Callable[[th.Tensor], th.Tensor] = field(default=partial(_absent, "mean_action"))
    log_prob: Callable[[th.Tensor, th.Tensor], th.Tensor] = field(default=partial(_absent, "log_prob"))
    snapshot: Callable[[], FrozenPolicy] = field(default=partial(_absent, "snapshot"))
    model: ReadableModel | None = None
    arrival: Arrival | None = None

    def arrivals(self, data: Transitions) -> th.Tensor:
        """
        Insertion number of each row, also after the buffer has wrapped. A row keeps its number as long as it is stored.

        :param data: the N rows of the replay buffer; any other number of rows is numbered from 0
        :return: ``[N]`` int64, how many transitions were stored before each row; the envs alternate within an env step
        """
        rows = th.arange(data.size, device=data.device)
        if self.arrival is None or self.arrival.n_rows != data.size:
            return rows
        return self.arrival.n_stored - data.size + (rows - self.arrival.oldest) % data.size

    def require_model(self) -> ReadableModel:
        """
        The dynamics model.

        :raises ValueError: if there is none
        """
        if self.model is None:
            raise ValueError("context.model=None is not allowed for a plug that reads it; allowed: the agent's own context")
        return self.model

    def sample_actions(self, observations: th.Tensor, n_actions: int) -> th.Tensor:
        """
        Independent samples of the policy at each row.

        :param observations: ``[B, O]``
        :param n_actions: number n of samples
        :return: ``[B, n, A]``, in [-1, 1]
        """
        if self.action_sampler is not None:
            return self.action_sampler(observations, n_actions)
        actions, _ = self.policy(observations.repeat_interleave(n_actions, dim=0))
        return actions.unflatten(0, (observations.shape[0], n_actions))
