"""What users' subclasses, callbacks and envs do to a checkpoint: they resume, or it is said why not."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import SubprocVecEnv

from sb3_tom import MBPO
from sb3_tom.checkpoint import ResumeCallback
from sb3_tom.checkpoint.attributes import attributes_state, restore_attributes
from tests.checkpoint.runs import checkpoints, make_agent
from tests.mbpo.small import small_agent

WAITS: dict[str, Any] = {"learning_starts": 1000}
"""Nothing is trained."""


class PassesOn(MBPO):
    """Has one argument of its own, and passes the others on unseen."""

    def __init__(self, *args: Any, bonus: float = 1.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.bonus = bonus


def test_a_subclass_that_passes_its_arguments_on_keeps_them(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"gamma": 0.9, "learning_rate": 1e-4, "buffer_size": 100, "bonus": 3.0}
    PassesOn("MlpPolicy", "Pendulum-v1", **arguments).save_checkpoint(tmp_path / "run.zip")
    resumed = PassesOn.resume(tmp_path / "run.zip", "Pendulum-v1")
    assert {name: getattr(resumed, name) for name in arguments} == arguments
    other = PassesOn("MlpPolicy", "Pendulum-v1", **{**arguments, "gamma": 0.5})
    with pytest.raises(ValueError, match=r"gamma=0\.5 \(the run has 0\.9\)"):
        other.load_checkpoint(tmp_path / "run.zip")


class Fixes(MBPO):
    """Sets an argument for itself, and takes the others."""

    def __init__(self, policy: Any, env: Any, width: int = 8, **kwargs: Any) -> None:
        super().__init__(policy, env, gamma=0.9, policy_kwargs={"net_arch": [width]}, **kwargs)
        self.width = width


def test_a_subclass_that_fixes_arguments_is_resumed(tmp_path: Path) -> None:
    Fixes("MlpPolicy", "Pendulum-v1", width=4, tau=0.1, buffer_size=100).save_checkpoint(tmp_path / "run.zip")
    resumed = Fixes.resume(tmp_path / "run.zip", "Pendulum-v1")
    assert (resumed.gamma, resumed.tau, resumed.width) == (0.9, 0.1, 4)
    with pytest.raises(ValueError, match=r"policy_kwargs=.*\[8\].* \(the run has .*\[4\]"):
        Fixes("MlpPolicy", "Pendulum-v1", tau=0.1, buffer_size=100).load_checkpoint(tmp_path / "run.zip")


class Range:
    """Two attributes that begin as one array."""

    lowest = np.zeros(2)

    def __init__(self) -> None:
        self.low = self.high = np.zeros(3)
        self.reached: Any = False


def test_attributes_that_begin_as_one_array_are_restored_as_two() -> None:
    saved = Range()
    saved.low, saved.high, saved.lowest, saved.reached = np.full(3, -1.0), np.full(3, 2.0), np.ones(2), 5000
    restored = Range()
    restore_attributes(restored, attributes_state(saved)[0])
    assert restored.low.tolist() == [-1.0] * 3 and restored.high.tolist() == [2.0] * 3
    assert restored.lowest.tolist() == [1.0] * 2 and Range.lowest.tolist() == [0.0] * 2, "the class keeps its own"
    assert restored.reached == 5000, "a flag that has become the step at which it was set"


def test_attributes_that_were_one_array_stay_one() -> None:
    """An env that steps in place writes into both."""
    saved, restored = Range(), Range()
    saved.low += 3.0
    restore_attributes(restored, attributes_state(saved)[0])
    assert restored.low is restored.high and restored.low.tolist() == [3.0] * 3


class Logs(BaseCallback):
    """Logs once what SB3's formats can write, and what none can."""

    def _on_step(self) -> bool:
        if self.num_timesteps > 5:
            return True
        self.logger.record("own/histogram", th.arange(3.0))
        self.logger.record("own/array", np.arange(2))
        self.logger.record("own/nothing", None)
        self.logger.record("own/list", [1, 2])
        self.logger.record("own/objects", np.array(["a", None], dtype=object))
        self.logger.record("own/number", 3.0)
        return True


