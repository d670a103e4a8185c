"""
The analytic rules against the real environments: the reference is what ``step`` returns, from a random state by a random
action. States that are set exactly are in ``test_termination_thresholds.py``.

Where the observation does not decide, these tests leave the row out by looking at the hidden state, never at the rule:

==================== ==================================================== =========================================
environment          hidden                                               the rule says, :func:`contradicts` excuses
==================== ==================================================== =========================================
Hopper               velocities beyond the clip at 10                     goes on, yes
Ant                  x and y, unless they are observed                    goes on, no (MuJoCo resets such a state)
InvertedDoubleP.     the tip of the last integration stage (< 0.02)       by the tip of s', yes
all                  thresholds in float64, observations in float32       either, yes
==================== ==================================================== =========================================
"""

import json
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_tom.terminations.reading import read_rule
from sb3_tom.terminations.rules import contradicts, terminates
from tests.terminations.cases import POSITIONS, Case, as_batch, make

pytestmark = pytest.mark.filterwarnings("ignore:.*is out of date:DeprecationWarning")


HOPPER = {1: (0.4, 1.6), 2: (-0.4, 0.4)}
WALKER = {1: (0.5, 2.4), 2: (-1.5, 1.5)}
ANT = {2: (0.0, 1.3)}
HUMANOID = {2: (0.7, 2.3)}
POLES = {1: (-1.2, 1.2), 2: (-1.2, 1.2)}
TRUNCATED = {f"include_{part}_in_observation": False for part in ("cinert", "cvel", "qfrc_actuator", "cfrc_ext")}

CASES = [
    Case("Hopper-v5", HOPPER, 4.0),
    Case("Hopper-v4", HOPPER, 4.0),
    Case("Hopper-v5", HOPPER, 4.0, POSITIONS),
    Case("Hopper-v5", HOPPER, 4.0, {"healthy_z_range": (0.9, 1.2), "healthy_angle_range": (-0.3, 0.1)}),
    Case("Hopper-v5", {1: (1.0, 1.4), 2: (-0.1, 0.1)}, 4.0, {"healthy_state_range": (-6.0, 4.0), **POSITIONS}),
    Case("Walker2d-v5", WALKER, 4.0),
    Case("Walker2d-v4", WALKER, 4.0, POSITIONS),
    Case("Walker2d-v5", WALKER, 4.0, {"healthy_z_range": (1.0, 1.5), "healthy_angle_range": (-0.2, 0.7)}),
    Case("Ant-v5", ANT),
    Case("Ant-v5", ANT, 1.0, {"include_cfrc_ext_in_observation": False, **POSITIONS}),
    Case("Ant-v5", ANT, 1.0, {"healthy_z_range": (0.4, 0.8), **POSITIONS}),
    Case("Ant-v4", ANT),
    Case("Ant-v4", ANT, 1.0, {"use_contact_forces": True, **POSITIONS}),
    Case("Humanoid-v5", HUMANOID),
    Case("Humanoid-v5", HUMANOID, 1.0, TRUNCATED),
    Case("Humanoid-v5", HUMANOID, 1.0, {"healthy_z_range": (1.2, 1.6), **TRUNCATED, **POSITIONS}),
    Case("Humanoid-v4", HUMANOID),
    Case("InvertedPendulum-v5", {1: (-0.4, 0.4)}),
    Case("InvertedPendulum-v4", {1: (-0.4, 0.4)}),
    Case("InvertedDoublePendulum-v5", POLES),
    Case("InvertedDoublePendulum-v4", POLES),
]

NEVER = [
    Case("HalfCheetah-v5", velocity=20.0),
    Case("HalfCheetah-v4", velocity=20.0),
    Case("Swimmer-v5", velocity=20.0),
    Case("Swimmer-v4", velocity=20.0),
    Case("HumanoidStandup-v5", velocity=10.0),
    Case("HumanoidStandup-v4", velocity=10.0),
    Case("Reacher-v5", velocity=20.0),
    Case("Reacher-v4", velocity=20.0),
    Case("Pusher-v5", velocity=10.0),
    Case("Hopper-v5", HOPPER, 4.0, {"terminate_when_unhealthy": False}),
    Case("Hopper-v4", HOPPER, 4.0, {"terminate_when_unhealthy": False}),
    Case("Walker2d-v5", WALKER, 4.0, {"terminate_when_unhealthy": False}),
    Case("Ant-v5", ANT, 1.0, {"terminate_when_unhealthy": False}),
    Case("Humanoid-v5", HUMANOID, 1.0, {"terminate_when_unhealthy": False}),
]


