"""A plug that comes as an instance belongs to one agent, whatever happens to that agent."""

import copy
import io
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import torch as th

from sb3_tom import MBPO, LinearDynamics, PMACWeighter, TOMWeighter
from sb3_tom.objectives.likelihood import LikelihoodObjective
from sb3_tom.terminations.auto import AutoTermination
from sb3_tom.terminations.learned import LearnedTermination
from sb3_tom.terminations.user_function import NeverTermination
from tests.mbpo.small import SMALL_WEIGHTERS, small_agent
from tests.mbpo.test_mbpo import Corridor

TINY: dict[str, Any] = {"rollout_batch_size": 20, "dynamics": "linear", "policy_kwargs": {"net_arch": [8]}}
QUICK = {"first_gradient_steps": 10, "gradient_steps": 5}
INSTANCES = {
    "weighter": lambda: TOMWeighter(**SMALL_WEIGHTERS["tom"]),
    "dynamics": LinearDynamics,
    "objective": LikelihoodObjective,
    "termination_fn": lambda: LearnedTermination(**QUICK),
}


def agent_with(name: str, value: Any, **kwargs: Any) -> MBPO:
    without = {"weighter_kwargs": None, "dynamics_kwargs": None}
    chosen = {name: value, **kwargs}
    termination = {} if "termination_fn" in chosen else {"termination_fn": "learned", "termination_kwargs": QUICK}
    return small_agent(Corridor(ends=True), **{**TINY, **without, **termination, **chosen})


@pytest.mark.parametrize("name", INSTANCES)
def test_a_second_agent_is_refused_and_the_first_stays_as_it_was(name: str) -> None:
    plug = INSTANCES[name]()
    first = agent_with(name, plug).learn(60)
    before = copy.deepcopy(first.get_parameters())
    allowed = "allowed: a new instance, or the class"
    with pytest.raises(ValueError, match=rf"^{name}=.*{type(plug).__name__}.* is not allowed: .*another agent.*; {allowed}"):
        agent_with(name, plug, seed=1)
    th.testing.assert_close(first.get_parameters(), before, rtol=0.0, atol=0.0)
    first.learn(60)
    del first
    with pytest.raises(ValueError, match=f"^{name}="):
        agent_with(name, plug)


def test_what_an_agent_has_learned_is_not_another_ones_start() -> None:
    """Not by the way of a copy either, nor of a loaded agent's plug: it would be built anew in silence."""
    agent = agent_with("dynamics", "linear").learn(60)
    for plug in (agent.dynamics, copy.deepcopy(agent.dynamics), cloudpickle.loads(cloudpickle.dumps(agent.dynamics))):
        with pytest.raises(ValueError, match=r"^dynamics=.*LinearDynamics.* is not allowed"):
            agent_with("dynamics", plug)
    agent_with("dynamics", type(agent.dynamics)())


def test_a_part_of_a_plug_counts() -> None:
    head = LearnedTermination()
    agent_with("termination_fn", AutoTermination(head=head))
    with pytest.raises(ValueError, match=r"^termination_fn=.*AutoTermination"):
        agent_with("termination_fn", AutoTermination(head=head))


NAMED = LearnedTermination()


def test_a_name_makes_a_plug_for_each_agent() -> None:
    first, second = (agent_with("termination_fn", f"{__name__}:NAMED") for _ in range(2))
    assert len({id(NAMED), id(first.termination), id(second.termination)}) == 3


def test_a_refused_construction_takes_no_instance() -> None:
    weighter, termination = PMACWeighter(), NeverTermination()
    for wrong in ({"gamma": 2.0}, {"dynamics": "none"}, {"objective_kwargs": {"scale": 2}}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            agent_with("weighter", weighter, termination_fn=termination, **wrong)
    assert agent_with("weighter", weighter, termination_fn=termination).weighter is weighter


@pytest.mark.parametrize("name", INSTANCES)
def test_all_that_happens_to_one_agent_is_allowed(name: str, tmp_path: Path) -> None:
    plug, part = INSTANCES[name](), name.removesuffix("_fn")
    agent = agent_with(name, plug).learn(60)
    assert getattr(agent, part) is plug
    agent.save(tmp_path / "agent")
    agent.save_checkpoint(tmp_path / "run.zip")
    agent.set_env(Corridor(ends=True))
    loaded = MBPO.load(tmp_path / "agent", env=Corridor(ends=True))
    again = io.BytesIO()
    loaded.save(again)
    again.seek(0)
    others = [
        loaded,
        MBPO.load(again, env=Corridor(ends=True)),
        MBPO.load(tmp_path / "agent", env=Corridor(ends=True), **{name: INSTANCES[name]()}),
        MBPO.resume(tmp_path / "run.zip", Corridor(ends=True), **{name: INSTANCES[name]()}),
        copy.deepcopy(agent),
        cloudpickle.loads(cloudpickle.dumps(agent)),
    ]
    for index, other in enumerate(others):
        assert getattr(other, part) is not plug, index
        th.testing.assert_close(other.get_parameters(), agent.get_parameters(), rtol=0.0, atol=0.0)
        other.learn(30, reset_num_timesteps=False)
    agent._setup_model()  # from scratch, as SB3's constructor does
    agent.learn(60)
    agent.save(tmp_path / "agent")
    MBPO.load(tmp_path / "agent")


def test_a_warm_start_takes_an_instance_of_its_own() -> None:
    source = agent_with("dynamics", LinearDynamics()).learn(60)
    agent = MBPO.from_sac(source, Corridor(ends=True), **{**TINY, "dynamics": LinearDynamics()})
    assert agent.dynamics is not source.dynamics
    with pytest.raises(ValueError, match=r"^dynamics="):
        MBPO.from_sac(source, Corridor(ends=True), **{**TINY, "dynamics": source.dynamics})
