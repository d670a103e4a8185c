"""Writes an agent's log at each evaluation to a CSV file: signs that precede a collapse."""

import os
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from sb3_tom.callbacks.labels import run_labels
from sb3_tom.callbacks.tables import RunTable

SIGNS = (
    "health/critic_to_bound",
    "health/imagined_return_excess",
    "health/termination_mismatch",
    "health/effective_rows",
    "train/target_mean",
    "train/critic_loss",
    "train/actor_grad_norm",
    "train/ent_coef",
    "rollout_model/length",
    "rollout_model/terminated_share",
    "rollout_model/return_high",
    "model/validation_error",
)
"""Names in the log."""


class SignsCallback(BaseCallback):
    """
    At each evaluation the last logged value of each of :data:`SIGNS`; empty where there was none yet.

    :param path: of the file
    :param freq: env steps between two rows
    :param task: label
    :param method: label
    """

    def __init__(self, path: str | os.PathLike[str], freq: int, task: str, method: str) -> None:
        super().__init__()
        self.path, self.freq, self.task, self.method = path, freq, task, method
        self.last: dict[str, float] = {}

    def _on_training_start(self) -> None:
        self.table = RunTable(self.path, ("env_step", *SIGNS), run_labels(self), self.num_timesteps)

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint; the rows are in the CSV file."""
        return {"rows": len(self.table.rows), "last": self.last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint; rows that were written after it are dropped."""
        self.table.keep(state["rows"])
        self.last = dict(state["last"])

    def _on_step(self) -> bool:
        logged = self.logger.name_to_value  # emptied at each dump
        self.last |= {name: float(logged[name]) for name in SIGNS if name in logged}
        if self.num_timesteps % self.freq == 0:
            self.table.append({"env_step": self.num_timesteps} | {name: self.last.get(name, "") for name in SIGNS})
        return True
