"""Searches by real processes: one of them killed, a proxy between them and the database, a journal that others read."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

pytest.importorskip("rl_zoo3", reason="rl_zoo3 is not installed: pip install 'sb3_tom[zoo]'")

import optuna
from optuna.trial import TrialState

ROOT = Path(__file__).parents[2]
SEARCH = "--algo sac --env Pendulum-v1 -n 200 --n-evaluations 2 --eval-episodes 1 --seeds 0 1 2 3 --study-name s --device cpu"
pytestmark = [pytest.mark.expensive, pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")]

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Processes that are gone after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*command: str) -> "subprocess.Popen[bytes]":
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        output = (tmp_path / f"output{len(started)}.txt").open("wb")
        started.append(subprocess.Popen(command, cwd=tmp_path, env=env, stdout=output, stderr=subprocess.STDOUT))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def tune(start: Start, storage: str, arguments: str) -> "subprocess.Popen[bytes]":
    return start(sys.executable, "-m", "sb3_tom.tune", "--storage", storage, *arguments.split())


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for(what: Callable[[], Any], seconds: float = 300.0) -> Any:
    """Until it is true; errors count as not yet."""
    end = time.monotonic() + seconds
    while True:
        try:
            if value := what():
                return value
        except Exception:
            if time.monotonic() > end:
                raise
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.3)


def trials(storage: str) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(storage=storage, study_name="s").trials


def test_the_trial_of_a_killed_worker_is_done_by_another(start: Start, tmp_path: Path) -> None:
    """From the seed on at which it was: the seeds that were done are not run again, the hyperparameters are the same."""
    storage = f"sqlite:///{tmp_path}/search.db"
    first = tune(start, storage, f"{SEARCH} --n-trials 2 --heartbeat 1")
    wait_for(lambda: len(trials(storage)[0].intermediate_values) >= 1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    lost = trials(storage)[0]
    assert lost.state == TrialState.RUNNING and 1 <= len(lost.intermediate_values) < 4
    time.sleep(3)  # longer than two heartbeats
    assert tune(start, storage, f"{SEARCH} --n-trials 2 --heartbeat 1").wait(600) == 0
    lost_now, *others = trials(storage)
    assert lost_now.state == TrialState.FAIL and [trial.state for trial in others] == [TrialState.COMPLETE] * 2
    again = next(trial for trial in others if trial.system_attrs.get("failed_trial") == 0)
    assert again.params == lost.params and sorted(again.intermediate_values) == [0, 1, 2, 3]
    assert again.intermediate_values.items() >= lost.intermediate_values.items()
    assert again.value == pytest.approx(sum(again.intermediate_values.values()) / 4)


def test_two_workers_behind_a_proxy(start: Start, tmp_path: Path) -> None:
    storage, address = f"sqlite:///{tmp_path}/search.db", f"localhost:{free_port()}"
    tune(start, storage, f"--serve {address}")
    workers = [tune(start, f"grpc://{address}", f"{SEARCH} --n-trials 4") for _ in range(2)]
    assert [worker.wait(900) for worker in workers] == [0, 0]
    assert [trial.state for trial in trials(storage)] == [TrialState.COMPLETE] * 4
    outputs = [(tmp_path / f"output{number}.txt").read_text() for number in (1, 2)]
    assert any("s: 4 complete" in output for output in outputs)
    assert all(output.count("finished with value") >= 1 for output in outputs)


@pytest.mark.skipif(find_spec("optuna_dashboard") is None, reason="optuna-dashboard is not installed")
def test_a_journal_is_what_the_dashboard_shows(start: Start, tmp_path: Path) -> None:
    journal = tmp_path / "search.log"
    assert tune(start, str(journal), f"{SEARCH} --n-trials 1").wait(600) == 0
    address = f"127.0.0.1:{free_port()}"
    host, port = address.split(":")
    start(sys.executable, "-m", "optuna_dashboard._cli", str(journal), "--host", host, "--port", port)

    def ask(what: str) -> Any:
        with urlopen(f"http://{address}/api/{what}", timeout=5) as answer:
            return json.load(answer)

    studies = wait_for(lambda: ask("studies")["study_summaries"])
    assert [study["study_name"] for study in studies] == ["s"]
    (trial,) = ask(f"studies/{studies[0]['study_id']}?after=0")["trials"]
    assert trial["state"] == "Complete" and sorted(value["step"] for value in trial["intermediate_values"]) == [0, 1, 2, 3]
