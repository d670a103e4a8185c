"""What a run is called in its tables."""

import pickle
from typing import Any, cast

import gymnasium as gym
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv


class _SpecTravels:
    """
    Whether a wrapper's spec can be sent by the worker of a ``SubprocVecEnv``, which dies of one that cannot (a lambda as its
    entry point). The worker itself answers, by ``isinstance(wrapper, question)``.
    """

    def __instancecheck__(self, wrapper: Any) -> bool:
        try:
            pickle.dumps(wrapper.spec)
        except Exception:
            return False
        return True


def run_labels(callback: Any, env: gym.Env | None = None) -> dict[str, Any]:
    """
    Task, method and seed of a run.

    :param callback: initialised, with its own ``task`` and ``method`` or None for the default
    :param env: an environment of the task; default: the first training env
    """
    return {
        "task": callback.task or _task(callback.training_env if env is None else env),
        "method": callback.method or type(callback.model).__name__.lower(),
        "seed": getattr(callback.model, "seed", None),
    }


def _task(env: gym.Env | VecEnv) -> str:
    """The id of an environment, "unknown" if it has none or cannot tell."""
    if isinstance(env, gym.Env):
        spec = env.spec
    elif isinstance(env.unwrapped, DummyVecEnv) or env.env_is_wrapped(cast(type[gym.Wrapper], _SpecTravels()), [0])[0]:
        spec = env.get_attr("spec", [0])[0]
    else:
        spec = None
    return "unknown" if spec is None else spec.id
