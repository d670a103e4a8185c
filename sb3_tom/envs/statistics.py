"""Warns of wrappers whose running statistics move the units of observations or rewards under the model."""

import warnings
from typing import Any

from gymnasium.wrappers import NormalizeObservation, NormalizeReward
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from sb3_tom.envs.workers import ask


def warn_of_moving_units(env: VecEnv | None) -> None:
    """
    Warn of Gymnasium's normalising wrappers: stored rows stay in old units, and an evaluation env has statistics of its own.

    :param env: in this process or in others; None is ignored
    """
    inner = None if env is None else env.unwrapped
    if isinstance(inner, DummyVecEnv | SubprocVecEnv) and any(ask(inner, is_running)):
        warnings.warn(
            "the env has a NormalizeObservation or NormalizeReward whose statistics are updated: stored transitions are in "
            "the units of their time, and the model is fitted to a mixture; use VecNormalize, which keeps raw ones, or none, "
            "since the model standardises by itself; or set update_running_mean = False once the statistics are known",
            stacklevel=2,
        )


def is_running(wrapper: Any) -> bool:
    """
    Whether it is such a wrapper, and updates its statistics.

    :param wrapper: of an environment
    """
    return isinstance(wrapper, NormalizeObservation | NormalizeReward) and bool(wrapper.update_running_mean)
