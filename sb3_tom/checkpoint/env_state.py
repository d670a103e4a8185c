"""
The state of one environment with its wrappers, through adapters.

An adapter is for an environment's class and its subclasses. Wrappers need none: their state is in their attributes. If some
part may hold state that cannot be read, the run resumes at an episode boundary, with the state of the wrappers that can be
read (running statistics live longer than an episode).
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from sb3_tom.checkpoint.attributes import attributes_state, generator_state, restore_attributes
from sb3_tom.checkpoint.codec import State
from sb3_tom.checkpoint.fits import NUMBERS
from sb3_tom.checkpoint.mujoco_state import restore_mujoco, save_mujoco
from sb3_tom.envs.copied import CopiedObservations

_DISPLAY = ("render_mode", "screen", "surf", "clock", "isopen", "viewer", "mujoco_renderer", "results_writer", "metadata")
NUMBER = "number"
"""Key of a wrapper's number among those of its class, for one whose neighbours cannot be read."""

_BOOKKEEPING = ("env", "_cached_spec", "_saved_kwargs", "_previous_data", "sb3_tom_state")
_SKIPPED = (*_DISPLAY, *_BOOKKEEPING)
"""Attributes of environments and wrappers that have no influence on later steps."""


class EnvAdapter(NamedTuple):
    """
    How to save and restore an unwrapped environment, besides its plain attributes and ``np_random``.

    :param save: returns the state that is not in plain attributes
    :param restore: its inverse
    :param handled: names of the attributes that ``save`` covers
    """

    save: Callable[[Any], State]
    restore: Callable[[Any, State], None]
    handled: tuple[str, ...] = ()


ATTRIBUTES = EnvAdapter(save=lambda env: {}, restore=lambda env, state: None)
"""For an environment whose whole state is in plain attributes and ``np_random``."""

_ADAPTERS: dict[str, EnvAdapter] = {
    "gymnasium.envs.mujoco.mujoco_env:MujocoEnv": EnvAdapter(save_mujoco, restore_mujoco, ("model", "data")),
    "gymnasium.envs.classic_control.pendulum:PendulumEnv": ATTRIBUTES,
    "gymnasium.envs.classic_control.continuous_mountain_car:Continuous_MountainCarEnv": ATTRIBUTES,
    "gymnasium.envs.classic_control.mountain_car:MountainCarEnv": ATTRIBUTES,
    "gymnasium.envs.classic_control.cartpole:CartPoleEnv": ATTRIBUTES,
    "gymnasium.envs.classic_control.acrobot:AcrobotEnv": ATTRIBUTES,
    "sb3_tom.envs.road_and_rocks:RoadAndRocksEnv": ATTRIBUTES,
}


