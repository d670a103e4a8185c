"""A warning of units that move under the model, and only of these."""

import warnings

import gymnasium as gym
import pytest
from gymnasium.wrappers import NormalizeObservation, NormalizeReward
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_tom.envs.statistics import warn_of_moving_units


@pytest.mark.parametrize("wrapper", [NormalizeObservation, NormalizeReward])
def test_only_statistics_that_move_are_warned_of(wrapper: type[NormalizeObservation | NormalizeReward]) -> None:
    env = wrapper(gym.make("Pendulum-v1"))
    with pytest.warns(UserWarning, match="whose statistics are updated"):
        warn_of_moving_units(DummyVecEnv([lambda: env]))
    env.update_running_mean = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_moving_units(DummyVecEnv([lambda: env]))