def test_whatever_was_logged_does_not_keep_a_run_from_being_resumed(tmp_path: Path) -> None:
    make_agent(**WAITS).learn(20, callback=[Logs(), ResumeCallback(tmp_path, 10)])
    agent = MBPO.resume(checkpoints(tmp_path)[0], "Pendulum-v1")
    agent.set_logger(configure(str(tmp_path), ["log", "csv"]))
    seen: dict[str, Any] = {}

    class Looks(BaseCallback):
        def _on_step(self) -> bool:
            seen.update({name: value for name, value in self.logger.name_to_value.items() if name.startswith("own/")})
            return False

    agent.learn(20, callback=Looks())
    assert set(seen) == {"own/histogram", "own/array", "own/number"} and seen["own/histogram"].tolist() == [0.0, 1.0, 2.0]
    agent.logger.dump()  # needs each name in all of the logger's dictionaries


class Stops(BaseCallback):
    """Ends a run as an interrupt does."""

    def _on_step(self) -> bool:
        if self.num_timesteps == 15:
            raise KeyboardInterrupt
        return True


def test_a_callback_goes_on_after_an_interrupt_in_the_same_process(tmp_path: Path) -> None:
    callback, agent = ResumeCallback(tmp_path, 10), make_agent(**WAITS)
    with pytest.raises(KeyboardInterrupt):
        agent.learn(30, callback=[callback, Stops()])
    agent.load_checkpoint(tmp_path)
    assert agent.learn(30, callback=callback).num_timesteps == 30
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint_20_steps.zip", "checkpoint_30_steps.zip"]


HOLD = """
import sys
from pathlib import Path
from sb3_tom.checkpoint.files import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""


@contextmanager
def another_process(folder: Path) -> Iterator[Any]:
    """A process that holds a folder, or tries to."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], **pipes) as process:  # type: ignore[call-overload]
        yield process
        process.kill()


def test_a_folder_that_another_process_trains_with_is_refused(tmp_path: Path) -> None:
    """Each would remove the other's files. The lock goes with the process."""
    with another_process(tmp_path) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match=r"folder=.* is not allowed: another process trains with it"):
            make_agent(**WAITS).learn(10, callback=ResumeCallback(tmp_path))
    make_agent(**WAITS).learn(10, callback=[ResumeCallback(tmp_path / "one"), ResumeCallback(tmp_path / "two")])
    assert [len(checkpoints(tmp_path / name)) for name in ("one", "two")] == [2, 2]


@pytest.mark.parametrize("end", ["ends", "is interrupted", "is refused"])
def test_a_folder_is_free_as_soon_as_learn_ends(end: str, tmp_path: Path) -> None:
    """Also in a process that lives on."""
    if end == "is refused":
        make_agent(**WAITS).save_checkpoint(tmp_path / "checkpoint_5_steps.zip")
    callbacks = [ResumeCallback(tmp_path, 10), *([Stops()] if end == "is interrupted" else [])]
    with pytest.raises((KeyboardInterrupt, ValueError)) if end != "ends" else nullcontext():
        make_agent(**WAITS).learn(20, callback=callbacks)
    with another_process(tmp_path) as other:
        assert other.stdout.readline() == b"held\n", other.stderr.read()


def wrapped(env: gym.Env) -> gym.Env:
    return gym.wrappers.RescaleAction(env, np.float32(-1.0), np.float32(1.0))


@pytest.mark.parametrize("bare", [False, True], ids=["other wrappers", "no wrapper"])
def test_envs_in_other_processes_that_are_not_those_of_the_run_are_refused(bare: bool, tmp_path: Path) -> None:
    """The reason comes from there, and the processes live on."""
    made = SubprocVecEnv([lambda: wrapped(gym.make("Pendulum-v1"))] * 2, start_method="fork")
    small_agent(made, **WAITS).learn(20).save_checkpoint(tmp_path / "run.zip")
    made.close()
    other = (lambda: gym.make("Pendulum-v1").unwrapped) if bare else (lambda: gym.make("Pendulum-v1"))
    envs = SubprocVecEnv([other] * 2, start_method="fork")
    agent = small_agent(envs, **WAITS)
    agent.load_checkpoint(tmp_path / "run.zip")
    said = "an env without a wrapper in another process cannot be restored" if bare else "env has the layer"
    with pytest.raises(ValueError, match=rf"run\.zip cannot be gone on with: {said}"):
        agent.learn(10)
    assert len(envs.reset()) == 2
    envs.close()
