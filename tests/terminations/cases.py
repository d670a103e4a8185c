"""Environments whose termination rules are compared with their ``step``."""

from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_tom.terminations.reading import read_rule

POSITIONS = {"exclude_current_positions_from_observation": False}


@dataclass(frozen=True)
class Case:
    """
    :param env_id: registered id
    :param kwargs: of the environment
    :param centres: qpos index to the interval that the test draws from, around and beyond the thresholds
    :param velocity: scale of the random velocities
    """

    env_id: str
    centres: dict[int, tuple[float, float]] = field(default_factory=dict)
    velocity: float = 1.0
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join([self.env_id, *(f"{name}={value}" for name, value in self.kwargs.items())])


def make(case: Case) -> tuple[Any, dict[str, Any]]:
    env = gym.make(case.env_id, **case.kwargs)
    rule = read_rule(DummyVecEnv([lambda: env]))
    assert rule is not None
    env.reset(seed=0)
    return env.unwrapped, rule


def as_batch(observation: np.ndarray) -> th.Tensor:
    return th.as_tensor(observation, dtype=th.float32).reshape(1, -1)
