"""Many runs on the sweep's engine: what is started, what is tried again, and the same files as those of runs one by one."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import curves_sweep
import pytest
from curves_jobs import Job, run_job

from sb3_tom.sweep.run import Outcome
from tests.benchmarks.test_curves import TINY, job, meta
from tests.sweep.small import InThisProcess, without_seconds

ROOT = Path(__file__).parents[2]
LOST = Outcome("failed", "WorkerCrashedError: the machine is gone", is_final=False)
SOME = [("mbpo", "Hopper-v5"), ("mbpo", "Walker2d-v5"), ("sac", "Hopper-v5")]


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any, Path], Outcome] | None], InThisProcess]:
    """Runs are run in this process, by a function in place of ``run_there``."""

    def use(start: Callable[[Any, Path], Outcome] | None) -> InThisProcess:
        engine = InThisProcess(room=2)

        @contextmanager
        def connected(
            address: str | None, n_jobs: int | None, there: Callable[[Any, Path], Outcome]
        ) -> Iterator[InThisProcess]:
            assert (address, n_jobs) == (None, 2)
            engine.start = lambda run, folder: (start or there)(run, folder.parent)
            yield engine

        monkeypatch.setattr(curves_sweep, "connected", connected)
        return engine

    return use


def test_what_is_not_finished_is_run_and_what_is_lost_is_tried_again(
    on: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = {"Walker2d-v5 mbpo_seed0": [LOST], "Hopper-v5 sac_seed0": [LOST] * 4}
    engine = on(lambda run, folder: left[run.name].pop() if left.get(run.name) else Outcome("done"))
    meta(tmp_path / "out" / "Hopper-v5" / "mbpo_seed0.json")
    jobs = [job(*one) for one in SOME]
    assert curves_sweep.run_all(jobs, tmp_path / "out", tmp_path / "runs", 2) == 1
    assert sorted(engine.names) == ["Hopper-v5 sac_seed0"] * 4 + ["Walker2d-v5 mbpo_seed0"] * 2
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "3 jobs, 1 of them finished before"
    assert f"Walker2d-v5 mbpo_seed0 FAILED, tried again: {LOST.error}; 1 waiting, 1 running" in said
    assert said[-1] == f"Hopper-v5 sac_seed0 FAILED: {LOST.error}; 0 waiting, 0 running"


def test_nothing_to_run_starts_nothing(on: Any, tmp_path: Path) -> None:
    engine = on(None)
    meta(tmp_path / "Hopper-v5" / "mbpo_seed0.json")
    assert curves_sweep.run_all([job("mbpo")], tmp_path, tmp_path / "runs", 2) == 0
    assert engine.names == []


FAILURES = {
    SystemExit("it is being run by another process"): ("it is being run by another process", 1),
    ValueError("gamma=2 is not allowed"): ("ValueError: gamma=2 is not allowed", 1),
    OSError("no space left"): ("OSError: no space left", 1 + curves_sweep.RETRIES),
}


@pytest.mark.parametrize(("error", "said", "attempts"), [(error, *then) for error, then in FAILURES.items()])
def test_a_run_that_fails_says_where_to_look_and_is_tried_again_where_that_may_help(
    on: Any,
    tmp_path: Path,
    error: BaseException,
    said: str,
    attempts: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(job: Job, out: Path, runs: Path, model_error: bool) -> None:
        print("on its way")
        raise error

    monkeypatch.setattr(curves_sweep, "run_job", fail)
    engine = on(None)
    assert curves_sweep.run_all([job("mbpo")], tmp_path / "out", tmp_path / "runs", 2) == 1
    assert len(engine.names) == attempts
    output = tmp_path / "runs" / "Hopper-v5" / "mbpo_seed0" / "output.txt"
    assert f"FAILED: {said}; see {output}" in capsys.readouterr().out
    assert output.read_text().startswith("on its way\n")
    assert output.read_text().count("Traceback") == (attempts if isinstance(error, Exception) else 0)


@pytest.mark.expensive
def test_runs_side_by_side_on_ray_are_those_of_one_process_each(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'sb3_tom[ray]'")
    settings = {"steps": 120, "eval_freq": 60, "overrides": TINY}
    jobs = [job("mbpo_pmac", "Reacher-v5", **settings, seed=seed) for seed in (0, 1, 2)]
    both = tmp_path / "many", tmp_path / "one"
    words = "run --task Reacher-v5 --method mbpo_pmac --seed 0 1 2 --steps 120 --eval-freq 60 --jobs 2 --kwargs".split()
    folders = ["--out", str(both[0] / "out"), "--runs", str(both[0] / "runs")]
    command = [sys.executable, "benchmarks/curves.py", *words, json.dumps(TINY), *folders]
    said = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout
    assert said.count("done") == 3 and "FAILED" not in said
    for one in jobs:
        run_job(one, both[1] / "out", both[1] / "runs")
    tables = sorted(path.relative_to(both[1]) for path in both[1].glob("out/*/*.csv"))
    assert len(tables) >= 6
    for table in tables:
        assert without_seconds(both[0] / table) == without_seconds(both[1] / table), table
    for one in jobs:
        path = Path("out") / one.task / f"{one.name}.json"
        many, alone = (json.loads((folder / path).read_text()) for folder in both)
        assert {**many, "started": "", "seconds": 0} == {**alone, "started": "", "seconds": 0}
        assert "step 60" in (both[0] / "runs" / one.task / one.name / "output.txt").read_text()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("address='nowhere' is not allowed"), "address='nowhere' is not allowed"),
        (ModuleNotFoundError("No module named 'ray'"), r"No module named 'ray'.* pip install 'sb3_tom\[ray\]'"),
    ],
)
def test_without_an_engine_there_is_one_line(
    error: Exception, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connected(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(curves_sweep, "connected", connected)
    with pytest.raises(SystemExit, match=said):
        curves_sweep.run_all([job("mbpo")], tmp_path / "out", tmp_path / "runs", 2, address="nowhere")
