"""
Does a model follow new data? Refits to a growing buffer, by the likelihood and by MnM.

    python benchmarks/refits.py runs/curves/Hopper-v5/dhmbpo_mnm_seed0/checkpoints/checkpoint_10000_steps.zip

The rows of a run's replay buffer come back in the order in which the run collected them. New agents with the settings of
``dhmbpo``, one for each of :data:`SETTINGS`, fit their models to the first rows as often as MnM begins with the likelihood,
and then, every 250 rows, to all rows so far, as the run did, with equal weights. After each fit the table has the squared
error of the means in unit scale on the newest 250 rows, on all of them, and on the next 250, which no fit has seen. All have
the same rows, seed and budget. No policy is trained, so MnM's value is left out (``value_coef=0``). Settings that
``docs/results/refits.csv`` has are skipped.
"""

import argparse
from pathlib import Path
from typing import Any

import torch as th
from checkout import ROOT
from curves_jobs import Job, make_agent
from run_checkpoints import describe, resumed

from sb3_tom import Transitions
from sb3_tom.callbacks.tables import read_table, write_table

FIRST = {"Hopper-v5": 3_500, "InvertedDoublePendulum-v5": 1_750}
"""Rows of the first fits, soon after which those runs' policies reached what they had not seen."""
EVERY, REFITS, FIRST_FITS = 250, 10, 4
COLUMNS = ("task", "setting", "rows", "newest", "all", "next", "classifier_accuracy")


def mnm(**changes: float) -> dict[str, Any]:
    """Arguments of an agent with MnM without a value."""
    return {"objective": "mnm", "objective_kwargs": {"value_coef": 0.0, "likelihood_fits": FIRST_FITS, **changes}}


SETTINGS: dict[str, dict[str, Any]] = {
    "likelihood": {},
    "likelihood_beta_0": {"dynamics_kwargs": {"beta_nll": 0.0}},
    "mnm": mnm(),
    "mnm_likelihood_01": mnm(likelihood_coef=0.1),
}


def rows_of(path: Path, least: int) -> Transitions:
    """
    The rows of a checkpoint's replay buffer, oldest first.

    :param path: of the checkpoint
    :param least: number of rows that are needed
    :raises SystemExit: if there are fewer
    """
    agent, env = resumed(path)
    env.close()
    data = agent.replay_buffer.transitions()
    if data.size < least:
        raise SystemExit(f"{path} is not allowed: it has {data.size} rows; allowed: at least {least}")
    return data.rows(agent.replay_buffer.newest_rows(data.size))


def measure(job: Job, data: Transitions) -> list[dict[str, Any]]:
    """
    A line per fit after the first ones.

    :param job: settings of an agent
    :param data: at least :data:`REFITS` + 1 times :data:`EVERY` rows more than :data:`FIRST` of the task, oldest first
    """
    agent, found, first = make_agent(job), [], FIRST[job.task]
    sizes = [*[first] * FIRST_FITS, *(first + EVERY * number for number in range(1, REFITS + 1))]
    for size in sizes:
        rows = data.rows(th.arange(size))
        figures = agent.dynamics.fit(rows, th.ones(size), agent.objective, agent._context())
        parts = {"newest": th.arange(size - EVERY, size), "all": th.arange(size), "next": th.arange(size, size + EVERY)}
        with th.no_grad():
            errors = {part: float(agent.dynamics.validation_error(data.rows(some)).mean()) for part, some in parts.items()}
        found.append({"rows": size, **errors, "classifier_accuracy": figures.get("classifier_accuracy", "")})
        print(found[-1], flush=True)
    return found[FIRST_FITS - 1 :]


def main() -> None:
    """Measure the settings that the table lacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--setting", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "refits.csv")
    arguments = parser.parse_args()
    th.set_num_threads(1)
    task = describe(arguments.checkpoint)[0]
    if task not in FIRST:
        raise SystemExit(f"{arguments.checkpoint} is not allowed: its task is {task}; allowed: a run on one of {[*FIRST]}")
    data = rows_of(arguments.checkpoint, FIRST[task] + (REFITS + 1) * EVERY)
    table: list[dict[str, Any]] = [*read_table(arguments.out)] if arguments.out.exists() else []
    known = {row["setting"] for row in table if row["task"] == task}
    for name in arguments.setting:
        if name not in known:
            found = measure(Job(task, "dhmbpo", 0, 0, 0, SETTINGS[name]), data)
            table += [{"task": task, "setting": name, **row} for row in found]
            write_table(arguments.out, COLUMNS, table)


if __name__ == "__main__":
    main()
