"""Types of the data and functions that plugs and policy updates get."""

from collections.abc import Callable
from typing import NamedTuple

import torch as th

PolicyFunction = Callable[[th.Tensor], tuple[th.Tensor, th.Tensor]]
"""``policy(observations [B, O]) -> (actions [B, A] in [-1, 1], log_prob [B, 1])``, sampled and differentiable."""

ActionSampler = Callable[[th.Tensor, int], th.Tensor]
"""``sampler(observations [B, O], n) -> actions [B, n, A]``, n samples of the policy per row."""

ValueFunction = Callable[[th.Tensor, th.Tensor], th.Tensor]
"""``values(observations [B, O], actions [B, A]) -> [C, B]``, the values of the C critics, differentiable."""

RewardFunction = Callable[[th.Tensor, th.Tensor, th.Tensor], th.Tensor]
"""``reward_fn(observations [B, O], actions [B, A] in [-1, 1], next_observations [B, O]) -> rewards [B, 1]``."""


class _Fields(NamedTuple):
    observations: th.Tensor
    actions: th.Tensor
    next_observations: th.Tensor
    rewards: th.Tensor
    terminated: th.Tensor
    policy_version: th.Tensor
    truncated: th.Tensor


class Transitions(_Fields):
    """
    N transitions as float32 tensors on one device. Every field but ``policy_version`` may carry leading batch
    axes (an ensemble draws ``[E, B, ...]``).

    :param observations: ``[N, O]``
    :param actions: ``[N, A]``, in SB3's scale [-1, 1]
    :param next_observations: ``[N, O]``; the last observation of the episode, never the first of the next one
    :param rewards: ``[N, 1]``
    :param terminated: ``[N, 1]``, 1.0 where the episode ended in a terminal state; a time-out is not one
    :param policy_version: ``[N]``, int64, number of model phases before the row was collected
    :param truncated: ``[N, 1]``, 1.0 where a time limit cut the episode: the env's next row begins another; None: zeros
    """

    __slots__ = ()

    def __new__(
        cls,
        observations: th.Tensor,
        actions: th.Tensor,
        next_observations: th.Tensor,
        rewards: th.Tensor,
        terminated: th.Tensor,
        policy_version: th.Tensor,
        truncated: th.Tensor | None = None,
    ) -> "Transitions":
        """Without ``truncated``, no time limit has cut any row."""
        cut = th.zeros_like(terminated) if truncated is None else truncated
        return super().__new__(cls, observations, actions, next_observations, rewards, terminated, policy_version, cut)

    @property
    def size(self) -> int:
        """Number of rows N (``len`` of a NamedTuple is its number of fields)."""
        return self.observations.shape[0]

    @property
    def device(self) -> th.device:
        """The device that holds the rows."""
        return self.observations.device

    @property
    def step_fields(self) -> tuple[th.Tensor, ...]:
        """The fields with which a minibatch of the policy update (:class:`Batch`) begins, in its order."""
        return self[:5]

    def rows(self, indices: th.Tensor) -> "Transitions":
        """
        The rows at ``indices``.

        :param indices: int64 tensor of any shape ``[...]`` on the same device
        :return: transitions whose fields have the shape ``[..., *field]``
        """
        return Transitions(*(field[indices] for field in self))

    def split(self, n_rows: int) -> "list[Transitions]":
        """
        All rows in their order, in chunks.

        :param n_rows: rows of a chunk; the last may have fewer
        :return: views
        """
        return [Transitions(*fields) for fields in zip(*(field.split(n_rows) for field in self), strict=True)]


class Batch(NamedTuple):
    """
    A minibatch of the policy update: B rows, real and imagined ones mixed; fields as in :class:`Transitions`.

    :param confidence: ``[B, 1]`` weights in the critics' loss; None: all rows count the same
    """

    observations: th.Tensor
    actions: th.Tensor
    next_observations: th.Tensor
    rewards: th.Tensor
    terminated: th.Tensor
    confidence: th.Tensor | None = None
