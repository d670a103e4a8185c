"""Notices that somebody else has stepped or reset the environments that an agent trains on."""

from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

MOVES = ("reset", "step_async")
"""Methods of a ``VecEnv`` that move its environments; they are replaced by :class:`CountedCalls`."""


class CountedCalls:
    """
    A method of vectorised envs that counts its calls. The envs are an attribute, not in a closure, so that a copy of the envs
    gets a method of its own.

    :param venv: the envs
    :param name: of the method
    """

    def __init__(self, venv: VecEnv, name: str) -> None:
        self.venv, self.name, self.count = venv, name, 0
        self._replaced = vars(venv).get(name)  # if somebody has patched the envs before

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The method."""
        self.count += 1
        if self._replaced is not None:
            return self._replaced(*args, **kwargs)
        return getattr(type(self.venv), self.name)(self.venv, *args, **kwargs)


class Moves:
    """Remembers where the environments were left; of those in other processes the calls of their ``VecEnv`` alone."""

    def __init__(self) -> None:
        self._calls: int | None = None
        self._places: Any = None

    def note(self, env: VecEnv) -> None:
        """
        Remember the environments as they are.

        :param env: the agent's; its methods are replaced, once
        """
        for name in MOVES:
            if not isinstance(vars(env).get(name), CountedCalls):
                setattr(env, name, CountedCalls(env, name))
        self._calls, self._places = _calls(env), _places(env)

    def stepped(self, env: VecEnv) -> None:
        """
        Remember one more step of the agent's own since :meth:`note`.

        :param env: the agent's
        """
        if self._calls is not None:
            self._calls, self._places = self._calls + 1, _places(env)

    def are_others(self, env: VecEnv | None, only_calls: bool = False) -> bool:
        """
        Whether the environments were moved by others since :meth:`note`.

        :param env: the agent's
        :param only_calls: leave out what was done to the environments themselves, as the agent does in a collection
        """
        if env is None or self._calls is None:
            return False
        return _calls(env) != self._calls or not (only_calls or _places(env) == self._places)


def _calls(env: VecEnv) -> int:
    counted = [vars(env).get(name) for name in MOVES]
    return sum(one.count for one in counted if isinstance(one, CountedCalls))


def _places(env: VecEnv) -> list[Any]:
    """Of the environments in this process what changes with each step or reset: counters of wrappers, time, random state."""
    inner = env.unwrapped
    return [_place(one) for one in inner.envs] if isinstance(inner, DummyVecEnv) else []


def _place(env: Any) -> list[Any]:
    place = []
    while isinstance(env, gym.Wrapper):
        place += [vars(env).get(name) for name in ("_elapsed_steps", "total_steps")]
        env = env.env
    generator, data = (getattr(env, name, None) for name in ("_np_random", "data"))
    place.append(repr(generator.bit_generator.state) if isinstance(generator, np.random.Generator) else None)
    return [*place, getattr(data, "time", None)]
