"""The ratio and the remaining time in the log, whatever began before and however gradient steps are asked for."""

import warnings
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from sb3_tom import MBPO
from sb3_tom.checkpoint.agent_fits import COUNTS
from sb3_tom.mbpo.update_counter import PACES
from tests.mbpo.small import small_agent
from tests.mbpo.test_mbpo import Corridor

TINY: dict[str, Any] = {"rollout_batch_size": 20, "dynamics": "linear"}
NETS = {"net_arch": [8]}


def dumped(agent: MBPO, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What ``dump_logs`` writes now."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(agent.logger, "dump", lambda step=0: found.update(agent.logger.name_to_value))
    agent.dump_logs()
    return found


@pytest.mark.parametrize(
    ("kwargs", "n_envs", "ratio"),
    [
        ({"gradient_steps": 2}, 4, 2 / 4),  # not 2: SB3 counts gradient steps per step of all envs together
        ({"gradient_steps": 6, "train_freq": 4}, 1, 6 / 4),
        ({"gradient_steps": 21, "train_freq": (2, "episode")}, 1, 21 / 14),
        ({"update_to_data_ratio": 0.75}, 2, 0.75),
    ],
)
def test_the_ratio_that_was_reached_and_the_remaining_time_are_logged(
    kwargs: dict[str, Any], n_envs: int, ratio: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = small_agent(make_vec_env(lambda: Corridor(limit=7), n_envs), learning_starts=40, **TINY, **kwargs)
    agent.learn(120, log_interval=None)
    found = dumped(agent, monkeypatch)
    assert found["train/update_to_data_ratio"] == pytest.approx(ratio)
    assert "time/eta" in found


@pytest.mark.parametrize("number", [1, np.int64(4)])
def test_the_number_of_sb3s_scripts_is_warned_of(number: int) -> None:
    """Scripts for SAC often say gradient_steps=1, which takes the place of the updates per transition."""
    with pytest.warns(UserWarning, match=rf"gradient_steps={number} makes {number} after each collection, as in SB3"):
        small_agent(Corridor(), gradient_steps=number, **TINY)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for usual in (0, -1):
            small_agent(Corridor(), gradient_steps=usual, **TINY)


@pytest.mark.filterwarnings("ignore:gradient_steps=2")
def test_nothing_is_logged_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = small_agent(Corridor(), learning_starts=1000, gradient_steps=2, **TINY).learn(60, log_interval=None)
    assert {"train/update_to_data_ratio", "time/eta"}.isdisjoint(dumped(agent, monkeypatch))


def test_updates_of_a_sac_agent_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    sac = SAC("MlpPolicy", Corridor(), learning_starts=20, buffer_size=200, policy_kwargs=NETS, seed=0).learn(60)
    agent = MBPO.from_sac(sac, Corridor(), learning_starts=10, update_to_data_ratio=2.0, **TINY)
    agent.learn(30, log_interval=None)
    assert dumped(agent, monkeypatch)["train/update_to_data_ratio"] == pytest.approx(2.0)


def test_offline_updates_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    source = small_agent(Corridor(), learning_starts=1000, **TINY).learn(40)
    agent = small_agent(Corridor(), learning_starts=10, **TINY)
    agent.replay_buffer = source.replay_buffer
    agent.fit_model()
    agent.imagine()
    agent.train_policy(50)
    agent.learn(30, log_interval=None)
    assert dumped(agent, monkeypatch)["train/update_to_data_ratio"] == pytest.approx(2.0)


def test_only_time_within_learn_makes_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock on which an env step takes a second, and 1,000 seconds pass between two calls of ``learn``."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("sb3_tom.mbpo.remaining_time.time", SimpleNamespace(monotonic=lambda: clock.now))
    left: list[str] = []

    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            clock.now += 1.0
            left.append(self.model.remaining_time(self.num_timesteps, 200))
            return True

    agent = small_agent(Corridor(), learning_starts=1000, **TINY).learn(50, Watch())
    clock.now += 1000.0
    agent.learn(50, Watch(), reset_num_timesteps=False)
    resumed = small_agent(Corridor(), learning_starts=1000, **TINY)
    resumed.remaining_time.load_state_dict(agent.remaining_time.state_dict())
    clock.now += 1000.0
    resumed.num_timesteps = agent.num_timesteps
    resumed.learn(50, Watch(), reset_num_timesteps=False)
    assert left == ["?", *(str(timedelta(seconds=200 - step)) for step in range(2, 151))]
    left.clear()
    resumed.learn(60, Watch())
    assert left == ["?", *(str(timedelta(seconds=200 - step)) for step in range(2, 61))], "a new count, a new pace"


def test_checkpoints_know_every_counter_of_an_agent() -> None:
    """They lie on a lower floor, and cannot ask."""
    counted = {name for name, value in vars(small_agent(Corridor(), **TINY)).items() if name[0] == "_" and type(value) is int}
    assert {"_env_steps", *PACES} <= counted and counted | {"policy_version"} <= {*COUNTS}
