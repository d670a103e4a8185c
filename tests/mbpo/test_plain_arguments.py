"""Arguments in containers and scalars of other packages (OmegaConf's, numpy's) count as Python's own, in files too."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sb3_tom import MBPO
from tests.mbpo.small import small_agent

ARGUMENTS: dict[str, dict[str, Any]] = {
    "rollout_schedule": {"rollout_schedule": [0, 50, 1, 2]},
    "real_ratio": {"real_ratio": [0, 50, 0.1, 0.2]},
    "train_freq": {"train_freq": [1, "step"]},
    "policy_kwargs": {"policy_kwargs": {"net_arch": [8, 8]}},
    "nested": {"policy_kwargs": {"net_arch": {"pi": [8], "qf": [8]}}},
    "replay_buffer_kwargs": {"replay_buffer_kwargs": {"n_start_observations": 3}},
    "dynamics_kwargs": {"dynamics": "ensemble", "dynamics_kwargs": {"net_arch": [8], "max_epochs": 1, "first_max_epochs": 1}},
    "termination_kwargs": {"termination_fn": "learned", "termination_kwargs": {"hidden_sizes": [4]}},
    "weighter_kwargs": {"weighter": "tom", "weighter_kwargs": {"q_arch": [8], "discriminator_arch": [8], "q_steps": 2}},
}


class Frozen(Mapping[str, Any]):
    """A mapping that is no dict and takes no new keys, as Hydra's configurations."""

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self._entries = {key: foreign(value) for key, value in entries.items()}

    def __getitem__(self, key: str) -> Any:
        return self._entries[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class Listed(Sequence[Any]):
    """A sequence that is neither list nor tuple."""

    def __init__(self, entries: Sequence[Any]) -> None:
        self._entries = [foreign(value) for value in entries]

    def __getitem__(self, index: Any) -> Any:
        return self._entries[index]

    def __len__(self) -> int:
        return len(self._entries)


def foreign(value: Any) -> Any:
    """The same in containers that are not Python's."""
    if isinstance(value, Mapping):
        return Frozen(value)
    return Listed(value) if isinstance(value, list) else value


def omega(value: Any) -> Any:
    """The same as Hydra hands it on: no key may be added."""
    omegaconf = pytest.importorskip("omegaconf")
    made = omegaconf.OmegaConf.create({"value": value})
    omegaconf.OmegaConf.set_struct(made, True)
    return made.value


def numpy_scalars(value: Any) -> Any:
    """Numbers of numpy in Python's containers."""
    if isinstance(value, Mapping):
        return {key: numpy_scalars(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [numpy_scalars(entry) for entry in value]
    return value if isinstance(value, str) else np.array(value)[()]


@pytest.mark.parametrize("make", [foreign, omega, numpy_scalars])
@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_run_is_the_same_and_its_files_need_nothing_else(name: str, make: Callable[[Any], Any], tmp_path: Path) -> None:
    given = {"dynamics": "linear"} | ARGUMENTS[name]
    made = {key: value if isinstance(value, str) else make(value) for key, value in given.items()}
    expected, agent = small_agent(**given).learn(56), small_agent(**made).learn(56)
    for one, other in zip(expected.policy.parameters(), agent.policy.parameters(), strict=True):
        assert (one == other).all()
    agent.save(tmp_path / "agent.zip")
    MBPO.load(tmp_path / "agent.zip")
    agent.save_checkpoint(tmp_path / "run.zip")
    MBPO.resume(tmp_path / "run.zip", "Pendulum-v1")  # no argument has to be named again


def test_numpys_booleans(tmp_path: Path) -> None:
    flags = ("use_sde_at_warmup", "optimize_memory_usage", "weight_model_fit", "weight_rollout_starts", "use_sde")
    given = {name: np.False_ for name in flags} | {"dynamics": "linear", "dynamics_kwargs": {"deterministic": np.True_}}
    agent = small_agent(weighter="tom", weighter_kwargs={"train_encoders": np.False_, "q_steps": 2}, **given)
    assert all(vars(agent)[name] is False for name in flags)
    assert agent.dynamics.deterministic is True and agent.weighter.settings.train_encoders is False
    agent.save_checkpoint(tmp_path / "run.zip")
    MBPO.resume(tmp_path / "run.zip", "Pendulum-v1")
    with pytest.raises(ValueError, match=r"^gradient_steps=True is not allowed"):
        small_agent(gradient_steps=np.True_)


def test_the_users_containers_stay_as_they_are() -> None:
    """SB3 writes ``use_sde`` into them."""
    given = {"net_arch": [8, 8]}
    small_agent(policy_kwargs=given)
    assert given == {"net_arch": [8, 8]}
