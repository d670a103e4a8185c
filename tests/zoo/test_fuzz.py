"""Every entry of the YAML files, also with a value spoiled: it trains 300 steps, or is refused with the name of the key."""

from typing import Any

import gymnasium
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sb3_tom.zoo.checks import ZOO_KEYS, check_hyperparams
from sb3_tom.zoo.registration import ALGORITHMS, hyperparams_folder
from tests.mbpo.small import SMALL_WEIGHTERS

ENTRIES = {
    (algo, env): entry
    for algo in ALGORITHMS
    for env, entry in yaml.safe_load((hyperparams_folder() / f"{algo}.yml").read_text()).items()
}
CHEAP = {
    "learning_starts": 250,
    "rollout_batch_size": 10,
    "model_train_freq": 100,
    "update_to_data_ratio": 0.1,
    "batch_size": 16,
}
"""Sizes only; what an entry says about how to learn stays."""

JUNK = st.sampled_from([None, "", "x", "1e3", "3e-4", -1, float("nan"), float("inf"), 10**400, [], {}, [1], {"a": 1}, -0.5])


def small_entry(algo: str, env: str, spoiled: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments for the constructor and for the env, after the zoo's checks."""
    entry = {**ENTRIES[algo, env], **CHEAP, **spoiled}
    if "dynamics_kwargs" not in spoiled:
        entry["dynamics_kwargs"] = {**entry.get("dynamics_kwargs", {}), "net_arch": [8], "max_epochs": 1, "steps_per_epoch": 3}
    if "weighter_kwargs" not in spoiled and algo.endswith("_tom"):
        entry["weighter_kwargs"] = {**SMALL_WEIGHTERS["tom"], **entry.get("weighter_kwargs", {})}
    check_hyperparams(entry, ALGORITHMS[algo], lambda key: f"{algo}.yml, {env}, {key}")
    env_kwargs = entry.get("env_kwargs") or {}
    arguments = {key: value for key, value in entry.items() if key not in ZOO_KEYS}
    return {"buffer_size": 1000, "policy_kwargs": {"net_arch": [8]}, **arguments}, env_kwargs


def trains_or_is_refused(algo: str, env: str, spoiled: dict[str, Any]) -> None:
    try:
        arguments, env_kwargs = small_entry(algo, env, spoiled)
        made = gymnasium.make("Pendulum-v1" if env == "default" else env, **env_kwargs)
        agent = ALGORITHMS[algo](env=made, seed=0, **arguments)
    except (ValueError, TypeError) as error:
        assert spoiled, f"a shipped entry is refused: {error}"
        # Of an environment's own arguments only the environment knows the names: Python's error, which the zoo passes on
        names = [*spoiled, *(spoiled.get("env_kwargs", []) if isinstance(error, TypeError) else [])]
        assert any(f"{key}=" in str(error) or f"'{key}'" in str(error) for key in names), f"{spoiled}: {error}"
        return
    agent.learn(300)
    assert agent.num_timesteps == 300


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_spoiled_entries_of_classic_control(data: st.DataObject) -> None:
    algo = data.draw(st.sampled_from(sorted(ALGORITHMS)))
    keys = sorted({*ENTRIES[algo, "Pendulum-v1"], "env_kwargs"})
    trains_or_is_refused(algo, "Pendulum-v1", {data.draw(st.sampled_from(keys)): data.draw(JUNK)})


def test_a_task_of_each_file() -> None:
    for algo in ALGORITHMS:
        trains_or_is_refused(algo, "Pendulum-v1", {})


@pytest.mark.expensive
@pytest.mark.parametrize(("algo", "env"), sorted(ENTRIES))
@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_all_entries_whole_and_spoiled(algo: str, env: str, data: st.DataObject) -> None:
    keys = sorted({*ENTRIES[algo, env], "env_kwargs"})
    spoiled = data.draw(st.none() | st.tuples(st.sampled_from(keys), JUNK))
    trains_or_is_refused(algo, env, {} if spoiled is None else dict([spoiled]))
