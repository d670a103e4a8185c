"""Every wrong argument ends in one ValueError that names it, says what came and what is allowed."""

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.policies import BasePolicy

from sb3_tom import MBPO
from sb3_tom.mbpo.arguments import check_spaces
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
    ("gamma", "0.9"),
    ("train_freq", 0),
    ("train_freq", (1, "epoch")),
    ("train_freq", "1"),
    ("gradient_steps", -2),
    ("gradient_steps", True),
    ("target_update_interval", 0),
    ("sde_sample_freq", -2),
    ("sde_sample_freq", 1.5),
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
    ("weighter", "newest"),
    ("weighter", 3),
    ("weighter", "sb3_tom.weighters.tom.weighter:Nothing"),
    ("weighter", "sb3_tom.dynamics.linear:LinearDynamics"),
    ("weighter_kwargs", {"alpha": 0.5}),
    ("weighter_kwargs", "dict(alpha=0.5)"),
    ("dynamics", "transformer"),
    ("dynamics_kwargs", {"n_members": 0}),
    ("dynamics_kwargs", {"members": 7}),
    ("objective", "vaml"),
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
    ("max_grad_norm", 0.0),
    ("max_grad_norm", -1.0),
    ("max_grad_norm", True),
    ("max_grad_norm", "1.0"),
    ("max_grad_norm", float("inf")),
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


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint64, np.bool_])
def test_actions_that_would_be_stored_cut_are_refused(dtype: Any) -> None:
    """SB3 stores scaled actions in the space's own type, in which 0.4 is 0."""
    space = spaces.Box(0, 1, (2,), dtype)
    with pytest.raises(ValueError, match=r"action_space=.*keeps -1, 0 and 1 only; allowed: a Box of a float type"):
        MBPO("MlpPolicy", WithSpaces(BOX, space))
    other = SAC("MlpPolicy", WithSpaces(BOX, space), buffer_size=10, policy_kwargs={"net_arch": [4]})
    with pytest.raises(ValueError, match=r"action_space=.*keeps -1, 0 and 1 only"):
        MBPO.from_sac(other, WithSpaces(BOX, space))
    agent = MBPO("MlpPolicy", WithSpaces(BOX, spaces.Box(0.0, 1.0, (2,))), buffer_size=10, policy_kwargs={"net_arch": [4]})
    with pytest.raises(ValueError, match="the replay buffer's action_space="):
        agent.adopt_replay_buffer(other.replay_buffer)


F = np.float32
LARGEST = float(np.finfo(F).max)


@pytest.mark.parametrize(
    ("low", "high", "reason"),
    [
        ([-1, 0.5], [1, 0.5], r"entry 1, from 0\.5 to 0\.5, cannot be scaled"),
        ([-LARGEST, -1], [LARGEST, 1], "entry 0, .* cannot be scaled"),
        ([-np.inf, -1], [1, 1], r"entry 0, from -inf to 1\.0, cannot be scaled"),
        ([[-1.0]], [[1.0]], r"its shape is \(1, 1\)"),
        (-1.0, 1.0, r"its shape is \(\)"),
    ],
)
def test_bounds_that_cannot_be_scaled_are_named(low: Any, high: Any, reason: str) -> None:
    space = spaces.Box(np.array(low, F), np.array(high, F), dtype=F)
    with pytest.raises(ValueError, match=f"action_space=.* is not allowed: {reason}.*; allowed"):
        MBPO("MlpPolicy", WithSpaces(BOX, space))


@given(
    bounds=st.lists(st.tuples(*[st.floats(width=32, allow_nan=False)] * 2), min_size=1, max_size=3),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_a_space_is_refused_or_sb3_can_scale_it(bounds: list[tuple[float, float]], dtype: Any) -> None:
    low, high = (np.array([pick(pair) for pair in bounds], dtype) for pick in (min, max))
    space = spaces.Box(low, high, dtype=dtype)
    try:
        check_spaces(BOX, space)
    except ValueError:
        with np.errstate(all="ignore"):
            width = high - low
            assert not (np.isfinite(low).all() and np.isfinite(width).all() and (width > 0).all() and _round_trip(space))
        return
    assert _round_trip(space)


def _round_trip(space: spaces.Box) -> bool:
    policy = SimpleNamespace(action_space=space)
    with np.errstate(all="ignore"):
        scaled = [BasePolicy.scale_action(policy, bound) for bound in (space.low, space.high)]  # type: ignore[arg-type]
        back = [BasePolicy.unscale_action(policy, bound) for bound in scaled]  # type: ignore[arg-type]
    return bool(np.isfinite([*scaled, *back]).all() and np.allclose(scaled[0], -1) and np.allclose(scaled[1], 1))


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