def random_state(case: Case, env: Any, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Each watched coordinate is either unremarkable or drawn from the whole interval, so that single violations occur."""
    positions = env.init_qpos + rng.uniform(-0.05, 0.05, env.model.nq)
    for index, (low, high) in case.centres.items():
        if rng.random() < 0.6:
            positions[index] = rng.uniform(low, high)
    return positions, rng.normal(size=env.model.nv) * case.velocity


def hidden(case: Case, env: Any) -> bool:
    """Whether the state, not the rule, says that the observation cannot decide."""
    if "Hopper" in case.env_id:
        low, high = env._healthy_state_range
        speed = np.abs(env.data.qvel)
        return bool(np.any((speed >= 10.0) & ((env.data.qvel <= low) | (env.data.qvel >= high))) and (low < -10 or high > 10))
    return "DoublePendulum" in case.env_id and abs(env.data.site_xpos[0][2] - 1.0) < 0.02


def steps(case: Case, count: int) -> tuple[dict[str, Any], list[np.ndarray], list[bool]]:
    env, rule = make(case)
    rng = np.random.default_rng(1)
    observations, flags = [], []
    for _ in range(count):
        env.set_state(*random_state(case, env, rng))
        observation, _, terminated, _, _ = env.step(rng.uniform(env.action_space.low, env.action_space.high))
        if not hidden(case, env):
            observations.append(observation)
            flags.append(bool(terminated))
    return rule, observations, flags


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule_is_the_step_of_the_real_env(case: Case) -> None:
    rule, observations, flags = steps(case, 250)
    said = terminates(rule, as_batch(np.array(observations)).reshape(len(flags), -1))
    assert said.shape == (len(flags), 1) and said.dtype == th.bool
    assert said.squeeze(1).tolist() == flags
    assert len(flags) > 200
    assert 0.15 < np.mean(flags) < 0.9, "both outcomes must occur often for the comparison to mean anything"


@pytest.mark.parametrize("case", NEVER, ids=str)
def test_never_rule_is_the_step_of_the_real_env(case: Case) -> None:
    rule, observations, flags = steps(case, 60)
    assert not any(flags)
    assert not terminates(rule, as_batch(np.array(observations)).reshape(len(flags), -1)).any()


@pytest.mark.parametrize("case", [CASES[0], CASES[4], CASES[9], CASES[19]], ids=str)
def test_real_steps_do_not_contradict_the_rule_even_where_it_is_blind(case: Case) -> None:
    env, rule = make(case)
    rng = np.random.default_rng(2)
    blind = 0
    for _ in range(300):
        positions, velocities = random_state(case, env, rng)
        env.set_state(positions, velocities * rng.choice([1.0, 40.0]))
        observation, _, terminated, _, _ = env.step(np.zeros(env.model.nu, dtype=np.float32))
        batch = as_batch(observation)
        blind += bool(terminates(rule, batch)) != terminated
        assert not contradicts(rule, batch, th.tensor([[float(terminated)]]))
    assert blind > 0 or "Hopper-v5" != str(case)


@settings(max_examples=100)
@given(
    position=st.floats(0.3, 0.6),
    velocity=st.one_of(st.floats(-0.07, 0.07), st.just(np.nan)),
    goal_velocity=st.sampled_from([0.0, 0.02]),
)
def test_mountain_car_rule_is_the_step_of_the_real_env(position: float, velocity: float, goal_velocity: float) -> None:
    env, rule = make(Case("MountainCarContinuous-v0", kwargs={"goal_velocity": goal_velocity}))
    env.state = np.array([position, velocity])
    observation, _, terminated, _, _ = env.step(np.array([0.5], dtype=np.float32))
    on_the_edge = abs(observation[0] - 0.45) < 1e-6 or abs(observation[1] - goal_velocity) < 1e-6
    if not on_the_edge:
        assert bool(terminates(rule, as_batch(observation))) == terminated


def test_pendulum_never_terminates() -> None:
    _, rule = make(Case("Pendulum-v1"))
    assert not terminates(rule, th.tensor([[1.0, 0.0, 8.0], [float("nan")] * 3])).any()


@pytest.mark.parametrize("case", [*CASES, *NEVER, Case("MountainCarContinuous-v0")], ids=str)
def test_rule_is_plain_data(case: Case) -> None:
    rule = make(case)[1]
    assert json.loads(json.dumps(rule)) == rule


def test_rule_of_a_model_with_unknown_geometry_is_not_guessed(tmp_path: Any) -> None:
    standard = gym.make("InvertedDoublePendulum-v5").unwrapped.fullpath
    other = tmp_path / "inverted_double_pendulum.xml"
    with open(standard) as file:
        other.write_text(file.read().replace('pos="0 0 0.6"', 'pos="0 0 0.8"'))
    env = gym.make("InvertedDoublePendulum-v5", xml_file=str(other))
    assert read_rule(DummyVecEnv([lambda: env])) is None


@settings(max_examples=100)
@given(side=st.sampled_from([-1.0, 1.0]), offset=st.floats(1e-9, 0.3), ended=st.booleans())
def test_contradiction_is_a_disagreement_outside_of_the_rounding_band(side: float, offset: float, ended: bool) -> None:
    rule = {
        "kind": "inside",
        "intervals": [{"start": 0, "stop": 1, "low": 0.7, "high": float("inf"), "closed": False}],
    }
    observation = th.tensor([[0.7 + side * offset]], dtype=th.float64)
    disagrees = ended == (side > 0)
    found = bool(contradicts(rule, observation, th.tensor([[float(ended)]])))
    if not 5e-7 < offset < 2e-6:
        assert found == (disagrees and offset > 1e-6)
