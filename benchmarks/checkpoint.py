"""
Size and time of a checkpoint with real Hopper rows, compared with SB3's own files.

    python benchmarks/checkpoint.py --out docs/results/checkpoint.csv

The agent has MBPO's settings for Hopper (``hyperparams/mbpo.yml``), a replay buffer of real rows under random actions, trained
networks, and a full ring of imagined rows. Times are medians of ``--repeats``: on the wall clock, and of the processor, which
does not depend on other processes. ``ResumeCallback`` waits for ``durable=False`` only; otherwise a file counts as written
when it is on the disk (fsync), whose speed it then measures. ``data`` is the size of the checkpoint's arrays in memory:
filled rows, networks and optimisers.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkout  # noqa: F401
import numpy as np
import torch as th

from sb3_tom import MBPO
from sb3_tom.callbacks.tables import write_table
from sb3_tom.contracts.types import Transitions

COLUMNS = ("real_rows", "imagined_rows", "what", "seconds", "cpu_seconds", "megabytes", "share_of_data")


def make_agent(real_rows: int, imagined_rows: int) -> MBPO:
    """An agent in the middle of a run on Hopper."""
    agent = MBPO("MlpPolicy", "Hopper-v5", weighter="tom", seed=0, device="cpu", learning_starts=1000)
    agent._last_obs = agent.env.reset()
    agent._last_episode_starts = np.ones(1, dtype=bool)
    for _ in range(real_rows):
        action = np.array([agent.action_space.sample()])
        observations, rewards, dones, infos = agent.env.step(action)
        agent._store_transition(agent.replay_buffer, action, observations, rewards, dones, infos)
    agent._total_timesteps = agent.num_timesteps = real_rows
    agent._num_timesteps_at_start = 0
    agent.fit_model()
    fill_ring(agent, imagined_rows)
    agent.train_policy(20)  # optimisers have moments now
    return agent


def fill_ring(agent: MBPO, rows: int) -> None:
    """A buffer of imagined rows; their values do not matter here."""
    agent.imagined.resize(rows)
    real = agent.replay_buffer.transitions()
    for _ in range(-(-rows // real.size)):
        agent.imagined.add(Transitions(*real), th.ones(real.size, dtype=th.bool))


def median_seconds(act: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Median times of several calls, on the wall clock and of the processor."""
    walls, processor = [], []
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        act()
        walls.append(time.perf_counter() - start[0])
        processor.append(time.process_time() - start[1])
    return statistics.median(walls), statistics.median(processor)


def measure(agent: MBPO, folder: Path, repeats: int) -> list[dict[str, Any]]:
    """Rows of the table for one agent."""
    file, zip_file, buffer_file = folder / "checkpoint.zip", folder / "agent.zip", folder / "buffer.pkl"

    def sync(*paths: Path) -> None:
        for path in paths:
            with path.open("rb") as opened:
                os.fsync(opened.fileno())

    def sb3() -> None:
        agent.save(zip_file)
        agent.save_replay_buffer(buffer_file)
        sync(zip_file, buffer_file)

    other = MBPO("MlpPolicy", "Hopper-v5", weighter="tom", seed=0, device="cpu", learning_starts=1000)
    agent.save_checkpoint(file)  # the first one allocates memory
    seconds = {
        "save_checkpoint(durable=False)": median_seconds(lambda: agent.save_checkpoint(file, durable=False), repeats),
        "save_checkpoint": median_seconds(lambda: agent.save_checkpoint(file), repeats),
        "load_checkpoint": median_seconds(lambda: other.load_checkpoint(file), repeats),
        "SB3: save and save_replay_buffer": median_seconds(sb3, repeats),
    }
    data = sum(value.nbytes for value in np.load(file).values() if isinstance(value, np.ndarray))
    sizes = dict.fromkeys(seconds, file.stat().st_size)
    sizes["SB3: save and save_replay_buffer"] = zip_file.stat().st_size + buffer_file.stat().st_size
    labels = {"real_rows": agent.replay_buffer.n_transitions, "imagined_rows": agent.imagined.size}
    return [
        labels
        | {
            "what": what,
            "seconds": f"{seconds[what][0]:.3f}",
            "cpu_seconds": f"{seconds[what][1]:.3f}",
            "megabytes": f"{sizes[what] / 1e6:.2f}",
        }
        | {"share_of_data": f"{sizes[what] / data:.4f}"}
        for what in seconds
    ]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real-rows", type=int, default=100_000)
    parser.add_argument("--imagined-rows", type=int, nargs="+", default=[400_000, 2_000_000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary one")
    parser.add_argument("--out", type=Path, help="CSV file for the table")
    arguments = parser.parse_args()
    th.set_num_threads(1)
    agent = make_agent(arguments.real_rows, arguments.imagined_rows[0])
    rows = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for imagined_rows in arguments.imagined_rows:
            fill_ring(agent, imagined_rows)
            rows += measure(agent, Path(folder), arguments.repeats)
    for row in rows:
        print("  ".join(f"{name}={value}" for name, value in row.items()))
    if arguments.out:
        write_table(arguments.out, COLUMNS, rows)


if __name__ == "__main__":
    main()
