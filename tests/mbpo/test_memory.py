"""What rows will take is known when an agent is made, and is what they take."""

import os
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env

from sb3_tom.compute.memory import total_memory
from sb3_tom.data.resident import ResidentRows
from sb3_tom.mbpo import memory
from sb3_tom.mbpo.memory import Rows, memory_of_rows, warn_of_memory
from tests.mbpo.small import small_agent
from tests.mbpo.test_health import TINY
from tests.mbpo.test_mbpo import Corridor
from tests.mbpo.toys import Trust

GB = 10**9


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rollout_schedule": (0, 80, 1, 3), "model_retain_epochs": 0.05},
        {"rollout_schedule": (200, 220, 2, 1), "model_retain_epochs": 0.05},
        {"rollout_schedule": 3, "imagined_capacity": 70, "confidence": Trust},
    ],
)
@pytest.mark.parametrize("n_envs", [1, 2])
def test_the_estimate_is_what_is_allocated(settings: dict[str, Any], n_envs: int) -> None:
    env = make_vec_env(lambda: Corridor(limit=200), n_envs)
    model_retain = {"model_retain_epochs": 0.075, **settings}
    agent = small_agent(env, **{**TINY, **model_retain, "buffer_size": 111, "update_to_data_ratio": 0.1})
    expected, largest = memory_of_rows(agent), 0
    for _ in range(30):
        agent.learn(10, reset_num_timesteps=False, log_interval=None)
        largest = max(largest, agent.imagined._rows.nbytes)
    assert largest == expected.imagined
    buffer = agent.replay_buffer
    arrays = {name: value for name, value in vars(buffer).items() if isinstance(value, np.ndarray)}
    per_row = [value for name, value in arrays.items() if name not in ("_starts", "_expected_observations")]
    assert sum(value.nbytes for value in per_row) == expected.replay
    assert expected.resident == 0


def test_times_of_imagining_that_coincide_are_counted_twice() -> None:
    """With a pace of its own for rollouts the estimate is an upper bound."""
    agent = small_agent(Corridor(limit=200), **TINY, model_retain_epochs=0.05, rollout_freq=10, update_to_data_ratio=0.1)
    agent.learn(200, log_interval=None)
    assert 0.5 * memory_of_rows(agent).imagined < agent.imagined._rows.nbytes <= memory_of_rows(agent).imagined


def test_the_estimate_of_the_copy_on_a_device_is_what_it_takes() -> None:
    agent = small_agent(Corridor(), **TINY, buffer_size=3000)
    buffer = agent.replay_buffer
    fields = ("observations", "actions", "next_observations", "rewards", "terminated", "policy_versions", "timeouts")
    resident = ResidentRows([getattr(buffer, name) for name in fields], "cpu")
    taken = 0
    for size in (10, 2000, 3000):
        taken = sum(copy.nbytes for copy in (resident.update(size, size % 3000, size), resident._copies)[1])
    agent.device = th.device("cuda")
    assert taken == memory_of_rows(agent).resident


def messages(agent: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_memory(agent)
    return [str(one.message) for one in caught]


@pytest.mark.parametrize(
    ("device", "rows", "named"),
    [
        ("cpu", Rows(2 * GB, 3 * GB, 0), None),
        ("cpu", Rows(2 * GB, 4 * GB, 0), "6 of the 20 GB of this machine"),
        ("cuda", Rows(2 * GB, 4 * GB, 0), "2 of the 4 GB of cuda"),
        ("cuda", Rows(10**8, 4 * GB, 10**9), "1.1 of the 4 GB of cuda"),
        ("cuda", Rows(10**8, 4 * GB, 10**8), None),
        ("cuda", Rows(2 * GB, 6 * GB, 3 * GB), "6 of the 20 GB of this machine"),
    ],
)
def test_more_than_a_quarter_of_the_memory_is_worth_one_warning(
    device: str, rows: Rows, named: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "total_memory", lambda of: 20 * GB if of.type == "cpu" else 4 * GB)
    monkeypatch.setattr(memory, "memory_of_rows", lambda agent: rows)
    numbers = {"rollout_batch_size": 100_000, "imagined_capacity": None, "buffer_size": 10, "device": th.device(device)}
    agent = SimpleNamespace(observation_space=spaces.Box(-1, 1, (2000,)), **numbers)
    found = messages(agent)
    assert len(found) == (named is not None)
    for text in found:
        assert str(named) in text and "rollout_batch_size=100000" in text and "imagined_capacity=None" in text


def test_an_agent_warns_when_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "total_memory", lambda device: 10**6)
    with pytest.warns(UserWarning, match="use a smaller rollout_batch_size, an imagined_capacity") as caught:
        small_agent(Corridor(), rollout_batch_size=100_000)
    assert len(caught) == 1
    monkeypatch.setattr(memory, "total_memory", lambda device: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small_agent(Corridor(), rollout_batch_size=100_000)


def test_this_machine_says_how_much_memory_it_has() -> None:
    there, whole = total_memory(th.device("cpu")), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert there is not None and 10**8 < there <= whole
    if not th.cuda.is_available():
        assert total_memory(th.device("cuda", 0)) is None


def test_a_containers_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text(f"{10**8}\n")
    monkeypatch.setattr("sb3_tom.compute.memory.CONTAINER_LIMITS", (str(limit),))
    assert total_memory(th.device("cpu")) == 10**8
    limit.write_text("max\n")
    assert total_memory(th.device("cpu")) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class Pictures(gym.ObservationWrapper):
    def __init__(self, space: spaces.Space[Any]) -> None:
        super().__init__(Corridor())
        self.observation_space = space


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 255, (96, 96, 3), np.uint8),
        spaces.Box(0, 255, (4, 84, 84, 1), np.uint8),
        spaces.Box(0, 255, (27_648,), np.uint8),
        spaces.Box(0.0, 1.0, (64, 64), np.float32),
        spaces.Box(0.0, 1.0, (3, 64, 64), np.float32),
        spaces.Dict({"speed": spaces.Box(-1, 1, (2,)), "cameras": spaces.Tuple([spaces.Box(0, 255, (96, 96, 3), np.uint8)])}),
    ],
)
def test_images_are_not_sent_to_flatten_observation(space: spaces.Space[Any]) -> None:
    with pytest.raises(ValueError, match=r"images are not supported.*or features of an encoder") as error:
        small_agent(Pictures(space))
    assert "FlattenObservation" not in str(error.value)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1.0, 1.0, (100, 4), np.float32),
        spaces.Box(0, 255, (128,), np.uint8),
        spaces.Dict({"speed": spaces.Box(-1, 1, (2,))}),
        spaces.Discrete(500),
    ],
)
def test_what_is_no_image_is(space: spaces.Space[Any]) -> None:
    with pytest.raises(ValueError, match="FlattenObservation"):
        small_agent(Pictures(space))
