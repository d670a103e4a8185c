"""A warning about the one release of MuJoCo that gets large models wrong, and about nothing else."""

import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import mujoco
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from sb3_tom.envs import simulators
from sb3_tom.envs.simulators import LARGE, NEWTON, is_wrong, warn_of_wrong_physics
from tests.mbpo.small import small_agent


def model_of(n_links: int, solver: str = "Newton") -> Any:
    """A real model: so many bodies, each on a hinge of its own."""
    bodies = "<body><joint/><geom size='1'/></body>" * n_links
    return mujoco.MjModel.from_xml_string(f"<mujoco><option solver='{solver}'/><worldbody>{bodies}</worldbody></mujoco>")


def make_env(n_links: int) -> gym.Env[Any, Any]:
    """Pendulum, with a model of MuJoCo where Gymnasium's MuJoCo envs have theirs."""
    import mujoco as loaded

    loaded.__version__ = simulators.WRONG_RELEASE  # in a worker too
    env = gym.make("Pendulum-v1")
    env.unwrapped.model = model_of(n_links)
    return env


@pytest.fixture(autouse=True)
def release(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(mujoco, "__version__", simulators.WRONG_RELEASE)
    monkeypatch.setattr(simulators, "_warned", set())
    yield


def holding(model: Any) -> dict[str, Any]:
    """Where Gymnasium's envs, dm_control's and wrappers of these have their models."""
    physics = SimpleNamespace(model=model)
    return {
        "gymnasium": SimpleNamespace(unwrapped=SimpleNamespace(model=model)),
        "dm_control": SimpleNamespace(unwrapped=SimpleNamespace(physics=physics)),
        "wrapped dm_control": SimpleNamespace(unwrapped=SimpleNamespace(_env=SimpleNamespace(physics=physics))),
    }


@pytest.mark.parametrize("place", holding(None))
def test_models_of_sixty_degrees_of_freedom_and_more(place: str) -> None:
    assert is_wrong(holding(model_of(LARGE))[place])
    assert not is_wrong(holding(model_of(LARGE - 1))[place])
    assert not is_wrong(holding(model_of(LARGE, "CG"))[place]), "another solver"
    assert not is_wrong(holding(None)[place])


def test_it_is_newton() -> None:
    assert int(mujoco.mjtSolver.mjSOL_NEWTON) == NEWTON == model_of(1).opt.solver


@pytest.mark.parametrize("version", ["3.17.0", "4.0.1", "4.0.0.dev1"])
def test_other_releases(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    env = holding(model_of(LARGE))["gymnasium"]
    assert is_wrong(env)
    monkeypatch.setattr(mujoco, "__version__", version)
    assert not is_wrong(env)
    monkeypatch.delitem(sys.modules, "mujoco")
    assert not is_wrong(env)


@pytest.mark.parametrize("kind", [DummyVecEnv, partial(SubprocVecEnv, start_method="fork")], ids=["Dummy", "Subproc"])
def test_it_warns_once_of_envs_in_this_process_and_in_others(kind: Callable[..., VecEnv]) -> None:
    envs = [kind([partial(make_env, n_links)] * 2) for n_links in (3, LARGE, LARGE)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_wrong_physics(envs[0])
        warn_of_wrong_physics(None)
    with pytest.warns(UserWarning, match=r"mujoco==4\.0\.0 .* 60 degrees of freedom and more, and the env has such a model"):
        warn_of_wrong_physics(envs[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_wrong_physics(envs[2])
    for env in envs:
        env.close()


def test_training_warns() -> None:
    agent = small_agent(make_env(LARGE), dynamics="linear")
    with pytest.warns(UserWarning, match=r"mujoco==4\.0\.0"):
        agent.learn(1)
