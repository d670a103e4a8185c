"""SimBa's networks: what they compute, that they train as in SB3, and that everything else of an agent goes with them."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch as th
from stable_baselines3 import SAC
from torch import nn

from sb3_tom import DHMBPO, MBPO
from sb3_tom.checkpoint import ResumeCallback
from sb3_tom.policy_updates.sac.handwritten_update import supports_handwritten_gradients
from sb3_tom.policy_updates.sac.sac_update import SACUpdate
from sb3_tom.policy_updates.sac.simba import SimbaPolicy
from sb3_tom.policy_updates.standardized_features import StandardizedFeatures
from sb3_tom.policy_updates.steps import is_supported
from tests.mbpo.small import small_agent
from tests.policy_updates.sac.oracle import (
    in_both_precisions,
    largest_relative_error,
    make_batches,
    make_sac,
    run_fast,
    run_sb3,
    state,
)

NETWORKS: dict[str, Any] = {"net_arch": {"pi": [8], "qf": [16, 16]}}
SIMBA: dict[str, Any] = {"policy": "SimbaPolicy", "policy_kwargs": NETWORKS}


@in_both_precisions
@pytest.mark.parametrize("kwargs", [{}, {"activation_fn": nn.SiLU, "n_critics": 3}], ids=["its own", "SiLU, three critics"])
def test_trains_as_sb3_would(
    dtype: th.dtype, n_updates: int, tolerance: float, kwargs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, noise = make_batches(n_updates, dtype)
    oracle, fast = (make_sac(dtype, SimbaPolicy, policy_kwargs=copy.deepcopy(NETWORKS | kwargs)) for _ in range(2))
    start = state(fast)
    run_fast(fast, batches, noise, SACUpdate)
    run_sb3(oracle, batches, noise, monkeypatch)
    assert largest_relative_error(state(fast), state(oracle)) <= tolerance
    assert largest_relative_error(start, state(oracle)) > 1e-4
    assert len(oracle.critic.q_networks) == kwargs.get("n_critics", 2)


def normed(inputs: th.Tensor, layer: nn.Module) -> th.Tensor:
    centred = inputs - inputs.mean(1, keepdim=True)
    return layer.weight * centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt() + layer.bias


def simba(inputs: th.Tensor, layers: list[Any]) -> th.Tensor:
    """Written down once more, from the paper's Figure 4."""
    first, *blocks, last = layers
    hidden = inputs @ first.weight.T + first.bias
    for block in blocks:
        norm, wide, _, back = block.branch
        assert wide.weight.shape == (4 * hidden.shape[1], hidden.shape[1])
        inner = (normed(hidden, norm) @ wide.weight.T + wide.bias).clamp(min=0.0)
        hidden = hidden + inner @ back.weight.T + back.bias
    return normed(hidden, last)


def test_networks_are_what_they_say() -> None:
    policy = make_sac(th.float64, SimbaPolicy, policy_kwargs=copy.deepcopy(NETWORKS)).policy
    observations, actions = th.randn(7, 3, dtype=th.float64), th.rand(7, 1, dtype=th.float64)
    for parameter in policy.parameters():  # biases begin at 0, factors at 1
        parameter.data += 0.1 * th.randn_like(parameter)
    for network in (policy.actor, policy.critic):
        mean, std, is_constant = th.tensor([0.5, -1.0, 0.0]), th.tensor([2.0, 0.3, 1.0]), th.tensor([False, False, True])
        network.features_extractor.take(mean, std, is_constant, False)
    scaled = (observations - th.tensor([0.5, -1.0, 0.0])) / th.tensor([2.0, 0.3, 1.0], dtype=th.float64)
    latent = simba(scaled, [*policy.actor.latent_pi])
    mean, log_std, _ = policy.actor.get_action_dist_params(observations)
    th.testing.assert_close(mean, latent @ policy.actor.mu.weight.T + policy.actor.mu.bias, rtol=1e-6, atol=1e-6)
    th.testing.assert_close(log_std, latent @ policy.actor.log_std.weight.T + policy.actor.log_std.bias, rtol=1e-6, atol=1e-6)
    assert latent.shape[1] == 8
    for number, value in enumerate(policy.critic(observations, actions)):
        *layers, head = policy.critic.q_networks[number]
        expected = simba(th.cat([scaled, actions], dim=1), layers) @ head.weight.T + head.bias
        th.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)


