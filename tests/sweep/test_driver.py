"""Which run is started when, how often again, and what is said: with an engine that only pretends."""

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("rl_zoo3", reason="rl_zoo3 is not installed: pip install 'sb3_tom[zoo]'")

import sb3_tom.sweep.driver as driver
from sb3_tom.callbacks.tables import read_table
from sb3_tom.sweep.driver import Progress, Sweep
from sb3_tom.sweep.files import only_one, replace_file
from sb3_tom.sweep.run import Outcome
from sb3_tom.sweep.spec import RunSpec, make_runs
from tests.sweep.small import InThisProcess, small_words

LOST = Outcome("failed", "WorkerCrashedError: the machine is gone", is_final=False)
DIVERGED = Outcome("failed", "DivergenceError: at step 7", is_final=True)


def ending(*outcomes: Outcome, of: str = "") -> Callable[[RunSpec, Path], Outcome]:
    """Attempts of the runs with ``of`` in their name end like this, one after the other; all others are done."""
    left = list(outcomes)

    def start(run: RunSpec, folder: Path) -> Outcome:
        outcome = left.pop(0) if of in run.name and left else Outcome("done")
        if outcome.state == "done":
            replace_file(folder / "result.json", '{"state": "done"}')
        return outcome

    return start


@pytest.fixture
def runs() -> list[RunSpec]:
    return make_runs(small_words())


def states(out: Path) -> dict[str, str]:
    return {f"{row['env']}/{row['method']}/seed_{row['seed']}": row["state"] for row in read_table(out / "table.csv")}


def test_all_runs_are_run_in_order_no_more_at_a_time_than_there_is_room_for(runs: list[RunSpec], tmp_path: Path) -> None:
    for n_jobs in (1, 2, None):
        engine = InThisProcess(ending(), room=n_jobs or 3)
        assert Sweep(runs, tmp_path / str(n_jobs)).run(engine, retries=0, n_jobs=n_jobs) == 0
        assert engine.names == [run.name for run in runs]
        assert set(states(tmp_path / str(n_jobs)).values()) == {"done"}


def test_a_lost_run_is_tried_again_after_the_others_until_no_attempt_is_left(runs: list[RunSpec], tmp_path: Path) -> None:
    said: list[str] = []
    engine = InThisProcess(ending(LOST, LOST, of="mbpo/seed_0"))
    assert Sweep(runs, tmp_path / "a", said.append).run(engine, retries=2) == 0
    lost = runs[1].name
    assert engine.names == [run.name for run in runs] + [lost, lost]
    assert said.count(f"{lost}: {LOST.error}; tried again, 1 attempts are left") == 1
    engine = InThisProcess(ending(LOST, LOST, LOST, of="mbpo/seed_0"))
    sweep = Sweep(runs, tmp_path / "b", said.append)
    assert sweep.run(engine, retries=2) == 1
    assert engine.names.count(lost) == 3 and states(tmp_path / "b")[lost] == "failed"
    (row,) = [row for row in read_table(tmp_path / "b" / "table.csv") if row["error"]]
    assert row["error"] == LOST.error


def test_a_final_failure_is_not_tried_again_and_stops_nobody(runs: list[RunSpec], tmp_path: Path) -> None:
    engine = InThisProcess(ending(DIVERGED, of="sac/seed_0"))
    assert Sweep(runs, tmp_path).run(engine, retries=5) == 1
    assert engine.names == [run.name for run in runs]
    assert states(tmp_path) == {run.name: "failed" if run is runs[0] else "done" for run in runs}


def test_started_again_it_runs_what_is_not_done(runs: list[RunSpec], tmp_path: Path) -> None:
    assert Sweep(runs, tmp_path).run(InThisProcess(ending(DIVERGED, of="sac/seed_1")), retries=0) == 1
    again = InThisProcess(ending())
    assert Sweep(runs, tmp_path).run(again, retries=0) == 0
    assert again.names == [runs[2].name]
    nothing = InThisProcess(ending())
    assert Sweep(runs, tmp_path).run(nothing, retries=0) == 0 and nothing.names == []


def test_stopped_it_leaves_a_table_in_which_nothing_runs(runs: list[RunSpec], tmp_path: Path) -> None:
    def stop(run: RunSpec, folder: Path) -> Outcome:
        if run is runs[1]:
            raise KeyboardInterrupt
        return ending()(run, folder)

    with pytest.raises(KeyboardInterrupt):
        Sweep(runs, tmp_path).run(InThisProcess(stop), retries=0)
    assert list(states(tmp_path).values()) == ["done", "waiting", "waiting", "waiting"]


