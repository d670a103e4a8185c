"""What a run is called in its tables."""

import pickle
from typing import Any

import gymnasium as gym
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_tom.envs.workers import ask
from sb3_tom.objectives.likelihood import LikelihoodObjective
from sb3_tom.weighters.uniform import UniformWeighter


def run_labels(callback: Any, env: gym.Env | None = None) -> dict[str, Any]:
    """
    Task, method and seed of a run.

    :param callback: initialised, with its own ``task`` and ``method`` or None for the default
    :param env: an environment of the task; default: the first training env
    """
    return {
        "task": callback.task or _task(callback.training_env if env is None else env),
        "method": callback.method or _method(callback.model),
        "seed": getattr(callback.model, "seed", None),
    }


def _method(agent: BaseAlgorithm) -> str:
    """The agent's class, and its weighter and model objective unless they are the usual ones, as the zoo calls them."""
    name, kinds = type(agent).__name__.lower(), []
    for suffix, usual in (("Weighter", UniformWeighter), ("Objective", LikelihoodObjective)):
        plug = getattr(agent, suffix.lower(), None)
        if plug is not None and type(plug) is not usual:
            kind = type(plug).__name__.removesuffix(suffix)
            name = name.removesuffix(kind.lower())
            kinds.append(kind.lower())
    return "_".join([name, *kinds])


def _task(env: gym.Env | VecEnv) -> str:
    """The id of an environment, "unknown" if it has none or cannot tell."""
    if isinstance(env, gym.Env):
        spec = env.spec
    elif isinstance(env.unwrapped, DummyVecEnv) or ask(env, _spec_travels, [0])[0]:
        spec = env.get_attr("spec", [0])[0]
    else:
        spec = None
    return "unknown" if spec is None else spec.id


def _spec_travels(wrapper: Any) -> bool:
    """Not one with a lambda as its entry point: the worker that sends it dies."""
    try:
        pickle.dumps(wrapper.spec)
    except Exception:
        return False
    return True
