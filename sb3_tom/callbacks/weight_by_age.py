"""Writes the weight of data by its age to a CSV file."""

import os
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from sb3_tom.callbacks.labels import run_labels
from sb3_tom.callbacks.tables import RunTable
from sb3_tom.checkpoint.fits import check_form
from sb3_tom.checks.validation import check_integer
from sb3_tom.data.diagnostics import equal_bins
from sb3_tom.data.weights import effective_sample_size

AGE_COLUMNS = ("env_step", "policy_version", "age_bin", "age_low", "age_high", "rows", "weight_mean", "weight_max", "ess")
"""Columns of weight by age after the labels task, method and seed."""


class WeightByAgeCallback(BaseCallback):
    """
    After every model phase write the mean and largest weight of the replay buffer's transitions by age, in bins of equally
    many transitions. Age is counted in env steps; the newest transition has age 0. Weights have mean 1 over the buffer.
    ``ess`` is the effective sample size of all weights as a share of the buffer, the same in all bins of a phase.

    :param csv_path: the file; a resumed agent keeps its earlier rows
    :param n_bins: number of bins
    :param method: label of the method; default: the agent's class and its plugs, ``mbpo_tom``
    :param task: label of the task; default: the environment's id, or its class's name if it has none
    """

    def __init__(
        self,
        csv_path: str | os.PathLike[str],
        n_bins: int = 10,
        *,
        method: str | None = None,
        task: str | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        self.csv_path = csv_path
        self.n_bins = check_integer("n_bins", n_bins, 1)
        self.method, self.task = method, task

    def _on_training_start(self) -> None:
        if not hasattr(self._buffer, "weights"):
            raise ValueError(f"WeightByAgeCallback needs a replay buffer with weights; {type(self.model).__name__} has none")
        self.table = RunTable(self.csv_path, AGE_COLUMNS, run_labels(self), self.num_timesteps)
        self._policy_version = self._buffer.policy_version

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint; the rows are in the CSV file."""
        return {"rows": len(self.table.rows), "policy_version": int(self._policy_version)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Resume from a checkpoint; rows that were written after it are dropped.

        :param state: from :meth:`state_dict`
        :raises ValueError: if it is malformed
        """
        check_form(state, {"rows": int, "policy_version": int}, f"the state of {type(self).__qualname__}")
        self.table.keep(state["rows"])
        self._policy_version = state["policy_version"]

    @property
    def _buffer(self) -> Any:
        return self.model.replay_buffer  # type: ignore[attr-defined]

    def _on_step(self) -> bool:
        # A model phase runs in train(), after the step's transitions were stored and before the next step
        self._write_new_phase(self.num_timesteps - self.training_env.num_envs)
        return True

    def _on_training_end(self) -> None:
        self._write_new_phase(self.num_timesteps)

    def _write_new_phase(self, env_step: int) -> None:
        if self._buffer.policy_version != self._policy_version:
            self._policy_version = self._buffer.policy_version
            self.table.append(*self._rows(env_step))

    def _rows(self, env_step: int) -> list[dict[str, Any]]:
        weights = weights_newest_first(self._buffer)
        ess = float(effective_sample_size(th.from_numpy(weights)))
        return [
            {
                "env_step": env_step,
                "policy_version": int(self._policy_version),
                "age_bin": index,
                "age_low": low,
                "age_high": high - 1,
                "rows": high - low,
                "weight_mean": float(weights[low:high].mean()),
                "weight_max": float(weights[low:high].max()),
                "ess": ess,
            }
            for index, (low, high) in enumerate(equal_bins(weights.size, self.n_bins))
        ]


def weights_newest_first(buffer: Any) -> np.ndarray:
    """
    Weights of a ring buffer's transitions by age.

    :param buffer: a :class:`~sb3_tom.data.replay_buffer.WeightedReplayBuffer`
    :return: ``[N]`` float64, the newest transition first; within an env step, the last env first
    """
    oldest_first = np.asarray(buffer.weights[buffer.positions_oldest_first()], dtype=np.float64).reshape(-1)
    return np.ascontiguousarray(oldest_first[::-1])
