"""The update with its backward passes written by hand against SB3's ``SAC.train``, and when it is taken."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch as th
from stable_baselines3 import SAC
from torch import nn

from sb3_tom.policy_updates.sac.handwritten_update import HandwrittenSACUpdate, supports_handwritten_gradients
from sb3_tom.policy_updates.sac.sac_update import SACUpdate
from tests.mbpo.small import small_agent
from tests.policy_updates.sac.oracle import (
    SMALL,
    in_both_precisions,
    largest_relative_error,
    make_batches,
    make_sac,
    make_update,
    run_fast,
    run_sb3,
    state,
)

CASES: dict[str, dict[str, Any]] = {
    "default": {"policy_kwargs": {"net_arch": [64, 64]}},
    "fixed temperature": {**SMALL, "ent_coef": 0.2, "target_update_interval": 3},
    "three critics": {"policy_kwargs": {"net_arch": [16, 8], "n_critics": 3}, "gamma": 0.9, "tau": 0.05},
    "five critics": {"policy_kwargs": {"net_arch": [16, 16], "n_critics": 5}},
    "one critic, one layer": {"policy_kwargs": {"net_arch": [12], "n_critics": 1}},
    "SiLU": {"policy_kwargs": {"net_arch": [64, 64], "activation_fn": nn.SiLU}},
    "SiLU in place, five critics": {
        "policy_kwargs": {"net_arch": [16, 16], "n_critics": 5, "activation_fn": partial(nn.SiLU, inplace=True)}
    },
    "SiLU, one critic, one layer": {"policy_kwargs": {"net_arch": [12], "n_critics": 1, "activation_fn": nn.SiLU}},
    "SiLU, unequal, deep": {
        "policy_kwargs": {"net_arch": {"pi": [16, 8, 8], "qf": [8, 16, 24]}, "activation_fn": nn.SiLU},
        "ent_coef": 0.2,
        "target_update_interval": 3,
    },
    "unequal, deep": {"policy_kwargs": {"net_arch": {"pi": [16, 8, 8], "qf": [8, 16, 24]}}},
    "weight decay": {"policy_kwargs": {"net_arch": [16, 16], "optimizer_kwargs": {"weight_decay": 1e-2, "eps": 1e-5}}},
    "momentum": {
        "policy_kwargs": {"net_arch": [16, 16], "optimizer_class": th.optim.SGD, "optimizer_kwargs": {"momentum": 0.9}}
    },
}


@in_both_precisions
@pytest.mark.parametrize("kwargs", CASES.values(), ids=CASES.keys())
def test_equals_sb3(
    dtype: th.dtype, n_updates: int, tolerance: float, kwargs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, noise = make_batches(n_updates, dtype)
    oracle, fast = make_sac(dtype, **copy.deepcopy(kwargs)), make_sac(dtype, **copy.deepcopy(kwargs))
    start = state(fast)
    run_sb3(oracle, batches, noise, monkeypatch)
    run_fast(fast, batches, noise, HandwrittenSACUpdate, per_train=3 * 11)
    assert largest_relative_error(state(fast), state(oracle)) <= tolerance
    assert largest_relative_error(start, state(oracle)) > 1e-5  # the updates did something


def test_actor_and_critics_may_have_different_activations(monkeypatch: pytest.MonkeyPatch) -> None:
    batches, noise = make_batches(30, th.float64)
    oracle, fast = make_sac(th.float64, **copy.deepcopy(SMALL)), make_sac(th.float64, **copy.deepcopy(SMALL))
    usual = SAC("MlpPolicy", "Pendulum-v1", buffer_size=10)
    for agent in (oracle, fast, usual):
        for number in (1, 3):
            agent.actor.latent_pi[number] = nn.SiLU()
    assert supports_handwritten_gradients(usual.policy)
    run_sb3(oracle, batches, noise, monkeypatch)
    run_fast(fast, batches, noise, HandwrittenSACUpdate)
    assert largest_relative_error(state(fast), state(oracle)) <= 1e-9


@pytest.mark.parametrize("bias", [-20.0, 2.0], ids=["below", "above"])
def test_a_clamped_deviation_has_no_gradient(bias: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """SB3 clamps log sigma to [-20, 2]; here some rows are clamped and some are not."""
    batches, noise = make_batches(30, th.float64)
    oracle, fast = make_sac(th.float64, **SMALL), make_sac(th.float64, **SMALL)
    for agent in (oracle, fast):
        agent.actor.log_std.bias.data.fill_(bias)
        agent.actor.log_std.weight.data.mul_(60)
    free = [fast.actor.get_action_dist_params(batch.observations)[1] for batch in batches]
    clamped = th.cat([(values == -20) | (values == 2) for values in free])
    assert 0.02 < clamped.double().mean() < 0.98
    run_sb3(oracle, batches, noise, monkeypatch)
    run_fast(fast, batches, noise, HandwrittenSACUpdate)
    assert largest_relative_error(state(fast), state(oracle)) <= 1e-9


def test_losses_are_those_that_sb3_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    batches, noise = make_batches(1, th.float64)
    oracle, fast = make_sac(th.float64, **SMALL), make_sac(th.float64, **SMALL)
    run_sb3(oracle, batches, noise, monkeypatch)
    losses = make_update(fast, HandwrittenSACUpdate)(batches[0], noise[0], True)
    for name in losses._fields:
        assert float(getattr(losses, name)) == pytest.approx(oracle.logger.name_to_value[f"train/{name}"], rel=1e-9)


class OtherReLU(nn.ReLU):
    """A user's activation."""


