"""The YAML files: every entry makes an agent, and the numbers are the published ones, which are repeated here by hand."""

import copy
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytest.importorskip("rl_zoo3", reason="rl_zoo3 is not installed: pip install 'sb3_tom[zoo]'")

import gymnasium
import yaml

from sb3_tom.imagination.schedules import Window
from sb3_tom.zoo.registration import ALGORITHMS, hyperparams_folder
from tests.zoo.small import experiment

ENTRIES = {name: yaml.safe_load((hyperparams_folder() / f"{name}.yml").read_text()) for name in ALGORITHMS}
SHORT_HORIZON = ["mbpo", "mbpo_pmac", "mbpo_tom"]
DOUBLE_HORIZON = ["dhmbpo", "dhmbpo_pmac", "dhmbpo_tom"]
NO_PAPER = ["Swimmer-v5", "Reacher-v5", "HumanoidStandup-v5", "Pendulum-v1"]


class Published(NamedTuple):
    """A row of MBPO's released configurations."""

    ratio: int
    schedule: tuple[int, int, int, int]  # first and last epoch, first and last length
    target_entropy: float
    model_train_freq: int
    model_retain_epochs: int
    epoch: int  # env steps
    exploration: int  # env steps


MBPO_TABLE = {
    "Hopper-v5": Published(20, (20, 150, 1, 15), -1, 250, 1, 1000, 5000),
    "Walker2d-v5": Published(20, (20, 150, 1, 1), -3, 250, 1, 1000, 5000),
    "HalfCheetah-v5": Published(40, (20, 150, 1, 1), -3, 250, 1, 1000, 5000),
    "Ant-v5": Published(20, (20, 100, 1, 25), -4, 250, 1, 1000, 5000),
    "Humanoid-v5": Published(20, (20, 300, 1, 25), -2, 1000, 5, 1000, 5000),
    "InvertedPendulum-v5": Published(10, (1, 15, 1, 1), -0.05, 250, 1, 250, 500),
    "InvertedDoublePendulum-v5": Published(20, (1, 15, 1, 1), -0.5, 250, 1, 250, 500),
}
PMAC_TABLE = {  # App. D, Table 1; Table 2: 20 updates per step, a fit every 250 steps
    "Hopper-v5": Published(20, (20, 100, 1, 15), -1, 250, 1, 1000, 5000),
    "Humanoid-v5": Published(20, (20, 300, 1, 25), -2, 250, 1, 1000, 5000),
    "HalfCheetah-v5": Published(20, (20, 150, 1, 1), -3, 250, 1, 1000, 5000),
}
TABLES = {"mbpo": MBPO_TABLE, "mbpo_tom": MBPO_TABLE, "mbpo_pmac": {**MBPO_TABLE, **PMAC_TABLE}}
PAPER_OBSERVATIONS = {"Ant-v5": 27, "Humanoid-v5": 45}


def is_schedule(published: Published, found: Any) -> bool:
    """Whether a rollout schedule in env steps is the published one in epochs; an unchanging one may be a plain length."""
    first, last, start, end = published.schedule
    if start == end and not isinstance(found, list):
        return bool(found == start)
    return bool(found == [first * published.epoch, last * published.epoch, start, end])


@pytest.mark.parametrize("env", MBPO_TABLE)
@pytest.mark.parametrize("algo", SHORT_HORIZON)
def test_values_are_the_published_ones(algo: str, env: str) -> None:
    published, found = TABLES[algo][env], ENTRIES[algo][env]
    assert found["update_to_data_ratio"] == published.ratio
    assert is_schedule(published, found["rollout_schedule"])
    assert found["target_entropy"] == published.target_entropy
    assert found["model_train_freq"] == published.model_train_freq
    assert found["model_retain_epochs"] * 1000 == published.model_retain_epochs * published.epoch  # ours have 1,000 env steps
    assert found["learning_starts"] == published.exploration
    assert (found["real_ratio"], found["learning_rate"]) == (0.05, 3e-4)
    assert "imagined_capacity" not in found
    window = Window.of_epochs(found["model_retain_epochs"], found["model_train_freq"])
    assert window.most == published.model_retain_epochs * published.epoch // published.model_train_freq


