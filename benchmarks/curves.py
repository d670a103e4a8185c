"""
Learning curves: tasks x methods x seeds, and one tidy table of them all.

    python benchmarks/curves.py run --task Hopper-v5 --method mbpo mbpo_tom --seed 0 --jobs 2
    python benchmarks/curves.py run --task InvertedDoublePendulum-v5 --method ablations --model-error
    python benchmarks/curves.py page

``run`` starts one process (with one torch thread) per task, method and seed on the engine of ``python -m sb3_tom.sweep``, and
skips finished runs; ``job`` is one run in this process. Both can be stopped and started again at any time: MBPO resumes from
its last checkpoint, a model-free method starts again. A larger ``--steps`` continues a finished run of MBPO. A run writes its
learning curve, its weights by age and a JSON file (command, settings, versions, machine, seconds) while it trains; SB3's log,
checkpoints and the agent are under ``runs/curves``. ``page`` collects the curves in ``docs/results/curves.csv`` and makes
every picture and table of ``docs/results/README.md`` from it.
"""

import argparse
import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

from checkout import ROOT
from curves_ablations import write_ablations
from curves_front import write_front
from curves_jobs import Job, run_job
from curves_methods import GROUPS, METHODS, TASKS, VARIANTS
from curves_page import write_curves, write_page
from curves_stability import write_stability
from curves_sweep import run_all


def make_jobs(arguments: argparse.Namespace) -> list[Job]:
    """
    Jobs of the command line, each once, all methods of a seed before the next seed.

    :raises SystemExit: if a run would have no evaluation
    """
    methods = dict.fromkeys(method for name in arguments.method for method in GROUPS.get(name, (name,)))
    jobs = []
    for seed, task, method in product(dict.fromkeys(arguments.seed), dict.fromkeys(arguments.task), methods):
        steps = TASKS[task].steps if arguments.steps is None else arguments.steps
        eval_freq = TASKS[task].eval_freq if arguments.eval_freq is None else arguments.eval_freq
        if not 1 <= eval_freq <= steps:
            raise SystemExit(
                f"--eval-freq {eval_freq} is not allowed with --steps {steps}; allowed: an integer in [1, {steps}]"
            )
        jobs.append(Job(task, method, seed, steps, eval_freq, arguments.kwargs))
    return jobs


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "job", "page"):
        command = commands.add_parser(name)
        command.add_argument("--out", type=Path, default=ROOT / "docs" / "results", help="folder of the results")
        if name == "page":
            command.add_argument("--keep-table", action="store_true", help="draw from curves.csv as it is")
            continue
        is_run = name == "run"
        several: dict[str, Any] = {"nargs": "+"} if is_run else {"nargs": 1, "required": True}
        tasks, groups = ", ".join(TASKS), tuple(GROUPS) if is_run else ()  # a job is one run
        command.add_argument("--task", choices=tuple(TASKS), metavar="TASK", help=tasks, required=True, nargs=several["nargs"])
        names = (*METHODS, *VARIANTS, *groups)  # too many to be of help
        where = "a method of curves_methods.py" + (f", or of these groups all: {', '.join(groups)}" if is_run else "")
        command.add_argument("--method", choices=names, metavar="METHOD", default=["all"], help=where, **several)
        command.add_argument("--seed", type=int, default=[0], **several)
        command.add_argument("--steps", type=int, help="env steps; default: the task's")
        command.add_argument("--eval-freq", type=int, help="env steps between evaluations; default: the task's")
        command.add_argument("--kwargs", type=json.loads, default={}, help="further arguments of the agent, as JSON")
        command.add_argument("--model-error", action="store_true", help="measure the model's errors every 1,000 steps too")
        command.add_argument("--runs", type=Path, default=ROOT / "runs" / "curves", help="folder of logs and checkpoints")
    commands.choices["run"].add_argument("--jobs", type=int, default=2, help="processes at a time")
    commands.choices["run"].add_argument("--address", help="of a Ray cluster; default: this machine alone")
    return parser.parse_args(words)


def main() -> int:
    """Run the command; return the exit code."""
    arguments = parse_arguments()
    if arguments.command == "page":
        if not arguments.keep_table:
            write_curves(arguments.out)
        write_page(arguments.out)
        write_ablations(arguments.out)
        write_stability(arguments.out)
        write_front(arguments.out)
        return 0
    jobs = make_jobs(arguments)
    if arguments.command == "run":
        folders = arguments.out, arguments.runs
        return min(run_all(jobs, *folders, arguments.jobs, arguments.model_error, arguments.address), 1)
    run_job(jobs[0], arguments.out, arguments.runs, arguments.model_error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
