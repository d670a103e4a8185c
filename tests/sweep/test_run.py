"""A run is a function of its spec and its folder: what it leaves, how it goes on, and how it fails."""

import json
import socket
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th

pytest.importorskip("rl_zoo3", reason="rl_zoo3 is not installed: pip install 'sb3_tom[zoo]'")

import sb3_tom
import sb3_tom.sweep.run as sweep_run
from sb3_tom.callbacks.evaluation import Evaluation
from sb3_tom.callbacks.tables import read_table
from sb3_tom.sweep.files import only_one, steps_of
from sb3_tom.sweep.run import Outcome, run
from sb3_tom.sweep.spec import make_runs
from sb3_tom.zoo.runs import zoo_algorithms
from sb3_tom.zoo.saved_run import read_saved_run
from tests.checkpoint.equal import assert_equal
from tests.sweep.small import ENV, MBPO, SAC, attempts, small_run, small_words, without_seconds
from tests.zoo.small import train as train_by_the_zoo

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("algo", ["sac", "mbpo"])
def test_a_run_is_the_zoos(algo: str, tmp_path: Path) -> None:
    """The agent of ``rl_zoo3.train`` with the same seed and hyperparameters, bit for bit: evaluations leave it alone."""
    spec = small_run(algo, seed=3)
    folder = tmp_path / "sweep"
    assert run(spec, folder) == Outcome("done")
    settings = {"n_timesteps": 300, "seed": 3, "hyperparams": deepcopy(SAC if algo == "sac" else MBPO)}
    _, agent = train_by_the_zoo(tmp_path / "zoo", algo=algo, env=spec.env, **settings)
    loaded = zoo_algorithms()[algo].load(folder / f"{ENV}.zip")
    assert loaded.num_timesteps == 300 and loaded._n_updates > 0
    assert_equal(loaded.get_parameters(), agent.get_parameters())


def test_what_a_run_leaves(tmp_path: Path) -> None:
    spec = small_run("sac")
    assert run(spec, tmp_path) == Outcome("done")
    rows = read_table(tmp_path / "learning_curve.csv")
    assert [int(row["env_step"]) for row in rows] == [100, 200, 300]
    assert {(row["task"], row["method"], row["seed"]) for row in rows} == {(spec.env, "sac", "0")}
    assert steps_of(tmp_path) == 300
    started = json.loads((tmp_path / "attempt_1" / "started.json").read_text())
    assert started["from"] == "the start" and started["spec"]["hyperparams"]["batch_size"] == 16
    assert read_table(tmp_path / "attempt_1" / "progress.csv")


def test_other_folders_beside_the_attempts_are_in_nobodys_way(tmp_path: Path) -> None:
    for name in ("attempt_1_old", "attempt_7 copy", "attempt_"):
        (tmp_path / name / ENV).mkdir(parents=True)
        (tmp_path / name / ENV / "config.yml").write_text("of: a copy")
    spec = small_run("sac", n_timesteps=100)
    assert run(spec, tmp_path) == Outcome("done")
    started = json.loads((tmp_path / "attempt_1" / "started.json").read_text())
    assert started["versions"]["sb3_tom"] == sb3_tom.__version__
    assert read_saved_run(tmp_path).params == tmp_path / "attempt_1" / ENV


def test_a_run_that_is_done_is_not_run_again(tmp_path: Path) -> None:
    spec = small_run("sac", n_timesteps=100)
    assert run(spec, tmp_path) == run(spec, tmp_path) == Outcome("done")
    assert attempts(tmp_path) == 1


def test_no_attempts_folder_is_written_twice(tmp_path: Path) -> None:
    (tmp_path / "attempt_2").mkdir()
    assert run(small_run("sac", n_timesteps=100), tmp_path) == Outcome("done")
    assert sorted(path.name for path in tmp_path.glob("attempt_*")) == ["attempt_2", "attempt_3"]


