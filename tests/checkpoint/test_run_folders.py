"""Which folder a run may write to, which of its files it goes on from, and which it removes."""

import shutil
import warnings
from pathlib import Path

import gymnasium as gym
import pytest
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.callbacks import BaseCallback

from sb3_tom import MBPO
from sb3_tom.callbacks import LearningCurveCallback
from sb3_tom.callbacks.tables import read_table
from sb3_tom.checkpoint import ResumeCallback
from tests.checkpoint.crafted import Raw
from tests.checkpoint.runs import checkpoints, make_agent


def test_a_damaged_newest_file_is_named_and_the_one_before_is_used(tmp_path: Path) -> None:
    make_agent().learn(20, callback=ResumeCallback(tmp_path, 100))
    newest = checkpoints(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"checkpoint_20_steps\.zip is not usable as a checkpoint: it is cut off or damaged"):
        MBPO.resume(newest, "Pendulum-v1")
    with pytest.warns(
        UserWarning, match=r"checkpoint_20_steps\.zip is not usable.*older one is used: .*checkpoint_0_steps\.zip"
    ):
        agent = MBPO.resume(tmp_path, "Pendulum-v1")
    assert agent.num_timesteps == 0
    # Going on from an older file of the run is no clash with its newer ones
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent.learn(20, callback=ResumeCallback(tmp_path, 100))
    assert MBPO.resume(newest, "Pendulum-v1").num_timesteps == 20
    for path in checkpoints(tmp_path):
        path.write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"is not allowed: .*checkpoint_20_steps\.zip.*checkpoint_0_steps\.zip.*allowed: a folder"
    ):
        MBPO.resume(tmp_path, "Pendulum-v1")


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no checkpoint in it"):
        make_agent().load_checkpoint(tmp_path)


def test_a_folder_of_a_run_that_is_further_on(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"it holds checkpoint_20_steps\.zip of a run that is further on.*load_checkpoint"):
        make_agent().learn(20, callback=ResumeCallback(folder))
    assert len(checkpoints(folder)) == 2


def test_another_runs_folder(folder: Path, tmp_path: Path) -> None:
    """Its files stay, whatever the steps of the run that comes."""
    make_agent(seed=1).learn(10, callback=ResumeCallback(tmp_path, 10))
    before = {path: path.read_bytes() for path in checkpoints(tmp_path)}
    behind, ahead = (MBPO.resume(checkpoints(folder)[number], "Pendulum-v1") for number in (0, 1))  # at 0 and 20
    for agent in (behind, ahead, make_agent()):
        with pytest.raises(ValueError, match=r"folder=.* is not allowed: it holds checkpoint_10_steps\.zip of .*; allowed: "):
            agent.learn(30, callback=ResumeCallback(tmp_path, 10))
    assert {path: path.read_bytes() for path in checkpoints(tmp_path)} == before


def test_a_run_that_was_killed_before_its_second_checkpoint_starts_again(tmp_path: Path) -> None:
    make_agent().learn(20, callback=ResumeCallback(tmp_path, 100))
    checkpoints(tmp_path)[1].unlink()
    make_agent().learn(20, callback=ResumeCallback(tmp_path, 100))
    (tmp_path / "checkpoint_20_steps.zip").unlink()
    with pytest.raises(ValueError, match=r"it holds checkpoint_0_steps\.zip of another run"):
        make_agent().learn(20).learn(20, callback=ResumeCallback(tmp_path, 100), reset_num_timesteps=False)


def test_copies_of_a_run_are_its_own(tmp_path: Path) -> None:
    """Two folders of one run, and a file that was copied elsewhere; checkpoints of before the name of a run are not."""

    def callbacks() -> list[BaseCallback]:
        return [ResumeCallback(tmp_path / name, 10, keep=9) for name in ("fast", "backup")]

    make_agent().learn(30, callback=callbacks())
    copy = tmp_path / "copy.zip"
    shutil.copy(checkpoints(tmp_path / "fast")[1], copy)
    for path in (checkpoints(tmp_path / "backup")[1], copy):
        MBPO.resume(path, "Pendulum-v1").learn(30, callback=callbacks())
    assert [path.name for path in checkpoints(tmp_path / "fast")] == [path.name for path in checkpoints(tmp_path / "backup")]
    raw = Raw(copy)
    del raw.tree["run"]
    raw.write(copy)
    with pytest.raises(ValueError, match="of a run that is further on"):
        MBPO.resume(copy, "Pendulum-v1").learn(30, callback=callbacks())


def test_a_run_that_is_refused_changes_no_table(tmp_path: Path) -> None:
    """Whatever the order of the callbacks."""

    def callbacks() -> list[BaseCallback]:
        curve = LearningCurveCallback("Pendulum-v1", tmp_path / "curve.csv", 10, n_eval_episodes=1)
        return [curve, ResumeCallback(tmp_path / "run", 10)]

    make_agent().learn(20, callback=callbacks())
    before = {path.name: path.read_bytes() for path in tmp_path.glob("curve*")}
    with pytest.raises(ValueError, match="of a run that is further on"):
        make_agent().learn(40, callback=callbacks())
    assert {path.name: path.read_bytes() for path in tmp_path.glob("curve*")} == before
    MBPO.resume(tmp_path / "run", "Pendulum-v1").learn(40, callback=callbacks())
    assert [row["env_step"] for row in read_table(tmp_path / "curve.csv")] == ["10", "20", "30", "40"]


def test_newer_files_stay_until_the_run_has_gone_on(tmp_path: Path) -> None:
    make_agent().learn(30, callback=ResumeCallback(tmp_path, 10, keep=9))
    before = checkpoints(tmp_path)
    agent = MBPO.resume(before[1], TimeLimit(gym.make("Pendulum-v1"), 50))
    with pytest.raises(ValueError, match="env has the layer"):
        agent.learn(30, callback=ResumeCallback(tmp_path, 10, keep=9))
    assert checkpoints(tmp_path) == before
    agent = MBPO.resume(before[1], "Pendulum-v1")
    agent.learn(20, callback=ResumeCallback(tmp_path, 10, keep=9))
    assert checkpoints(tmp_path) == before[:3]
    agent.learn(10, callback=ResumeCallback(tmp_path, 10, keep=9), reset_num_timesteps=False)
    assert checkpoints(tmp_path) == before
