"""
Real clusters on this machine, on 127.0.0.1: machines that are lost, drivers that are killed, runs that fail, each in two
processes at a time. What is left equals what a sweep leaves that nothing happened to, but for the seconds.
"""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("rl_zoo3", reason="rl_zoo3 is not installed: pip install 'sb3_tom[zoo]'")
pytest.importorskip("ray", reason="ray is not installed: pip install 'sb3_tom[ray]'")

from sb3_tom.sweep.files import steps_of
from sb3_tom.sweep.spec import make_runs
from tests.sweep.small import FAULT, attempts, results, small_words

pytestmark = pytest.mark.expensive

ROOT = Path(__file__).parents[2]
PLACE = {
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}
"""On one machine only, closed to its other users by a token of this test."""


PAUSE = 0.02
"""Seconds that each env step takes longer."""


class Command:
    """
    ``python -m sb3_tom.sweep`` in a process of its own.

    :param folder: for the YAML file, what is printed, and ``out``
    :param words: of the command line
    """

    def __init__(self, folder: Path, *words: str, **spec: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.out, self.printed = folder / "out", folder / "printed.txt"
        spec, path = small_words(folder / "fault", PAUSE, **spec), folder / "sweep.yml"
        self.runs = make_runs(spec)
        path.write_text(yaml.safe_dump(spec))
        command = [sys.executable, "-m", "sb3_tom.sweep", "--out", str(self.out), "--file", str(path), *words]
        with self.printed.open("a") as output:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, env=os.environ | PLACE)

    def until(self, is_so: Callable[[], bool], seconds: float = 300) -> None:
        until = time.monotonic() + seconds
        while not is_so():
            assert self.process.poll() is None and time.monotonic() < until, self.printed.read_text()
            time.sleep(0.05)

    def end(self, code: int = 0) -> dict[str, Any]:
        """What is left, without the place where the fault is told."""
        assert self.process.wait(timeout=550) == code, self.printed.read_text()
        return results(self.out)

    def folders(self) -> list[Path]:
        return [self.out / run.name for run in self.runs]

    def training(self, steps: int) -> list[Path]:
        """Runs that are on their way."""
        return [folder for folder in self.folders() if steps <= steps_of(folder) and not (folder / "result.json").exists()]

    def attempts(self) -> list[int]:
        return [attempts(folder) for folder in self.folders()]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is left where nothing happens."""
    command = Command(tmp_path_factory.mktemp("calm"), "--n-jobs", "2")
    left = command.end()
    assert command.attempts() == [1, 1, 1, 1] and {row["state"] for row in left["table"]} == {"done"}
    return left


class TwoMachines:
    """See :mod:`tests.sweep.two_machines`."""

    def __init__(self, folder: Path) -> None:
        words, pipe = [sys.executable, "-m", "tests.sweep.two_machines"], subprocess.PIPE
        with (folder / "cluster.txt").open("w") as errors:
            self.process = subprocess.Popen(
                words, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=errors, text=True, env=os.environ | PLACE
            )
        self.address = self.process.stdout.readline().strip()
        assert self.address.startswith("127.0.0.1:"), (folder / "cluster.txt").read_text()

    def lose_one(self) -> None:
        self.process.stdin.write("lose\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[TwoMachines]:
    machines = TwoMachines(tmp_path)
    yield machines
    machines.end()


def listening() -> set[str]:
    """Addresses that processes of Ray listen on, other than 127.0.0.1, of IPv4 and IPv6."""
    lines = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout.splitlines()
    rays = [line.split()[3] for line in lines if re.search(r'"(ray|gcs_server)', line)]
    assert rays
    return {address for address in rays if not address.startswith(("127.0.0.1:", "[::1]:", "[::ffff:127.0.0.1]:"))}


def test_a_machine_is_lost(cluster: TwoMachines, calm: dict[str, Any], tmp_path: Path) -> None:
    """With both machines in the middle of a run, one is killed: its run goes on on the other, and no other run is touched."""
    command = Command(tmp_path, "--address", cluster.address)
    command.until(lambda: len(command.training(120)) == 2)
    assert listening() == set()
    hit = {folder for folder in command.folders() if attempts(folder)}
    cluster.lose_one()
    assert command.end() == calm
    assert sorted(command.attempts()) == [1, 1, 1, 2]
    (again,) = [folder for folder in command.folders() if attempts(folder) == 2]
    assert again in hit
    begun = json.loads((again / "attempt_2" / "started.json").read_text())["from"]
    if "/sac/" in str(again):
        assert begun == "the start"
    else:
        assert int(begun.removeprefix("checkpoint_").removesuffix("_steps.zip")) >= 100


def test_a_driver_is_killed_and_started_again(calm: dict[str, Any], tmp_path: Path) -> None:
    """Its local Ray ends with it. What was done stays as it is, what was not is run."""
    command = Command(tmp_path, "--n-jobs", "2")
    command.until(lambda: len(command.training(120)) == 2 and sum(command.attempts()) == 2)
    assert listening() == set()
    command.process.send_signal(signal.SIGKILL)
    command.process.wait()
    assert Command(tmp_path, "--n-jobs", "2").end() == calm
    assert sorted(command.attempts()) == [1, 1, 2, 2]


def test_a_bad_day(calm: dict[str, Any], tmp_path: Path) -> None:
    """A run is killed, one is out of memory (RLIMIT_AS), all of a third method diverge: the others are as on a calm day."""
    algo = small_words(tmp_path / "fault", PAUSE)["algo"]
    bad = {"algo": "mbpo", "params": {**algo["mbpo"]["params"], "callback": [{FAULT: {"file": str(tmp_path / "bad")}}]}}
    for name, fault in {"fault_sac": "kill 150", "fault_mbpo": "memory 150", "bad": "nan 150 always"}.items():
        (tmp_path / name).write_text(fault)
    command = Command(tmp_path, "--n-jobs", "2", algo={**algo, "bad": bad})
    table = command.end(code=1).pop("table")
    assert [row for row in table if row["method"] != "bad"] == calm["table"]
    failed = [row for row in table if row["method"] == "bad"]
    assert all(row["state"] == "failed" and "DivergenceError" in row["error"] for row in failed) and len(failed) == 2
    assert all(150 <= int(row["env_steps"]) < 200 for row in failed)
    assert command.attempts() == [2, 2, 1, 1, 1, 1]
    assert all(named in command.printed.read_text() for named in ("WorkerCrashedError", "MemoryError", "given up"))


def test_a_disk_that_stays_full_loses_nothing(calm: dict[str, Any], tmp_path: Path) -> None:
    """All runs fail (RLIMIT_FSIZE) and are in the table; when there is room again, the command ends as on a calm day."""
    faults = [tmp_path / "fault_sac", tmp_path / "fault_mbpo"]
    for fault in faults:
        fault.write_text("disk 150 always")
    command = Command(tmp_path, "--n-jobs", "2", "--retries", "0", seed=[0])
    table = command.end(code=1)["table"]
    assert all(row["state"] == "failed" and "OSError" in row["error"] for row in table)
    assert command.attempts() == [1, 1]
    for fault in faults:
        fault.unlink()
    left = Command(tmp_path, "--n-jobs", "2", seed=[0]).end()
    assert left.pop("table") == [row for row in calm["table"] if row["seed"] == "0"]
    assert left == {name: curve for name, curve in calm.items() if "/seed_0/" in name}
