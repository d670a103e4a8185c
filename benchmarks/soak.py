"""
Long runs of small agents, which must not raise an error of the guard or a health warning.

    python benchmarks/soak.py --updates 1000000 --out docs/results/soak.csv

trains each weighter on Pendulum-v1 and InvertedPendulum-v5 (one terminates, one does not) until all agents together have made
the updates, and writes one CSV row per agent. A guard's error or a health warning ends in exit status 1. Agents whose row the
file has are not trained again, so that the command may be stopped and repeated.
"""

import argparse
import math
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import checkout  # noqa: F401
import torch as th

from sb3_tom import MBPO
from sb3_tom.callbacks.tables import read_table, write_table
from sb3_tom.checks.guards import DivergenceError

TASKS = ("Pendulum-v1", "InvertedPendulum-v5")
WEIGHTERS = ("uniform", "pmac", "tom")
COLUMNS = ("task", "weighter", "updates", "env_steps", "model_phases", "seconds", "error", "health_warnings")


def small_agent(task: str, weighter: str, width: int) -> MBPO:
    """Real ratios and schedules; networks small enough for a million updates on one core."""
    weighter_kwargs = {"q_arch": [width], "discriminator_arch": [width]} if weighter == "tom" else None
    return MBPO(
        "MlpPolicy",
        task,
        learning_starts=500,
        batch_size=64,
        rollout_schedule=[500, 5000, 1, 5],
        rollout_batch_size=1000,
        policy_kwargs={"net_arch": [width, width]},
        dynamics_kwargs={"net_arch": [width, width], "n_members": 5, "n_elites": 3},
        weighter=weighter,
        weighter_kwargs=weighter_kwargs,
        seed=0,
        device="cpu",
    )


def soak(task: str, weighter: str, updates: int, width: int) -> dict[str, Any]:
    """Train until the updates are made; the row has the error or warning, if there was one."""
    agent, started, error = small_agent(task, weighter, width), time.monotonic(), ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            agent.learn(agent.learning_starts + math.ceil(updates / agent.update_to_data_ratio), log_interval=None)
        except DivergenceError as divergence:
            error = str(divergence)
    health = [str(warning.message) for warning in caught if str(warning.message).startswith("health/")]
    values = (task, weighter, agent._n_updates, agent.num_timesteps, agent.policy_version)
    return dict(zip(COLUMNS, (*values, round(time.monotonic() - started), error, " | ".join(health)), strict=True))


def main() -> int:
    """Train what the file does not have; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=1_000_000, help="of all agents together")
    parser.add_argument("--width", type=int, default=32, help="of all hidden layers")
    parser.add_argument("--out", type=Path, required=True, help="CSV file")
    arguments = parser.parse_args()
    th.set_num_threads(1)
    pairs = [(task, weighter) for task in TASKS for weighter in WEIGHTERS]
    share = math.ceil(arguments.updates / len(pairs))
    rows: list[dict[str, Any]] = read_table(arguments.out) if arguments.out.exists() else []
    done = {(row["task"], row["weighter"]) for row in rows if int(row["updates"]) >= share}
    for pair in pairs:
        if pair not in done:
            rows = [row for row in rows if (row["task"], row["weighter"]) != pair]  # of fewer updates
            rows.append(soak(*pair, share, arguments.width))
            write_table(arguments.out, COLUMNS, rows)
            print(rows[-1], flush=True)
    return int(any(row["error"] or row["health_warnings"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
