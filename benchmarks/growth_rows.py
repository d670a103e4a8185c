"""Agents and synthetic rows for ``speed_growth.py``: of any sizes, made quickly, with nothing else in memory."""

from typing import Any, ClassVar

import checkout  # noqa: F401
import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_tom import MBPO
from sb3_tom.data.replay_buffer import WeightedReplayBuffer

NEW = 250
"""Number of new rows before each phase."""
ROLLOUTS = 10_000
"""Number of imagined rollouts, of one step: their memory must not hide that of the real rows."""
EPISODE = 1_000
PIECE = 2_048
"""Number of rows that are made at a time."""


class Unmoved(gym.Env[np.ndarray, np.ndarray]):
    """An env that only gives the sizes of rows."""

    def __init__(self, n_observed: int, n_actions: int) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (n_observed,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (n_actions,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """See :class:`gymnasium.Env`."""
        super().reset(seed=seed)
        return np.zeros(self.observation_space.shape, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """See :class:`gymnasium.Env`."""
        return np.zeros(self.observation_space.shape, np.float32), 0.0, False, False, {}


def make_agent(weighter: str, n_rows: int, n_observed: int, n_actions: int, **others: Any) -> MBPO:
    """
    An agent with the default networks and budgets, without early stopping, and with an empty buffer.

    :param weighter: one of ``WEIGHTERS`` in ``speed_growth.py``
    :param n_rows: number of rows that it will hold
    :param n_observed: O
    :param n_actions: A
    :param others: further arguments, which override these
    """
    own = {
        "buffer_size": n_rows + 100 * NEW,
        "weighter": weighter,
        "dynamics_kwargs": {"first_max_epochs": 1, "patience": 12},
        "rollout_batch_size": ROLLOUTS,
        "imagined_capacity": ROLLOUTS,
        "seed": 0,
        "device": "cpu",
    }
    return MBPO("MlpPolicy", Unmoved(n_observed, n_actions), **{**own, **others})


class MadeRows:
    """Synthetic rows: a bounded random walk that the actions push, with random terminations and time limits."""

    columns: ClassVar[tuple[str, ...]] = ("observations", "actions", "next_observations", "rewards", "terminated", "timeouts")

    def __init__(self, n_observed: int, n_actions: int) -> None:
        self._random = np.random.default_rng(0)
        self._mixing = 0.1 * self._random.standard_normal((n_actions, n_observed), dtype=np.float32)

    def draw(self, first: int, n_rows: int, shift: float) -> dict[str, np.ndarray]:
        """
        Rows by the names of the buffer's arrays.

        :param first: number of the first row
        :param n_rows: number of rows
        :param shift: added to the actions
        """
        n_actions, n_observed = self._mixing.shape
        states = self._random.standard_normal((n_rows, n_observed), dtype=np.float32)
        noise = self._random.standard_normal((n_rows, n_observed), dtype=np.float32)
        actions = np.tanh(0.5 * self._random.standard_normal((n_rows, n_actions), dtype=np.float32) + shift)
        after = 0.95 * states + actions @ self._mixing + 0.1 * noise
        limits = (np.arange(first, first + n_rows) % EPISODE == EPISODE - 1).astype(np.float32)
        ends = (self._random.random(n_rows) < 0.01).astype(np.float32) * (1.0 - limits)
        values = (states, actions, after, after[:, 0], ends, limits)
        return dict(zip(self.columns, values, strict=True))


def fill(buffer: WeightedReplayBuffer, rows: MadeRows, n_rows: int) -> None:
    """
    Overwrite rows in chunks, so that nothing else stays in memory.

    :param buffer: with room for them
    :param rows: makes them
    :param n_rows: number of rows
    """
    for first in range(0, n_rows, PIECE):
        last = min(first + PIECE, n_rows)
        for name, values in rows.draw(first, last - first, 0.0).items():
            getattr(buffer, name)[first:last, 0] = values
        buffer.policy_versions[first:last, 0] = np.arange(first, last) // NEW
    buffer.dones[:n_rows] = np.maximum(buffer.terminated[:n_rows], buffer.timeouts[:n_rows])
    buffer.weights[:n_rows] = 1.0  # memory that was never written is not allocated yet
    buffer.pos, buffer._n_added, buffer.policy_version = n_rows, n_rows, n_rows // NEW
    buffer._starts[:] = buffer.observations[: len(buffer._starts), 0]
    buffer._n_starts = len(buffer._starts)
    buffer.forget_copies()


def add_new(agent: MBPO, rows: MadeRows) -> None:
    """Add :data:`NEW` transitions, as if of another policy."""
    buffer = agent.replay_buffer
    made = rows.draw(buffer.size(), NEW, 0.3)
    for number in range(NEW):
        row = {name: values[number : number + 1] for name, values in made.items()}
        ended, cut = row["terminated"] > 0, row["timeouts"] > 0
        fields = [row[name].copy() for name in ("observations", "next_observations", "actions", "rewards")]
        buffer.add(*fields, ended | cut, [{"TimeLimit.truncated": bool(cut[0])}])
