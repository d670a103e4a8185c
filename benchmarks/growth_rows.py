"""Agents and rows of no task, for ``speed_growth.py``: of any sizes, made quickly, and nothing else in memory."""

from typing import Any, ClassVar

import checkout  # noqa: F401
import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_tom import MBPO
from sb3_tom.data.replay_buffer import WeightedReplayBuffer

NEW = 250
"""Rows that come before each phase."""
ROLLOUTS = 10_000
"""Imagined rollouts, of one step: their ring is not to hide what the real rows take."""
EPISODE = 1_000
PIECE = 2_048
"""Rows that are made at a time."""


class Unmoved(gym.Env[np.ndarray, np.ndarray]):
    """An env that only says of which sizes its rows are."""

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
    An agent with the default networks and budgets whose fits never end before their budget, and whose buffer is empty.

    :param weighter: one of :data:`WEIGHTERS`
    :param n_rows: that it will hold
    :param n_observed: O
    :param n_actions: A
    :param others: arguments in the place of these, or beside them
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
    """Rows of no env: a random walk that the actions push, within bounds; ends at random, and time limits."""

    columns: ClassVar[tuple[str, ...]] = ("observations", "actions", "next_observations", "rewards", "terminated", "timeouts")

    def __init__(self, n_observed: int, n_actions: int) -> None:
        self._random = np.random.default_rng(0)
        self._mixing = 0.1 * self._random.standard_normal((n_actions, n_observed), dtype=np.float32)

    def draw(self, first: int, n_rows: int, shift: float) -> dict[str, np.ndarray]:
        """
        Rows by the names of the buffer's arrays.

        :param first: number of the first
        :param n_rows: how many
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
    Write rows in the place of those that were there, piece by piece: nothing is left behind but them.

    :param buffer: with room for them
    :param rows: where they come from
    :param n_rows: how many
    """
    for first in range(0, n_rows, PIECE):
        last = min(first + PIECE, n_rows)
        for name, values in rows.draw(first, last - first, 0.0).items():
            getattr(buffer, name)[first:last, 0] = values
        buffer.policy_versions[first:last, 0] = np.arange(first, last) // NEW
    buffer.dones[:n_rows] = np.maximum(buffer.terminated[:n_rows], buffer.timeouts[:n_rows])
    buffer.weights[:n_rows] = 1.0  # the memory of what was never written is not taken yet
    buffer.pos, buffer._n_added, buffer.policy_version = n_rows, n_rows, n_rows // NEW
    buffer._starts[:] = buffer.observations[: len(buffer._starts), 0]
    buffer._n_starts = len(buffer._starts)
    buffer.forget_copies()


def add_new(agent: MBPO, rows: MadeRows) -> None:
    """As if :data:`NEW` transitions of another policy had been collected."""
    buffer = agent.replay_buffer
    made = rows.draw(buffer.size(), NEW, 0.3)
    for number in range(NEW):
        row = {name: values[number : number + 1] for name, values in made.items()}
        ended, cut = row["terminated"] > 0, row["timeouts"] > 0
        fields = [row[name].copy() for name in ("observations", "next_observations", "actions", "rewards")]
        buffer.add(*fields, ended | cut, [{"TimeLimit.truncated": bool(cut[0])}])
    agent._new_transitions = NEW
