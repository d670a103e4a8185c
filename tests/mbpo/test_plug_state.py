"""What a plug learns is in its files, or the first model phase says that it is not: after a run it would be too late."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch as th

from sb3_tom import MBPO, Context, Transitions, Weighter
from sb3_tom.contracts.policy_update import PolicyParts
from sb3_tom.mbpo.axes import AXES
from sb3_tom.policy_updates.sac.update import SACPolicyUpdate
from tests.mbpo.small import small_agent

TINY: dict[str, Any] = {"dynamics": "linear", "weighter_kwargs": None, "rollout_batch_size": 20}


class Remembers(Weighter):
    """Weighs rows by a state of its own."""

    def build(self, observation_dim: int, action_dim: int) -> None:
        self.register_buffer("rows", th.zeros(0, observation_dim))

    def remember(self, data: Transitions) -> None:
        """Store something."""

    def fit(self, data: Transitions, recent: Transitions, start_observations: th.Tensor, context: Context) -> None:
        self.remember(data)

    def weights(self, data: Transitions, context: Context) -> th.Tensor:
        return th.ones(data.size)


def keeps(remember: Callable[[Any, Transitions], None], **attributes: Any) -> type[Weighter]:
    return type("Mine", (Remembers,), {"remember": remember, **attributes})


def grown(plug: Any, data: Transitions) -> None:
    plug.rows = data.observations[:7].clone()


def cast(plug: Any, data: Transitions) -> None:
    plug.rows = data.observations[:7].double()


def widened(plug: Any, data: Transitions) -> None:
    plug.rows = th.zeros(7, 9)


def made_late(plug: Any, data: Transitions) -> None:
    plug.network = th.nn.Linear(1, 1)


def steps_late(plug: Any, data: Transitions) -> None:
    plug.adam = th.optim.Adam([th.nn.Parameter(th.zeros(1))])


def dropped(plug: Any, data: Transitions) -> None:
    del plug.rows


LOST: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a size that changes": (grown, {}, r"Mine\.rows is .*\(7, 3\) and was .*\(0, 3\) in build.*its name in growing"),
    "a type": (cast, {"growing": ("rows",)}, r"Mine\.rows is torch.float64 .* and was torch.float32"),
    "the size of a row": (widened, {"growing": ("rows",)}, r"Mine\.rows is .*\(7, 9\) and was .*\(0, 3\)"),
    "a network": (made_late, {}, r"Mine\.network\.(weight|bias) was made after build\(\)"),
    "an optimiser": (steps_late, {}, r"Mine\.adam was made after build\(\)"),
    "a buffer that is gone": (dropped, {}, r"Mine\.rows is gone since build\(\)"),
}


@pytest.mark.parametrize("case", LOST)
def test_what_could_not_be_loaded_is_refused_in_the_first_phase(case: str) -> None:
    remember, attributes, message = LOST[case]
    with pytest.raises(ValueError, match=message):
        small_agent(weighter=keeps(remember, **attributes), **TINY).learn(60)  # type: ignore[arg-type]


def test_a_growing_buffer_comes_back(tmp_path: Path) -> None:
    agent = small_agent(weighter=keeps(grown, growing=("rows",)), **TINY).learn(60)  # type: ignore[arg-type]
    agent.save(tmp_path / "agent")
    assert th.equal(MBPO.load(tmp_path / "agent").weighter.rows, agent.weighter.rows)


def adam(network: th.nn.Module) -> th.optim.Optimizer:
    return th.optim.Adam(network.parameters())


@pytest.mark.parametrize("name", ["steppers", "network.steppers", "optimizers"])
def test_optimisers_that_would_not_be_found_are_refused(name: str) -> None:
    def build(plug: Any, observation_dim: int, action_dim: int) -> None:
        plug.network = th.nn.Linear(1, 1)
        setattr(plug.network if name == "network.steppers" else plug, name.rpartition(".")[2], [adam(plug.network)])

    with pytest.raises(ValueError, match=rf"Mine\.{name} of list is not allowed: its optimisers would not be saved"):
        small_agent(weighter=type("Mine", (Remembers,), {"build": build}), **TINY)  # type: ignore[arg-type]


def test_numbers_that_files_lack_are_named_once() -> None:
    def count(plug: Any, data: Transitions) -> None:
        plug.calls, plug._calls = plug.calls + 1, 1
        plug.network.centre = th.ones(2)

    mine: Any = keeps(count)()
    mine.calls, mine._calls, mine.same, mine.best = 0, 0, 1, float("nan")
    mine.half, mine.network = th.ones(2, dtype=th.bfloat16), th.nn.Linear(1, 1)
    mine.network.centre = th.zeros(2)
    with pytest.warns(UserWarning) as caught:
        small_agent(weighter=mine, **TINY).learn(120)  # type: ignore[arg-type]
    said = [str(one.message) for one in caught if "no file holds it" in str(one.message)]
    assert [text.partition(" ")[0] for text in sorted(said)] == ["Mine.calls", "Mine.network.centre"]


def test_a_number_that_files_hold_is_not_warned_of(tmp_path: Path) -> None:
    class Counts(Remembers):
        calls = 0

        def remember(self, data: Transitions) -> None:
            self.calls += 1

        def get_extra_state(self) -> int:
            return self.calls

        def set_extra_state(self, state: int) -> None:
            self.calls = state

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*no file holds it")
        agent = small_agent(weighter=Counts, **TINY).learn(80)  # type: ignore[arg-type]
    agent.save(tmp_path / "agent")
    assert MBPO.load(tmp_path / "agent", weighter=Counts).weighter.calls == agent.weighter.calls == 2


def test_the_policys_own_optimisers_may_be_kept_by_an_update(tmp_path: Path) -> None:
    class Caches(SACPolicyUpdate):
        def update(self, parts: PolicyParts, *arguments: Any) -> dict[str, float]:
            self._mine = parts.optimizers
            return super().update(parts, *arguments)

    agent = small_agent(policy_update=Caches, dynamics="linear", rollout_batch_size=20).learn(80)
    agent.save(tmp_path / "agent")
    MBPO.load(tmp_path / "agent", policy_update=Caches)


@pytest.mark.parametrize(
    ("argument", "alias"), [(name, alias) for name, axis in AXES.items() for alias in sorted(axis.aliases)]
)
def test_the_packages_own_plugs_keep_what_they_learn(argument: str, alias: str) -> None:
    kwargs: dict[str, Any] = {"rollout_batch_size": 20, "update_to_data_ratio": 0.5, argument: alias}
    if argument == "objective":
        kwargs["objective_kwargs"] = {"likelihood_fits": 1, "classifier_steps": 2} if alias == "mnm" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="health/")
        small_agent(**kwargs).learn(80)
