"""The ring buffer of imagined transitions."""

from typing import Any

import torch as th

from sb3_tom.checks.validation import check_bool, check_integer
from sb3_tom.contracts.types import Transitions
from sb3_tom.data.growing import GrowingRows, rotate


def _widths(observation_dim: int, action_dim: int, with_confidence: bool) -> tuple[int, ...]:
    """Widths of :attr:`Transitions.step_fields`, and of a confidence."""
    return observation_dim, action_dim, observation_dim, 1, 1, *(1,) * with_confidence


class ImaginedBuffer:
    """
    Ring buffer of imagined transitions on the device. A transition is one row of one tensor, so that a batch is one gather.

    :param capacity: maximum number of rows
    :param observation_dim: size O of an observation
    :param action_dim: size A of an action
    :param device: of the tensor
    :param with_confidence: whether each row has a confidence
    """

    def __init__(
        self,
        capacity: int,
        observation_dim: int,
        action_dim: int,
        device: th.device | str,
        with_confidence: bool = False,
    ) -> None:
        self.capacity = capacity
        self.with_confidence = with_confidence
        self._widths = _widths(observation_dim, action_dim, with_confidence)
        self._memory = GrowingRows(capacity, sum(self._widths), device)
        self._position = 0
        self.size = 0
        self.is_due = True
        """True until the first rollouts after creation, :meth:`clear` or a failed model phase, even if they store no row."""
        self.made_at: list[int] = []
        """Env steps of the rounds of rollouts that there is room for, the newest last. Rows of older rounds may remain if
        rollouts ended early: the ring drops rows by their number, as MBPO's code does."""

    @staticmethod
    def row_bytes(observation_dim: int, action_dim: int, with_confidence: bool = False) -> int:
        """
        Size of a row in bytes.

        :param observation_dim: size O of an observation
        :param action_dim: size A of an action
        :param with_confidence: whether a row has a confidence
        """
        return 4 * sum(_widths(observation_dim, action_dim, with_confidence))

    @property
    def _rows(self) -> th.Tensor:
        return self._memory.tensor

    def resize(self, capacity: int) -> None:
        """
        Change the capacity, keeping the newest rows, in the order of their age, without a second copy of them.

        :param capacity: new maximum number of rows
        """
        if capacity == self.capacity:
            return
        kept = min(self.size, capacity)
        if self.size:
            oldest = self._position - kept  # of the rows that are kept
            rotate(self._rows[: self.size], oldest % self.size)
        self._memory.resize(capacity)
        self.capacity, self.size, self._position = capacity, kept, kept % capacity

    def clear(self) -> None:
        """Drop all rows."""
        self.size = self._position = 0
        self.is_due, self.made_at = True, []

    def add(self, batch: Transitions, keep: th.Tensor, confidence: th.Tensor | None = None) -> None:
        """
        Store rows.

        :param batch: B rows
        :param keep: bool ``[B]``, which of them
        :param confidence: ``[B, 1]``; None: 1. Ignored without ``with_confidence``
        """
        fields = list(batch.step_fields)
        if self.with_confidence:
            fields.append(th.ones_like(batch.rewards) if confidence is None else confidence)
        rows = th.cat(fields, dim=-1)[keep][-self.capacity :]
        head = min(rows.shape[0], self.capacity - self._position)
        ring = self._rows
        ring[self._position : self._position + head] = rows[:head]
        ring[: rows.shape[0] - head] = rows[head:]
        self._position = (self._position + rows.shape[0]) % self.capacity
        self.size = min(self.size + rows.shape[0], self.capacity)

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint: the filled rows, not copied, the write position, capacity and times."""
        rows = self._rows[: self.size]
        own = {"capacity": self.capacity, "is_due": self.is_due, "made_at": self.made_at}
        return {"rows": rows, "position": self._position, **own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Load the rows of a checkpoint.

        :param state: from :meth:`state_dict`
        :raises ValueError: if the rows have another width or exceed the capacity, or the write position is out of range
        """
        rows, width = state["rows"], self._rows.shape[1]
        if not isinstance(rows, th.Tensor) or rows.shape[1:] != (width,) or not rows.is_floating_point():
            raise ValueError(f"imagined rows are not of width {width}")
        capacity = check_integer("capacity", state["capacity"], len(rows))
        position = check_integer("position", state["position"], 0, max(capacity - 1, 0))
        made_at = [check_integer("made_at", step, 0) for step in state.get("made_at", [])]
        is_due = check_bool("is_due", state.get("is_due", len(rows) == 0))  # missing in older checkpoints
        self.capacity, self._position, self.size, self.is_due, self.made_at = capacity, position, len(rows), is_due, made_at
        self._memory.resize(0)  # free the old memory before the new is allocated
        self._memory.resize(capacity)
        self._rows[: self.size] = rows

    def gather(self, rows: th.Tensor) -> tuple[th.Tensor, ...]:
        """
        Fields of the rows with given numbers.

        :param rows: int64 row numbers of any shape ``[...]``, below ``size``
        :return: observations, actions, next_observations, rewards, terminated and, with confidences, confidence, each
            ``[..., width]``
        """
        flat = self._rows.index_select(0, rows.reshape(-1))
        return flat.view(*rows.shape, -1).split(self._widths, dim=-1)
