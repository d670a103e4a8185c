"""The callback that saves a run periodically, so that it can be resumed."""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from stable_baselines3.common.callbacks import BaseCallback

from sb3_tom.checkpoint.archive import make_durable
from sb3_tom.checkpoint.checkpointer import Checkpointer
from sb3_tom.checkpoint.files import checkpoint_path, list_checkpoints, prune
from sb3_tom.checks.validation import check_integer


class ResumeCallback(BaseCallback):
    """
    Writes the complete state of a run to ``folder/checkpoint_{env_step}_steps.zip``: at its beginning, every ``save_freq``
    env steps, and at its end. ``agent.load_checkpoint(folder)`` or ``MBPO.resume(folder, env)`` resume from there.

    Files are written atomically: a run that is killed at any moment leaves the last complete one. Training continues while
    they are flushed to the disk; older files are removed after that. Saving does not change the run. It happens between two
    collections of transitions, at most ``train_freq`` later than asked for.

    A run that is resumed from an older file of its folder removes the newer ones as soon as it is restored. A folder with
    checkpoints of another run is refused when training starts, except for one that has only those of step 0. So is a folder
    that another process trains with.

    :param folder: for this run only
    :param save_freq: env steps (all training envs together) between two checkpoints
    :param keep: number of newest checkpoints to keep
    :param verbose: 1 prints the name of every file
    :raises ValueError: naming the argument, what came and what is allowed
    """

    def __init__(self, folder: str | os.PathLike[str], save_freq: int = 10_000, keep: int = 2, verbose: int = 0) -> None:
        super().__init__(verbose)
        self.folder = Path(folder)
        self.save_freq = check_integer("save_freq", save_freq, 1)
        self.keep = check_integer("keep", keep, 1)
        self._next_save = 0
        self._ahead: set[Path] = set()  # files to remove; checkpoints do not save sets
        self._settling: Future[None] | None = None

    def _on_training_start(self) -> None:
        self._wait()  # for the last file of a `learn` that was interrupted
        if not hasattr(self.model, "save_checkpoint"):
            raise ValueError(f"ResumeCallback needs an agent of sb3_tom; {type(self.model).__name__} has no save_checkpoint")
        self._checkpointer.hold(self.folder)
        there = list_checkpoints(self.folder)
        ahead = [path for step, path in there.items() if step > self.model.num_timesteps]
        newest = next((path for path in reversed(there.values()) if path not in ahead), None)
        is_own = newest is not None and self._checkpointer.knows(newest)
        is_allowed = is_own and (self._checkpointer.is_resuming or not ahead)
        # A run that was killed before its second checkpoint, and is started again
        is_allowed |= [*there] == [0] and self.model.num_timesteps == 0 and not self._checkpointer.is_resuming
        if there and not is_allowed:
            whose = "a run that is further on" if ahead else "another run"
            raise ValueError(
                f"folder={str(self.folder)!r} is not allowed: it holds {[*there.values()][-1].name} of {whose}; allowed: the "
                "folder of this run; go on from a file in it with load_checkpoint(folder), or take another folder"
            )
        self._ahead = set(ahead)

    @property
    def _checkpointer(self) -> Checkpointer:
        return self.model.checkpointer  # type: ignore[attr-defined]

    def between_rollouts(self) -> None:
        """Called by the agent between two collections, when its state is consistent."""
        for path in self._ahead:  # only now: the run is restored and will write them again
            path.unlink(missing_ok=True)
        self._ahead, step = set(), self.model.num_timesteps
        following, is_due = (step // self.save_freq + 1) * self.save_freq, step >= self._next_save
        # A resumed run may have had a greater save_freq
        self._next_save = following if is_due else min(self._next_save, following)
        if is_due:
            self._save()

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        # After an error, or if a callback cancelled the run, its last step is incomplete: no checkpoint is written
        if self._checkpointer.is_between_rollouts:
            self._save()
        self._wait()

    def _save(self) -> None:
        path = checkpoint_path(self.folder, self.model.num_timesteps)
        self._wait()
        self.model.save_checkpoint(path, durable=False)  # type: ignore[attr-defined]
        # Training does not wait for a slow disk; older files are removed only when this one is on it
        executor = ThreadPoolExecutor(1)
        self._settling = executor.submit(self._settle, path)
        executor.shutdown(wait=False)
        if self.verbose:
            print(f"Saved {path}", flush=True)

    def _settle(self, path: Path) -> None:
        make_durable(path)
        prune(self.folder, self.keep)

    def _wait(self) -> None:
        """Wait for the previous file; raises its error if there was one."""
        settling, self._settling = self._settling, None
        if settling is not None:
            settling.result()
