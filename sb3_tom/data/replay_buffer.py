"""The real replay buffer: weights, policy versions, and the observations that episodes started from."""

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer

from sb3_tom.checks.episode_ends import RAW_TERMINAL
from sb3_tom.checks.validation import check_integer
from sb3_tom.contracts.context import Arrival
from sb3_tom.contracts.types import Transitions
from sb3_tom.data.moments import KnownBlocks, StoredRows
from sb3_tom.data.resident import ResidentRows, newest_places

_RESIDENT: "WeakKeyDictionary[WeightedReplayBuffer, ResidentRows]" = WeakKeyDictionary()
"""Copies on other devices than the CPU; not attributes of the buffers, so that no file holds the rows twice."""

_KNOWN: "WeakKeyDictionary[WeightedReplayBuffer, tuple[int, KnownBlocks]]" = WeakKeyDictionary()
"""Positions ever written at the last call of :meth:`transitions`, and the cached statistics of the blocks of rows."""


class WeightedReplayBuffer(ReplayBuffer):
    """
    SB3's replay buffer that also stores for each transition its weight, the version of the policy that collected it and
    whether it terminated, and keeps a small ring of the observations that episodes started from.

    Row numbers count in the order of the arrays ``[buffer_size, n_envs]``, flattened. Observations are stored as float32:
    SB3 converts them to float32 before every use anyway.

    :param n_start_observations: capacity of the ring of start observations; the other parameters are SB3's
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: th.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        n_start_observations: int = 1000,
    ) -> None:
        if optimize_memory_usage:
            raise ValueError(
                "optimize_memory_usage=True is not allowed: models are fitted to next_observations; allowed: False"
            )
        if not handle_timeout_termination:
            raise ValueError(
                "replay_buffer_kwargs={'handle_timeout_termination': False} is not allowed: a time-out would count as a "
                "termination; allowed: True"
            )
        n_start_observations = check_integer("n_start_observations", n_start_observations, 1)
        super().__init__(
            buffer_size,
            observation_space,
            action_space,
            device,
            n_envs=n_envs,
            handle_timeout_termination=handle_timeout_termination,
        )
        shape = (self.buffer_size, self.n_envs)
        self.observations = np.zeros((*shape, *self.obs_shape), dtype=np.float32)
        self.next_observations = np.zeros((*shape, *self.obs_shape), dtype=np.float32)
        self.terminated = np.zeros(shape, dtype=np.float32)
        self.weights = np.ones(shape, dtype=np.float32)
        self.policy_versions = np.zeros(shape, dtype=np.int64)
        self.policy_version = 0
        self._starts = np.zeros((n_start_observations, *self.obs_shape), dtype=np.float32)
        self._n_starts = 0
        self._expected_observations: np.ndarray | None = None
        self._n_added = 0  # positions ever written
        self._rule_began: int | None = None  # _n_added when the termination rule changed last; None: it never did

    def add(
        self,
        obs: np.ndarray,
        next_obs: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """Store one transition per env (SB3's contract), with weight 1 and the agent's current policy version."""
        row = self.pos
        for index in np.flatnonzero(done):
            if RAW_TERMINAL in infos[index]:
                next_obs[index] = infos[index][RAW_TERMINAL]
        super().add(obs, next_obs, action, reward, done, infos)
        self._n_added += 1
        self.terminated[row] = self.dones[row] * (1.0 - self.timeouts[row])
        self.weights[row] = 1.0
        self.policy_versions[row] = self.policy_version
        self._remember_starts(row)

    def _remember_starts(self, row: int) -> None:
        """An observation that does not continue the env's last transition starts an episode; also after ``env.reset()``."""
        observations = self.observations[row]
        if self._expected_observations is None:
            starts = np.ones(self.n_envs, dtype=bool)
        else:
            starts = (observations != self._expected_observations).any(axis=1)
        for observation in observations[starts]:
            self._starts[self._n_starts % len(self._starts)] = observation
            self._n_starts += 1
        self._expected_observations = self.next_observations[row].copy()
        self._expected_observations[self.dones[row] > 0] = np.nan  # NaN equals nothing: the next one is a start

    @staticmethod
    def row_bytes(observation_dim: int, action_dim: int) -> tuple[int, int]:
        """
        Bytes of a stored transition in the arrays, and in the copy on another device.

        :param observation_dim: size O of an observation
        :param action_dim: size A of an action
        """
        columns = 2 * observation_dim + action_dim
        # rewards, dones, timeouts, terminated, weights, of which three are copied; versions are int64
        return 4 * (columns + 5) + 8, 4 * (columns + 3) + 8

    @property
    def n_transitions(self) -> int:
        """Number of stored transitions, all envs together."""
        return self.size() * self.n_envs

    @property
    def capacity(self) -> int:
        """Maximum number of transitions, all envs together: SB3 rounds ``buffer_size`` down to a multiple of ``n_envs``."""
        return self.buffer_size * self.n_envs

    @property
    def arrival(self) -> Arrival:
        """Insertion order of the rows; all numbers count the transitions of all envs."""
        oldest = self.pos if self.full else 0
        return Arrival(self.n_transitions, oldest * self.n_envs, self._n_added * self.n_envs)

    def _view(self, array: np.ndarray) -> th.Tensor:
        """The filled part of ``[buffer_size, n_envs, ...]`` as ``[N, ...]``, without a copy on the CPU."""
        flat = array[: self.size()].reshape(self.n_transitions, *array.shape[2:])
        return th.from_numpy(flat).to(self.device)

    def transitions(self) -> Transitions:
        """
        All stored rows, read-only: views of the arrays on the CPU, or of an up-to-date copy on another device. Statistics of
        their blocks are cached (:func:`sb3_tom.data.moments.moments_of`).
        """
        arrays = [
            self.observations,
            self.actions,
            self.next_observations,
            self.rewards,
            self.terminated,
            self.policy_versions,
            self.timeouts,
        ]
        if self.device.type == "cpu":
            fields = [self._view(array) for array in arrays]
        else:
            resident = _RESIDENT.get(self)
            if resident is None:
                resident = _RESIDENT[self] = ResidentRows(arrays, self.device)
            fields = [field.flatten(0, 1) for field in resident.update(self._n_added, self.pos, self.size())]
        observations, actions, next_observations, rewards, terminated, versions, truncated = fields
        columns = rewards.unsqueeze(-1), terminated.unsqueeze(-1), versions, truncated.unsqueeze(-1)
        rows = StoredRows(observations, actions, next_observations, *columns)
        rows.known = self._known_blocks()
        return rows

    def _known_blocks(self) -> KnownBlocks:
        """Cached statistics, without those of blocks that have changed."""
        n_before, known = _KNOWN.get(self, (0, KnownBlocks()))
        n_new = min(self._n_added - n_before, self.size()) if self._n_added >= n_before else self.size()
        for first, last in newest_places(n_new, self.pos, self.buffer_size):
            known.forget(first * self.n_envs, last * self.n_envs)
        _KNOWN[self] = self._n_added, known
        return known

    def forget_copies(self) -> None:
        """
        Drop copies on other devices and cached statistics. To be called after rows were written in another way than by
        :meth:`add`.
        """
        _RESIDENT.pop(self, None)
        _KNOWN.pop(self, None)

    def row_weights(self, weighted: bool = True) -> th.Tensor:
        """
        Weights of all stored rows.

        :param weighted: False returns ones
        :return: ``[N]``
        """
        weights = self._view(self.weights)
        return weights if weighted else th.ones_like(weights)

    def set_row_weights(self, weights: th.Tensor) -> None:
        """
        Store the weights of the latest model phase.

        :param weights: ``[N]``, in row order
        """
        self.weights[: self.size()] = weights.detach().cpu().numpy().reshape(self.size(), self.n_envs)

    def positions_oldest_first(self, n_newest: int | None = None) -> np.ndarray:
        """
        Positions in the arrays, in the order in which they were written.

        :param n_newest: number of newest positions; None: all
        :return: int ``[min(n_newest, size())]``, in ``[0, buffer_size)``
        """
        n_positions = self.size() if n_newest is None else min(n_newest, self.size())
        return (self.pos - n_positions + np.arange(n_positions)) % self.buffer_size

    def newest_rows(self, n_rows: int) -> th.Tensor:
        """
        Row numbers of the newest transitions, oldest first; all rows if there are fewer.

        :param n_rows: how many
        :return: int64 ``[min(n_rows, N)]``
        """
        positions = self.positions_oldest_first(-(-n_rows // self.n_envs))
        rows = (positions[:, None] * self.n_envs + np.arange(self.n_envs)).reshape(-1)
        return th.from_numpy(rows[-n_rows:]).to(self.device)

    def next_version(self) -> int:
        """
        Advance the version of the rows to come, unless none came since the last call: a second fit to the same rows must not
        begin a new block, which would age the others.
        """
        newest = int(self.policy_versions[self.pos - 1].max())
        self.policy_version = max(self.policy_version, newest + 1)
        return self.policy_version

    def begin_rule(self) -> None:
        """Note that the termination rule changes: it does not hold for the rows stored so far."""
        self._rule_began = self._n_added

    @property
    def n_of_rule(self) -> int:
        """Number of stored transitions that were collected under the present termination rule."""
        n_positions = self.size() if self._rule_began is None else min(self._n_added - self._rule_began, self.size())
        return n_positions * self.n_envs

    def transitions_of_rule(self) -> Transitions:
        """The :attr:`n_of_rule` newest rows; :meth:`transitions` if these are all."""
        data = self.transitions()
        return data if self.n_of_rule == data.size else data.rows(self.newest_rows(self.n_of_rule))

    @property
    def n_start_observations(self) -> int:
        """Capacity of the ring of start observations."""
        return len(self._starts)

    def start_observations(self) -> th.Tensor:
        """Observations after real resets ``[K, O]``; at most ``n_start_observations``, the newest."""
        return th.from_numpy(self._starts[: min(self._n_starts, len(self._starts))]).to(self.device)

    @classmethod
    def from_replay_buffer(cls, buffer: ReplayBuffer, **kwargs: Any) -> "WeightedReplayBuffer":
        """
        Copy a plain SB3 buffer, for example a SAC run's: weights 1, policy version 0.

        :param buffer: its ``optimize_memory_usage`` must be off and its ``handle_timeout_termination`` on
        :param kwargs: of this class
        :raises ValueError: if they are not
        """
        options = ("optimize_memory_usage", "handle_timeout_termination")
        copy = cls(
            buffer.buffer_size * buffer.n_envs,
            buffer.observation_space,
            buffer.action_space,
            device=buffer.device,
            n_envs=buffer.n_envs,
            **{**kwargs, **{name: getattr(buffer, name) for name in options}},
        )
        for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
            getattr(copy, name)[: buffer.size()] = getattr(buffer, name)[: buffer.size()]
        copy.terminated[:] = copy.dones * (1.0 - copy.timeouts)
        copy.pos, copy.full, copy._n_added = buffer.pos, buffer.full, buffer.size()
        copy._find_starts()
        return copy

    def _find_starts(self) -> None:
        """
        Fill the ring of start observations with those of stored rows that do not continue the row before them. In a full
        buffer the rows before the oldest ones are unknown: the oldest count as starts only if there are no others.
        """
        rows = self.positions_oldest_first()
        observations = self.observations[rows]
        continues = np.zeros((len(rows), self.n_envs), dtype=bool)
        continues[1:] = (observations[1:] == self.next_observations[rows[:-1]]).all(-1) & (self.dones[rows[:-1]] == 0)
        if self.full and not continues[1:].all():
            continues[0] = True
        starts = observations[~continues][-len(self._starts) :]
        self._starts[: len(starts)] = starts
        self._n_starts = len(starts)
