"""Every wrong argument ends in one ValueError that names it, says what came and what is allowed."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer

from sb3_tom import MBPO
from tests.mbpo.small import small_agent

WRONG: list[tuple[str, Any]] = [
    ("learning_rate", "3e-4"),
    ("learning_rate", -1.0),
    ("buffer_size", 0),
    ("buffer_size", "1e6"),
    ("learning_starts", -1),
    ("batch_size", 0),
    ("batch_size", 2.5),
    ("tau", 1.5),
    ("tau", "0.005"),
    ("gamma", 1.01),
    ("gamma", None),
    ("train_freq", 0),
    ("train_freq", (1, "epoch")),
    ("train_freq", "1"),
    ("gradient_steps", -2),
    ("gradient_steps", True),
    ("target_update_interval", 0),
    ("target_entropy", "-3"),
    ("target_entropy", "none"),
    ("ent_coef", "automatic"),
    ("ent_coef", "auto_-1"),
    ("ent_coef", -0.1),
    ("seed", -1),
    ("seed", "0"),
    ("n_steps", 3),
    ("optimize_memory_usage", True),
    ("replay_buffer_class", ReplayBuffer),
    ("replay_buffer_class", "WeightedReplayBuffer"),
    ("policy_kwargs", "dict(net_arch=[16])"),
    ("weighter", "recency"),
    ("weighter", 3),
    ("weighter", "sb3_tom.weighters.tom.weighter:Nothing"),
    ("weighter", "sb3_tom.dynamics.linear:LinearDynamics"),
    ("weighter_kwargs", {"alpha": 0.5}),
    ("weighter_kwargs", "dict(alpha=0.5)"),
    ("dynamics", "transformer"),
    ("dynamics_kwargs", {"n_members": 0}),
    ("dynamics_kwargs", {"members": 7}),
    ("objective", "vagram"),
    ("termination_fn", "sometimes"),
    ("termination_fn", 1),
    ("reward_fn", "learned"),
    ("rollout_schedule", 0),
    ("rollout_schedule", [1, 2, 3]),
    ("rollout_schedule", "1"),
    ("rollout_batch_size", 0),
    ("rollout_batch_size", "100000"),
    ("model_train_freq", 0),
    ("model_retain_epochs", 0),
    ("imagined_capacity", 0),
    ("real_ratio", 1.1),
    ("real_ratio", "0.05"),
    ("weighting", "importance"),
    ("weight_rollout_starts", 1),
    ("update_to_data_ratio", -1),
    ("update_to_data_ratio", "20"),
    ("update_to_data_ratio", float("nan")),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=[f"{name}={str(value)[:20]}" for name, value in WRONG])
def test_wrong_arguments_are_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"allowed|do not fit") as caught:
        small_agent(**{name: value})
    message = str(caught.value)
    words = (name, *value) if isinstance(value, dict) else (name,)
    assert any(word in message for word in words), message


class WithSpaces(gym.Env):
    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        self.observation_space, self.action_space = observation_space, action_space


BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)


@pytest.mark.parametrize(
    ("name", "observation_space", "action_space"),
    [
        ("observation_space", spaces.Discrete(3), BOX),
        ("observation_space", spaces.Dict({"position": BOX}), BOX),
        ("observation_space", spaces.Box(0, 255, (36, 36, 3), np.uint8), BOX),
        ("observation_space", spaces.MultiBinary(4), BOX),
        ("action_space", BOX, spaces.Discrete(2)),
        ("action_space", BOX, spaces.Box(-np.inf, np.inf, (1,), np.float32)),
        ("action_space", BOX, spaces.Box(-1.0, np.inf, (1,), np.float32)),
    ],
)
def test_unsupported_spaces_are_named(name: str, observation_space: spaces.Space, action_space: spaces.Space) -> None:
    with pytest.raises(ValueError, match=rf"{name}=.*allowed"):
        MBPO("MlpPolicy", WithSpaces(observation_space, action_space))


@pytest.mark.parametrize("env", [None, 3, "", "Hoper-v5", "nowhere:Hopper-v5", gym.Env, BOX, b"Pendulum-v1"])
def test_what_is_no_env_is_named(env: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^env=.* is not allowed.*; allowed: the id of a registered environment, a Gymnasium"
    ):
        MBPO("MlpPolicy", env)


def test_yaml_lists_and_whole_floats_are_taken() -> None:
    agent = small_agent(train_freq=[2, "step"], rollout_schedule=[0, 100, 1, 3], buffer_size=1e3, rollout_batch_size=1e2)
    assert (agent.train_freq.frequency, agent.buffer_size, agent.rollout_batch_size) == (2, 1000, 100)


def test_an_instance_with_kwargs_is_refused() -> None:
    from sb3_tom import PMACWeighter

    with pytest.raises(ValueError, match=r"weighter_kwargs.*not allowed with an instance of PMACWeighter"):
        small_agent(weighter=PMACWeighter(), weighter_kwargs={"alpha": 0.5})


@pytest.mark.parametrize("value", ["3e5", -1, 10.5])
def test_total_timesteps(value: Any) -> None:
    with pytest.raises(ValueError, match=r"total_timesteps.*allowed"):
        small_agent().learn(value)
