"""Import paths and attributes of files that older versions wrote."""

import importlib
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3.common.save_util import load_from_zip_file, save_to_zip_file

import sb3_tom
from sb3_tom import MBPO, old_names
from sb3_tom.checkpoint.archive import write_archive
from sb3_tom.checkpoint.reading import read_archive
from sb3_tom.old_names import MOVED
from tests.mbpo.small import small_agent

TINY: dict[str, Any] = {"dynamics": "linear"}


@pytest.mark.parametrize("name", MOVED)
def test_an_old_module_has_the_new_ones_names(name: str) -> None:
    sys.modules.pop(f"sb3_tom.{name}", None)
    if not MOVED[name]:
        importlib.import_module(f"sb3_tom.{name}")
        return
    with pytest.warns(
        DeprecationWarning, match=rf"sb3_tom.{name} is .* now; the old name goes with release {old_names.UNTIL}"
    ):
        old = importlib.import_module(f"sb3_tom.{name}")
    for place in MOVED[name]:
        new = importlib.import_module(f"sb3_tom.{place}")
        public = [key for key, value in vars(new).items() if getattr(value, "__module__", None) == new.__name__]
        assert all(getattr(old, key) is getattr(new, key) for key in public)
    with pytest.raises(AttributeError, match=f"module 'sb3_tom.{name}' has no attribute 'nothing'"):
        _ = old.nothing


@pytest.mark.parametrize("name", ["common.nothing", "weighters.nothing", "mbpo.plugged_sac"])
def test_other_names_are_not_found(name: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=name):
        importlib.import_module(f"sb3_tom.{name}")


def test_paths_in_settings_and_pickles() -> None:
    agent = small_agent(weighter="sb3_tom.weighters.ratio:RatioWeighter", weighter_kwargs={"recent_size": 40}, **TINY)
    assert type(agent.weighter).__module__ == "sb3_tom.weighters.tom.ratio"
    assert type(small_agent(weighter="sb3_tom.weighters.tom:TOMWeighter", **TINY).weighter) is sb3_tom.TOMWeighter
    here = b"sb3_tom.data.replay_buffer"
    new = pickle.dumps(sb3_tom.data.replay_buffer.WeightedReplayBuffer, protocol=0)
    assert here in new
    old = pickle.loads(new.replace(here, b"sb3_tom.common.buffers"))
    assert old is sb3_tom.data.replay_buffer.WeightedReplayBuffer


def as_old(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes of an agent as they were before counters and terminations had their places."""
    counter = attributes.pop("update_counter")
    counts = counter if isinstance(counter, dict) else counter.state_dict()
    return attributes | {old: counts[new] for old, new in old_names.COUNTS.items()}


def test_an_old_zip_goes_on_where_it_was(tmp_path: Path) -> None:
    agent = small_agent(termination_fn="never", update_to_data_ratio=0.75, **TINY).learn(77)
    agent.save(tmp_path / "new")
    data, params, variables = load_from_zip_file(tmp_path / "new.zip")
    data = as_old(data)
    data["_plug_specs"] = {name: data["_plug_specs"][name] for name in ("weighter", "dynamics", "objective")}
    data["termination_fn"] = "never"
    for name in ("rollout_freq", "weight_model_fit", "_since_rollouts"):
        del data[name]
    del params["policy_update"]
    save_to_zip_file(tmp_path / "old", data=data, params=params, pytorch_variables=variables)
    loaded = MBPO.load(tmp_path / "old", env="Pendulum-v1")
    assert loaded.update_counter == agent.update_counter and loaded.update_counter.trained_transitions > 0
    assert type(loaded.termination).__name__ == "NeverTermination"
    loaded.learn(20, reset_num_timesteps=False)


def test_an_old_checkpoint_goes_on_where_it_was(tmp_path: Path) -> None:
    agent = small_agent(update_to_data_ratio=0.75, **TINY).learn(77)
    agent.save_checkpoint(tmp_path / "new.zip")
    state = read_archive(tmp_path / "new.zip")
    inner = state["agent"]
    objects = inner["objects"]
    inner["attributes"] = as_old(inner["attributes"] | {"update_counter": objects.pop("update_counter")})
    objects["_remaining_time"] = objects.pop("remaining_time")
    objects["imagined"].pop("is_due")
    del inner["parameters"]["policy_update"]
    for name in ("policy_update", "policy_update_kwargs", "rollout_freq", "weight_model_fit", "termination_kwargs"):
        del state["arguments"][name]
    write_archive(tmp_path / "old.zip", state)
    resumed = MBPO.resume(tmp_path / "old.zip", "Pendulum-v1")
    assert resumed.update_counter == agent.update_counter
    assert not any(name in vars(resumed) for name in old_names.COUNTS)
    resumed.learn(20, reset_num_timesteps=False)
