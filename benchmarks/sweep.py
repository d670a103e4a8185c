"""
Overhead of a run of a sweep, and speed-up of two runs at a time.

    python benchmarks/sweep.py --out docs/results/sweep.csv

Runs the same sweep of SAC on ``InvertedPendulum-v5`` one run at a time and two at a time, each with one torch thread, and each
again after it is done, which measures Ray's start and end. Needs two idle cores, and ``ray``.

- ``seconds_per_run``: (seconds of the command - seconds of the command with nothing to do - seconds of training) per run, one
  at a time: a process, its imports, env and agent, and its last files.
- ``speed_up``: seconds of the command one at a time per seconds two at a time, both without Ray's start and end.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from checkout import ROOT

from sb3_tom.callbacks.tables import read_table, write_table

COLUMNS = ("n_jobs", "runs", "n_timesteps", "seconds", "idle_seconds", "training_seconds", "seconds_per_run", "speed_up")


def command_seconds(out: Path, n_jobs: int, runs: int, n_timesteps: int) -> float:
    """Wall-clock time of the command."""
    words = ["--env", "InvertedPendulum-v5", "--algo", "sac", "--seed", *map(str, range(runs)), "--n-jobs", str(n_jobs)]
    words += ["--n-timesteps", str(n_timesteps), "--params", "learning_starts:100", "train_freq:1", "gradient_steps:1"]
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "sb3_tom.sweep", "--out", str(out), *words], cwd=ROOT, check=True)
    return time.monotonic() - began


def training_seconds(out: Path) -> float:
    """Of all runs together."""
    return sum(float(row["seconds"]) for row in read_table(out / "table.csv"))


def summary(measured: dict[int, tuple[float, float, float]], runs: int, n_timesteps: int) -> list[dict[str, float | int]]:
    """
    Rows of the table.

    :param measured: by runs at a time: seconds of the command, of the command with nothing to do, of training
    :param runs: of the sweep
    :param n_timesteps: of each run
    """
    alone = measured[1][0] - measured[1][1]
    rows: list[dict[str, float | int]] = []
    for n_jobs, (seconds, idle, training) in measured.items():
        figures = {"seconds": seconds, "idle_seconds": idle, "training_seconds": training}
        figures |= {"seconds_per_run": (seconds - idle - training / n_jobs) / runs, "speed_up": alone / (seconds - idle)}
        rows.append({"n_jobs": n_jobs, "runs": runs, "n_timesteps": n_timesteps, **figures})
    return rows


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "sweep.csv")
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--n-timesteps", type=int, default=5_000, help="env steps of a run")
    arguments = parser.parse_args()
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        for n_jobs in (1, 2):
            out = Path(folder) / str(n_jobs)
            seconds, idle = (command_seconds(out, n_jobs, arguments.runs, arguments.n_timesteps) for _ in range(2))
            measured[n_jobs] = (seconds, idle, training_seconds(out))
    rows = summary(measured, arguments.runs, arguments.n_timesteps)
    write_table(arguments.out, COLUMNS, rows)
    for row in rows:
        print(", ".join(f"{name} {row[name]:.4g}" for name in COLUMNS))


if __name__ == "__main__":
    main()
