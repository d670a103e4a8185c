"""
Queries to environments, also to those in other processes.

A worker of ``SubprocVecEnv`` has few commands, and dies if a result cannot be pickled (an environment, a spec with a lambda).
``env_is_wrapped`` always returns a bool and evaluates ``isinstance(wrapper, kind)`` inside the worker. A :class:`_Question` is
such a ``kind``: its ``__instancecheck__`` runs in the worker, on the wrapper.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import gymnasium as gym
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper


@dataclass(frozen=True)
class _Question:
    function: Callable[[Any], bool]

    def __instancecheck__(self, wrapper: Any) -> bool:
        return self.function(wrapper)


def ask(env: VecEnv, function: Callable[[Any], bool], indices: list[int] | None = None) -> list[bool]:
    """
    Whether a function is true for any wrapper of each environment. It is called in the environment's process.

    :param env: in this process or in others
    :param function: takes a wrapper; called from the outermost on until it returns True. Has to be picklable
    :param indices: of the environments, all by default
    :return: a result for each; False for an environment without wrappers
    """
    return list(env.env_is_wrapped(cast(type[gym.Wrapper], _Question(function)), indices=indices))


def layers_of(env: VecEnv) -> Iterator[VecEnv]:
    """
    The vectorised environments from the outermost wrapper to the innermost.

    :param env: in this process or in others
    """
    yield env
    while isinstance(env, VecEnvWrapper):
        env = env.venv
        yield env


def inner_envs(env: VecEnv) -> list[object]:
    """
    What remains below all wrappers: who holds one of these twice steps the same environment twice.

    :param env: in this process or in others
    :return: the environments themselves; of those in other processes the object that speaks to them
    """
    inner = env.unwrapped
    return [one.unwrapped for one in inner.envs] if isinstance(inner, DummyVecEnv) else [inner]
