"""Labels of a run in its tables."""

import pickle
from typing import Any

import gymnasium as gym
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_tom.contracts.resolve import class_of
from sb3_tom.envs.workers import ask
from sb3_tom.mbpo.axes import AXES, default_of

OTHERS = ("dynamics", "policy_update", "confidence", "rollout_stop")
"""Plugs that the zoo names no agents after."""


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
    """
    The agent's class, and its weighter and model objective unless they are the defaults, named as in the zoo; then its other
    plugs that are not the class's defaults.
    """
    name, kinds = type(agent).__name__.lower(), []
    for argument in ("weighter", "objective"):
        kind = _kind(argument, getattr(agent, argument, None))
        if kind != AXES[argument].default:
            if type(agent).__module__.startswith("sb3_tom."):  # its own names of agents end in that of their plug
                name = name.removesuffix(kind.replace("_", ""))
            kinds.append(kind)
    kinds += [_kind(argument, getattr(agent, argument)) for argument in OTHERS if _is_chosen(agent, argument)]
    return "_".join([name, *kinds])


def _is_chosen(agent: BaseAlgorithm, argument: str) -> bool:
    """Whether a plug is not of the class that the agent's class would have by itself."""
    plug, default = getattr(agent, argument, None), default_of(type(agent), argument)
    return plug is not None and (default is None or type(plug) is not class_of(argument, AXES[argument], default))


def _kind(argument: str, plug: Any) -> str:
    """Short name of a plug, or its class's name; the default's for an agent without plugs."""
    axis, cls = AXES[argument], type(plug)
    if plug is None:
        return str(axis.default)
    short = {path: alias for alias, path in axis.aliases.items()}
    return short.get(f"{cls.__module__}:{cls.__qualname__}", cls.__name__.removesuffix(argument.capitalize()).lower())


def _task(env: gym.Env | VecEnv) -> str:
    """The id of an environment; of one that is not registered the class's name, or "unknown" if it is in another process."""
    inner: Any = env.unwrapped
    if isinstance(inner, DummyVecEnv):
        env = inner.envs[0]
    if isinstance(env, gym.Env):
        return type(env.unwrapped).__name__ if env.spec is None else env.spec.id
    spec = env.get_attr("spec", [0])[0] if ask(env, _spec_travels, [0])[0] else None
    return "unknown" if spec is None else spec.id


def _spec_travels(wrapper: Any) -> bool:
    """Whether the spec can be pickled: with a lambda as its entry point, the worker that sends it would die."""
    try:
        pickle.dumps(wrapper.spec)
    except Exception:
        return False
    return True