def _key(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def register_env(
    env_class: type[gym.Env[Any, Any]],
    save: Callable[[Any], State] = ATTRIBUTES.save,
    restore: Callable[[Any, State], None] = ATTRIBUTES.restore,
    handled: tuple[str, ...] = (),
) -> None:
    """
    Let runs on an environment class (and its subclasses) resume within an episode. ``register_env(MyEnv)`` is enough if all
    of its state is in attributes that are numbers, strings, arrays, or lists, tuples and dictionaries of these, and in
    ``np_random``. Each process that holds environments needs the call, at import for those of ``SubprocVecEnv``.

    :param env_class: class of the unwrapped environment
    :param save: ``save(env) -> dict`` of plain values, for state that is not in the attributes
    :param restore: ``restore(env, state)``, its inverse, called after a reset
    :param handled: names of attributes that these two cover
    """
    _ADAPTERS[_key(env_class)] = EnvAdapter(save, restore, handled)


def _adapter(env: gym.Env[Any, Any]) -> EnvAdapter | None:
    found = (_ADAPTERS.get(_key(cls)) for cls in type(env).__mro__)
    return next((adapter for adapter in found if adapter is not None), None)


def _skipped(layer: Any, base: Any, adapter: EnvAdapter | None) -> tuple[str, ...]:
    """Attributes of a layer that are not read: without influence, or the adapter's."""
    names = tuple(name for name in _SKIPPED if not _is_number(vars(layer).get(name)))
    return names if adapter is None or layer is not base else (*names, *adapter.handled)


def _is_number(value: Any) -> bool:
    """Whether a value is a user's number, such as a step counter that is called ``clock``, and not a part of a display."""
    return isinstance(value, (*NUMBERS, np.ndarray)) and not isinstance(value, bool)


def env_state(env: gym.Env[Any, Any]) -> State:
    """
    State of an environment and its wrappers.

    :param env: the outermost wrapper, or the environment itself
    :return: ``layers``, from the outermost to the environment, and ``inner``, the adapter's state; or, if something cannot be
        read, ``boundary``, the reason as a sentence, the generator, so that later episodes are repeatable, and the
        ``wrappers`` that can be read
    """
    base, numbers = env.unwrapped, Counter[str]()
    adapter = _adapter(base)
    layers: list[State] = []
    reasons = [] if adapter else [f"{_key(type(base))} has no adapter (see sb3_tom.checkpoint.register_env)"]
    for layer in _chain(env):
        key = _key(type(layer))
        state, unknown = attributes_state(layer, _skipped(layer, base, adapter))
        if unknown:
            reasons.insert(0, f"{key} has attributes that a checkpoint cannot hold: {unknown}")
        else:
            layers.append({"class": key, "state": state, NUMBER: numbers[key]})
        numbers[key] += 1
    if reasons or adapter is None:
        return _at_boundary(base, reasons[0], [layer for layer in layers if layer["class"] != _key(type(base))])
    return {"layers": [{"class": one["class"], "state": one["state"]} for one in layers], "inner": adapter.save(base)}


def _chain(env: Any) -> Iterator[Any]:
    """
    From the outermost wrapper to the environment, without the agent's own wrapper: it has no state, and checkpoints without it
    resume too.
    """
    while isinstance(env, gym.Wrapper):
        if not isinstance(env, CopiedObservations):
            yield env
        env = env.env
    yield env


def _at_boundary(base: Any, reason: str, wrappers: list[State]) -> State:
    generator = getattr(base, "_np_random", None)
    state = generator_state(generator) if isinstance(generator, np.random.Generator) else None
    return {"boundary": reason, "generator": state, "wrappers": wrappers}


def restore_env(env: gym.Env[Any, Any], state: State) -> None:
    """
    The inverse of :func:`env_state`; at a boundary only the generator and the wrappers that could be read are restored: reset
    the environment afterwards.

    :param env: an environment made like the saved one, after a reset
    :param state: from :func:`env_state`
    :raises ValueError: if it has other wrappers or is of another class
    """
    base = env.unwrapped
    adapter = _adapter(base)
    if "boundary" in state:
        if state["generator"] is not None:
            restore_attributes(base, {"_np_random": state["generator"]})
        _restore_wrappers(env, state.get("wrappers", []))  # older files have none
        return
    chain = _chain(env)
    for saved in state["layers"]:
        layer = next(chain, base)
        if saved["class"] != _key(type(layer)):
            raise ValueError(
                f"env has the layer {_key(type(layer))} where the run had {saved['class']!s:.200}; "
                "allowed: the same env with the same wrappers in the same order"
            )
        restore_attributes(layer, saved["state"], _skipped(layer, base, adapter))
    if adapter is None:
        raise ValueError(f"{_key(type(base))} has no adapter (see sb3_tom.checkpoint.register_env), and the run's had one")
    adapter.restore(base, state["inner"])


def _restore_wrappers(env: Any, wrappers: list[State]) -> None:
    """Restore the wrappers of a run; others, which it could not read, lie between them."""
    left = {(one["class"], one[NUMBER]): one["state"] for one in wrappers}
    numbers = Counter[str]()
    for layer in _chain(env):
        place = _key(type(layer)), numbers[_key(type(layer))]
        if place in left:
            restore_attributes(layer, left.pop(place), _skipped(layer, None, None))
        numbers[place[0]] += 1
    if left:
        raise ValueError(
            f"env lacks the layer {next(iter(left))[0]!s:.200} of the run; allowed: the same env with the same wrappers in "
            "the same order"
        )
