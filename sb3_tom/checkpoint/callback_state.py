"""The state of callbacks."""

from collections.abc import Callable, Iterator
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_tom.checkpoint.attributes import argument_names, attributes_state, restore_attributes
from sb3_tom.checkpoint.codec import State
from sb3_tom.checkpoint.fits import check_form
from sb3_tom.checkpoint.vec_env_state import restore_vec_env, vec_env_state
from sb3_tom.checks.validation import check_integer

_CONTEXT = frozenset({"model", "locals", "globals", "parent", "verbose", "n_calls", "num_timesteps"})


def walk(callback: BaseCallback) -> Iterator[BaseCallback]:
    """
    A callback and all callbacks inside it, each once.

    :param callback: made by ``learn`` from the user's callbacks
    """
    waiting, seen = [callback], set()
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        for name, value in vars(one).items():
            children = value if isinstance(value, list | tuple) else [value]
            waiting += [child for child in children if isinstance(child, BaseCallback) and name != "parent"]


class RestoresAtEnd(CallbackList):
    """
    Callbacks, before whose end a run is restored that had no steps left: what they write then belongs to the whole run.

    :param callback: made by ``learn``, which has initialised it
    :param restore: restores the run if that is left to be done
    """

    def __init__(self, callback: BaseCallback, restore: Callable[[], None]) -> None:
        super().__init__([callback])
        self.model, self.parent = callback.model, None
        self._restore = restore

    def _on_training_end(self) -> None:
        self._restore()
        super()._on_training_end()


def _named(callback: BaseCallback) -> Iterator[tuple[str, BaseCallback]]:
    """All callbacks with names made of class and number within the class."""
    counts: dict[str, int] = {}
    for one in walk(callback):
        kind = type(one).__qualname__
        counts[kind] = counts.get(kind, 0) + 1
        yield f"{kind} {counts[kind]}", one


def callbacks_state(callback: BaseCallback) -> State:
    """
    For each callback its counter and its ``state_dict()``; without one, all plain attributes that are not named like
    parameters of its constructor, and its vectorised envs, whose random streams determine later evaluations.

    :param callback: made by ``learn`` from the user's callbacks
    """
    return {name: {"n_calls": one.n_calls, "own": _own_state(one)} for name, one in _named(callback)}


def _own_state(callback: BaseCallback) -> State:
    if hasattr(callback, "state_dict"):
        return {"state_dict": callback.state_dict()}
    skipped = _skipped(callback)
    envs = {name: vec_env_state(value) for name, value in vars(callback).items() if isinstance(value, VecEnv)}
    return {"attributes": attributes_state(callback, skipped | set(envs))[0], "envs": envs}


def _skipped(callback: BaseCallback) -> frozenset[str]:
    return _CONTEXT | argument_names(type(callback)) | {"callbacks", "pbar"}


def restore_callbacks(callback: BaseCallback, state: State) -> list[str]:
    """
    The inverse of :func:`callbacks_state`.

    :param callback: callbacks of the new process, in the same order
    :param state: from :func:`callbacks_state`
    :return: classes of callbacks that the run did not have, which are not restored
    """
    strangers = []
    for name, one in _named(callback):
        if name not in state:
            strangers += [] if isinstance(one, CallbackList | ConvertCallback) else [type(one).__qualname__]
            continue
        one.n_calls = check_integer("n_calls", state[name]["n_calls"], 0)
        _restore_own(one, state[name]["own"])
    return strangers


def _restore_own(callback: Any, own: State) -> None:
    if hasattr(callback, "state_dict"):
        check_form(own["state_dict"], {}, f"the state of {type(callback).__qualname__}")
        callback.load_state_dict(own["state_dict"])
        return
    restore_attributes(callback, own["attributes"], _skipped(callback))
    for name, saved in own["envs"].items():
        if isinstance(vars(callback).get(name), VecEnv):
            restore_vec_env(vars(callback)[name], saved)
