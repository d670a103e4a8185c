"""Which wrappers the rule is read through, and that one which changes terminations is found out."""

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import wrappers
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_tom.terminations.reading import read_rule
from tests.mbpo.small import small_agent
from tests.terminations.test_termination_reading import Custom, OtherHealth, Resetting, ScaledReward, Shifted, hopper


class Bounded(gym.Wrapper):
    """A wrapper with a space of its own."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = gym.spaces.Box(-1.0, 1.0, env.observation_space.shape, np.float64)


class Merciful(gym.Wrapper):
    """No episode ends but by time."""

    def step(self, action: np.ndarray) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, False, truncated or terminated, info


class Strict(gym.Wrapper):
    """Episodes also end by a matter of luck that no observation shows."""

    def step(self, action: np.ndarray) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated or bool(self.np_random.random() < 0.1), truncated, info


class OtherScale(gym.Wrapper):
    """Changes observations and says nothing of it."""

    def step(self, action: np.ndarray) -> Any:
        observation, *rest = self.env.step(action)
        return 0.01 * observation, *rest


RENDERED = {"render_mode": "rgb_array"}
KEPT: dict[str, Any] = {
    "AddWhiteNoise": lambda env: wrappers.AddWhiteNoise(env, 0.5),
    "Autoreset": wrappers.Autoreset,
    "ClipAction": wrappers.ClipAction,
    "ClipReward": lambda env: wrappers.ClipReward(env, -1, 1),
    "DiscretizeAction": lambda env: wrappers.DiscretizeAction(env, 3),
    "DtypeObservation": lambda env: wrappers.DtypeObservation(env, np.float32),
    "FlattenObservation": wrappers.FlattenObservation,
    "NormalizeReward": wrappers.NormalizeReward,
    "ObstructView": lambda env: wrappers.ObstructView(env, 0.5, 3),
    "OrderEnforcing": wrappers.OrderEnforcing,
    "PassiveEnvChecker": wrappers.PassiveEnvChecker,
    "RecordEpisodeStatistics": wrappers.RecordEpisodeStatistics,
    "RenderCollection": wrappers.RenderCollection,
    "RepeatAction": lambda env: wrappers.RepeatAction(env, 2),
    "RescaleAction": lambda env: wrappers.RescaleAction(env, -2.0, 2.0),
    "StickyAction": lambda env: wrappers.StickyAction(env, 0.2),
    "TimeLimit": lambda env: wrappers.TimeLimit(Monitor(env), 7),
    "TransformAction": lambda env: wrappers.TransformAction(env, lambda action: action, env.action_space),
    "TransformReward": lambda env: wrappers.TransformReward(env, lambda reward: 0.1 * reward),
}
"""Gymnasium's wrappers that leave observations alone; those that draw need an env that renders."""
HIDING: dict[str, Any] = {
    "DelayObservation": lambda env: wrappers.DelayObservation(env, 1),
    "FrameStackObservation": lambda env: wrappers.FrameStackObservation(env, 2),
    "MaxAndSkipObservation": lambda env: wrappers.MaxAndSkipObservation(env, 2),
    "NormalizeObservation": wrappers.NormalizeObservation,
    "ReshapeObservation": lambda env: wrappers.ReshapeObservation(env, env.observation_space.shape[::-1]),
    "TimeAwareObservation": wrappers.TimeAwareObservation,
    "TransformObservation": lambda env: wrappers.TransformObservation(env, lambda observation: observation, None),
}
FOR_OTHER_ENVS = {
    *("vector", "AtariPreprocessing", "AddRenderObservation", "GrayscaleObservation", "ResizeObservation"),
    *("FilterObservation", "DiscretizeObservation", "RescaleObservation"),  # of a Dict, or of finite bounds
    *("ArrayConversion", "JaxToNumpy", "JaxToTorch", "NumpyToTorch"),  # of arrays that SB3 does not take
    *("HumanRendering", "RecordVideo"),  # need a screen, a codec
}


def test_every_wrapper_of_gymnasium_has_its_row() -> None:
    assert set(wrappers.__all__) - FOR_OTHER_ENVS == KEPT.keys() | HIDING.keys()


@pytest.mark.parametrize("env_id", ["Hopper-v5", "InvertedPendulum-v5"])
@pytest.mark.parametrize("name", [*KEPT, *HIDING])
def test_wrappers_of_gymnasium_that_leave_observations_alone_keep_the_rule(name: str, env_id: str) -> None:
    bare = read_rule(DummyVecEnv([lambda: gym.make(env_id)]))
    found = read_rule(DummyVecEnv([lambda: (KEPT | HIDING)[name](gym.make(env_id, **RENDERED))]))
    assert bare is not None and found == (bare if name in KEPT else None)


def float16(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    return wrappers.DtypeObservation(env, np.float16)


@pytest.mark.parametrize(
    ("wrap", "kept"),
    [
        (lambda env: env, True),
        (Monitor, True),
        (Resetting, True),
        (Custom, True),
        (ScaledReward, True),
        (lambda env: Monitor(Resetting(Custom(env))), True),
        (Shifted, False),
        (lambda env: Custom(Shifted(env)), False),
        (Bounded, False),
        (float16, False),
        (lambda env: wrappers.DtypeObservation(float16(env), np.float64), False),
    ],
)
def test_wrappers_of_users_that_leave_observations_alone_keep_the_rule(wrap: Any, kept: bool) -> None:
    assert (read_rule(DummyVecEnv([hopper(wrap)])) is not None) == kept


@pytest.mark.parametrize("env_id", ["Hopper-v5", "InvertedPendulum-v5"])
@pytest.mark.parametrize(
    ("wrap", "contradicted"), [(ScaledReward, False), (Merciful, True), (Strict, True), (OtherScale, True)]
)
def test_a_wrapper_that_changes_terminations_is_found_out(wrap: Any, contradicted: bool, env_id: str, capsys: Any) -> None:
    """The agent keeps the rule as long as real transitions agree with it, and says which one it has."""
    settings: dict[str, Any] = {"dynamics": "linear", "rollout_batch_size": 20, "learning_starts": 1000, "verbose": 1}
    agent = small_agent(wrap(gym.make(env_id)), dynamics_kwargs=None, policy_kwargs={"net_arch": [8]}, **settings)
    assert f"the env's own rule, until a real transition contradicts it: {agent.termination_rule}" in capsys.readouterr().out
    agent.learn(300, log_interval=None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figures = agent.fit_model()
    given_up = [warning for warning in caught if "From now on a learned termination is used" in str(warning.message)]
    assert figures["termination_rule_in_use"] == (not contradicted) and len(given_up) == contradicted


@pytest.mark.parametrize(
    ("wrap", "reason"),
    [
        (Shifted, "a wrapper changes observations"),
        (lambda env: gym.make("MountainCarContinuous-v0"), None),
        (lambda env: OtherHealth(), "no rule is known of such environments"),
    ],
)
def test_an_agent_says_why_it_has_no_rule(wrap: Any, reason: str | None, capsys: Any) -> None:
    small_agent(wrap(gym.make("Hopper-v5")), verbose=1)
    said = capsys.readouterr().out
    assert (f"Imagined episodes end by a learned termination: {reason}" in said) == (reason is not None)
    small_agent(wrap(gym.make("Hopper-v5")), verbose=0)
    assert capsys.readouterr().out == ""
