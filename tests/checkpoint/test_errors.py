"""What cannot be resumed is refused in one sentence that names it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import ConstantSchedule

from sb3_tom import MBPO, MBPOTOM, UniformWeighter
from sb3_tom.checkpoint import ResumeCallback
from sb3_tom.checkpoint.arguments import _is_json, different_arguments
from tests.checkpoint.runs import checkpoints, make_agent


def zero_reward(observations: th.Tensor, actions: th.Tensor, next_observations: th.Tensor) -> th.Tensor:
    return th.zeros(len(observations), 1)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"gamma": 0.5}, r"gamma=0\.5 \(the run has 0\.99\)"),
        ({"weighter": "pmac"}, r"weighter='pmac' \(the run has 'uniform'\)"),
        ({"policy_kwargs": {"net_arch": [8]}}, r"policy_kwargs=\{'net_arch': \[8\]\}"),
        ({"train_freq": (2, "episode")}, r"train_freq=\[2, 'episode'\] \(the run has \[1, 'step'\]\)"),
        ({"learning_rate": lambda _: 0.1}, r"learning_rate=<function .*> \(the run has 0\.0003\)"),
        ({"learning_rate": ConstantSchedule(0.1)}, r"learning_rate=0\.1 \(the run has 0\.0003\)"),
        ({"weighter": UniformWeighter}, r".*weighter=<class .*UniformWeighter'> \(the run has 'uniform'\)"),
        ({"reward_fn": zero_reward}, r"reward_fn=<function zero_reward .*> \(the run has None\)"),
    ],
)
def test_other_arguments_are_named(other: dict[str, Any], message: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=r"is of an agent with other arguments: " + message):
        make_agent(**other).load_checkpoint(folder)


def test_what_no_file_can_hold_is_no_number(tmp_path: Path) -> None:
    make_agent(learning_rate=lambda _: 1e-3).save_checkpoint(tmp_path / "file.zip")
    make_agent(learning_rate=lambda _: 1e-3).load_checkpoint(tmp_path / "file.zip")
    with pytest.raises(ValueError, match=r"learning_rate=0\.1 \(the run has what a checkpoint cannot hold\)"):
        make_agent(learning_rate=0.1).load_checkpoint(tmp_path / "file.zip")


def test_a_constant_schedule_is_a_number(tmp_path: Path) -> None:
    """The Zoo gives each learning rate as a schedule."""
    make_agent(learning_rate=ConstantSchedule(1e-3)).save_checkpoint(tmp_path / "file.zip")
    for same in (ConstantSchedule(1e-3), 1e-3):
        make_agent(learning_rate=same).load_checkpoint(tmp_path / "file.zip")
    assert MBPO.resume(tmp_path / "file.zip", "Pendulum-v1").learning_rate == 1e-3
    assert different_arguments({}, ["learning_rate"], make_agent(learning_rate=ConstantSchedule(1e-3))) == []


def test_another_env_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="networks are not those of the run"):
        MBPO.resume(folder, "Hopper-v5")
    with pytest.raises(ValueError, match=r"n_envs=2; allowed: the run's 1"):
        MBPO.resume(checkpoints(folder)[0], make_vec_env("Pendulum-v1", 2))


def test_load_says_what_to_call(folder: Path) -> None:
    with pytest.raises(
        ValueError, match=r"checkpoint_20_steps\.zip.* is a checkpoint of a run; allowed: MBPO\.resume\(path, env\)"
    ):
        MBPO.load(checkpoints(folder)[-1])


def test_arguments_that_are_code_must_come_again(tmp_path: Path) -> None:
    def rate(progress: float) -> float:
        return 1e-3 * progress

    agent = make_agent(learning_rate=rate, weighter=UniformWeighter(), reward_fn=None)
    agent.save_checkpoint(tmp_path / "file.zip")
    with pytest.raises(ValueError, match=r"resume needs learning_rate, weighter: a checkpoint holds no code"):
        MBPO.resume(tmp_path / "file.zip", "Pendulum-v1")
    resumed = MBPO.resume(tmp_path / "file.zip", "Pendulum-v1", learning_rate=rate, weighter=UniformWeighter(), gamma=0.5)
    assert (resumed.lr_schedule(0.5), resumed.gamma, resumed.batch_size) == (5e-4, 0.5, 32)


@pytest.mark.parametrize("text", ["a.b:C", "torch.optim.Adam", "folder/name", "/etc/passwd", "C:\\\\name", "..\\\\name"])
def test_names_of_code_and_places_must_come_again(text: str) -> None:
    assert not _is_json({"preset": [text]})


@pytest.mark.parametrize("text", ["tom", "MlpPolicy", "auto_0.1", "0.1", "official", "", "v1.0", "two words."])
def test_words_are_kept(text: str) -> None:
    assert _is_json({"preset": [text]})


def test_an_import_path_must_come_again(tmp_path: Path) -> None:
    path = "sb3_tom.weighters.uniform:UniformWeighter"
    make_agent(weighter=path).save_checkpoint(tmp_path / "file.zip")
    with pytest.raises(ValueError, match=r"file\.zip .*resume needs weighter: a checkpoint holds no code"):
        MBPO.resume(tmp_path / "file.zip", "Pendulum-v1")
    assert MBPO.resume(tmp_path / "file.zip", "Pendulum-v1", weighter=path).plug_arguments()["weighter"] == path


class Remembering(MBPO):
    """Makes an attribute when it steps, which the constructor does not."""

    def _on_step(self) -> None:
        self.stepped = True
        super()._on_step()


def test_an_attribute_that_a_new_agent_does_not_have_is_left_out_and_named(tmp_path: Path) -> None:
    Remembering("MlpPolicy", "Pendulum-v1", buffer_size=100).learn(3, callback=ResumeCallback(tmp_path))
    with pytest.warns(
        UserWarning, match="The attribute stepped of the run.s agent is none that the constructor makes: it is not restored"
    ):
        agent = Remembering.resume(tmp_path, "Pendulum-v1")
    assert not hasattr(agent, "stepped") and agent.num_timesteps == 3


def test_a_subclass_keeps_its_weighter(tmp_path: Path) -> None:
    MBPOTOM("MlpPolicy", "Pendulum-v1", buffer_size=1000).save_checkpoint(tmp_path / "file.zip")
    assert type(MBPO.resume(tmp_path / "file.zip", "Pendulum-v1").weighter).__name__ == "TOMWeighter"


def test_a_learn_that_fails_before_the_run_is_restored_can_be_repeated(folder: Path, tmp_path: Path) -> None:
    agent = MBPO.resume(checkpoints(folder)[1], "Pendulum-v1")
    make_agent(seed=1).learn(10, callback=ResumeCallback(tmp_path, 10))
    with pytest.raises(ValueError, match=r"folder=.* is not allowed"):
        agent.learn(30, callback=ResumeCallback(tmp_path, 10))
    assert agent.learn(30).num_timesteps == 30


def test_callbacks_of_another_kind_begin_anew(folder: Path) -> None:
    agent = MBPO.resume(folder, "Pendulum-v1")
    with pytest.warns(UserWarning, match="no callback of the kind StopTrainingOnMaxEpisodes: it begins anew"):
        agent.learn(21, callback=StopTrainingOnMaxEpisodes(5))


def test_not_in_the_middle_of_a_step(tmp_path: Path) -> None:
    agent = make_agent()
    with pytest.raises(ValueError, match="in the middle of a step"):
        agent.learn(10, callback=lambda *_: agent.save_checkpoint(tmp_path / "file.zip"))
    agent.save_checkpoint(tmp_path / "file.zip")  # learn has ended, if not well


def test_an_attribute_that_no_file_can_hold(tmp_path: Path) -> None:
    agent = make_agent()
    agent.memory = {1, 2}  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"attribute memory is a set, which a checkpoint cannot hold.*state_dict"):
        agent.learn(10, callback=ResumeCallback(tmp_path))


def test_a_recorded_step_is_no_state(tmp_path: Path) -> None:
    """As it is on CUDA; it was recorded with the optimisers' old moments."""
    agent = make_agent().learn(60)
    agent.policy_update._graphed = object()
    agent.save_checkpoint(tmp_path / "file.zip")
    agent.load_checkpoint(tmp_path / "file.zip")
    assert agent.policy_update._graphed is None
    assert agent.replay_buffer._n_added == 60


