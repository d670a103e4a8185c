"""The table of runs that carry a claim, and the run itself: entered where and when it starts, once, under one commit."""

import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from checkout import ROOT
from curves_jobs import Job, git_commit, is_finished, write_json
from curves_sweep import PlacedJob, run_there

from sb3_tom.callbacks.tables import read_table, write_table
from sb3_tom.sweep.run import Outcome

COLUMNS = ("task", "method", "seed", "steps", "commit", "entered", "spoilt")
TABLE = ROOT / "docs" / "results" / "judging.csv"
OUT, RUNS = ROOT / "docs" / "results" / "judging", ROOT / "runs" / "judging"
CODE = ("sb3_tom", "benchmarks", "hyperparams")
"""Folders that decide what a run does."""

Rows = list[dict[str, Any]]


def check_clean() -> None:
    """
    Refuse code that no commit has.

    :raises SystemExit: naming the files
    """
    words = ["git", "status", "--porcelain", "--", *CODE]
    changes = subprocess.check_output(words, cwd=ROOT, text=True).strip()
    if changes:
        raise SystemExit(f"uncommitted changes are not allowed, a claim has a commit:\n{changes}")


@contextmanager
def table_of(path: Path) -> Iterator[Rows]:
    """
    The rows of the table, for one process at a time; what is changed in them is written at the end of the block.

    :param path: CSV file, made if it is not there
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rows: Rows = read_table(path) if path.exists() else []
        yield rows
        partial = path.with_suffix(".partial")
        write_table(partial, COLUMNS, rows)
        os.replace(partial, path)


def enter(job: Job, table: Path, out: Path, commit: str) -> None:
    """
    Enter a run before it starts, or see that it may go on.

    :param job: of a study
    :param table: CSV file
    :param out: folder of the results
    :param commit: of the code
    :raises SystemExit: for a run of another commit, one that was entered with another length, and results without an entry
    """
    with table_of(table) as rows:
        key = (job.task, job.method, job.seed)
        row = next((row for row in rows if (row["task"], row["method"], int(row["seed"])) == key), None)
        if row is None:
            if (out / job.task / f"{job.name}.json").exists():
                raise SystemExit(f"{job.task} {job.name} has results in {out}, and was never entered: move them away")
            now = datetime.now(timezone.utc).isoformat(timespec="seconds")
            rows.append(dict(zip(COLUMNS, (*key, job.steps, commit, now, ""), strict=True)))
            return
    if int(row["steps"]) != job.steps:
        raise SystemExit(f"{job.task} {job.name} was entered with {row['steps']} steps; allowed: that number")
    if row["commit"] != commit:
        raise SystemExit(f"{job.task} {job.name} began under {row['commit']}: go on in a checkout of that, not of {commit}")


def run_entered(placed: PlacedJob, runs: Path) -> Outcome:
    """
    What a machine does with a run: enter it and make it. One that diverges has ended, and is no failure.

    :param placed: the run
    :param runs: folder of logs and checkpoints
    """
    job, out = placed.job, placed.out
    try:
        if is_finished(job, out):
            return Outcome("done")
        check_clean()
        enter(job, out.with_suffix(".csv"), out, git_commit())
    except SystemExit as error:
        return Outcome("failed", str(error))
    outcome = run_there(placed, runs)
    if not outcome.error.startswith("DivergenceError"):
        return outcome
    path = out / job.task / f"{job.name}.json"
    write_json(path, json.loads(path.read_text()) | {"finished": True, "solved_step": None, "diverged": outcome.error})
    return replace(outcome, state="done")


def spoil(rows: Rows, task: str, methods: tuple[str, ...], seed: int, reason: str) -> int:
    """
    Say of the runs of a seed that a defect has spoilt them.

    :param rows: of the table; changed
    :param task: of the study
    :param methods: of the study
    :param seed: by which no run on the task counts from now on
    :param reason: the defect, in words
    :return: how many rows say so now
    """
    found = [row for row in rows if (row["task"], int(row["seed"])) == (task, seed) and row["method"] in methods]
    for row in found:
        row["spoilt"] = reason
    return len(found)


def spoilt_seeds(rows: Rows, task: str) -> set[int]:
    """
    Seeds that do not count on a task, in no study of it: claims compare methods of several studies seed by seed.

    :param rows: of the table
    :param task: of the studies
    """
    return {int(row["seed"]) for row in rows if row["spoilt"] and row["task"] == task}
