"""
Rewards that a model predicts for falling if it has to learn the survive bonus.

    python benchmarks/reward_error.py run runs/curves/InvertedDoublePendulum-v5/mbpo_seed0/checkpoints/*.zip
    python benchmarks/reward_error.py page

Version 5 of Gymnasium's tasks pays the healthy reward only while the body is healthy: the reward jumps where an
episode ends. For each checkpoint of a run (``benchmarks/curves.py`` leaves the last two) new models are fitted to its replay
buffer, with the bonus learned and with the bonus known, and their rewards are compared with the real ones. ``run`` may be
stopped and started again: it skips the rows that ``docs/results/reward_error.csv`` has. ``page`` writes the table of
``docs/results/README.md``.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import checkout  # noqa: F401
import numpy as np
import torch as th
from curves_jobs import Job
from curves_methods import TASKS
from marked_page import run_and_page, write_between
from run_checkpoints import describe, resumed, successor

from sb3_tom import MBPO
from sb3_tom.callbacks.tables import read_table, write_table
from sb3_tom.checks.validation import check_integer
from sb3_tom.plots.drawing import grouped

METHODS = tuple(f"{name}{told}" for name in ("mbpo", "mbpo_tom", "mbpo_tom_chi2_sharp") for told in ("", "_survive"))
COLUMNS = ("task", "run", "env_step", "method", "phases", "bonus", "rows", "terminal_rows", "terminal", "others")
N_SAMPLES = 8
BEGIN, END = "<!-- reward error: begin -->", "<!-- reward error: end -->"

Rows = list[dict[str, str]]


def run(checkpoints: list[Path], phases: int, table: Path) -> None:
    """
    Measure what the table lacks.

    :param checkpoints: files below ``<task>/<run>/``, of runs that learn the bonus
    :param phases: model phases of each fit, at least one
    :param table: CSV file, rewritten after each fit
    :raises ValueError: naming ``phases``
    """
    check_integer("phases", phases, 1)
    rows: Rows = read_table(table) if table.exists() else []
    for path in checkpoints:
        labels = dict(zip(("task", "run", "env_step"), describe(path), strict=True)) | {"phases": str(phases)}
        known = {row["method"] for row in rows if labels.items() <= row.items()}
        for row in measure(path, labels["task"], [method for method in METHODS if method not in known], phases):
            rows.append(labels | row)
            write_table(table, COLUMNS, rows)
            print(", ".join(f"{name} {rows[-1][name]}" for name in COLUMNS), flush=True)


def measure(path: Path, task: str, methods: list[str], phases: int) -> Iterator[dict[str, str]]:
    """Rows of one checkpoint, a new agent for each method."""
    if not methods:
        return
    driver, env = resumed(path)
    for method in methods:
        yield {"method": method, **reward_errors(driver, env, Job(task, method, 0, 0, 0, {}), phases)}


def reward_errors(driver: MBPO, env: Any, job: Job, phases: int) -> dict[str, str]:
    """
    Root mean square error of the imagined reward of the buffer's own transitions, in the env's units.

    :param driver: its replay buffer and its policy are used
    :param env: of the task
    :param job: its method decides weights and objective
    :param phases: model phases
    """
    agent = successor(driver, env, job)
    agent.fit_weights()
    for _ in range(phases):
        agent.fit_model()
    data = agent.replay_buffer.transitions()
    bonus = TASKS[job.task].bonus if job.compared.survive else 0.0
    with th.no_grad():
        samples = [agent.dynamics.sample(data.observations, data.actions, agent.generator)[1] for _ in range(N_SAMPLES)]
    errors = (th.stack(samples).mean(0) - bonus * data.terminated - data.rewards).square()
    terminal = data.terminated > 0.5
    return {
        "bonus": f"{TASKS[job.task].bonus:g}",
        "rows": str(data.size),
        "terminal_rows": str(int(terminal.sum())),
        "terminal": f"{float(errors[terminal].mean().sqrt()):.4g}",
        "others": f"{float(errors[~terminal].mean().sqrt()):.4g}",
    }


def page_text(rows: Rows) -> str:
    """A line per task and method: means over buffers."""
    lines = ["", "| task | bonus | buffers | method | error where an episode ends | elsewhere |", "|---|---|---|---|---|---|"]
    for (task, method), found in grouped(rows, lambda row: (row["task"], row["method"])).items():
        terminal, others = (np.mean([float(row[name]) for row in found]) for name in ("terminal", "others"))
        lines.append(f"| {task} | {found[0]['bonus']} | {len(found)} | `{method}` | {terminal:.2f} | {others:.3f} |")
    return "\n".join([*lines, "\n"])


def main() -> int:
    """Run the command; return the exit code."""
    parser, command = run_and_page(__doc__)
    command.add_argument("checkpoints", type=Path, nargs="+", help="files of runs that learn the bonus")
    command.add_argument("--phases", type=int, default=5, help="model phases of each fit")
    arguments = parser.parse_args()
    table = arguments.out / "reward_error.csv"
    if arguments.command == "run":
        run(arguments.checkpoints, arguments.phases, table)
    else:
        write_between(arguments.out / "README.md", BEGIN, END, page_text(read_table(table)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
