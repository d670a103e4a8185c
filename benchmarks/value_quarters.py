"""
What does a model know of rows of low value, where a weighter gives them little weight?

    python benchmarks/value_quarters.py run runs/curves/*/dhmbpo_value_seed?/checkpoints/checkpoint_5000_steps.zip
    python benchmarks/value_quarters.py page

The rows of a run's replay buffer are sorted by the values of its critics into four quarters. A new agent with the run's
method, and one with uniform weights, take over its policy, critics and rows; they weigh the rows and fit a new model
to them as often as ``--phases`` says. Each quarter's share of the weights is measured, and the squared error of the model's
means in it, in unit scale. The fits have seen these rows: what they did not learn was given too little weight. ``run`` skips
the runs that ``docs/results/value_quarters.csv`` has; ``page`` writes the table of ``docs/results/README.md``.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import checkout  # noqa: F401
import numpy as np
import torch as th
from curves_jobs import Job
from marked_page import run_and_page, write_between
from run_checkpoints import describe, job_of, resumed, successor

from sb3_tom import MBPO
from sb3_tom.callbacks.tables import read_table, write_table
from sb3_tom.checks.validation import check_integer
from sb3_tom.plots.drawing import grouped
from sb3_tom.weighters.critics import row_values

COLUMNS = ("task", "run", "env_step", "method", "phases", "quarter", "weight", "error", "uniform_error")
BEGIN, END = "<!-- value quarters: begin -->", "<!-- value quarters: end -->"

Rows = list[dict[str, str]]


def run(checkpoints: list[Path], phases: int, table: Path) -> None:
    """
    Measure what the table lacks.

    :param checkpoints: files below ``<task>/<run>/``
    :param phases: model phases of each fit, at least one
    :param table: CSV file, rewritten after each run
    :raises ValueError: naming ``phases``
    """
    check_integer("phases", phases, 1)
    rows: Rows = read_table(table) if table.exists() else []
    for path in checkpoints:
        task, name, step = describe(path)
        job = job_of(path)
        labels = {"task": task, "run": name, "env_step": step, "method": job.method, "phases": str(phases)}
        if any(labels.items() <= row.items() for row in rows):
            continue
        found = [labels | row for row in measure(path, job, phases)]
        write_table(table, COLUMNS, rows := rows + found)
        print(*(", ".join(f"{column} {row[column]}" for column in COLUMNS) for row in found), sep="\n", flush=True)


def measure(path: Path, job: Job, phases: int) -> Rows:
    """
    A line per quarter, that of the lowest values first.

    :param path: checkpoint of the run that gives policy, critics and rows
    :param job: the run's method; its seed is that of the new agents
    :param phases: see :func:`run`
    """
    driver, env = resumed(path)
    own, uniform = (fitted(driver, env, one, phases) for one in (job, replace(job, method=job.compared.family)))
    env.close()
    return [
        {"quarter": str(number), "weight": f"{weight:.4f}", "error": f"{error:.4g}", "uniform_error": f"{uniform_error:.4g}"}
        for number, ((weight, error), (_, uniform_error)) in enumerate(zip(own, uniform, strict=True), 1)
    ]


def fitted(driver: MBPO, env: Any, job: Job, phases: int) -> list[tuple[float, float]]:
    """
    Share of the weights and error of a new model in each quarter.

    :param driver: its policy, critics and rows are used
    :param env: of the task
    :param job: its method decides the weights
    :param phases: see :func:`run`
    """
    agent = successor(driver, env, job)
    for _ in range(phases):
        weights = agent.fit_weights()
        agent.fit_model()
    data = agent.replay_buffer.transitions()
    quarters = row_values(data, agent._context()).argsort().tensor_split(4)
    with th.no_grad():
        errors = [float(agent.dynamics.validation_error(data.rows(rows)).mean()) for rows in quarters]
    return [(float(weights[rows].sum() / weights.sum()), error) for rows, error in zip(quarters, errors, strict=True)]


def page_text(rows: Rows) -> str:
    """A line per task and method: means over runs of the shares, geometric ones of the errors in units of uniform weights'."""
    lines = [
        "",
        "| task | method | runs | shares of the weights, quarters from the lowest values on | error / uniform weights' |",
        "|---|---|---|---|---|",
    ]
    for (task, method), found in grouped(rows, lambda row: (row["task"], row["method"])).items():
        quarters = grouped(found, lambda row: row["quarter"]).values()
        shares = (f"{np.mean([float(row['weight']) for row in quarter]):.2f}" for quarter in quarters)
        logs = ([np.log(float(row["error"]) / float(row["uniform_error"])) for row in quarter] for quarter in quarters)
        ratios = (f"{np.exp(np.mean(log)):.2f}" for log in logs)
        runs = len({row["run"] for row in found})
        lines.append(f"| {task} | `{method}` | {runs} | {', '.join(shares)} | {', '.join(ratios)} |")
    return "\n".join([*lines, "\n"])


def main() -> int:
    """Run the command; return the exit code."""
    parser, command = run_and_page(__doc__)
    command.add_argument("checkpoints", type=Path, nargs="+", help="files of runs with a weighter")
    command.add_argument("--phases", type=int, default=3, help="model phases of each fit")
    arguments = parser.parse_args()
    table = arguments.out / "value_quarters.csv"
    if arguments.command == "run":
        th.set_num_threads(1)
        run(arguments.checkpoints, arguments.phases, table)
    else:
        write_between(arguments.out / "README.md", BEGIN, END, page_text(read_table(table)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
