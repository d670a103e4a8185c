"""A callback that lets a run suffer what a file says, in the run's own process: ``KIND STEP [always]``."""

import os
import resource
import signal
import time
from pathlib import Path

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

MEBIBYTE = 2**20


class FaultCallback(BaseCallback):
    """
    Does what the file says, once: the next attempt finds no file, unless it says ``always``.

    :param file: may be missing
    :param pause: seconds that a step takes longer, so that there is a middle of a run on a fast machine too
    """

    def __init__(self, file: str, pause: float = 0.0) -> None:
        super().__init__()
        self.file, self.pause = file, pause

    def _on_step(self) -> bool:
        time.sleep(self.pause)
        path = Path(self.file)
        if not path.exists():
            return True
        kind, step, *always = path.read_text().split()
        if self.num_timesteps != int(step):
            return True
        if not always:
            path.unlink()
        {"kill": kill, "memory": out_of_memory, "disk": full_disk, "nan": self._diverge}[kind]()
        return True

    def _diverge(self) -> None:
        self.model.replay_buffer.rewards[:] = np.nan


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def out_of_memory() -> None:
    """The process may have 50 MiB more; it asks for 200."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    now = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 50 * MEBIBYTE, resource.RLIM_INFINITY))
    np.ones(200 * MEBIBYTE, dtype=np.uint8)


def full_disk() -> None:
    """No file may be longer than 2 KiB: the next checkpoint cannot be written."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, resource.RLIM_INFINITY))