def test_the_table_is_there_while_runs_are_run(runs: list[RunSpec], tmp_path: Path) -> None:
    seen: list[dict[str, str]] = []

    def look(run: RunSpec, folder: Path) -> Outcome:
        seen.append(states(tmp_path))
        return Outcome("done")

    Sweep(runs, tmp_path).run(InThisProcess(look, room=2), retries=0)
    assert [list(one.values()) for one in seen] == [
        ["running", "running", "waiting", "waiting"],
        ["done", "running", "running", "waiting"],
        ["done", "done", "running", "running"],
        ["done", "done", "done", "running"],
    ]


def test_a_table_that_cannot_be_written_stops_no_run_but_is_said(
    runs: list[RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made anew of the runs' files as soon as there is room."""
    write, room, said = driver.write_sweep_table, [False], []

    def full(*arguments: object) -> None:
        if not room[0]:
            raise OSError(28, "No space left on device")
        write(*arguments)

    monkeypatch.setattr(driver, "write_sweep_table", full)
    start = ending()
    engine = InThisProcess(lambda run, folder: (room.__setitem__(0, run is runs[-1]), start(run, folder))[1])
    assert Sweep(runs, tmp_path, said.append).run(engine, retries=0) == 0
    assert sum("the table cannot be written" in line for line in said) == 1
    assert set(states(tmp_path).values()) == {"done"}
    room[0], another = False, Sweep(runs, tmp_path / "another")
    with pytest.raises(OSError, match="No space left"):
        another.run(InThisProcess(lambda run, folder: start(run, folder)), retries=0)


def test_a_curve_that_cannot_be_read_stops_no_other_run(runs: list[RunSpec], tmp_path: Path) -> None:
    """A disk has left zeros or worse."""
    said: list[str] = []
    start, curve = ending(), tmp_path / runs[0].name / "learning_curve.csv"

    def spoil(run: RunSpec, folder: Path) -> Outcome:
        if run is runs[0]:
            curve.parent.mkdir(parents=True, exist_ok=True)
            curve.write_bytes(b"env_step\n\xff\n")
        if run is runs[-1]:
            curve.unlink()
        return start(run, folder)

    assert Sweep(runs, tmp_path, said.append).run(InThisProcess(spoil), retries=0) == 0
    assert sum(f"the table cannot be written: {curve} is no CSV file" in line for line in said) == 1
    assert set(states(tmp_path).values()) == {"done"}


def test_one_process_per_sweep(runs: list[RunSpec], tmp_path: Path) -> None:
    with only_one(tmp_path / "lock", 0.0, ""), pytest.raises(BlockingIOError, match=r"the sweep of .* by another process"):
        Sweep(runs, tmp_path).run(InThisProcess(ending()), retries=0)


def test_a_file_is_no_folder(runs: list[RunSpec], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a result")
    with pytest.raises(ValueError, match=r"out=.* is no folder"):
        Sweep(runs, tmp_path / "out").run(InThisProcess(ending()), retries=0)


@pytest.mark.parametrize(("name", "text"), [("thesis.tex", "years of work"), ("sweep.json", '{"runs": {"another": {}}}')])
def test_a_refusal_changes_nothing_in_the_folder(runs: list[RunSpec], tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=r"out=.* (is not allowed|is of another sweep)"):
        Sweep(runs, tmp_path).run(InThisProcess(ending()), retries=0)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, text)]


def test_what_the_terminal_says(runs: list[RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 of 1,200 steps were done before, and 300 more in 10 seconds: 15 for the 450 that are left, none for the failed."""
    clock = [100.0]
    monkeypatch.setattr(driver.time, "monotonic", lambda: clock[0])
    sweep = Sweep(runs, tmp_path)
    sweep.states = dict(zip((run.name for run in runs), ["done", "running", "waiting", "failed"], strict=True))
    progress = Progress(sweep)
    assert progress.line() == "1/4 runs done, 1 running, 1 waiting, 1 failed; 300/1,200 steps; ETA unknown"
    clock[0] += 10
    for run, steps in zip(runs[1:], [120, 30, 150], strict=True):
        replace_file(tmp_path / run.name / "steps.txt", str(steps))
    assert progress.line() == "1/4 runs done, 1 running, 1 waiting, 1 failed; 600/1,200 steps; ETA 0:00:15"
    sweep.states = dict.fromkeys(sweep.states, "done")
    assert Progress(sweep).line() == "4/4 runs done; 1,200/1,200 steps; ETA 0:00:00"