def test_its_own_defaults() -> None:
    """Those of SBX's policy of this name; AdamW's own weight decay is SimBa's."""
    agent = MBPO("SimbaPolicy", "Pendulum-v1", buffer_size=10)
    assert [len(one) for one in (agent.actor.latent_pi, *agent.critic.q_networks)] == [
        3,
        5,
        5,
    ]  # one block, two and a last layer
    for network in (agent.actor, agent.critic):
        assert type(network.optimizer) is th.optim.AdamW and network.optimizer.param_groups[0]["weight_decay"] == 0.01
        weights = sum(group.numel() for groups in network.optimizer.param_groups for group in groups["params"])
        assert weights == sum(parameter.numel() for parameter in network.parameters())  # also those made after SB3's
    for number, width in ((1, 256), (2, 256)):
        wide = agent.critic.q_networks[0][number].branch[1]
        assert abs(float(wide.weight.detach().std()) * (width / 2) ** 0.5 - 1.0) < 0.02  # He et al. 2015
    first = agent.actor.latent_pi[0].weight.detach()
    th.testing.assert_close(first.T @ first, th.eye(3), atol=1e-5, rtol=0.0)


def test_the_general_update_is_taken() -> None:
    agent = small_agent(**SIMBA)
    assert is_supported(agent.policy) and not supports_handwritten_gradients(agent.policy)


def test_observations_are_scaled_by_the_policy_itself(tmp_path: Path) -> None:
    """With each model phase; what is saved, alone or with the agent, predicts from the env's own observations."""
    agent = small_agent(**SIMBA).learn(75)
    rows = agent.replay_buffer.transitions().observations
    features = agent.actor.features_extractor
    assert isinstance(features, StandardizedFeatures)
    th.testing.assert_close(features.mean, rows[:51].mean(0))  # of the phase at 51
    agent.save(tmp_path / "agent")
    agent.policy.save(tmp_path / "policy")
    loaded = MBPO.load(tmp_path / "agent", "Pendulum-v1")
    for policy in (loaded.policy, SimbaPolicy.load(tmp_path / "policy")):
        assert type(policy) is SimbaPolicy
        assert largest_relative_error(policy.state_dict(), agent.policy.state_dict()) == 0.0
    assert (loaded.predict(rows.numpy(), deterministic=True)[0] == agent.predict(rows.numpy(), deterministic=True)[0]).all()
    loaded.learn(60)


def test_a_resumed_run_is_the_same(tmp_path: Path) -> None:
    whole = small_agent(**SIMBA).learn(120)
    small_agent(**SIMBA).learn(75, ResumeCallback(tmp_path, 75))
    resumed = MBPO.resume(tmp_path, "Pendulum-v1")
    assert type(resumed.policy) is SimbaPolicy
    resumed.learn(120, reset_num_timesteps=False)
    assert resumed.num_timesteps == whole.num_timesteps
    assert largest_relative_error(resumed.policy.state_dict(), whole.policy.state_dict()) == 0.0


@pytest.mark.parametrize("net_arch", [[], [8, 16], {"pi": [], "qf": [8]}, {"pi": [8], "qf": [8, 9]}], ids=str)
def test_blocks_of_other_widths_are_refused(net_arch: Any) -> None:
    with pytest.raises(
        ValueError, match=r"policy_kwargs\['net_arch'\]=.* is not allowed with policy='SimbaPolicy'; allowed: at"
    ):
        small_agent(policy="SimbaPolicy", policy_kwargs={"net_arch": net_arch})


@pytest.mark.parametrize("kwargs", [{"policy_update": "double_horizon", "dynamics": "smooth"}, {"use_sde": True}], ids=str)
def test_the_other_updates_take_it_too(kwargs: dict[str, Any]) -> None:
    agent = small_agent(**SIMBA, **kwargs)
    start = copy.deepcopy(agent.critic.state_dict())
    agent.learn(60)
    assert largest_relative_error(agent.critic.state_dict(), start) > 1e-4


def test_plain_sac_takes_it_too() -> None:
    agent = SAC(SimbaPolicy, "Pendulum-v1", buffer_size=100, learning_starts=10, batch_size=8, policy_kwargs=NETWORKS).learn(
        20
    )
    assert float(agent.actor.features_extractor.std.min()) == 1.0  # nobody sets the scale


def test_the_double_horizon_has_networks_of_its_own() -> None:
    with pytest.raises(ValueError, match=r"policy='SimbaPolicy' is not allowed; allowed: 'MlpPolicy' or a subclass"):
        DHMBPO("SimbaPolicy", "Pendulum-v1")
