"""Warns of a MuJoCo release with wrong physics for large models."""

import sys
import warnings
from typing import Any

from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from sb3_tom.envs.workers import ask

WRONG_RELEASE = "4.0.0"
"""Its Newton solver has a wrong Hessian for models of :data:`LARGE` degrees of freedom and more (fixed in 4.0.1)."""

LARGE = 60
NEWTON = 2
"""``mujoco.mjtSolver.mjSOL_NEWTON``, MuJoCo's default."""

_warned: set[str] = set()


def warn_of_wrong_physics(env: VecEnv | None) -> None:
    """
    Warn, once per process, if a large model is simulated by :data:`WRONG_RELEASE`.

    :param env: in this process or in others; None is ignored
    """
    inner = None if env is None else env.unwrapped
    if isinstance(inner, DummyVecEnv):
        affected = any(is_wrong(one) for one in inner.envs)
    else:
        affected = isinstance(inner, SubprocVecEnv) and any(ask(inner, is_wrong))
    if affected and WRONG_RELEASE not in _warned:
        _warned.add(WRONG_RELEASE)
        warnings.warn(
            f"mujoco=={WRONG_RELEASE} computes a wrong Hessian in its Newton solver for models of {LARGE} degrees of freedom "
            "and more, and the env has such a model: its physics may be wrong; use another release, or another solver",
            stacklevel=2,
        )


def is_wrong(env: Any) -> bool:
    """
    Whether an environment has a large model and this process has :data:`WRONG_RELEASE`.

    :param env: of Gymnasium's MuJoCo, of dm_control in a wrapper, or any other
    """
    if getattr(sys.modules.get("mujoco"), "__version__", None) != WRONG_RELEASE:
        return False
    unwrapped = getattr(env, "unwrapped", env)
    inner = getattr(unwrapped, "_env", None)  # dm_control's, in a wrapper
    places = (unwrapped, getattr(unwrapped, "physics", None), getattr(inner, "physics", None))
    return any(_is_large(getattr(place, "model", None)) for place in places)


def _is_large(model: Any) -> bool:
    size = getattr(model, "nv", 0)
    return isinstance(size, int) and size >= LARGE and int(getattr(getattr(model, "opt", None), "solver", NEWTON)) == NEWTON
