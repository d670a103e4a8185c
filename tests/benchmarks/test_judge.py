"""Runs that carry a claim: entered before they start, never twice, never by seeds that choose."""

import json
from pathlib import Path
from typing import Any

import judge
import pytest
from curves_jobs import Job

from sb3_tom.callbacks.tables import read_table


def job(seed: int = 10, steps: int = 100, **changes: Any) -> Job:
    return Job(
        **{"task": "Hopper-v5", "method": "mbpo", "seed": seed, "steps": steps, "eval_freq": 50, "overrides": {}, **changes}
    )


def finish(out: Path, done: Job) -> None:
    path = out / done.task / f"{done.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"finished": True, "solved_step": None, "steps": done.steps, "overrides": {}}))


def test_seeds_that_choose_are_refused() -> None:
    with pytest.raises(SystemExit, match=r"--seed \[9\] is not allowed: .* allowed: 10 and up"):
        judge.check_seeds([9, 10])
    judge.check_seeds([10, 99])


def test_a_run_is_entered_before_it_starts_and_runs_once(tmp_path: Path) -> None:
    table, out = tmp_path / "judging.csv", tmp_path / "out"
    assert judge.enter([job(10), job(11)], table, out, "abc") == [job(10), job(11)]
    rows = read_table(table)
    assert [(row["seed"], row["commit"], row["steps"]) for row in rows] == [("10", "abc", "100"), ("11", "abc", "100")]
    finish(out, job(10))
    assert judge.enter([job(10), job(11), job(12)], table, out, "abc") == [job(11), job(12)], "what is interrupted goes on"
    assert [row["entered"] for row in read_table(table)[:2]] == [row["entered"] for row in rows]
    assert len(read_table(table)) == 3


def test_another_commit_or_length_is_refused(tmp_path: Path) -> None:
    table, out = tmp_path / "judging.csv", tmp_path / "out"
    judge.enter([job()], table, out, "abc")
    with pytest.raises(SystemExit, match="began under abc: go on in a checkout of that, not of def"):
        judge.enter([job()], table, out, "def")
    with pytest.raises(SystemExit, match="was entered with 100 steps"):
        judge.enter([job(steps=200)], table, out, "abc")
    finish(out, job())
    assert judge.enter([job()], table, out, "def") == [], "a finished run is not begun anew by other code"
    assert len(read_table(table)) == 1
