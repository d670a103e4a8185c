"""
SBX (SAC in JAX) for ``benchmarks/speed.py``: makes one ``train`` for each line on standard input, and prints a line after it.
It runs in a process, and if need be in an interpreter, of its own: ``speed.py --sbx-python /path/to/venv/bin/python``.
"""

import os
import sys
from importlib.metadata import version

import checkout  # noqa: F401
from line_process import LineProcess


class SBXProcess(LineProcess):
    """
    Calls are one ``train`` of SBX's SAC on Hopper.

    :param python: an interpreter that has ``sbx-rl``
    :param updates: gradient steps of a call
    :param batch_size: rows of a minibatch
    :param threads: cores that it may use, as many as the others
    :raises RuntimeError: if the process does not start, with its output
    """

    def __init__(self, python: str, updates: int, batch_size: int, threads: int) -> None:
        super().__init__([python, __file__, str(updates), str(batch_size), str(threads)], "the process of SBX")
        self.versions = self.first

    def __call__(self) -> None:
        self.ask()


def main() -> None:
    """Run the serving process."""
    updates, batch_size, threads = (int(word) for word in sys.argv[1:])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    import jax
    from sbx import SAC

    agent = SAC("MlpPolicy", "Hopper-v5", learning_starts=300, seed=0, gradient_steps=updates)
    agent.learn(301)
    agent.train(updates, batch_size)  # compiles
    print(f"sbx-rl {version('sbx-rl')} jax {version('jax')} on {jax.devices()[0].platform}", flush=True)
    for _ in sys.stdin:
        agent.train(updates, batch_size)
        jax.block_until_ready(agent.policy.actor_state.params)
        print("done", flush=True)


if __name__ == "__main__":
    main()
