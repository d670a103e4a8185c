"""A short run of random actions, as ``benchmarks/curves.py`` keeps it."""

from pathlib import Path
from typing import Any

from tests.mbpo.small import small_agent


def random_run(folder: Path, method: str) -> tuple[Path, dict[str, Any]]:
    """
    300 random steps of InvertedPendulum.

    :param folder: for the run
    :param method: of the run, by its name
    :return: the checkpoint, and the arguments of its policy
    """
    agent = small_agent("InvertedPendulum-v5", learning_starts=1000).learn(300)
    path = folder / "InvertedPendulum-v5" / f"{method}_seed0" / "checkpoints" / "checkpoint_300_steps.zip"
    path.parent.mkdir(parents=True)
    agent.save_checkpoint(path)
    return path, agent.policy_kwargs
