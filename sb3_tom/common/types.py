"""The two values that every plug receives: data (:class:`Transitions`) and a view of the agent (:class:`Context`)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch as th

PolicyFunction = Callable[[th.Tensor], tuple[th.Tensor, th.Tensor]]
"""``policy(observations [B, O]) -> (actions [B, A] in [-1, 1], log_prob [B, 1])``, sampled and differentiable."""

ActionSampler = Callable[[th.Tensor, int], th.Tensor]
"""``sampler(observations [B, O], n) -> actions [B, n, A]``, n samples of the policy at each row."""

ValueFunction = Callable[[th.Tensor, th.Tensor], th.Tensor]
"""``values(observations [B, O], actions [B, A]) -> [C, B]``, the values of the C critics, differentiable."""


class Transitions(NamedTuple):
    """
    N transitions as float32 tensors on one device. Every field but ``policy_version`` may carry leading batch
    axes (an ensemble draws ``[E, B, ...]``).

    :param observations: ``[N, O]``
    :param actions: ``[N, A]``, in SB3's scale [-1, 1]
    :param next_observations: ``[N, O]``; the last observation of the episode, never the first of the next one
    :param rewards: ``[N, 1]``
    :param terminated: ``[N, 1]``, 1.0 where the episode ended in a terminal state; a time-out is not one
    :param policy_version: ``[N]``, int64, the number of model phases that had trained when the row was collected
    """

    observations: th.Tensor
    actions: th.Tensor
    next_observations: th.Tensor
    rewards: th.Tensor
    terminated: th.Tensor
    policy_version: th.Tensor

    @property
    def size(self) -> int:
        """Number of rows N (``len`` of a NamedTuple is its number of fields)."""
        return self.observations.shape[0]

    @property
    def device(self) -> th.device:
        """The device that holds the rows."""
        return self.observations.device

    def rows(self, indices: th.Tensor) -> "Transitions":
        """
        The rows at ``indices``.

        :param indices: int64 tensor of any shape ``[...]`` on the same device
        :return: transitions whose fields have the shape ``[..., *field]``
        """
        return Transitions(*(field[indices] for field in self))

    def split(self, n_rows: int) -> "list[Transitions]":
        """
        All rows in their order, in pieces.

        :param n_rows: rows of a piece; the last may have fewer
        :return: views
        """
        return [Transitions(*fields) for fields in zip(*(field.split(n_rows) for field in self), strict=True)]


class Batch(NamedTuple):
    """A minibatch of the policy update: B rows, real and imagined ones mixed; fields as in :class:`Transitions`."""

    observations: th.Tensor
    actions: th.Tensor
    next_observations: th.Tensor
    rewards: th.Tensor
    terminated: th.Tensor


@dataclass(frozen=True)
class Context:
    """
    All that a plug may see of the agent, built fresh for each verb: the weights, the fit and the imagined rollouts of a model
    phase. Plugs never see the agent itself.

    :param policy: samples the current policy, see :data:`PolicyFunction`
    :param values: the current critics, see :data:`ValueFunction`
    :param gamma: discount factor
    :param policy_version: version that the agent stamps on new transitions now
    :param generator: the only source of randomness of a plug, on the device of the data
    :param action_sampler: samples several actions at a row with one pass through the policy, or None if it cannot
    :param n_envs: environments whose rows alternate in the data: a trajectory goes on at the row that many rows later
    """

    policy: PolicyFunction
    values: ValueFunction
    gamma: float
    policy_version: int
    generator: th.Generator
    action_sampler: ActionSampler | None = None
    n_envs: int = 1

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
