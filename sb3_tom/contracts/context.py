"""All that a plug may see of the agent (:class:`Context`). Plugs never see the agent itself."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn, Protocol

import torch as th

from sb3_tom.contracts.types import ActionSampler, PolicyFunction, Transitions, ValueFunction


class FrozenPolicy(Protocol):
    """A policy as it was: a :data:`~sb3_tom.contracts.types.PolicyFunction` that no later training changes."""

    def __call__(self, observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """Sampled actions ``[B, A]`` in [-1, 1] at observations ``[B, O]``, and their log-probabilities ``[B, 1]``."""

    def mean_action(self, observations: th.Tensor) -> th.Tensor:
        """The deterministic actions ``[B, A]``, in [-1, 1], at observations ``[B, O]``."""

    def log_prob(self, observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """Log-probabilities ``[B, 1]`` of given actions ``[B, A]`` in [-1, 1] at observations ``[B, O]``."""

    def gaussian(self, observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """Mean and logarithm of the standard deviation, ``[B, A]`` each, of what tanh makes actions of."""

    def state(self) -> th.Tensor:
        """All numbers that make it, ``[P]``, float32: what a plug can keep in a buffer."""

    def restore(self, state: th.Tensor) -> None:
        """Become the policy that ``state`` ``[P]`` was taken of, a snapshot of the same agent, as float32 tells it."""


class ReadableModel(Protocol):
    """The verbs of :class:`~sb3_tom.contracts.dynamics.DynamicsModel` that change nothing."""

    @property
    def is_fitted(self) -> bool:
        """Whether the model was ever fitted."""

    def forward(self, observations: th.Tensor, actions: th.Tensor) -> Any:
        """Predict with every member, in normalised units."""

    def log_likelihood(self, batch: Transitions) -> th.Tensor:
        """Log-likelihood ``[E, B]`` of real transitions."""

    def validation_error(self, batch: Transitions) -> th.Tensor:
        """The model's own error ``[E, B]`` of real transitions."""

    def sample(self, observations: th.Tensor, actions: th.Tensor, generator: th.Generator) -> tuple[th.Tensor, th.Tensor]:
        """Next observations ``[B, O]`` and rewards ``[B, 1]``."""

    def targets(self, batch: Transitions) -> th.Tensor:
        """What the model predicts of real transitions, in normalised units."""

    def target_scales(self) -> th.Tensor:
        """The unit of each target ``[D]``."""


class Arrival(NamedTuple):
    """
    When the rows of the replay buffer came. It is a ring: a full one is overwritten from its oldest row on.

    :param n_rows: number N of its rows
    :param oldest: number of the row that has been there for longest
    :param n_stored: transitions ever stored, those that were overwritten included
    """

    n_rows: int
    oldest: int
    n_stored: int


def _absent(*_: Any) -> NoReturn:
    raise ValueError("this context was made without that part of an agent; allowed: the one that the agent gives to its plugs")


@dataclass(frozen=True)
class Context:
    """
    A view of the agent, built fresh for each verb: the weights, the fit and the imagined rollouts of a model phase. Everything
    is in the env's own units, observations, rewards and values, also where ``VecNormalize`` lets the policy see others. What a
    context was made without raises a ValueError when it is called.

    :param policy: samples the current policy, see :data:`~sb3_tom.contracts.types.PolicyFunction`
    :param values: the current critics, see :data:`~sb3_tom.contracts.types.ValueFunction`
    :param gamma: discount factor
    :param policy_version: version that the agent stamps on new transitions now
    :param generator: the only source of randomness of a plug, on the device of the data
    :param action_sampler: samples several actions at a row with one pass through the policy, or None if it cannot
    :param n_envs: environments whose rows alternate in the data: a trajectory goes on at the row that many rows later
    :param target_values: the target critics, as ``values``
    :param ent_coef: the entropy coefficient, a scalar in the unit of the rewards; None in a context without an agent
    :param mean_action: ``mean_action(observations [B, O]) -> [B, A]``, the policy's deterministic actions in [-1, 1]
    :param log_prob: ``log_prob(observations [B, O], actions [B, A]) -> [B, 1]`` of given actions in [-1, 1]
    :param snapshot: makes a copy of the policy that training does not change
    :param model: the dynamics model, to read; None in a context without an agent
    :param arrival: of the rows of the replay buffer; None: the rows came in their order
    """

    policy: PolicyFunction = _absent
    values: ValueFunction = _absent
    gamma: float = 0.99
    policy_version: int = 0
    generator: th.Generator = field(default_factory=th.Generator)
    action_sampler: ActionSampler | None = None
    n_envs: int = 1
    target_values: ValueFunction = _absent
    ent_coef: th.Tensor | None = None
    mean_action: Callable[[th.Tensor], th.Tensor] = _absent
    log_prob: Callable[[th.Tensor, th.Tensor], th.Tensor] = _absent
    snapshot: Callable[[], FrozenPolicy] = _absent
    model: ReadableModel | None = None
    arrival: Arrival | None = None

    def arrivals(self, data: Transitions) -> th.Tensor:
        """
        Which row came when, also where the ring has closed. What a row's number is here stays its own as long as it is stored.

        :param data: the N rows of the replay buffer; others count as new ones in their order
        :return: ``[N]`` int64, transitions that were stored before each; those of one env step alternate between the envs
        """
        rows = th.arange(data.size, device=data.device)
        if self.arrival is None or self.arrival.n_rows != data.size:
            return rows
        return self.arrival.n_stored - data.size + (rows - self.arrival.oldest) % data.size

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
