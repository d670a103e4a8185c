"""
Reads the termination rule from a vectorised environment, also one in other processes, which examine their wrappers themselves
(:mod:`sb3_tom.envs.workers`).
"""

from functools import partial
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces, wrappers
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvWrapper

from sb3_tom.envs.workers import ask
from sb3_tom.terminations.rules import KNOWN_ENVS, Rule, build_rule, check_rule

_SAME_NUMBERS = (wrappers.DtypeObservation, wrappers.FlattenObservation)
"""Observation wrappers that do not change a vector of floats."""

_OTHER_NUMBERS = (gym.ObservationWrapper, wrappers.MaxAndSkipObservation)
"""Wrapper classes that change observations."""

_DECIDING = frozenset({"step", "_get_obs", "is_healthy", "terminated", "state_vector"})
"""Attributes that the rule depends on; a subclass that overrides one counts as another environment."""


def _changes_observations(wrapper: Any) -> bool:
    """
    Whether a wrapper changes observations. Wrappers of other classes with an unchanged observation space are assumed not to:
    the rule is compared with every real transition anyway.
    """
    inner, outer = wrapper.env.observation_space, wrapper.observation_space
    if isinstance(wrapper, _OTHER_NUMBERS) and type(wrapper) not in _SAME_NUMBERS:
        return True
    return not _same_space(inner, outer)


def _same_space(inner: spaces.Space[Any], outer: spaces.Space[Any]) -> bool:
    """Whether both are vectors of floats within the same bounds, to float32's precision or better."""
    if not (isinstance(inner, spaces.Box) and isinstance(outer, spaces.Box) and inner.shape == outer.shape):
        return False
    if any(space.dtype.kind != "f" or space.dtype.itemsize < 4 for space in (inner, outer)):
        return False
    with np.errstate(over="ignore"):  # float64's largest bounds are infinite ones
        first, second = (np.stack([space.low, space.high]).astype(np.float32) for space in (inner, outer))
    return np.array_equal(first, second)


def _holds(env_class: str, wrapper: Any) -> bool:
    """Whether the wrapped environment has this key of :data:`KNOWN_ENVS`."""
    return _known_class(wrapper.unwrapped) == env_class


def _known_class(unwrapped: gym.Env[Any, Any]) -> str | None:
    """The key of the environment or of the base class whose deciding methods it inherits unchanged."""
    if not _DECIDING.isdisjoint(vars(unwrapped)):
        return None
    for cls in type(unwrapped).__mro__:
        key = f"{cls.__module__}:{cls.__qualname__}"
        if key in KNOWN_ENVS:
            return key
        if not _DECIDING.isdisjoint(vars(cls)):
            return None
    return None


def read_rule(env: VecEnv) -> Rule | None:
    """
    Read the termination rule of the environments, with the thresholds of these instances. A wrapper that changes terminations
    but not observations is not detected here but by :class:`~sb3_tom.terminations.auto.AutoTermination`.

    :param env: any vectorised environment
    :return: the rule; None if an environment is not known, a wrapper changes observations, or the environments differ
    """
    return find_rule(env)[0]


def find_rule(env: VecEnv) -> tuple[Rule | None, str]:
    """
    The rule of :func:`read_rule`, and the reason if there is none.

    :param env: any vectorised environment
    """
    if env.num_envs == 0 or not _is_transparent(env):
        return None, f"{type(env).__name__} may change observations"
    if any(ask(env, _changes_observations)):
        return None, "a wrapper changes observations"
    env_class = _common_class(env)
    if env_class is None:
        return None, "no rule is known of such environments"
    observation_dim = int(cast(tuple[int, ...], env.observation_space.shape)[0])
    rules = [build_rule(env_class, partial(_read, env, index), observation_dim) for index in range(env.num_envs)]
    if any(rule != rules[0] for rule in rules):
        return None, "the environments have different ones"
    return rules[0], "" if rules[0] else "no rule is known of this model"


def current_rule(env: VecEnv | None, saved: Rule | None, verbose: int = 0) -> Rule | None:
    """
    The rule for a termination that wants one.

    :param env: the training environments, None if the agent was loaded without
    :param saved: the rule to use then
    :param verbose: at least 1: print the rule, or why there is none
    :raises ValueError: if ``saved`` is not a rule
    """
    if env is None:
        return check_rule(saved)
    rule, reason = find_rule(env)
    if verbose >= 1 and rule is None:
        print(f"Imagined episodes end by a learned termination: {reason}")
    elif verbose >= 1:
        print(f"Imagined episodes end by the env's own rule, until a real transition contradicts it: {rule}")
    return rule


def _is_transparent(env: VecEnv) -> bool:
    """Whether SB3 stores the observations of the inner environments unchanged."""
    while isinstance(env, VecEnvWrapper):
        # SB3 stores raw observations, not those of VecNormalize
        if not isinstance(env, VecNormalize) and not _same_space(env.venv.observation_space, env.observation_space):
            return False
        env = env.venv
    return type(env).step_wait in (DummyVecEnv.step_wait, SubprocVecEnv.step_wait)


def _common_class(env: VecEnv) -> str | None:
    for env_class in KNOWN_ENVS:
        answers = ask(env, partial(_holds, env_class))
        if any(answers):
            return env_class if all(answers) else None
    return _bare_class(env)


def _bare_class(env: VecEnv) -> str | None:
    """The class of unwrapped environments, which ``ask`` cannot query: each known module defines one environment."""
    if env.has_attr("env") or not env.has_attr("__module__"):
        return None
    modules = set(env.get_attr("__module__"))
    keys = [key for key in KNOWN_ENVS if {key.partition(":")[0]} == modules]
    return keys[0] if keys else None


def _read(env: VecEnv, index: int, name: str) -> Any:
    return env.get_attr(name, indices=[index])[0]
