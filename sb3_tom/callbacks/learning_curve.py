"""The learning curve of a run as a CSV file."""

import os
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import unwrap_vec_normalize

from sb3_tom.callbacks.evaluation import Evaluation, Every, check_eval_env, evaluate, make_eval_envs
from sb3_tom.callbacks.labels import run_labels
from sb3_tom.callbacks.tables import RunTable
from sb3_tom.checkpoint.fits import NUMBER, check_form
from sb3_tom.checks.validation import check_integer

CURVE_COLUMNS = (
    "env_step",
    "return_mean",
    "return_std",
    "return_min",
    "return_max",
    "cumulative_max",
    "episode_length_mean",
    "n_updates",
    "seconds",
)
"""Columns of a learning curve after the labels task, method and seed."""


STATE: dict[str, Any] = {
    "rows": int,
    "cumulative_max": NUMBER,
    "seconds": NUMBER,
    "evaluations_due": int,
    "last_mean_return": (*NUMBER, type(None)),
}
"""Types of the state for a checkpoint."""


class LearningCurveCallback(BaseCallback):
    """
    Every ``eval_freq`` env steps play whole episodes on separate environments and append a row to a CSV file.

    Columns: task, method, seed, env_step; mean, standard deviation (over episodes), smallest and largest return of this
    evaluation; ``cumulative_max``, the best ``return_mean`` so far; mean episode length; gradient steps of the policy so
    far; seconds since training began, evaluations included. Global random streams are restored, so that training is the
    same with and without this callback. Under ``VecNormalize`` the policy gets normalised observations; returns are not
    normalised.

    :param eval_env: environment id, or a function that makes a new environment with each call; closed at the end of training
    :param csv_path: the file; a resumed agent keeps its earlier rows
    :param eval_freq: env steps (all training envs together) between evaluations
    :param method: label of the method; default: the agent's class and its plugs, ``mbpo_tom``
    :param task: label of the task; default: the environment's id, or its class's name if it has none
    :param n_eval_episodes: episodes of an evaluation
    :param eval_seed: seed of the first episode of every evaluation
    :param deterministic: evaluate the mean action
    :param reward_threshold: stop training when an evaluation's mean return is at least this
    :param n_eval_envs: number of episodes that are played at a time
    :param verbose: 1 prints every evaluation
    """

    def __init__(
        self,
        eval_env: str | Callable[[], gym.Env],
        csv_path: str | os.PathLike[str],
        eval_freq: int = 1000,
        *,
        method: str | None = None,
        task: str | None = None,
        n_eval_episodes: int = 10,
        eval_seed: int = 10_000,
        deterministic: bool = True,
        reward_threshold: float | None = None,
        n_eval_envs: int = 10,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        check_eval_env(eval_env)
        self.eval_env = eval_env
        self.csv_path = csv_path
        self.eval_freq = check_integer("eval_freq", eval_freq, 1)
        self.n_eval_episodes = check_integer("n_eval_episodes", n_eval_episodes, 1)
        self.n_eval_envs = min(check_integer("n_eval_envs", n_eval_envs, 1), self.n_eval_episodes)
        self.method, self.task = method, task
        self.eval_seed, self.deterministic = eval_seed, deterministic
        self.reward_threshold = reward_threshold
        self.last_mean_return: float | None = None
        self.solved_step: int | None = None

    def _on_training_start(self) -> None:
        self._envs = self._make_envs()
        labels = run_labels(self, self._envs[0])
        self.table = RunTable(self.csv_path, CURVE_COLUMNS, labels, self.num_timesteps)
        past = self.table.rows[-1] if self.table.rows else None
        self._cumulative_max = float(past["cumulative_max"]) if past else -np.inf
        self._start_time = time.monotonic() - (float(past["seconds"]) if past else 0.0)
        self._is_due = Every(self.eval_freq, self.num_timesteps)
        self.solved_step = None

    def _make_envs(self) -> list[Any]:
        """Environments for evaluations, closed at the end of training."""
        return make_eval_envs(self.eval_env, self.model, self.n_eval_envs)

    def _play(self) -> Evaluation:
        """Play the episodes of one evaluation."""
        normalizer = unwrap_vec_normalize(self.training_env)
        return evaluate(self.model, self._envs, self.n_eval_episodes, self.eval_seed, self.deterministic, normalizer)

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint; the rows are in the CSV file."""
        return {
            "rows": len(self.table.rows),
            "cumulative_max": float(self._cumulative_max),
            "seconds": time.monotonic() - self._start_time,
            "evaluations_due": self._is_due.passed,
            "eval_freq": self.eval_freq,
            "last_mean_return": self.last_mean_return,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Resume from a checkpoint; rows that were written after it are dropped.

        :param state: from :meth:`state_dict`
        :raises ValueError: if it is malformed
        """
        check_form(state, STATE, f"the state of {type(self).__qualname__}")
        self.table.keep(state["rows"])
        self._cumulative_max = state["cumulative_max"]
        self._start_time = time.monotonic() - state["seconds"]
        self.last_mean_return = state["last_mean_return"]
        if state.get("eval_freq", self.eval_freq) == self.eval_freq:  # else what was due says nothing of what will be
            self._is_due.passed = state["evaluations_due"]

    def _on_step(self) -> bool:
        if not self._is_due(self.num_timesteps):
            return True
        mean = self._evaluate()
        if self.reward_threshold is None or not mean >= self.reward_threshold:  # NaN reaches nothing
            return True
        self.solved_step = self.num_timesteps
        return False

    def _evaluate(self) -> float:
        """Evaluate, write the row and the log; return the mean return."""
        result = self._play()
        mean = float(result.returns.mean())
        self._cumulative_max = max(self._cumulative_max, mean)
        row: dict[str, Any] = {
            "env_step": self.num_timesteps,
            "return_mean": mean,
            "return_std": float(result.returns.std()),
            "return_min": float(result.returns.min()),
            "return_max": float(result.returns.max()),
            "cumulative_max": self._cumulative_max,
            "episode_length_mean": float(result.lengths.mean()),
            "n_updates": int(getattr(self.model, "_n_updates", 0)),
            "seconds": time.monotonic() - self._start_time,
        }
        self.table.append(row)
        self.last_mean_return = mean
        self.logger.record("eval/mean_reward", mean)
        self.logger.record("eval/mean_ep_length", row["episode_length_mean"])
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.num_timesteps)
        if self.verbose:
            figures = f"return {mean:.1f} +/- {row['return_std']:.1f}, {row['seconds']:.0f} s"
            print(f"step {self.num_timesteps}: {figures}", flush=True)
        return mean

    def _on_training_end(self) -> None:
        for env in self._envs:
            env.close()
