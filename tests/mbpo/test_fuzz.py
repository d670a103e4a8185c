"""Every argument of the constructor with every kind of value: the agent trains 300 steps, or is refused by its name."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch as th
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.sac.policies import CnnPolicy, MlpPolicy

from sb3_tom import MBPO, LinearDynamics, PMACWeighter, UniformWeighter
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from sb3_tom.objectives.likelihood import LikelihoodObjective
from sb3_tom.policy_updates.sac.update import SACPolicyUpdate
from tests.mbpo.test_mbpo import Corridor
from tests.mbpo.toys import Halt, Trust

STEPS = 300
JUNK_VALUES = (
    None,
    True,
    "",
    "x",
    "1e3",
    b"1",
    -1,
    0,
    0.5,
    -0.0,
    np.nan,
    np.inf,
    1e300,
    10**400,
    1j,
    (),
    [],
    {},
    {"a": 1},
    object(),
    len,
    np.float32(2.0),
    np.int64(3),
    np.array(1),
    np.zeros(3),
    th.ones(()),
    [1, "step"],
    (2, "episode"),
    type,
)
JUNK = st.sampled_from(JUNK_VALUES)


def numbers(low: float, high: float) -> st.SearchStrategy[Any]:
    return st.floats(low, high) | st.sampled_from([low, high])


def counts(low: int, high: int) -> st.SearchStrategy[Any]:
    return st.integers(low, high) | st.integers(low, high).map(float)


SGD = {"net_arch": [4], "optimizer_class": th.optim.SGD}
VEC_ENVS = [DummyVecEnv([lambda: Corridor(limit=20)] * n_envs) for n_envs in (1, 3)]
NOISES = (NormalActionNoise, OrnsteinUhlenbeckActionNoise)
VALID: dict[str, st.SearchStrategy[Any]] = {
    "env": st.sampled_from(["Pendulum-v1", "Pendulum-v99", "CartPole-v1", Corridor(limit=20), *VEC_ENVS]),
    "policy": st.sampled_from(["MlpPolicy", MlpPolicy, CnnPolicy, "CnnPolicy"]),
    "learning_rate": numbers(0.0, 1.0) | st.just(lambda progress: 1e-3 * progress),
    "buffer_size": counts(1, 400),
    "learning_starts": counts(0, 400),
    "batch_size": counts(1, 64),
    "tau": numbers(0.0, 1.0),
    "gamma": numbers(0.0, 1.0),
    "train_freq": st.integers(1, 50) | st.tuples(st.integers(1, 3), st.sampled_from(["step", "episode"])),
    "gradient_steps": st.integers(-1, 3),
    "action_noise": st.sampled_from([noise(np.zeros(n), np.ones(n)) for n in (1, 2) for noise in NOISES]),
    "replay_buffer_class": st.sampled_from([None, WeightedReplayBuffer, ReplayBuffer]),
    "replay_buffer_kwargs": st.fixed_dictionaries({"n_start_observations": st.integers(-1, 5)}) | st.just({"device": "cpu"}),
    "optimize_memory_usage": st.booleans(),
    "n_steps": st.integers(0, 3),
    "ent_coef": numbers(0.0, 1.0) | st.sampled_from(["auto", "auto_0.1", "auto_0", "auto_1e400", "auto_nan", "auto_"]),
    "target_update_interval": counts(1, 20),
    "target_entropy": numbers(-20.0, 20.0) | st.just("auto"),
    "use_sde": st.booleans(),
    "sde_sample_freq": st.integers(-1, 10),
    "use_sde_at_warmup": st.booleans(),
    "stats_window_size": counts(1, 10),
    "tensorboard_log": st.none(),
    "policy_kwargs": st.sampled_from(
        [None, {"net_arch": []}, {"net_arch": [3, 3]}, {"n_critics": 1}, {"log_std_init": 1.0}, SGD]
    ),
    "verbose": st.just(0),
    "seed": st.integers(0, 2**33) | st.none(),
    "device": st.sampled_from(["auto", "cpu", th.device("cpu"), "cpu:0", "meta", "tpu"]),
    "weighter": st.sampled_from(["uniform", "pmac", None, UniformWeighter, PMACWeighter, "sb3_tom:PMACWeighter"])
    | st.builds(PMACWeighter, st.just(0.5)),
    "weighter_kwargs": st.none() | st.just({}) | st.fixed_dictionaries({"alpha": st.floats(-0.5, 1.5)}),
    "dynamics": st.sampled_from(["linear", LinearDynamics, "sb3_tom:LinearDynamics", "rnn", "a:b"])
    | st.builds(LinearDynamics),
    "dynamics_kwargs": st.fixed_dictionaries({"ridge": st.floats(), "deterministic": st.booleans()}),
    "objective": st.sampled_from(["likelihood", LikelihoodObjective, "mle"]) | st.builds(LikelihoodObjective),
    "objective_kwargs": st.sampled_from([None, {}, {"scale": 2}]),
    "termination_fn": st.sampled_from(
        ["auto", "never", "learned", lambda _o, _a, after: after > 0.5, lambda _o, _a, after: 1]
    ),
    "termination_kwargs": st.none() | st.just({}) | st.fixed_dictionaries({"hidden_sizes": st.just([4])}),
    "policy_update": st.sampled_from(["sac", None, "ppo", SACPolicyUpdate]) | st.builds(SACPolicyUpdate),
    "policy_update_kwargs": st.sampled_from([None, {}, {"scale": 2}]),
    "confidence": st.sampled_from([None, Trust, "inverse_std", "high"]) | st.builds(Trust),
    "confidence_kwargs": st.none(),
    "rollout_stop": st.sampled_from([None, Halt, "quantile", "soon"]) | st.builds(Halt),
    "rollout_stop_kwargs": st.none(),
    "reward_fn": st.sampled_from([None, lambda _o, _a, after: -after]),
    "rollout_schedule": counts(1, 5) | st.lists(st.integers(0, 300), min_size=3, max_size=5).map(sorted),
    "rollout_batch_size": counts(1, 50),
    "rollout_freq": st.none() | counts(1, 400),
    "model_train_freq": counts(1, 400),
    "model_retain_epochs": counts(1, 20),
    "imagined_capacity": counts(1, 300),
    "real_ratio": numbers(0.0, 1.0) | st.tuples(counts(0, 200), counts(100, 300), numbers(0.0, 1.0), numbers(0.0, 1.0)),
    "weighting": st.sampled_from(["sample", "loss"]),
    "weight_model_fit": st.booleans(),
    "weight_rollout_starts": st.none() | st.booleans(),
    "update_to_data_ratio": numbers(0.0, 0.3),
    "max_grad_norm": st.none() | numbers(0.0, 10.0),
}
"""Values of each public argument, of which most are valid and all small enough to train; junk is mixed in for all."""

NAMES_OF_THE_SAME = {
    "weighter_kwargs": ["alpha"],
    "dynamics_kwargs": ["ridge"],
    "replay_buffer_kwargs": ["n_start_observations"],
    "termination_kwargs": ["hidden_sizes"],
    "env": ["observation_space=", "action_space="],
}


def test_every_argument_has_values() -> None:
    assert set(VALID) == set(inspect.signature(MBPO).parameters) - {"_init_setup_model"}


def constructs_or_is_refused(name: str, value: Any) -> MBPO | None:
    """The agent, None if the value was refused by name."""
    tiny: dict[str, Any] = {
        "policy": "MlpPolicy",
        "env": Corridor(limit=20),
        "learning_starts": 200,
        "batch_size": 8,
        "buffer_size": 400,
        "seed": 0,
        "policy_kwargs": {"net_arch": [4]},
        "dynamics": "linear",
        "weighter": "pmac" if name == "weighter_kwargs" else "uniform",
        "termination_fn": "learned" if name == "termination_kwargs" else "auto",
        "rollout_batch_size": 10,
        "model_train_freq": 60,
        "update_to_data_ratio": 0.1,
    }
    try:
        return MBPO(**{**tiny, name: value})
    except ValueError as error:
        named = "env=" if name == "env" else name  # "env" is in many words
        assert any(word in str(error) for word in (named, *NAMES_OF_THE_SAME.get(name, []))), f"{name}={value!r}: {error}"
        return None


def trains_or_is_refused(name: str, value: Any) -> None:
    """300 steps with an argument, where the constructor takes it."""
    agent = constructs_or_is_refused(name, value)
    if agent is None:
        return
    if name == "tensorboard_log" and value:
        return  # any text names a folder; none shall be made
    agent.learn(STEPS)
    assert STEPS <= agent.num_timesteps <= STEPS + 60  # whole episodes
    assert all(bool(th.isfinite(parameter).all()) for parameter in agent.policy.parameters())


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_few_values_of_any_argument(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(VALID)))
    trains_or_is_refused(name, data.draw(VALID[name] | JUNK))


@pytest.mark.parametrize("name", sorted(VALID))
def test_junk_is_refused_by_name(name: str) -> None:
    """Every junk value for every argument; those that happen to be valid are trained in the long test."""
    for value in JUNK_VALUES:
        constructs_or_is_refused(name, value)


NUMERIC = (
    *("learning_rate", "buffer_size", "learning_starts", "batch_size", "tau", "gamma", "gradient_steps", "n_steps"),
    *("target_update_interval", "sde_sample_freq", "stats_window_size", "rollout_batch_size", "model_train_freq"),
    *("model_retain_epochs", "update_to_data_ratio", "seed", "imagined_capacity", "rollout_freq", "max_grad_norm"),
)


NO_NUMBERS: dict[str, Any] = {
    **{"word": "x", "text": "1e3", "bytes": b"1", "complex": 1j, "mapping": {"a": 1}, "object": object()},
    **{"array": np.zeros(3), "too small": -5, "nan": np.nan},
}


@pytest.mark.parametrize("value", NO_NUMBERS.values(), ids=NO_NUMBERS)
@pytest.mark.parametrize("name", NUMERIC)
def test_no_number_is_made_of_what_is_none(name: str, value: Any) -> None:
    assert constructs_or_is_refused(name, value) is None


@pytest.mark.expensive
@pytest.mark.parametrize("name", sorted(VALID))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_many_values(name: str, data: st.DataObject) -> None:
    trains_or_is_refused(name, data.draw(VALID[name] | JUNK))
