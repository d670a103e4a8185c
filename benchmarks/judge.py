"""
Runs that carry a claim: seeds 10 and up, which no default was chosen by, each run once.

    python benchmarks/judge.py run --study hopper
    python benchmarks/judge.py run --study hopper --method dhmbpo --seed 17
    python benchmarks/judge.py page

Studies and claims are those of ``judge_plan.py``, which was written before the first run; other seeds are for what has to be
repeated. A run is entered in ``docs/results/judging.csv`` with the commit of the code before it starts; what stands there is
not run again. An interrupted one goes on where it was, under the code that it began with: a checkout of its commit. What a
defect has spoilt stays in the table; it is repeated on fresh seeds. Curves and settings go to ``docs/results/judging``, as
those of ``curves.py`` do. ``page`` writes ``docs/results/judging.md`` from all that is finished.
"""

import argparse
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from checkout import ROOT
from curves import make_jobs
from curves_jobs import Job, git_commit, is_finished
from curves_sweep import run_all
from judge_page import write_page
from judge_plan import STUDIES

from sb3_tom.callbacks.tables import read_table, write_table

COLUMNS = ("task", "method", "seed", "steps", "commit", "entered")
TABLE = ROOT / "docs" / "results" / "judging.csv"
OUT, RUNS = ROOT / "docs" / "results" / "judging", ROOT / "runs" / "judging"
FIRST_SEED = 10
CODE = ("sb3_tom", "benchmarks", "hyperparams")
"""Folders that decide what a run does."""


def check_seeds(seeds: list[int]) -> None:
    """
    Refuse the seeds that choose.

    :param seeds: of the command line
    :raises SystemExit: naming them
    """
    choosing = [seed for seed in seeds if seed < FIRST_SEED]
    if choosing:
        raise SystemExit(f"--seed {choosing} is not allowed: seeds below {FIRST_SEED} choose; allowed: {FIRST_SEED} and up")


def check_clean() -> None:
    """
    Refuse code that no commit has.

    :raises SystemExit: naming the files
    """
    words = ["git", "status", "--porcelain", "--", *CODE]
    changes = subprocess.check_output(words, cwd=ROOT, text=True).strip()
    if changes:
        raise SystemExit(f"uncommitted changes are not allowed, a claim has a commit:\n{changes}")


def enter(jobs: list[Job], table: Path, out: Path, commit: str) -> list[Job]:
    """
    Enter what is new, before it starts.

    :param jobs: of the command line
    :param table: CSV file, made if it is not there
    :param out: folder of the results
    :param commit: of the code
    :return: what there is to run: new runs, and interrupted ones of this commit
    :raises SystemExit: for an interrupted run of another commit, or one that was entered with another length
    """
    rows: list[dict[str, Any]] = list(read_table(table)) if table.exists() else []
    entered = {(row["task"], row["method"], int(row["seed"])): row for row in rows}
    waiting: list[Job] = []
    for job in jobs:
        row = entered.get((job.task, job.method, job.seed))
        if row is None:
            now = datetime.now(timezone.utc).isoformat(timespec="seconds")
            values = (job.task, job.method, job.seed, job.steps, commit, now)
            rows.append(dict(zip(COLUMNS, values, strict=True)))
            waiting.append(job)
            continue
        if int(row["steps"]) != job.steps:
            raise SystemExit(f"{job.task} {job.name} was entered with {row['steps']} steps; allowed: that number")
        if is_finished(job, out):
            continue
        if row["commit"] != commit:
            raise SystemExit(
                f"{job.task} {job.name} began under {row['commit']}: go on in a checkout of that, not of {commit}"
            )
        waiting.append(job)
    table.parent.mkdir(parents=True, exist_ok=True)
    write_table(table, COLUMNS, rows)
    return waiting


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line; what is not said is the study's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("page")
    run = commands.add_parser("run")
    run.add_argument("--study", choices=tuple(STUDIES), required=True)
    run.add_argument("--method", nargs="+", help="some of the study's; default: all of them")
    run.add_argument("--seed", nargs="+", type=int, help="default: the study's")
    run.add_argument("--jobs", type=int, default=2, help="processes at a time")
    run.set_defaults(kwargs={})  # the method's settings
    parsed = parser.parse_args(words)
    if parsed.command == "run":
        study = STUDIES[parsed.study]
        parsed.task, parsed.steps, parsed.eval_freq = [study.task], study.steps, study.eval_freq
        parsed.method, parsed.seed = parsed.method or list(study.methods), parsed.seed or list(study.seeds)
        if not set(parsed.method) <= set(study.methods):
            parser.error(f"--method {parsed.method} is not allowed with --study {parsed.study}; allowed: {study.methods}")
    return parsed


def main() -> int:
    """Enter and run, or write the page; return the exit code."""
    arguments = parse_arguments()
    if arguments.command == "page":
        write_page(TABLE.parent)
        return 0
    check_seeds(arguments.seed)
    check_clean()
    waiting = enter(make_jobs(arguments), TABLE, OUT, git_commit())
    return min(run_all(waiting, OUT, RUNS, arguments.jobs), 1)


if __name__ == "__main__":
    sys.exit(main())
