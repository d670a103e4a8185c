"""Checks of every argument, by the constructor and on load. MBPO's own are checked here, SAC's in ``sac_arguments.py``."""

import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv

from sb3_tom.checkpoint.callback_state import walk
from sb3_tom.checks.validation import check_bool, check_choice, check_integer, check_number, plain
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from sb3_tom.dynamics.fitting import WEIGHTING
from sb3_tom.envs.simulators import warn_of_wrong_physics
from sb3_tom.envs.statistics import warn_of_moving_units
from sb3_tom.envs.workers import inner_envs
from sb3_tom.imagination.schedules import ratio_schedule, rollout_schedule
from sb3_tom.mbpo.memory import warn_of_memory
from sb3_tom.mbpo.sac_arguments import check_sac_arguments, check_sac_numbers

ENVS = "the id of a registered environment, a Gymnasium environment, or a VecEnv of Stable-Baselines3"


OPTIONAL = ("imagined_capacity", "rollout_freq")
"""Numeric arguments that may be None."""


SAMPLING = ("sample", "_get_samples")
"""Methods by which SB3's agents draw minibatches."""


FEWEST_PIXELS = 256
"""Fewest numbers of a Box that is taken for an image."""


def check_spaces(observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
    """
    Check the spaces: flat Box observations and bounded Box actions only.

    :raises ValueError: naming the space, what came and what is allowed
    """
    if (
        not isinstance(observation_space, spaces.Box)
        or len(observation_space.shape) != 1
        or observation_space.dtype.kind != "f"
    ):
        if any(_is_image(part) for part in _parts(observation_space)):
            raise ValueError(
                f"observation_space={observation_space} is not allowed: images are not supported, nor are their pixels as a "
                "vector, each of which the model would predict; allowed: a Box of shape (n,) and a float type, such as "
                "positions and velocities, or features of an encoder that is already trained (gymnasium.ObservationWrapper)"
            )
        raise ValueError(
            f"observation_space={observation_space} is not allowed: a dynamics model predicts vectors; "
            "allowed: a Box of shape (n,) and a float type (gymnasium.wrappers.FlattenObservation makes a vector, and "
            "DtypeObservation(env, numpy.float32) floats)"
        )
    _check_action_space(action_space)


def _parts(space: Any) -> Iterator[Any]:
    """The space and those nested in it."""
    yield space
    inner = getattr(space, "spaces", ())
    for part in inner.values() if isinstance(inner, Mapping) else inner:
        yield from _parts(part)


def _is_image(space: Any) -> bool:
    """
    Whether a space looks like an image: at least :data:`FEWEST_PIXELS` entries that are bytes, or in three dimensions or more,
    or in two that both have at least the square root of that.
    """
    if not isinstance(space, spaces.Box) or math.prod(space.shape) < FEWEST_PIXELS:
        return False
    flat = len(space.shape) == 2 and min(space.shape) >= FEWEST_PIXELS**0.5
    return space.dtype == np.uint8 or len(space.shape) > 2 or flat


def _check_action_space(action_space: spaces.Space[Any]) -> None:
    """Check that SB3 can scale actions to [-1, 1] and back, and store them without loss."""
    place = f"action_space={action_space} is not allowed"
    if not isinstance(action_space, spaces.Box):
        raise ValueError(f"{place}: SAC is continuous; allowed: a bounded Box of shape (n,)")
    if len(action_space.shape) != 1:
        raise ValueError(f"{place}: its shape is {action_space.shape}; allowed: a bounded Box of shape (n,)")
    if action_space.dtype.kind != "f":
        raise ValueError(
            f"{place}: actions are stored scaled to [-1, 1], of which {action_space.dtype} keeps -1, 0 and 1 only; "
            "allowed: a Box of a float type, rounded by the env"
        )
    low, high = action_space.low, action_space.high
    with np.errstate(all="ignore"):
        scaled = np.stack([2.0 * ((bound - low) / (high - low)) - 1.0 for bound in (low, high)])  # as SB3 computes it
        unscaled = low + 0.5 * (scaled + 1.0) * (high - low)
    wrong = ~np.isfinite([low, high, *scaled, *unscaled]).all(axis=0)
    if wrong.any():
        entry = int(np.argmax(wrong))
        raise ValueError(
            f"{place}: entry {entry}, from {low[entry]} to {high[entry]}, cannot be scaled to [-1, 1]; allowed: a Box with "
            "finite bounds, low below high, whose width is a number of its type (leave an entry that is fixed out)"
        )


def make_checked_env(env: GymEnv | str | None, verbose: int) -> GymEnv | None:
    """
    Make an env of its id, and check its spaces before SB3 uses them.

    :param env: env, id, or None (while loading)
    :param verbose: as in SB3
    :raises ValueError: if it is not an env or a known id; see also :func:`check_spaces`
    """
    if env is None:
        return None
    try:
        made = maybe_make_env(env, verbose)
    except (gym.error.Error, ImportError) as error:
        raise ValueError(f"env={env!r} is not allowed: {error}; allowed: {ENVS}") from error
    if not isinstance(made, gym.Env | VecEnv):
        raise ValueError(f"env={env!r} is not allowed; allowed: {ENVS}")
    check_spaces(made.observation_space, made.action_space)
    return made


def check_arguments(agent: Any) -> None:
    """
    Check and normalise the attributes of an agent that is being set up.

    :param agent: an MBPO; integers given as ``1e5`` become int, a YAML list of ``train_freq`` a tuple
    :raises ValueError: naming the argument, what came and what is allowed
    """
    if not hasattr(agent, "observation_space"):  # a loaded file has it
        raise ValueError(f"env=None is not allowed; allowed: {ENVS}")
    check_spaces(agent.observation_space, agent.action_space)
    check_sac_numbers(agent)
    for name in ("real_ratio", "rollout_schedule", "max_grad_norm", "update_to_data_ratio", "model_retain_epochs"):
        setattr(agent, name, plain(getattr(agent, name)))
    for name in ("rollout_batch_size", "model_train_freq", "imagined_capacity", "rollout_freq"):
        if getattr(agent, name) is not None or name not in OPTIONAL:
            setattr(agent, name, check_integer(name, getattr(agent, name), 1))
    check_number("model_retain_epochs", agent.model_retain_epochs, 0.0, 1e6, low_open=True)
    ratio_schedule(agent.real_ratio)
    check_number("update_to_data_ratio", agent.update_to_data_ratio, 0.0, 1e4)
    if agent.max_grad_norm is not None:
        check_number("max_grad_norm", agent.max_grad_norm, 0.0, low_open=True)
    _warn_of_ratio(agent.plugs.made["policy_update"].largest_ratio, agent.update_to_data_ratio)
    check_choice("weighting", agent.weighting, WEIGHTING)
    for name in ("weight_model_fit", "weight_rollout_starts"):
        setattr(agent, name, check_bool(name, getattr(agent, name)))
    rollout_schedule(agent.rollout_schedule)
    _check_refused(agent)
    check_sac_arguments(agent)
    warn_of_memory(agent)


def _warn_of_ratio(largest: float | None, ratio: float) -> None:
    if largest is not None and ratio > largest:
        text = f"update_to_data_ratio={ratio:g} is more than this policy update is made for, at most {largest:g}"
        warnings.warn(text, stacklevel=2)


def _check_refused(agent: Any) -> None:
    """Refuse arguments that SB3 accepts but that would give wrong results."""
    if check_bool("optimize_memory_usage", agent.optimize_memory_usage):
        raise ValueError("optimize_memory_usage=True is not allowed: the model is fitted to next_observations; allowed: False")
    if check_integer("n_steps", agent.n_steps) != 1:
        raise ValueError(f"n_steps={agent.n_steps!r} is not allowed: imagined transitions are one step long; allowed: 1")
    buffer_class = agent.replay_buffer_class
    is_class = isinstance(buffer_class, type)
    if buffer_class is not None and not (is_class and issubclass(buffer_class, WeightedReplayBuffer)):
        name = buffer_class.__name__ if is_class and issubclass(buffer_class, ReplayBuffer) else repr(buffer_class)
        raise ValueError(f"replay_buffer_class={name} is not allowed; allowed: None or a subclass of WeightedReplayBuffer")
    if buffer_class is not None and any(getattr(buffer_class, name) is not getattr(ReplayBuffer, name) for name in SAMPLING):
        raise ValueError(
            f"replay_buffer_class={buffer_class.__name__} is not allowed: it overrides one of {SAMPLING}, which draws no "
            "minibatch here; allowed: a weighter, which says how often each row is drawn"
        )


def check_envs_of_learn(env: VecEnv | None, callback: BaseCallback) -> None:
    """
    Check the environments that a call of ``learn`` uses. No evaluation may use the agent's own: the next stored transition
    would lead from the last training state to one after the evaluation. A callback that keeps the agent's own under a name
    without "eval" is taken to read from it only.

    :param env: the agent's; a warning if its physics are known to be wrong, or statistics of a wrapper move its units
    :param callback: made by ``learn`` from the user's
    :raises ValueError: naming a callback that keeps the agent's environments to evaluate on
    """
    warn_of_wrong_physics(env)
    warn_of_moving_units(env)
    own = set() if env is None else {id(one) for one in inner_envs(env)}
    for one in walk(callback):
        for name, value in vars(one).items():
            if value is env and "eval" not in f"{type(one).__name__} {name}".lower():
                continue
            if isinstance(value, VecEnv) and not own.isdisjoint(map(id, inner_envs(value))):
                raise ValueError(
                    f"{type(one).__name__}({name}=the environment that the agent trains on) is not allowed: an evaluation "
                    "would move it between two steps of training; allowed: an environment of its own"
                )
