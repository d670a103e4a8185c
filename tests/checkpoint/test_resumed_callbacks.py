"""Callbacks and logs of a run that goes on: what they have counted comes back, where they write is this process's."""

import shutil
import warnings
from collections import defaultdict, namedtuple
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure

from sb3_tom import MBPO
from sb3_tom.callbacks import WeightByAgeCallback
from sb3_tom.checkpoint import ResumeCallback
from tests.checkpoint.equal import assert_equal
from tests.checkpoint.runs import checkpoints, final_state, make_agent


class Counting(BaseCallback):
    """Counts episodes in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.episodes = 0

    def _on_step(self) -> bool:
        self.episodes += int(self.locals["dones"].sum())
        return True


def test_callbacks_go_on(tmp_path: Path) -> None:
    def callbacks() -> list[BaseCallback]:
        envs = make_vec_env("Pendulum-v1", 1, seed=3)
        evaluation = EvalCallback(envs, eval_freq=50, n_eval_episodes=1, log_path=str(tmp_path / "evaluation"), verbose=0)
        return [Counting(), evaluation, StopTrainingOnMaxEpisodes(2), ResumeCallback(tmp_path, 130, keep=9)]

    first = callbacks()
    reference = final_state(make_agent().learn(450, callback=first))
    resumed = MBPO.resume(checkpoints(tmp_path)[1], make_vec_env("Pendulum-v1", 1))
    assert resumed.num_timesteps == 130
    again = callbacks()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resumed.learn(450, callback=again)
    assert_equal(final_state(resumed), reference)
    assert first[0].episodes == again[0].episodes == 2
    assert [callback.n_calls for callback in first] == [callback.n_calls for callback in again]
    for name in ("evaluations_results", "evaluations_timesteps", "best_mean_reward"):
        assert getattr(first[1], name) == getattr(again[1], name)
    assert len(again[1].evaluations_results) > 2


def test_the_log_goes_on_in_the_runs_own_folder(tmp_path: Path) -> None:
    """Not in that of the newest run, which SB3 would take."""
    place, other = tmp_path / "tb", tmp_path / "elsewhere"
    for seed in (0, 1):
        agent = make_agent(seed=seed, tensorboard_log=str(place))
        agent.learn(60, callback=ResumeCallback(tmp_path / f"seed_{seed}", 20, keep=9))
    make_agent(tensorboard_log=str(other)).learn(20)
    for where, folder in ((place, "MBPO_1"), (other, "MBPO_2")):
        path = checkpoints(tmp_path / "seed_0")[1]
        agent = MBPO.resume(path, "Pendulum-v1", tensorboard_log=str(where)).learn(60)
        assert Path(agent.logger.get_dir() or "") == where / folder
        agent.learn(20)
        assert Path(agent.logger.get_dir() or "").name == f"MBPO_{len(list(where.iterdir()))}"
    files = {path.name: len(list(path.iterdir())) for path in place.iterdir()}
    assert files == {"MBPO_1": 2, "MBPO_2": 1, "MBPO_3": 1}


def test_a_logger_of_ones_own_and_another_name_of_the_log(tmp_path: Path) -> None:
    def make() -> MBPO:
        agent = make_agent(tensorboard_log=str(tmp_path / "tb"))
        agent.set_logger(configure(str(tmp_path / "own"), ["tensorboard"]))
        return agent

    make().learn(60, callback=ResumeCallback(tmp_path / "first", 20, keep=9))
    agent = make()
    agent.load_checkpoint(checkpoints(tmp_path / "first")[1])
    assert agent.learn(60).num_timesteps == 60 and agent.logger.get_dir() == str(tmp_path / "own")

    settings = {"tensorboard_log": str(tmp_path / "tb"), "seed": 1}
    make_agent(**settings).learn(60, callback=ResumeCallback(tmp_path / "second", 20, keep=9), tb_log_name="my run")
    agent = make_agent(**settings)
    agent.load_checkpoint(checkpoints(tmp_path / "second")[1])
    agent.learn(60, tb_log_name="my run")
    assert Path(agent.logger.get_dir() or "").name == "my run_1"
    agent.save_checkpoint(tmp_path / "ended.zip")
    agent.load_checkpoint(tmp_path / "ended.zip")
    agent.learn(20, tb_log_name="phase 2")
    assert Path(agent.logger.get_dir() or "").name == "phase 2_1"
    shutil.rmtree(tmp_path / "tb")
    agent.save_checkpoint(tmp_path / "ended.zip")


Window = namedtuple("Window", ["low", "high"])


class Keeper(Counting):
    """Writes to a place of its own, and remembers in containers that are no plain ones."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = f"{folder}/model.zip"
        self.counts: defaultdict[int, int] = defaultdict(int)
        self.window = Window(0, 0)
        self.pairs: defaultdict[str, list[int]] = defaultdict(lambda: [0])

    def _on_step(self) -> bool:
        self.counts[self.num_timesteps // 7] += 1
        self.pairs["all" if self.num_timesteps < 60 else "late"].append(1)
        self.window = Window(self.window.low, self.window.high + 1)
        return super()._on_step()


def test_callbacks_keep_their_own_places_and_containers(tmp_path: Path) -> None:
    make_agent().learn(80, callback=[Keeper(tmp_path / "a"), ResumeCallback(tmp_path, 40, keep=9)])
    keeper = Keeper(tmp_path / "b")
    MBPO.resume(checkpoints(tmp_path)[1], "Pendulum-v1").learn(80, callback=[keeper, ResumeCallback(tmp_path, 40, keep=9)])
    assert keeper.path == f"{tmp_path}/b/model.zip"
    assert keeper.window.high == 80 and sum(keeper.counts.values()) == 80 and len(keeper.counts) == 12
    assert {name: len(ones) for name, ones in keeper.pairs.items()} == {"all": 60, "late": 22}


def test_a_resumed_run_may_save_more_often(tmp_path: Path) -> None:
    make_agent().learn(100, callback=ResumeCallback(tmp_path, 50, keep=9))
    MBPO.resume(checkpoints(tmp_path)[1], "Pendulum-v1").learn(100, callback=ResumeCallback(tmp_path, 15, keep=9))
    assert [int(path.name.split("_")[1]) for path in checkpoints(tmp_path)] == [0, 50, 60, 75, 90, 100]


def test_callbacks_of_a_run_that_has_ended_come_back_too(tmp_path: Path) -> None:
    """The script is started again, has nothing left to do, and then trains longer."""

    def callbacks() -> list[BaseCallback]:
        return [Counting(), ResumeCallback(tmp_path, 30, keep=9)]

    first = callbacks()
    make_agent().learn(450, callback=first)
    again, resumed = callbacks(), MBPO.resume(tmp_path, "Pendulum-v1")
    resumed.learn(450, callback=again)
    assert (again[0].episodes, again[0].n_calls) == (first[0].episodes, first[0].n_calls) == (2, 450)
    resumed.learn(150, callback=again, reset_num_timesteps=False)
    assert again[0].episodes == 3


def test_a_run_that_was_saved_between_two_calls_logs_to_its_own_folder(tmp_path: Path) -> None:
    place = str(tmp_path / "tb")
    agent = make_agent(tensorboard_log=place).learn(20)
    agent.save_checkpoint(tmp_path / "by_hand.zip")
    make_agent(tensorboard_log=place, seed=1).learn(20)
    resumed = MBPO.resume(tmp_path / "by_hand.zip", "Pendulum-v1", tensorboard_log=place)
    resumed.learn(20, reset_num_timesteps=False)
    assert Path(resumed.logger.get_dir() or "").name == "MBPO_1"


def test_a_run_that_was_saved_between_two_calls_logs_where_the_next_call_says(tmp_path: Path) -> None:
    place = str(tmp_path / "tb")
    make_agent(tensorboard_log=place).learn(20).save_checkpoint(tmp_path / "by_hand.zip")
    resumed = MBPO.resume(tmp_path / "by_hand.zip", "Pendulum-v1", tensorboard_log=place)
    resumed.learn(20, tb_log_name="second", reset_num_timesteps=False)
    assert Path(resumed.logger.get_dir() or "").name == "second_0"


class Open(gym.Wrapper):
    """As an env of a worker process: there is none after the end."""

    is_open = True

    def reset(self, **kwargs: Any) -> Any:
        assert self.is_open
        return super().reset(**kwargs)

    def close(self) -> None:
        self.is_open = False


class Closing(BaseCallback):
    """Has an env of its own, which can be used until the end only."""

    def _on_training_start(self) -> None:
        self.envs = make_vec_env("Pendulum-v1", 1, wrapper_class=Open)
        self.envs.reset()
        self.log: list[int] = []

    def _on_step(self) -> bool:
        self.log = [self.num_timesteps]
        return True

    def _on_training_end(self) -> None:
        self.envs.close()
        self.log.append(-1)


@pytest.mark.parametrize("resume_is_last", [True, False])
def test_callbacks_end_with_the_state_of_the_whole_run_if_no_steps_were_left(resume_is_last: bool, tmp_path: Path) -> None:
    """What a callback writes at the end of training is written again, not lost."""

    def learn(agent: MBPO) -> list[BaseCallback]:
        own = [WeightByAgeCallback(tmp_path / "age.csv"), Closing()]
        saves = ResumeCallback(tmp_path / "run", 70)
        agent.learn(110, callback=[*own, saves] if resume_is_last else [saves, *own])
        return own

    first = learn(make_agent())
    rows = (tmp_path / "age.csv").read_text()
    again = learn(MBPO.resume(tmp_path / "run", "Pendulum-v1"))
    assert (tmp_path / "age.csv").read_text() == rows and rows.count("\n") > 20
    assert first[1].log == again[1].log[:2] == [110, -1]  # type: ignore[attr-defined]
