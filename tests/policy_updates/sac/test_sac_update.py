"""The autograd version of the fast update against SB3's ``SAC.train``."""

import copy

import pytest
import torch as th
from stable_baselines3 import SAC

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.policy_update import PolicyParts
from sb3_tom.contracts.types import Batch
from sb3_tom.policy_updates.sac.sac_update import SACUpdate
from sb3_tom.policy_updates.sac.update import SACPolicyUpdate
from sb3_tom.policy_updates.steps import fuse, is_supported
from tests.policy_updates.sac.oracle import (
    in_both_precisions,
    largest_relative_error,
    make_batches,
    make_sac,
    make_update,
    run_fast,
    run_sb3,
    state,
)


@in_both_precisions
@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"ent_coef": 0.2, "target_update_interval": 3},
        {"policy_kwargs": {"net_arch": [16, 8], "n_critics": 3, "activation_fn": th.nn.Tanh}, "gamma": 0.9, "tau": 0.05},
    ],
    ids=["default", "fixed temperature", "three critics"],
)
def test_equals_sb3(
    dtype: th.dtype, n_updates: int, tolerance: float, kwargs: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, noise = make_batches(n_updates, dtype)
    oracle, fast = make_sac(dtype, **copy.deepcopy(kwargs)), make_sac(dtype, **copy.deepcopy(kwargs))
    start = state(fast)
    assert largest_relative_error(start, state(oracle)) == 0.0
    run_sb3(oracle, batches, noise, monkeypatch)
    run_fast(fast, batches, noise, SACUpdate)
    assert largest_relative_error(state(fast), state(oracle)) <= tolerance
    assert largest_relative_error(start, state(oracle)) > 1e-4  # the updates did something


def test_frozen_critic_layers_stay_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    batches, noise = make_batches(3, th.float64)
    agents = [make_sac(th.float64), make_sac(th.float64)]
    for agent in agents:
        agent.critic.q_networks[0][0].requires_grad_(False)
    oracle, fast = agents
    start = fast.critic.q_networks[0][0].weight.clone()
    run_sb3(oracle, batches, noise, monkeypatch)
    run_fast(fast, batches, noise, SACUpdate)
    assert largest_relative_error(state(fast), state(oracle)) <= 1e-9
    assert th.equal(fast.critic.q_networks[0][0].weight, start)
    frozen = [name for name, parameter in fast.critic.named_parameters() if not parameter.requires_grad]
    assert frozen == ["qf0.0.weight", "qf0.0.bias"]


def test_losses_are_those_that_sb3_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    batches, noise = make_batches(1, th.float64)
    oracle, fast = make_sac(th.float64), make_sac(th.float64)
    run_sb3(oracle, batches, noise, monkeypatch)
    losses = make_update(fast, SACUpdate)(batches[0], noise[0], True)
    for name in losses._fields:
        assert float(getattr(losses, name)) == pytest.approx(oracle.logger.name_to_value[f"train/{name}"], rel=1e-9)


def test_covers_only_what_it_repeats() -> None:
    assert is_supported(make_sac(th.float32).policy)
    assert not is_supported(SAC("MlpPolicy", "Pendulum-v1", use_sde=True, buffer_size=10).policy)
    shared = SAC("MlpPolicy", "Pendulum-v1", policy_kwargs={"share_features_extractor": True}, buffer_size=10)
    assert not is_supported(shared.policy)
    normed = SAC("MlpPolicy", "Pendulum-v1", buffer_size=10)
    normed.critic.q_networks[0].append(th.nn.BatchNorm1d(1))
    assert not is_supported(normed.policy)


def test_fuse_leaves_a_users_choice() -> None:
    parameter = th.nn.Parameter(th.zeros(3))
    chosen = th.optim.Adam([parameter], foreach=True)
    fuse(chosen)
    assert not chosen.param_groups[0]["fused"]
    plain = th.optim.Adam([parameter])
    fuse(plain)
    assert plain.param_groups[0]["fused"]
    sgd = th.optim.SGD([parameter], lr=0.1)
    fuse(sgd)
    assert not sgd.param_groups[0]["fused"]


def test_figures_are_means_over_the_steps() -> None:
    """Of three calls of one step each, where no step changes anything."""
    batches, _ = make_batches(3, th.float64)
    agent, context = make_sac(th.float64, learning_rate=0.0, tau=0.0), Context(generator=th.Generator().manual_seed(0))

    def figures(rows: list[Batch]) -> dict[str, float]:
        asked = lambda n_batches, batch_size: iter(rows)  # noqa: E731
        return SACPolicyUpdate().update(PolicyParts.of(agent), asked, None, context, len(rows), len(rows[0].rewards))

    single = [figures([batch]) for batch in batches]
    context.generator.manual_seed(0)
    for name, value in figures(batches).items():
        assert value == pytest.approx(sum(one[name] for one in single) / 3, rel=1e-6), name
