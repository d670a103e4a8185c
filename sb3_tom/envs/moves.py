"""Notices that somebody else has stepped or reset the environments that an agent trains on."""

import copy
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_tom.envs.workers import layers_of

MOVES = ("reset", "step", "step_async")
"""Methods of a ``VecEnv`` that move its environments; they are replaced by :class:`CountedCalls`."""


@dataclass
class _Calls:
    """Calls from outside: those that a method makes of another, or of a layer below, are its own."""

    number: int = 0
    depth: int = 0


class CountedCalls:
    """
    A method of vectorised envs that counts its calls. The envs are an attribute, not in a closure, so that a copy of the envs
    gets a method of its own; in a pickle it is the method that it replaces.

    :param venv: the envs
    :param name: of the method
    :param calls: shared by all methods and layers of an agent's envs
    """

    def __init__(self, venv: VecEnv, name: str, calls: _Calls) -> None:
        self.venv, self.name, self.calls = venv, name, calls
        self._replaced = vars(venv).get(name)  # if somebody has patched the envs before

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The method."""
        self.calls.number += self.calls.depth == 0
        self.calls.depth += 1
        try:
            if self._replaced is not None:
                return self._replaced(*args, **kwargs)
            return getattr(type(self.venv), self.name)(self.venv, *args, **kwargs)
        finally:
            self.calls.depth -= 1

    def __deepcopy__(self, memo: dict[int, Any]) -> "CountedCalls":
        copied = memo[id(self)] = object.__new__(CountedCalls)
        vars(copied).update(copy.deepcopy(vars(self), memo))
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.venv, self.name)


class Moves:
    """
    Remembers where the environments were left. What is done to those in other processes, and to any of them within a
    collection, is known by the calls of their ``VecEnv`` and of its wrappers.
    """

    def __init__(self) -> None:
        self._calls: int | None = None
        self._places: Any = None

    def note(self, env: VecEnv | None) -> None:
        """
        Remember the environments as they are.

        :param env: the agent's; its methods are replaced, once
        """
        if env is None:
            return
        calls = _calls_of(env) or _Calls()
        for layer in layers_of(env):
            for name in MOVES:
                known = vars(layer).get(name)
                if isinstance(known, CountedCalls):
                    known.calls = calls
                else:
                    setattr(layer, name, CountedCalls(layer, name, calls))
        self._calls, self._places = calls.number, _places(env)

    def stepped(self, env: VecEnv | None) -> None:
        """
        Remember one more step of the agent's own since :meth:`note`.

        :param env: the agent's
        """
        if env is not None and self._calls is not None:
            self._calls, self._places = self._calls + 1, _places(env)

    def are_others(self, env: VecEnv | None, only_calls: bool = False) -> bool:
        """
        Whether the environments were moved by others since :meth:`note`.

        :param env: the agent's
        :param only_calls: leave out what was done to the environments themselves, as the agent does in a collection
        """
        calls = None if env is None or self._calls is None else _calls_of(env)
        if env is None or calls is None:
            return False
        return calls.number != self._calls or not (only_calls or _places(env) == self._places)


def _calls_of(env: VecEnv) -> _Calls | None:
    method = vars(env).get(MOVES[0])
    return method.calls if isinstance(method, CountedCalls) else None


def _places(env: VecEnv) -> list[Any]:
    """Of the environments in this process what changes with each step or reset: counters of wrappers, time, random state."""
    inner = env.unwrapped
    return [_place(one) for one in inner.envs] if isinstance(inner, DummyVecEnv) else []


def _place(env: Any) -> list[Any]:
    place = []
    while isinstance(env, gym.Wrapper):
        place += [_number(vars(env).get(name)) for name in ("_elapsed_steps", "total_steps")]
        env = env.env
    known = vars(env) if hasattr(env, "__dict__") else {}
    generator = known.get("_np_random")
    place.append(repr(generator.bit_generator.state) if isinstance(generator, np.random.Generator) else None)
    return [*place, _number(getattr(known.get("data"), "time", None))]  # MuJoCo's


def _number(value: Any) -> Any:
    return value if isinstance(value, int | float | np.number) else None
