"""
The analytic rules at, around and far beyond their thresholds, NaN and infinities included: in a frozen step the simulation is
replaced by nothing, so that the environment evaluates its own termination in exactly the state that was set.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_tom.terminations.rules import contradicts, terminates
from tests.terminations.cases import POSITIONS, Case, as_batch, make

pytestmark = pytest.mark.filterwarnings("ignore:.*is out of date:DeprecationWarning")

FrozenEnvs = Callable[[str], tuple[Any, dict[str, Any]]]


def freeze(env: Any) -> None:
    """From now on a step evaluates the state that is set."""
    env.do_simulation = lambda action, frames: None


def frozen_step(env: Any, positions: np.ndarray, velocities: np.ndarray) -> tuple[np.ndarray, bool]:
    env.set_state(np.nan_to_num(positions, posinf=1.0, neginf=-1.0), velocities)
    env.data.qpos[:] = positions
    observation, _, terminated, _, _ = env.step(np.zeros(env.model.nu))
    return observation, bool(terminated)


# Dyadic thresholds are exact in float32, so that a coordinate can lie exactly on one.
EXACT = {
    "Hopper-v5": Case("Hopper-v5", {1: (0.75, 1.5), 2: (-0.25, 0.125)}),
    "Walker2d-v5": Case("Walker2d-v5", {1: (0.75, 1.5), 2: (-0.25, 0.125)}),
    "Ant-v5": Case("Ant-v5", {2: (0.25, 0.75)}),
    "Humanoid-v5": Case("Humanoid-v5", {2: (1.25, 1.75)}),
    "InvertedPendulum-v5": Case("InvertedPendulum-v5", {1: (-0.2, 0.2)}),
}


@pytest.fixture(scope="module")
def frozen() -> FrozenEnvs:
    made: dict[str, tuple[Any, dict[str, Any]]] = {}

    def get(env_id: str) -> tuple[Any, dict[str, Any]]:
        if env_id not in made:
            ranges = EXACT[env_id].centres
            names = {1: "healthy_z_range", 2: "healthy_angle_range"} if len(ranges) == 2 else {2: "healthy_z_range"}
            kwargs = {names[index]: bounds for index, bounds in ranges.items() if index in names}
            made[env_id] = make(Case(env_id, kwargs=kwargs))
            freeze(made[env_id][0])
        return made[env_id]

    return get


@pytest.mark.parametrize("env_id", EXACT)
@settings(max_examples=60)
@given(data=st.data())
def test_rule_at_and_around_each_threshold_and_beyond_the_finite(env_id: str, frozen: FrozenEnvs, data: st.DataObject) -> None:
    env, rule = frozen(env_id)
    positions = env.init_qpos.copy()
    for index, (low, high) in EXACT[env_id].centres.items():
        offset = data.draw(st.sampled_from([0.0, 1e-4, -1e-4, 0.03, -0.03, 5.0, -5.0]))
        special = data.draw(st.sampled_from([None, None, None, None, np.nan, np.inf, -np.inf]))
        threshold = data.draw(st.sampled_from([low, high, (low + high) / 2]))
        positions[index] = threshold + offset if special is None else special
    if data.draw(st.booleans()):
        joint = data.draw(st.integers(min_value=max(EXACT[env_id].centres) + 1, max_value=env.model.nq)) - 1
        positions[joint] = data.draw(st.sampled_from([np.nan, np.inf, 99.0, 101.0, -101.0, 0.5]))
    observation, terminated = frozen_step(env, positions, env.init_qvel)
    exactly_at_a_decimal = env_id == "InvertedPendulum-v5" and abs(abs(positions[1]) - 0.2) < 1e-7
    if not exactly_at_a_decimal:
        assert bool(terminates(rule, as_batch(observation))) == terminated


@pytest.mark.parametrize(
    ("env_id", "index", "value"),
    [
        ("Hopper-v5", 1, -1e9),
        ("Hopper-v5", 2, -1e9),
        ("Hopper-v5", 4, -150.0),
        ("Hopper-v5", 4, 150.0),
        ("Walker2d-v5", 2, -3.0),
        ("Humanoid-v5", 2, np.nan),
    ],
)
def test_lower_bounds_count_too(frozen: FrozenEnvs, env_id: str, index: int, value: float) -> None:
    """A widespread port of the Hopper rule takes abs of a comparison: -1e9 is healthy; one of Humanoid's lets a NaN live."""
    env, rule = frozen(env_id)
    positions = env.init_qpos.copy()
    positions[index] = value
    observation, terminated = frozen_step(env, positions, env.init_qvel)
    assert terminated
    assert bool(terminates(rule, as_batch(observation)))


def test_hidden_velocity_of_hopper_is_excused_but_nothing_else() -> None:
    env, rule = make(Case("Hopper-v5"))
    freeze(env)
    velocities = env.init_qvel.copy()
    velocities[3] = 150.0
    observation, terminated = frozen_step(env, env.init_qpos, velocities)
    batch, ended = as_batch(observation), th.ones(1, 1)
    assert terminated and not terminates(rule, batch)
    assert not contradicts(rule, batch, ended)
    slow = batch.clone()
    slow[:, rule["clipped"]["start"] :] = 9.9
    assert contradicts(rule, slow, ended)
    assert "clipped" not in make(Case("Hopper-v5", kwargs={"healthy_state_range": (-9.0, 9.0)}))[1]


def test_hidden_x_of_ant_is_the_documented_blind_spot() -> None:
    for kwargs, seen in (({}, False), (POSITIONS, True)):
        env, rule = make(Case("Ant-v5", kwargs=kwargs))
        freeze(env)
        positions = env.init_qpos.copy()
        positions[0] = np.nan
        observation, terminated = frozen_step(env, positions, env.init_qvel)
        assert terminated and bool(terminates(rule, as_batch(observation))) == seen


def test_contact_forces_of_ant_are_not_part_of_its_health() -> None:
    env, rule = make(Case("Ant-v5"))
    freeze(env)
    env.set_state(env.init_qpos, env.init_qvel)
    env.data.cfrc_ext[:] = np.nan
    observation, _, terminated, _, _ = env.step(np.zeros(env.model.nu))
    assert np.isnan(observation[27:]).any() and np.isfinite(observation[:27]).all()
    assert not terminated and not terminates(rule, as_batch(observation))