def test_other_agents_are_refused(tmp_path: Path) -> None:
    agent = SAC("MlpPolicy", "Pendulum-v1", buffer_size=10)
    with pytest.raises(ValueError, match=r"needs an agent of sb3_tom; SAC has no save_checkpoint"):
        agent.learn(1, callback=ResumeCallback(tmp_path))


@pytest.mark.parametrize("arguments", [{"save_freq": 0}, {"save_freq": "often"}, {"keep": 0}, {"keep": 1.5}])
def test_bad_arguments(arguments: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"{next(iter(arguments))}=.* is not allowed; allowed: an integer of at least 1"):
        ResumeCallback(tmp_path, **arguments)


class StopTrainingOnMaxSteps(BaseCallback):
    """Cancels."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def _on_step(self) -> bool:
        return self.num_timesteps < self.steps


def test_a_cancelled_run_keeps_its_last_whole_checkpoint(tmp_path: Path) -> None:
    """SB3 drops the transition at which a callback says stop, so that moment cannot be resumed."""
    agent = make_agent()
    agent.learn(60, callback=[ResumeCallback(tmp_path, 25), StopTrainingOnMaxSteps(40)])
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint_0_steps.zip", "checkpoint_25_steps.zip"]


def test_the_size_is_that_of_the_data(tmp_path: Path) -> None:
    """An almost empty buffer of a million rows takes no room."""
    agent = make_agent(buffer_size=1_000_000)
    agent.learn(20, callback=ResumeCallback(tmp_path, 100))
    file = checkpoints(tmp_path)[-1]
    data = sum(value.nbytes for value in np.load(file).values() if isinstance(value, np.ndarray))
    assert data < 200_000
    assert file.stat().st_size < data + 150_000
