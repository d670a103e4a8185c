"""
Reading the termination rule from a vectorised environment, also one that runs in other processes, which look at their chains
of wrappers themselves (:mod:`sb3_tom.envs.workers`).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import gymnasium as gym
from gymnasium import wrappers
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecCheckNan,
    VecEnv,
    VecMonitor,
    VecNormalize,
    VecVideoRecorder,
)
from stable_baselines3.common.vec_env.base_vec_env import VecEnvWrapper

from sb3_tom.envs.copied import CopiedObservations
from sb3_tom.envs.workers import ask
from sb3_tom.terminations.rules import KNOWN_ENVS, Rule, build_rule, check_rule

_HARMLESS_STEPS: frozenset[Callable[..., Any]] = frozenset(
    wrapper.step
    for wrapper in (
        gym.Wrapper,
        gym.ActionWrapper,
        wrappers.TimeLimit,
        wrappers.OrderEnforcing,
        wrappers.PassiveEnvChecker,
        wrappers.RecordEpisodeStatistics,
        wrappers.RecordVideo,
        wrappers.HumanRendering,
        wrappers.RenderCollection,
        Monitor,
        CopiedObservations,
    )
)
"""The ``step`` methods that pass on the observation, the reward and the termination of the inner environment."""

_TIME_LIMITS = {("gymnasium.wrappers.common", "TimeLimit.step"), ("rl_zoo3.gym_patches", "PatchedTimeLimit.step")}
"""Time limits by name: the RL Zoo replaces Gymnasium's class when it is imported, before or after this module."""

_HARMLESS_VECTOR_STEPS: frozenset[Callable[..., Any]] = frozenset(
    wrapper.step_wait
    for wrapper in (
        DummyVecEnv,
        SubprocVecEnv,
        VecMonitor,
        VecCheckNan,
        VecVideoRecorder,
        VecNormalize,  # SB3 stores what the env returned, not what this makes of it
    )
)

_DECIDING = frozenset({"step", "_get_obs", "is_healthy", "terminated", "state_vector"})
"""Attributes of an environment that the rule depends on; a subclass that overrides one is another environment."""


def _may_change(wrapper: Any) -> bool:
    """Whether a wrapper may change what ``step`` returns."""
    return not _is_harmless(type(wrapper).step) or "step" in vars(wrapper)


def _holds(env_class: str, wrapper: Any) -> bool:
    """Whether this key of :data:`KNOWN_ENVS` is inside."""
    return _known_class(wrapper.unwrapped) == env_class


def _is_harmless(step: Callable[..., Any]) -> bool:
    return step in _HARMLESS_STEPS or (step.__module__, step.__qualname__) in _TIME_LIMITS


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
    Read the termination rule of the environments, with the thresholds of these instances.

    :param env: any vectorised environment
    :return: the rule; None if an environment is not known, a wrapper may change what it returns, or the environments differ
    """
    if env.num_envs == 0 or not _is_transparent(env) or any(ask(env, _may_change)):
        return None
    env_class = _common_class(env)
    if env_class is None:
        return None
    observation_dim = int(cast(tuple[int, ...], env.observation_space.shape)[0])
    rules = [build_rule(env_class, partial(_read, env, index), observation_dim) for index in range(env.num_envs)]
    return rules[0] if all(rule == rules[0] for rule in rules) else None


def current_rule(env: VecEnv | None, saved: Rule | None) -> Rule | None:
    """
    The rule for a termination that wants one.

    :param env: the training environments, None if the agent was loaded without
    :param saved: the rule to go on with then
    :raises ValueError: if what was saved is no rule
    """
    return check_rule(saved) if env is None else read_rule(env)


def _is_transparent(env: VecEnv) -> bool:
    while isinstance(env, VecEnvWrapper) and type(env).step_wait in _HARMLESS_VECTOR_STEPS:
        env = env.venv
    return type(env).step_wait in _HARMLESS_VECTOR_STEPS


def _common_class(env: VecEnv) -> str | None:
    for env_class in KNOWN_ENVS:
        answers = ask(env, partial(_holds, env_class))
        if any(answers):
            return env_class if all(answers) else None
    return _bare_class(env)


def _bare_class(env: VecEnv) -> str | None:
    """The class of environments without any wrapper, whom nobody asks: each known module defines one environment."""
    if env.has_attr("env") or not env.has_attr("__module__"):
        return None
    modules = set(env.get_attr("__module__"))
    keys = [key for key in KNOWN_ENVS if {key.partition(":")[0]} == modules]
    return keys[0] if keys else None


def _read(env: VecEnv, index: int, name: str) -> Any:
    return env.get_attr(name, indices=[index])[0]
