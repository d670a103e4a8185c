"""Runs that carry a claim: entered when they start, never twice, never by other code or other seeds."""

import json
from pathlib import Path
from typing import Any

import judge
import judge_runs
import pytest
from curves_jobs import Job
from curves_sweep import PlacedJob

from sb3_tom.callbacks.tables import read_table
from sb3_tom.sweep.run import Outcome


def job(seed: int = 10, steps: int = 100, **changes: Any) -> Job:
    return Job(
        **{"task": "Hopper-v5", "method": "mbpo", "seed": seed, "steps": steps, "eval_freq": 50, "overrides": {}, **changes}
    )


def leave(out: Path, done: Job, **changes: Any) -> None:
    path = out / done.task / f"{done.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = {"finished": True, "solved_step": None, "steps": done.steps, "overrides": {}}
    path.write_text(json.dumps(meta | changes))


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs of a commit; the outcome of each is given."""

    def run(one: Job, outcome: Outcome, commit: str = "abc") -> Outcome:
        def run_there(placed: PlacedJob, runs: Path) -> Outcome:
            leave(placed.out, placed.job, finished=outcome.state == "done")
            return outcome

        monkeypatch.setattr(judge_runs, "run_there", run_there)
        monkeypatch.setattr(judge_runs, "git_commit", lambda: commit)
        monkeypatch.setattr(judge_runs, "check_clean", lambda: None)
        return judge_runs.run_entered(PlacedJob(one, tmp_path / "judging", tmp_path / "runs", False), tmp_path / "runs")

    return run


def test_a_run_is_entered_when_it_starts_and_runs_once(there: Any, tmp_path: Path) -> None:
    table = tmp_path / "judging.csv"
    assert there(job(10), Outcome("failed", "lost", is_final=False)).error == "lost"
    (before,) = read_table(table)
    assert (before["seed"], before["commit"], before["steps"], before["spoilt"]) == ("10", "abc", "100", "")
    assert there(job(10), Outcome("done")).state == "done", "what is interrupted goes on"
    assert there(job(11), Outcome("done")).state == "done"
    assert read_table(table)[0] == before and [row["seed"] for row in read_table(table)] == ["10", "11"]
    assert there(job(10), Outcome("failed", "must not be run"), commit="def").state == "done", "a finished run is left alone"


def test_another_commit_or_length_and_results_from_nowhere_are_refused(there: Any, tmp_path: Path) -> None:
    there(job(), Outcome("failed", "lost", is_final=False))
    said = there(job(), Outcome("done"), commit="def")
    assert said.is_final and said.error.endswith("began under abc: go on in a checkout of that, not of def")
    assert "was entered with 100 steps" in there(job(steps=200), Outcome("done")).error
    leave(tmp_path / "judging", job(12), finished=False)
    assert "was never entered" in there(job(12), Outcome("done")).error
    assert len(read_table(tmp_path / "judging.csv")) == 1


def test_a_run_that_diverges_has_ended(there: Any, tmp_path: Path) -> None:
    error = "DivergenceError: the critic's loss is nan; see output.txt"
    assert there(job(), Outcome("failed", error)).state == "done"
    meta = json.loads((tmp_path / "judging" / "Hopper-v5" / "mbpo_seed10.json").read_text())
    assert meta["finished"] and meta["diverged"] == error
    assert there(job(), Outcome("failed", "must not be run")).state == "done"


def test_code_without_a_commit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_runs.subprocess, "check_output", lambda *_, **__: " M sb3_tom/mbpo/mbpo.py\n")
    with pytest.raises(SystemExit, match=r"a claim has a commit:\nM sb3_tom/mbpo/mbpo\.py"):
        judge_runs.check_clean()
    monkeypatch.setattr(judge_runs.subprocess, "check_output", lambda *_, **__: "\n")
    judge_runs.check_clean()


def test_a_spoilt_seed_is_that_of_all_studies_of_its_task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The next seed takes its place, and no other may."""
    table, study = tmp_path / "judging.csv", judge.STUDIES["hopper"]
    monkeypatch.setattr(judge, "TABLE", table)
    assert judge.parse_arguments("run --study hopper".split()).seed == [10, 11, 12, 13, 14, 15, 16]
    with judge_runs.table_of(table) as rows:
        for method, task in ((study.methods[0], study.task), (study.methods[1], study.task), ("mbpo", study.task)):
            values = (task, method, 12, study.steps, "abc", "now", "")
            rows.append(dict(zip(judge_runs.COLUMNS, values, strict=True)))
    monkeypatch.setattr("sys.argv", [*"judge.py spoilt --study hopper --seed 12 --reason".split(), "no memory"])
    assert judge.main() == 0
    assert [row["spoilt"] for row in read_table(table)] == ["no memory", "no memory", ""]
    assert judge.parse_arguments("run --study hopper".split()).seed == [10, 11, 13, 14, 15, 16, 17]
    assert judge.parse_arguments("run --study hopper_mbpo".split()).seed == [10, 11, 13]
    for words in ("--seed 12", "--seed 18", "--seed 9", "--method mbpo"):
        with pytest.raises(SystemExit):
            judge.parse_arguments(["run", "--study", "hopper", *words.split()])
    monkeypatch.setattr("sys.argv", "judge.py spoilt --study hopper --seed 99 --reason typo".split())
    assert judge.main() == 1, "there is no such run"
