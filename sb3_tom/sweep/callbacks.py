"""Callbacks of a sweep's runs, for any algorithm."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import sync_envs_normalization

from sb3_tom.callbacks.evaluation import Evaluation, preserved_random_state
from sb3_tom.callbacks.learning_curve import LearningCurveCallback
from sb3_tom.sweep.files import write_steps

SECONDS_BETWEEN = 1.0
"""Minimum time between two writes of the env steps."""


class SweepCurveCallback(LearningCurveCallback):
    """
    A learning curve on the zoo's evaluation envs, with all wrappers of the training env, by SB3's ``evaluate_policy``, also
    for recurrent policies. Every evaluation begins in the same states. Arguments as in :class:`LearningCurveCallback`, but
    ``eval_env`` makes a vectorised env.
    """

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self.table.begin()  # rows of a lost attempt are not this one's

    def _make_envs(self) -> list[Any]:
        return [self.eval_env()]  # type: ignore[operator]

    def _play(self) -> Evaluation:
        (env,) = self._envs
        with preserved_random_state():
            sync_envs_normalization(self.training_env, env)
            env.seed(self.eval_seed)
            returns, lengths = evaluate_policy(
                self.model, env, self.n_eval_episodes, deterministic=self.deterministic, return_episode_rewards=True
            )
        return Evaluation(np.array(returns), np.array(lengths))


class StepsCallback(BaseCallback):
    """
    Writes the number of env steps so far, about once a second.

    :param folder: of the run
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self._due = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Empty: this process's clock is useless in the next."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Does nothing.

        :param state: unused
        """

    def _write(self) -> None:
        self._due = time.monotonic() + SECONDS_BETWEEN
        write_steps(self.folder, self.num_timesteps)

    def _on_training_start(self) -> None:
        self._write()

    def _on_step(self) -> bool:
        if time.monotonic() >= self._due:
            self._write()
        return True
