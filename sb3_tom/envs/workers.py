"""
Questions to environments, also to those in other processes.

A worker of ``SubprocVecEnv`` answers few questions, and dies of an answer that cannot be pickled (an environment, a spec with
a lambda). ``env_is_wrapped`` always answers with a bool and asks ``isinstance(wrapper, kind)`` inside the worker. A
:class:`_Question` is such a ``kind``, with its own ``__instancecheck__``, so that the worker itself looks at the wrapper.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import gymnasium as gym
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv


@dataclass(frozen=True)
class _Question:
    function: Callable[[Any], bool]

    def __instancecheck__(self, wrapper: Any) -> bool:
        return self.function(wrapper)


def ask(env: VecEnv, function: Callable[[Any], bool], indices: list[int] | None = None) -> list[bool]:
    """
    Whether a function is true of any wrapper of each environment. It is called where the environment is.

    :param env: in this process or in others
    :param function: of a wrapper; the outermost is asked first, the others until one is true. It can be pickled
    :param indices: of the environments, all by default
    :return: an answer for each; False for an environment without wrappers
    """
    return list(env.env_is_wrapped(cast(type[gym.Wrapper], _Question(function)), indices=indices))


def inner_envs(env: VecEnv) -> list[object]:
    """
    What remains below all wrappers: who holds one of these twice steps the same environment twice.

    :param env: in this process or in others
    :return: the environments themselves; of those in other processes the object that speaks to them
    """
    inner = env.unwrapped
    return [one.unwrapped for one in inner.envs] if isinstance(inner, DummyVecEnv) else [inner]
