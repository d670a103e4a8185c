"""A process that is killed and started again ends where one that was never killed ends, bit for bit."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sb3_tom.callbacks.tables import read_table
from sb3_tom.checkpoint.reading import read_archive
from tests.checkpoint.equal import assert_equal

ROOT = Path(__file__).parents[2]


def start(
    env: str, n_envs: int, weighter: str, folder: Path, steps: int, save_freq: int, die: str = ""
) -> "subprocess.Popen[bytes]":
    """Start or go on with the run of a folder."""
    folder.mkdir(exist_ok=True)
    words = [
        sys.executable,
        "-m",
        "tests.checkpoint.child",
        env,
        n_envs,
        weighter,
        folder,
        steps,
        save_freq,
        *([die] if die else []),
    ]
    return subprocess.Popen([str(word) for word in words], cwd=ROOT)


def finish(process: "subprocess.Popen[bytes]") -> None:
    assert process.wait(timeout=600) == 0


def seconds_per_step(process: "subprocess.Popen[bytes]", folder: Path, steps: int) -> float:
    """Let a run end; its pace from its first checkpoint on."""
    while newest(folder) < 1:
        assert process.poll() is None
        time.sleep(0.01)
    first, started = newest(folder), time.monotonic()
    finish(process)
    return (time.monotonic() - started) / (steps - first)


def kill_between(process: "subprocess.Popen[bytes]", folder: Path, low: int, high: int, seconds: float) -> bool:
    """Kill a run so long after its checkpoint of low env steps; False if it had ended, or had one of more than high."""
    while newest(folder) < low:
        if process.poll() is not None:
            return False
        time.sleep(0.01)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    assert process.wait() in (-signal.SIGKILL, 0)
    return process.returncode != 0 and newest(folder) <= high


def newest(folder: Path) -> int:
    return max((int(path.stem.split("_")[1]) for path in folder.glob("checkpoint_*_steps.zip")), default=-1)


def assert_same_end(one: Path, other: Path) -> None:
    """The whole state, and the tables that callbacks wrote, apart from seconds."""
    assert_equal(read_archive(one / "final.zip"), read_archive(other / "final.zip"))
    for name in ("curve.csv", "age.csv"):
        tables = [[{**row, "seconds": ""} for row in read_table(folder / name)] for folder in (one, other)]
        assert tables[0] == tables[1]
        assert len(tables[0]) >= 3


def test_killed_once(tmp_path: Path) -> None:
    run = ("Pendulum-v1", 1, "tom")
    whole = start(*run, tmp_path / "whole", 300, 40)
    killed = start(*run, tmp_path / "killed", 300, 40)
    assert kill_between(killed, tmp_path / "killed", 80, 280, random.Random(0).uniform(0.0, 0.4))
    assert not (tmp_path / "killed" / "final.zip").exists()
    finish(start(*run, tmp_path / "killed", 300, 40))
    finish(whole)
    assert_same_end(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.expensive
@pytest.mark.parametrize("weighter", ["uniform", "pmac", "tom"])
@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("env", ["Pendulum-v1", "Hopper-v5"])
def test_killed_ten_times(env: str, n_envs: int, weighter: str, tmp_path: Path) -> None:
    steps, save_freq, rng = 1000, 20, random.Random(f"{env} {n_envs} {weighter}")
    run = (env, n_envs, weighter)
    pace = seconds_per_step(start(*run, tmp_path / "whole", steps, save_freq), tmp_path / "whole", steps)
    kills = 0
    while kills < 10:
        low = newest(tmp_path / "killed") + rng.randrange(1, 40)
        process = start(*run, tmp_path / "killed", steps, save_freq)
        moment = pace * rng.uniform(0.0, 2 * save_freq)  # anywhere between two checkpoints, also within a write
        assert kill_between(process, tmp_path / "killed", low, steps - 1, moment), f"the run ended after {kills} kills"
        kills += 1
    finish(start(*run, tmp_path / "killed", steps, save_freq))
    assert_same_end(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize("where", ["data", "rename"])
def test_killed_within_a_write(where: str, tmp_path: Path) -> None:
    """The third checkpoint is never finished: the second one is used, and what was left of the third goes."""
    run = ("Pendulum-v1", 1, "uniform", tmp_path / "run", 120, 40)
    assert start(*run, f"{where}:3").wait(timeout=300) == -signal.SIGKILL
    left = {path.name for path in (tmp_path / "run").glob("checkpoint*")}
    assert left == {"checkpoint_0_steps.zip", "checkpoint_40_steps.zip", "checkpoint_80_steps.zip.partial"}
    finish(start(*run))
    left = {path.name for path in (tmp_path / "run").glob("checkpoint*")}
    assert left == {"checkpoint_80_steps.zip", "checkpoint_120_steps.zip"}
