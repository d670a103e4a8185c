"""
A training run in a process of its own, which tests kill and start again:

    python -m tests.checkpoint.child ENV N_ENVS WEIGHTER FOLDER STEPS SAVE_FREQ [DIE_IN]

At its end it leaves its whole state in ``FOLDER/final.zip``.

DIE_IN ``data:K`` or ``rename:K`` kills the process during the write of its Kth checkpoint: in the middle of its data, or when
they are complete but not yet under their name.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch as th

from sb3_tom.callbacks.learning_curve import LearningCurveCallback
from sb3_tom.callbacks.weight_by_age import WeightByAgeCallback
from sb3_tom.checkpoint import ResumeCallback, archive, latest_checkpoint
from tests.checkpoint.runs import final_state, make_agent


def die_in_write(where: str, number: int) -> None:
    """Let the process kill itself within its Kth write."""
    owner, name = {"data": (archive, "_write_array"), "rename": (Path, "replace")}[where]
    original, real_write, writes = getattr(owner, name), archive._write_members, [0]

    def count(*args: Any) -> Any:
        writes[0] += 1
        return real_write(*args)

    def die(*args: Any) -> Any:
        # The tables of the callbacks are renamed too: only names of checkpoints count
        if writes[0] == number and (where == "data" or "checkpoint" in args[0].name):
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args)

    archive._write_members = count
    setattr(owner, name, die)


def main() -> None:
    """Train from the last checkpoint, if there is one, to the end."""
    env, n_envs, weighter, folder, steps, save_freq, *die = sys.argv[1:]
    th.set_num_threads(1)
    if die:
        where, number = die[0].split(":")
        die_in_write(where, int(number))
    agent = make_agent(env, int(n_envs), weighter)
    if latest_checkpoint(folder):
        agent.load_checkpoint(folder)
    callbacks = [
        LearningCurveCallback(env, Path(folder) / "curve.csv", 70, n_eval_episodes=1, n_eval_envs=1),
        WeightByAgeCallback(Path(folder) / "age.csv", 3),
        ResumeCallback(folder, int(save_freq)),
    ]
    agent.learn(int(steps), callback=callbacks)
    archive.write_archive(Path(folder) / "final.zip", final_state(agent))


if __name__ == "__main__":
    main()
