"""
What a model that has to learn the survive bonus believes that falling pays.

    python benchmarks/reward_error.py run runs/curves/InvertedDoublePendulum-v5/mbpo_seed0/checkpoints/*.zip
    python benchmarks/reward_error.py page

Version 5 of Gymnasium's tasks pays the bonus of a healthy step only while the body is healthy: the reward jumps where an
episode ends. For each checkpoint of a run (``benchmarks/curves.py`` leaves the last two) new models are fitted to its replay
buffer, with the bonus learned and with the bonus known, and their rewards are compared with the real ones. ``run`` may be
stopped and started again: it skips the rows that ``docs/results/reward_error.csv`` has. ``page`` writes the table of
``docs/results/README.md``.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch as th
from curves_jobs import ROOT, Job, make_env
from curves_methods import TASKS
from marked_page import write_between
from same_data import describe

from sb3_tom import MBPO
from sb3_tom.common.tables import read_table, write_table
from sb3_tom.plots.drawing import grouped

METHODS = ("mbpo", "mbpo_survive", "mbpo_tom", "mbpo_tom_survive")
COLUMNS = ("task", "run", "env_step", "method", "phases", "bonus", "rows", "terminal_rows", "terminal", "others")
N_SAMPLES = 8
BEGIN, END = "<!-- reward error: begin -->", "<!-- reward error: end -->"

Rows = list[dict[str, str]]


def run(checkpoints: list[Path], phases: int, table: Path) -> None:
    """
    Measure what the table does not have.

    :param checkpoints: files below ``<task>/<run>/``
    :param phases: model phases of each fit
    :param table: CSV file, rewritten after each fit
    """
    rows: Rows = list(read_table(table)) if table.exists() else []
    for path in checkpoints:
        labels = dict(zip(("task", "run", "env_step"), describe(path), strict=True))
        for method in METHODS:
            key = labels | {"method": method, "phases": str(phases)}
            if any(key.items() <= row.items() for row in rows):
                continue
            rows.append(key | measure(path, Job(labels["task"], method, 0, 0, 0, {}), phases))
            write_table(table, COLUMNS, rows)
            print(", ".join(f"{name} {rows[-1][name]}" for name in COLUMNS), flush=True)


def measure(path: Path, job: Job, phases: int) -> dict[str, str]:
    """
    Root mean square error of the imagined reward of the buffer's own transitions, in the env's units.

    :param path: of a run with uniform weights and the bonus learned
    :param job: its method decides weights and objective
    :param phases: model phases
    """
    env = make_env(job)()
    driver = MBPO.resume(path, env, device="cpu")
    agent = MBPO.from_sac(driver, env, seed=0, device="cpu", **job.agent_kwargs())
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
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "page"):
        command = commands.add_parser(name)
        command.add_argument("--out", type=Path, default=ROOT / "docs" / "results", help="folder of the results")
    commands.choices["run"].add_argument("checkpoints", type=Path, nargs="+", help="files of runs with uniform weights")
    commands.choices["run"].add_argument("--phases", type=int, default=5, help="model phases of each fit")
    arguments = parser.parse_args()
    table = arguments.out / "reward_error.csv"
    if arguments.command == "run":
        run(arguments.checkpoints, arguments.phases, table)
    else:
        write_between(arguments.out / "README.md", BEGIN, END, page_text(list(read_table(table))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
