"""Evaluation that leaves training as it was, and CSV files that survive an interrupted run."""

import csv
import os
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import PolicyPredictor
from stable_baselines3.common.vec_env import VecNormalize


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Restore the global random streams of Python, numpy and torch (CUDA included) on leaving."""
    python_state, numpy_state, torch_state = random.getstate(), np.random.get_state(), th.get_rng_state()
    cuda_states = th.cuda.get_rng_state_all() if th.cuda.is_available() else None
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        th.set_rng_state(torch_state)
        if cuda_states is not None:
            th.cuda.set_rng_state_all(cuda_states)


@dataclass(frozen=True)
class Evaluation:
    """
    What a policy reached in some episodes.

    :param returns: undiscounted return of each episode ``[n_episodes]``
    :param lengths: steps of each episode ``[n_episodes]``
    """

    returns: np.ndarray
    lengths: np.ndarray


def evaluate(
    model: PolicyPredictor,
    envs: Sequence[gym.Env],
    n_episodes: int = 10,
    seed: int = 10_000,
    deterministic: bool = True,
    normalizer: VecNormalize | None = None,
) -> Evaluation:
    """
    Play ``n_episodes`` whole episodes, several at a time. Episode k starts from ``reset(seed=seed + k)``, so that every
    evaluation of a run, and of every method, begins in the same states and can be repeated from the saved agent. Global
    random streams are restored afterwards: evaluating more or less often does not change training.

    :param model: agent or policy with SB3's ``predict``
    :param envs: environments of the same kind that nothing else steps; as many episodes are played at a time
    :param n_episodes: number of episodes
    :param seed: seed of the first episode
    :param deterministic: use the mean action
    :param normalizer: what the policy sees is in its units; its statistics stay as they are
    :return: returns, in the environments' own units, and lengths in the order of the seeds
    """

    def act(observations: np.ndarray) -> np.ndarray:
        seen = observations if normalizer is None else normalizer.normalize_obs(observations)
        return model.predict(seen, deterministic=deterministic)[0]

    returns = np.zeros(n_episodes)
    lengths = np.zeros(n_episodes, dtype=np.int64)
    with preserved_random_state():
        for first in range(0, n_episodes, len(envs)):
            episodes = range(first, min(first + len(envs), n_episodes))
            _play(act, envs, episodes, seed, returns, lengths)
    return Evaluation(returns, lengths)


def _play(
    act: Callable[[np.ndarray], np.ndarray],
    envs: Sequence[gym.Env],
    episodes: range,
    seed: int,
    returns: np.ndarray,
    lengths: np.ndarray,
) -> None:
    """Play one episode per env side by side and write its return and length; an env whose episode is over waits."""
    running = {episode: env for episode, env in zip(episodes, envs, strict=False)}
    observations = {episode: env.reset(seed=seed + episode)[0] for episode, env in running.items()}
    while running:
        actions = act(np.stack([observations[episode] for episode in running]))
        for (episode, env), action in zip(list(running.items()), actions, strict=True):
            observations[episode], reward, terminated, truncated, _ = env.step(action)
            returns[episode] += float(reward)
            lengths[episode] += 1
            if terminated or truncated:
                del running[episode]


class RunTable:
    """
    CSV table of one run, written row by row and flushed, so that an interrupted run leaves all of its rows. A run that goes
    on from a saved agent finds its rows again and drops those that lie ahead of the agent: it will produce them anew. A run
    that begins anew moves the file of an earlier one aside, to ``<name>.1``, ``<name>.2``, ...

    :param path: the file; its folder is created
    :param columns: names of all columns, ``env_step`` among them
    :param labels: values of the columns that are the same in all rows (task, method, seed)
    :param env_step: env steps that the agent has done so far
    :raises ValueError: if the file is of another run (other columns or labels)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        columns: Sequence[str],
        labels: dict[str, Any],
        env_step: int = 0,
    ) -> None:
        self.path = Path(path)
        self.columns = (*labels, *columns)
        self.labels = {name: str(value) for name, value in labels.items()}
        rows = self._read()
        if env_step == 0 and rows:
            self._move_aside()
        self.rows = [row for row in rows if 0 < int(row["env_step"]) <= env_step]
        self._rewrite()

    def _read(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        rows = read_table(self.path)
        for row in rows:
            if tuple(row) != self.columns or any(row[name] != value for name, value in self.labels.items()):
                expected = f"the columns {self.columns} and {self.labels}"
                raise ValueError(f"{self.path} belongs to another run: expected {expected}, found {row}")
        return rows

    def _move_aside(self) -> None:
        """A file with rows is somebody's result."""
        names = (self.path.with_name(f"{self.path.name}.{number}") for number in count(1))
        self.path.replace(next(name for name in names if not name.exists()))

    def _rewrite(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(self.path.name + ".partial")
        write_table(temporary, self.columns, self.rows)
        temporary.replace(self.path)

    def keep(self, n_rows: int) -> None:
        """
        Drop what was written after a checkpoint.

        :param n_rows: rows that stay
        """
        self.rows = self.rows[:n_rows]
        self._rewrite()

    def append(self, *rows: dict[str, Any]) -> None:
        """
        Write rows at the end of the file, now.

        :param rows: values of all columns that are not labels; floats are written with six significant digits
        """
        texts = [self.labels | _texts(row) for row in rows]
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns, lineterminator="\n").writerows(texts)
        self.rows.extend(texts)


def _texts(row: Mapping[str, Any]) -> dict[str, str]:
    return {name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in row.items()}


def write_table(path: str | os.PathLike[str], columns: Collection[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """
    A CSV file with a header, which :func:`read_table` reads.

    :param path: the file
    :param columns: their names, in order
    :param rows: values of all columns; floats are written with six significant digits
    """
    with Path(path).open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_texts(row) for row in rows)


def read_table(path: str | os.PathLike[str]) -> list[dict[str, str]]:
    """
    Rows of a CSV file with a header, in order. A last line that was cut off in the middle of writing is left out.

    :param path: the file
    """
    complete, _, _ = Path(path).read_text().rpartition("\n")
    return list(csv.DictReader(complete.splitlines()))
