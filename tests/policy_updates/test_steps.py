"""What a user changes of a made agent has the effect that it has in SB3's SAC, in every update."""

from typing import Any

import pytest
import torch as th
from torch import nn

from sb3_tom import DHMBPO, MBPO
from sb3_tom.policy_updates.steps import fuse
from tests.mbpo.small import small_agent
from tests.policy_updates.double_horizon.cases import TINY

UPDATES: dict[str, dict[str, Any]] = {
    "by hand": {},
    "autograd": {"policy_kwargs": {"net_arch": [8], "activation_fn": nn.Tanh}},
    "SB3's own": {"use_sde": True},
    "double horizon": {"policy_update": "double_horizon"},
}
in_every_update = pytest.mark.parametrize("update", UPDATES)


def agent_of(update: str, **policy_kwargs: Any) -> MBPO:
    kwargs = {"policy_kwargs": {"net_arch": [8]}, **UPDATES[update]}
    kwargs["policy_kwargs"] = {**kwargs["policy_kwargs"], **policy_kwargs}
    if update == "double horizon":
        return DHMBPO("MlpPolicy", "Pendulum-v1", **{**TINY, "policy_kwargs": kwargs["policy_kwargs"]})
    return small_agent(dynamics="linear", **kwargs)


@in_every_update
def test_a_frozen_actor_stays_and_the_critics_learn(update: str) -> None:
    agent = agent_of(update).learn(60)
    agent.actor.requires_grad_(False)
    before = {name: [value.clone() for value in getattr(agent, name).parameters()] for name in ("actor", "critic")}
    temperature = agent.log_ent_coef.detach().clone()
    agent.train_policy(3, 8)
    same = {name: all(map(th.equal, getattr(agent, name).parameters(), values)) for name, values in before.items()}
    assert same == {"actor": True, "critic": False}
    assert not th.equal(agent.log_ent_coef, temperature)
    agent.actor.requires_grad_(True)
    agent.train_policy(1, 8)
    assert not all(map(th.equal, agent.actor.parameters(), before["actor"]))


@in_every_update
def test_a_temperature_that_is_fixed_later_is_used(update: str) -> None:
    """SB3 learns it only where it has an optimiser."""
    agent = agent_of(update).learn(60)
    agent.ent_coef_optimizer, agent.ent_coef_tensor = None, th.tensor(0.0123)
    learned = agent.log_ent_coef.detach().clone()
    agent.logger.name_to_value.clear()
    agent.train_policy(3, 8)
    assert agent.logger.name_to_value["train/ent_coef"] == pytest.approx(0.0123)
    assert "train/ent_coef_loss" not in agent.logger.name_to_value and th.equal(agent.log_ent_coef, learned)


class BareZeroGrad(th.optim.Adam):
    """Its ``zero_grad`` takes nothing, and SB3 gives it nothing."""

    def zero_grad(self) -> None:  # type: ignore[override]
        super().zero_grad()


@in_every_update
def test_an_optimiser_of_ones_own_is_asked_as_sb3_asks_it(update: str) -> None:
    assert agent_of(update, optimizer_class=BareZeroGrad).learn(60)._n_updates > 0


@pytest.mark.parametrize(("chosen", "fused"), [({}, True), ({"foreach": False}, None), ({"foreach": True}, None)])
def test_only_an_adam_without_a_chosen_implementation_is_fused(chosen: dict[str, Any], fused: bool | None) -> None:
    optimizer = th.optim.Adam([nn.Parameter(th.zeros(2))], **chosen)
    fuse(optimizer)
    assert optimizer.param_groups[0]["fused"] is fused


@pytest.mark.parametrize("update", sorted({*UPDATES} - {"SB3's own"}))  # SB3 cannot go on then
def test_a_frozen_temperature_stays(update: str) -> None:
    agent = agent_of(update).learn(60)
    assert agent.log_ent_coef is not None
    before = agent.log_ent_coef.detach().clone()
    agent.train_policy(1, 8)
    assert not th.equal(agent.log_ent_coef, before)
    before = agent.log_ent_coef.requires_grad_(False).clone()
    agent.train_policy(3, 8)
    assert th.equal(agent.log_ent_coef, before)