def test_a_return_that_is_no_number_is_a_run_that_has_diverged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of an algorithm that trains on without a word."""
    nothing = Evaluation(np.array([np.nan]), np.array([1]))
    monkeypatch.setattr(sweep_run.SweepCurveCallback, "_play", lambda callback: nothing)
    outcome = run(small_run("sac", n_timesteps=100), tmp_path)
    assert outcome == Outcome("failed", "DivergenceError: the return of the last evaluation is nan", is_final=True)


def test_two_attempts_never_run_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_run, "LOCK_SECONDS", 0.2)
    with only_one(tmp_path / "lock", 0.0, "the run"):
        outcome = run(small_run("sac"), tmp_path)
    assert (outcome.state, outcome.is_final, attempts(tmp_path)) == ("failed", False, 0)
    assert "is being run by another process" in outcome.error


@pytest.mark.parametrize(
    ("algo", "env", "params"),
    [
        ("ppo", "CartPole-v1", {"n_envs": 2, "n_steps": 32, "batch_size": 32, "normalize": True}),
        ("ppo_lstm", "CartPole-v1", {"policy": "MlpLstmPolicy", "n_steps": 32, "batch_size": 32, "n_envs": 1}),
        ("mbpo", "Pendulum-v1", {**MBPO, "normalize": {"norm_reward": False}, "n_envs": 2}),
        ("ddpg", "Pendulum-v1", {**SAC, "noise_type": "normal", "noise_std": 0.1}),
        ("ars", "CartPole-v1", {"n_envs": 1, "n_delta": 2, "n_top": 1}),
    ],
)
def test_whatever_the_zoo_knows(algo: str, env: str, params: dict[str, Any], tmp_path: Path) -> None:
    """Several envs, normalisation, recurrence, discrete actions, noise."""
    words = {"env": env, "algo": algo, "params": params, "n_timesteps": 400, "eval_freq": 200, "eval_episodes": 3}
    (spec,) = make_runs(words)
    assert run(spec, tmp_path).error == ""
    rows = read_table(tmp_path / "learning_curve.csv")
    assert rows and all(float(row["episode_length_mean"]) >= 1 for row in rows)
    assert (tmp_path / env / "vecnormalize.pkl").exists() == ("normalize" in params)


def test_evaluations_begin_in_the_same_states_and_in_different_ones(tmp_path: Path) -> None:
    """A policy that never learns is evaluated the same at all times; its episodes are not all the same one."""
    params = {**SAC, "learning_starts": 1000}
    (spec,) = make_runs({**small_words(env="Pendulum-v1", seed=0, eval_episodes=3), "algo": {"sac": {"params": params}}})
    assert run(spec, tmp_path) == Outcome("done")
    rows = read_table(tmp_path / "learning_curve.csv")
    assert len({row["return_mean"] for row in rows}) == 1 and float(rows[0]["return_std"]) > 1


@pytest.mark.parametrize("algo", ["sac", "mbpo"])
def test_a_run_that_diverges_is_not_tried_again(algo: str, tmp_path: Path) -> None:
    (tmp_path / f"fault_{algo}").write_text("nan 150")
    spec = small_run(algo, tmp_path / "fault")
    outcome = run(spec, tmp_path / "run")
    assert outcome.state == "failed" and outcome.is_final and "Error" in outcome.error
    assert json.loads((tmp_path / "run" / "result.json").read_text())["error"] == outcome.error
    assert "Traceback" in (tmp_path / "run" / "attempt_1" / "output.txt").read_text()


def test_a_bad_argument_ends_the_run_with_its_name(tmp_path: Path) -> None:
    (spec,) = make_runs({**small_words(seed=0), "algo": "mbpo", "params": {**MBPO, "real_ratio": 2}})
    outcome = run(spec, tmp_path)
    assert (outcome.state, outcome.is_final) == ("failed", True) and "real_ratio=2" in outcome.error


@pytest.mark.parametrize("algo", ["sac", "mbpo"])
def test_a_run_that_was_asked_for_a_gpu_never_trains_on_the_cpu(
    algo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SB3 would, without a word; another attempt would be no better."""
    monkeypatch.setattr(th.cuda, "is_available", lambda: False)
    outcome = run(small_run(algo, device="cuda:0"), tmp_path / "asked")
    assert (outcome.state, outcome.is_final) == ("failed", True)
    assert "device='cuda:0' is not allowed: the agent would be on 'cpu'" in outcome.error
    assert socket.gethostname() in outcome.error and not (tmp_path / "asked" / "learning_curve.csv").exists()
    assert run(small_run(algo, device="auto", n_timesteps=100), tmp_path / "auto") == Outcome("done")
    for name in ("asked", "auto"):
        assert json.loads((tmp_path / name / "attempt_1" / "started.json").read_text())["device"] == "cpu"


def attempt(algo: str, folder: Path, fault: Path) -> Any:
    """The outcome of a run in a process of its own, or the signal that ended it."""
    words = [sys.executable, "-m", "tests.sweep.child", algo, str(folder), str(fault)]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    return json.loads(result.stdout) if result.returncode == 0 else result.returncode


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of runs that nothing happened to, by algorithm."""
    out = tmp_path_factory.mktemp("calm")
    assert all(attempt(algo, out, out / "no fault")["state"] == "done" for algo in ("sac", "mbpo"))
    return {algo: out / small_run(algo).name for algo in ("sac", "mbpo")}


@pytest.mark.expensive
@pytest.mark.parametrize("algo", ["sac", "mbpo"])
@pytest.mark.parametrize(("kind", "named"), [("kill", "-9"), ("memory", "MemoryError"), ("disk", "OSError")])
def test_a_run_goes_on_as_if_nothing_had_happened(
    algo: str, kind: str, named: str, tmp_path: Path, calm: dict[str, Path]
) -> None:
    """Killed, out of memory (RLIMIT_AS), on a full disk (RLIMIT_FSIZE): the next attempt ends as an undisturbed run."""
    fault, hit = tmp_path / "fault", tmp_path / "hit" / small_run(algo).name
    fault.with_name(f"fault_{algo}").write_text(f"{kind} 150")
    first = attempt(algo, tmp_path / "hit", fault)
    assert named in str(first) and (kind == "kill" or not first["is_final"])
    assert attempt(algo, tmp_path / "hit", fault)["state"] == "done"
    assert attempts(hit) == 2
    begun = json.loads((hit / "attempt_2" / "started.json").read_text())["from"]
    assert begun == ("the start" if algo == "sac" else "checkpoint_100_steps.zip")
    assert without_seconds(hit / "learning_curve.csv") == without_seconds(calm[algo] / "learning_curve.csv")
    agents = [zoo_algorithms()[algo].load(folder / f"{ENV}.zip") for folder in (calm[algo], hit)]
    assert_equal(*(agent.get_parameters() for agent in agents))
