"""The checkpointer alone, with SB3's own SAC: it needs nothing of MBPO."""

from pathlib import Path
from typing import Any

import pytest
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback

from sb3_tom.checkpoint.checkpointer import Checkpointer

SMALL: dict[str, Any] = {"policy_kwargs": {"net_arch": [8]}, "buffer_size": 300, "learning_starts": 20, "device": "cpu"}


class Checkpointed(SAC):
    """What an agent has to do to own one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.checkpointer = Checkpointer()
        super().__init__(*args, **kwargs)

    def learn(self, total_timesteps: int, callback: Any = None, reset_num_timesteps: bool = True, **kwargs: Any) -> Any:
        with self.checkpointer.learning(self, total_timesteps, reset_num_timesteps, "run") as (steps, reset):
            return super().learn(steps, callback, reset_num_timesteps=reset, **kwargs)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        steps, callback = super()._setup_learn(*args, **kwargs)
        return steps, self.checkpointer.begin(self, callback)

    def collect_rollouts(self, env: Any, callback: Any, *args: Any, **kwargs: Any) -> Any:
        self.checkpointer.before_collection(self)
        result = super().collect_rollouts(env, callback, *args, **kwargs)
        self.checkpointer.after_collection(result.continue_training)
        return result


class SaveAt(BaseCallback):
    """Saves once, between two collections."""

    def __init__(self, path: Path, step: int) -> None:
        super().__init__()
        self.path, self.step = path, step

    def between_rollouts(self) -> None:
        if self.num_timesteps == self.step:
            self.model.checkpointer.save(self.model, self.path, durable=False)

    def _on_step(self) -> bool:
        return True


def make(seed: int = 0) -> Checkpointed:
    return Checkpointed("MlpPolicy", "Pendulum-v1", seed=seed, **SMALL)


def test_sac_itself_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole = make()
    whole.learn(120, SaveAt(tmp_path / "run.zip", 70))
    resumed = make(seed=5)
    resumed.checkpointer.load(resumed, tmp_path / "run.zip")
    assert resumed.checkpointer.is_resuming and resumed.checkpointer.last == str(tmp_path / "run.zip")
    resumed.learn(120, SaveAt(tmp_path / "run.zip", -1))
    assert resumed.num_timesteps == 120 and resumed._n_updates == whole._n_updates
    th.testing.assert_close(resumed.get_parameters(), whole.get_parameters(), rtol=0.0, atol=0.0)
    assert (resumed.replay_buffer.observations == whole.replay_buffer.observations).all()


def test_it_keeps_no_agent() -> None:
    agent = make()
    agent.learn(30)
    assert not any(isinstance(value, SAC) for value in vars(agent.checkpointer).values())


def test_in_the_middle_of_a_step_nothing_is_saved(tmp_path: Path) -> None:
    class Early(SaveAt):
        def _on_step(self) -> bool:
            self.model.checkpointer.save(self.model, self.path, durable=False)
            return True

    with pytest.raises(ValueError, match="save_checkpoint is not allowed in the middle of a step"):
        make().learn(30, Early(tmp_path / "run.zip", -1))
    assert not (tmp_path / "run.zip").exists()


def test_other_arguments_are_named(tmp_path: Path) -> None:
    agent = make()
    agent.checkpointer.save(agent, tmp_path / "run.zip", durable=False)
    other = Checkpointed("MlpPolicy", "Pendulum-v1", **{**SMALL, "buffer_size": 200})
    # a class that passes its arguments on unseen has none of its own to compare: the buffers do not fit
    with pytest.raises(ValueError, match="buffer_size"):
        other.checkpointer.load(other, tmp_path / "run.zip")
