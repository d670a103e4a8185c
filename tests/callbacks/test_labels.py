"""What a run is called in its tables."""

from types import SimpleNamespace
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import SAC
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecMonitor

from sb3_tom import DHMBPO, DHMBPOTOM, MBPO, MBPOTOM
from sb3_tom.callbacks.labels import run_labels
from sb3_tom.dynamics.smooth import SmoothEnsemble
from sb3_tom.mbpo.variants import NAMED_AFTER_PLUGS
from sb3_tom.weighters.uniform import UniformWeighter


class MineWeighter(UniformWeighter):
    """Of a user."""


class MineModel(SmoothEnsemble):
    """Of a user."""


class OfMine(MBPO):
    """Of a user, with a model of his own."""

    default_dynamics: ClassVar[str] = f"{__name__}:MineModel"


class Still(gym.Env[np.ndarray, np.ndarray]):
    """Nothing happens."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (1,))
    action_space = gym.spaces.Box(-1.0, 1.0, (1,))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        return np.zeros(1, dtype=np.float32), {}


@pytest.fixture
def lambda_id() -> Any:
    """An env whose spec cannot be pickled."""
    gym.register("Still-v0", entry_point=lambda: Still())
    yield "Still-v0"
    gym.registry.pop("Still-v0")


def labels(env: VecEnv, task: str | None = None) -> dict[str, Any]:
    return run_labels(SimpleNamespace(task=task, method=None, model=SimpleNamespace(seed=3), training_env=env))


def test_task_is_the_id_of_the_env() -> None:
    assert labels(DummyVecEnv([lambda: gym.make("Pendulum-v1")])) == {
        "task": "Pendulum-v1",
        "method": "simplenamespace",
        "seed": 3,
    }


def test_an_env_that_is_not_registered_has_the_name_of_its_class() -> None:
    assert labels(VecMonitor(DummyVecEnv([Still])))["task"] == "Still"
    callback: Any = SimpleNamespace(task=None, method=None, model=SimpleNamespace(seed=3))
    assert run_labels(callback, Monitor(Still()))["task"] == "Still"


def test_other_processes_are_asked_for_what_they_can_send(lambda_id: str) -> None:
    """A worker dies of an answer that cannot be pickled."""
    for env_id, task in (("Pendulum-v1", "Pendulum-v1"), (lambda_id, "unknown")):
        env = SubprocVecEnv([lambda env_id=env_id: gym.make(env_id)], start_method="fork")
        try:
            assert labels(env)["task"] == task
            assert labels(env, task="mine")["task"] == "mine"
            env.reset()
        finally:
            env.close()


@pytest.mark.parametrize(
    ("algorithm", "kwargs", "method"),
    [
        (MBPO, {}, "mbpo"),
        (MBPO, {"weighter": "pmac"}, "mbpo_pmac"),
        (MBPOTOM, {}, "mbpo_tom"),
        (DHMBPOTOM, {}, "dhmbpo_tom"),
        (DHMBPO, {}, "dhmbpo"),
        (MBPO, {"weighter": "ratio"}, "mbpo_ratio"),
        (MBPO, {"weighter": "recency"}, "mbpo_recency"),
        (DHMBPO, {"weighter": "error"}, "dhmbpo_error"),
        (MBPO, {"weighter": "pdml"}, "mbpo_pdml"),
        (DHMBPO, {"weighter": "maper"}, "dhmbpo_maper"),
        (DHMBPO, {"weighter": "tom", "objective": "vagram"}, "dhmbpo_tom_vagram"),
        (MBPO, {"weighter": MineWeighter}, "mbpo_mine"),
        (DHMBPO, {"dynamics": MineModel}, "dhmbpo_minemodel"),
        (MBPO, {"dynamics": "smooth"}, "mbpo_smooth"),
        (DHMBPO, {"dynamics": "smooth", "policy_update": "double_horizon"}, "dhmbpo"),
        (MBPO, {"dynamics": "smooth", "policy_update": "double_horizon"}, "mbpo_smooth_double_horizon"),
        (DHMBPOTOM, {"confidence": "inverse_std", "rollout_stop": "quantile"}, "dhmbpo_tom_inverse_std_quantile"),
        (OfMine, {}, "ofmine"),
        (OfMine, {"dynamics": "ensemble", "weighter": "pmac"}, "ofmine_pmac_ensemble"),
        *[(cls, {}, name) for name, cls in NAMED_AFTER_PLUGS.items()],
        (SAC, {}, "sac"),
    ],
)
def test_agents_that_differ_in_a_plug_are_different_methods(algorithm: Any, kwargs: dict[str, Any], method: str) -> None:
    agent = algorithm("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8]}, **kwargs)
    callback = SimpleNamespace(task=None, method=None, model=agent, training_env=agent.get_env())
    assert run_labels(callback)["method"] == method


@pytest.mark.parametrize("name", ["Phantom", "Custom", "MyTom"])
def test_a_users_class_keeps_its_whole_name(name: str) -> None:
    """Also one whose last letters are those of its weighter."""
    made = type(name, (MBPO,), {})("MlpPolicy", "Pendulum-v1", weighter="tom", device="cpu")
    callback: Any = SimpleNamespace(task="t", method=None, model=made)
    assert run_labels(callback)["method"] == f"{name.lower()}_tom"