CHANGES: dict[str, Callable[[SAC], Any]] = {
    "another activation": lambda agent: agent.actor.latent_pi.__setitem__(1, nn.Tanh()),
    "two activations": lambda agent: agent.actor.latent_pi.__setitem__(1, nn.SiLU()),
    "other activations in the targets": lambda agent: [
        network.__setitem__(number, nn.SiLU()) for network in agent.critic_target.q_networks for number in (1, 3)
    ],
    "a user's activation": lambda agent: agent.critic.q_networks[0].__setitem__(1, OtherReLU()),
    "dropout": lambda agent: agent.critic.q_networks[1].insert(2, nn.Dropout(0.1)),
    "layer norm": lambda agent: agent.actor.latent_pi.append(nn.LayerNorm(256)),
    "activation behind the critic's last layer": lambda agent: agent.critic.q_networks[0].append(nn.ReLU()),
    "no activation behind the actor's last layer": lambda agent: agent.actor.latent_pi.__delitem__(3),
    "no bias": lambda agent: agent.actor.latent_pi.__setitem__(0, nn.Linear(3, 256, bias=False)),
    "another head": lambda agent: setattr(agent.actor, "log_std", nn.Sequential(agent.actor.log_std)),
    "a hook": lambda agent: agent.actor.mu.register_forward_hook(lambda *_: None),
    "spectral norm": lambda agent: nn.utils.parametrizations.spectral_norm(agent.critic.q_networks[0][0]),
    "a frozen layer": lambda agent: agent.critic.q_networks[0][0].weight.requires_grad_(False),
    "a shared layer": lambda agent: agent.critic.q_networks[0].__setitem__(2, agent.critic.q_networks[1][2]),
    "unequal critics": lambda agent: agent.critic.q_networks.__setitem__(
        0, nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 1))
    ),
    "mixed precision": lambda agent: agent.actor.mu.double(),
    "another extractor": lambda agent: setattr(agent.critic, "features_extractor", nn.Flatten()),
    "gradients changed on their way": lambda agent: agent.actor.mu.weight.register_hook(lambda gradient: 2 * gradient),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_whatever_is_not_plain_is_left_to_autograd(change: Callable[[SAC], Any]) -> None:
    agent = SAC("MlpPolicy", "Pendulum-v1", buffer_size=10)
    assert supports_handwritten_gradients(agent.policy)
    change(agent)
    assert not supports_handwritten_gradients(agent.policy)


@pytest.mark.parametrize(
    ("policy_kwargs", "kind"),
    [
        ({}, HandwrittenSACUpdate),
        ({"activation_fn": nn.SiLU}, HandwrittenSACUpdate),
        ({"activation_fn": nn.SiLU, "n_critics": 5}, HandwrittenSACUpdate),
        ({"n_critics": 3}, HandwrittenSACUpdate),
        ({"activation_fn": nn.ELU}, SACUpdate),
    ],
    ids=str,
)
def test_the_agent_takes_the_right_update(
    policy_kwargs: dict[str, Any], kind: type[SACUpdate], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    for other in (HandwrittenSACUpdate, SACUpdate):

        def call(self: SACUpdate, batch: Any, noise: Any, update_target: bool, original: Any = other.__call__) -> Any:
            calls.append(type(self))
            return original(self, batch, noise, update_target)

        monkeypatch.setattr(other, "__call__", call)
    agent = small_agent(policy_kwargs={"net_arch": [16, 16], **policy_kwargs})
    agent.learn(53)
    assert set(calls) == {kind}


def test_parameters_moved_elsewhere_are_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading, copying or moving a policy gives its parameters memory of their own."""
    batches, noise = make_batches(6, th.float64)
    oracle, fast = make_sac(th.float64, **SMALL), make_sac(th.float64, **SMALL)
    run_fast(fast, batches[:3], noise[:3], HandwrittenSACUpdate)
    for parameter in fast.policy.parameters():
        parameter.data = parameter.data.clone()
    run_fast(fast, batches[3:], noise[3:], HandwrittenSACUpdate)
    run_sb3(oracle, batches, noise, monkeypatch)
    assert largest_relative_error(state(fast), state(oracle)) <= 1e-9


def test_the_other_updates_may_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Optimisers are left as their own ``step`` would leave them."""
    batches, noise = make_batches(12, th.float64)
    oracle, fast = make_sac(th.float64, **SMALL), make_sac(th.float64, **SMALL)
    for number, kind in enumerate((HandwrittenSACUpdate, HandwrittenSACUpdate, SACUpdate, HandwrittenSACUpdate)):
        chosen = slice(3 * number, 3 * number + 3)
        run_fast(fast, batches[chosen], noise[chosen], kind)
    run_sb3(oracle, batches, noise, monkeypatch)
    assert largest_relative_error(state(fast), state(oracle)) <= 1e-9
    assert {float(values["step"]) for values in fast.critic.optimizer.state.values()} == {12.0}