@pytest.mark.parametrize("algo", ["mbpo_tom", "mbpo_pmac"])
def test_files_differ_from_mbpo_only_where_their_papers_do(algo: str) -> None:
    differences = {
        (env, key)
        for env, found in ENTRIES[algo].items()
        for key in {*found, *ENTRIES["mbpo"][env]}
        if found.get(key) != ENTRIES["mbpo"][env].get(key)
    }
    expected = {
        "mbpo_tom": {("HalfCheetah-v5", "n_timesteps")},
        "mbpo_pmac": {
            ("Hopper-v5", "rollout_schedule"),
            ("HalfCheetah-v5", "update_to_data_ratio"),
            *product(("Humanoid-v5", "HumanoidStandup-v5"), ("model_train_freq", "model_retain_epochs", "dynamics_kwargs")),
        },
    }
    assert differences == expected[algo]


def test_double_horizon_has_one_set_of_settings_for_all_tasks_and_weighters() -> None:
    assert ENTRIES["dhmbpo"] == ENTRIES["dhmbpo_pmac"] == ENTRIES["dhmbpo_tom"]
    of_the_task = ("n_timesteps", "learning_starts", "env_kwargs")
    for env, entry in ENTRIES["dhmbpo"].items():
        assert {**ENTRIES["dhmbpo"]["default"], **{key: entry[key] for key in of_the_task if key in entry}} == entry
        for key in ("n_timesteps", "env_kwargs"):
            assert entry.get(key) == ENTRIES["mbpo"][env].get(key), (env, key)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_all_mujoco_tasks_are_there(algo: str) -> None:
    mujoco = {name for name, spec in gymnasium.registry.items() if "mujoco" in str(spec.entry_point) and name.endswith("-v5")}
    assert set(ENTRIES[algo]) == {*mujoco, "Pendulum-v1", "default"}
    assert set(ENTRIES[algo]) == {*MBPO_TABLE, *NO_PAPER, "Pusher-v5", "default"}


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_default_is_the_class(algo: str) -> None:
    """The entry for any task spells the class's own defaults out, so that the two cannot drift apart."""
    entry = dict(ENTRIES[algo]["default"])
    agent = ALGORITHMS[algo](entry.pop("policy"), "Pendulum-v1", buffer_size=4000)
    assert entry.pop("target_entropy") == "auto" and agent.target_entropy == -1.0
    assert entry.pop("n_timesteps") == 1e5
    assert entry == {key: getattr(agent, key) for key in entry}


@pytest.mark.parametrize("env", ENTRIES["mbpo"])
@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_entry_makes_an_agent(algo: str, env: str, tmp_path: Path) -> None:
    entry = copy.deepcopy(ENTRIES[algo][env])
    task = "MountainCarContinuous-v0" if env == "default" else env
    manager = experiment(tmp_path, algo, task, hyperparams={"buffer_size": 4000}, n_timesteps=-1)
    agent, _ = manager.setup_experiment()
    assert type(agent) is ALGORITHMS[algo] and manager.n_timesteps == entry["n_timesteps"]
    width = 400 if "Humanoid" in env and algo in ("mbpo", "mbpo_tom") else 200  # PMAC's Table 2 has one width for all tasks
    depth = 3 if algo in DOUBLE_HORIZON else 4
    assert agent.weighter is not None and agent.dynamics.net_arch == (width,) * depth
    if env in PAPER_OBSERVATIONS:
        assert agent.observation_space.shape == (PAPER_OBSERVATIONS[env],)
    if entry["target_entropy"] == "auto":
        assert agent.target_entropy == -agent.action_space.shape[0]
    agent.env.close()
