"""Critics with layer normalisation and dropout: what they compute, when masks are drawn, and that they train as in SB3."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch as th
import torch.nn.functional as F
from stable_baselines3 import SAC
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from sb3_tom import DHMBPO, MBPO
from sb3_tom.checkpoint import ResumeCallback
from sb3_tom.policy_updates.sac.handwritten_update import supports_handwritten_gradients
from sb3_tom.policy_updates.sac.policies import LayerNormPolicy
from sb3_tom.policy_updates.sac.sac_update import SACUpdate
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

CASES: dict[str, dict[str, Any]] = {
    "layer norm": {"net_arch": [16, 16]},
    "dropout": {"net_arch": [16, 16], "dropout_rate": 0.2},
    "dropout, SiLU, five critics": {"net_arch": [16, 8], "dropout_rate": 0.05, "activation_fn": nn.SiLU, "n_critics": 5},
}
DROPOUT: dict[str, Any] = {"policy": "LayerNormPolicy", "policy_kwargs": {"net_arch": [16, 16], "dropout_rate": 0.2}}


@in_both_precisions
@pytest.mark.parametrize("kwargs", CASES.values(), ids=CASES.keys())
def test_trains_as_sb3_would(
    dtype: th.dtype, n_updates: int, tolerance: float, kwargs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same masks: both draw them in the same order from torch's stream."""
    batches, noise = make_batches(n_updates, dtype)
    oracle, fast, other = (make_sac(dtype, LayerNormPolicy, policy_kwargs=copy.deepcopy(kwargs)) for _ in range(3))
    start = state(fast)
    for seed, agent in ((0, fast), (1, other)):
        th.manual_seed(seed)
        run_fast(agent, batches, noise, SACUpdate)
    th.manual_seed(0)
    run_sb3(oracle, batches, noise, monkeypatch)
    assert largest_relative_error(state(fast), state(oracle)) <= tolerance
    assert largest_relative_error(start, state(oracle)) > 1e-4
    assert (largest_relative_error(state(other), state(oracle)) > 10 * tolerance) == ("dropout_rate" in kwargs)


@pytest.mark.parametrize("training", [True, False])
def test_critics_are_what_they_say(training: bool) -> None:
    """Linear layer, dropout, layer normalisation, activation: in the order of DroQ."""
    policy = make_sac(th.float64, LayerNormPolicy, policy_kwargs=copy.deepcopy(CASES["dropout, SiLU, five critics"])).policy
    observations, actions = th.randn(7, 3, dtype=th.float64), th.rand(7, 1, dtype=th.float64)
    policy.set_training_mode(training)
    for critics in (policy.critic, policy.critic_target):
        for network in critics.q_networks:
            for norm in (network[2], network[6]):
                nn.init.normal_(norm.weight)
        th.manual_seed(3)
        values = critics(observations, actions)
        th.manual_seed(3)
        expected = []
        for network in critics.q_networks:
            hidden = th.cat([observations, actions], dim=1)
            for linear, norm in ((network[0], network[2]), (network[4], network[6])):
                hidden = F.dropout(hidden @ linear.weight.T + linear.bias, 0.05, training)
                centred = hidden - hidden.mean(1, keepdim=True)
                hidden = norm.weight * centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt() + norm.bias
                hidden = hidden * th.sigmoid(hidden)
            expected.append(hidden @ network[8].weight.T + network[8].bias)
        assert len(values) == 5
        for value, other in zip(values, expected, strict=True):
            th.testing.assert_close(value, other, rtol=1e-12, atol=1e-12)


def test_the_general_update_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = SACUpdate.__call__

    def call(self: SACUpdate, *args: Any, **kwargs: Any) -> Any:
        calls.append((type(self), self.parts.policy.critic.training, self.parts.policy.critic_target.q_networks[0].training))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(SACUpdate, "__call__", call)
    agent = small_agent(**DROPOUT).learn(53)
    assert is_supported(agent.policy) and not supports_handwritten_gradients(agent.policy)
    assert set(calls) == {(SACUpdate, True, True)}


def test_there_is_no_dropout_where_values_are_asked_for() -> None:
    agent = small_agent(**DROPOUT).learn(60)
    rows, actions = th.randn(20, 3), th.rand(20, 1)
    context = agent._context()
    for values in (context.values, context.target_values):
        assert th.equal(values(rows, actions), values(rows, actions))
    agent.policy.set_training_mode(True)
    assert not th.equal(*(th.cat(agent.critic(rows, actions)) for _ in range(2)))
    first, second = (agent.predict(rows.numpy(), deterministic=True)[0] for _ in range(2))
    assert (first == second).all()
    assert not any(isinstance(part, nn.Dropout) and part.training for part in agent.policy.modules())


class Features(FlattenExtractor):
    """A user's, which would behave otherwise in training."""


def test_features_of_the_targets_stay_in_evaluation_mode() -> None:
    agent = small_agent(**{**DROPOUT, "policy_kwargs": {"dropout_rate": 0.1, "features_extractor_class": Features}})
    agent.policy.set_training_mode(True)
    assert agent.critic.features_extractor.training and not agent.critic_target.features_extractor.training


def test_saved_and_loaded(tmp_path: Path) -> None:
    agent = small_agent(**DROPOUT).learn(60)
    agent.save(tmp_path / "agent")
    agent.policy.save(tmp_path / "policy")
    loaded = MBPO.load(tmp_path / "agent", "Pendulum-v1")
    assert type(loaded.policy) is LayerNormPolicy and loaded.policy.dropout_rate == 0.2
    policies = loaded.policy, LayerNormPolicy.load(tmp_path / "policy")
    for policy in policies:
        assert largest_relative_error(policy.state_dict(), agent.policy.state_dict()) == 0.0
        assert [part.p for part in policy.critic.modules() if isinstance(part, nn.Dropout)] == [0.2] * 4
    loaded.learn(60)


def test_a_checkpoint_names_the_policy(tmp_path: Path) -> None:
    agent = small_agent(**DROPOUT)
    agent.learn(60, ResumeCallback(tmp_path, 30))
    resumed = MBPO.resume(tmp_path, "Pendulum-v1")
    assert type(resumed.policy) is LayerNormPolicy and resumed.policy.dropout_rate == 0.2


@pytest.mark.parametrize("rate", [-0.1, 1.0, "0.1", None, th.nan])
def test_a_rate_that_is_none_is_refused(rate: Any) -> None:
    with pytest.raises(ValueError, match=r"dropout_rate=.* is not allowed; allowed: a number in \[0, 1\)"):
        small_agent(policy="LayerNormPolicy", policy_kwargs={"dropout_rate": rate})


def test_other_policies_have_no_dropout() -> None:
    with pytest.raises(ValueError, match=r"policy_kwargs=.*dropout_rate.* do not fit the policy"):
        small_agent(policy_kwargs={"dropout_rate": 0.1})
    with pytest.raises(ValueError, match=r"policy='LayerNormPolicy' is not allowed; allowed: 'MlpPolicy' or a subclass"):
        DHMBPO("LayerNormPolicy", "Pendulum-v1")


@pytest.mark.parametrize("kwargs", [{"policy_update": "double_horizon", "dynamics": "smooth"}, {"use_sde": True}], ids=str)
def test_the_other_updates_take_it_too(kwargs: dict[str, Any]) -> None:
    agent = small_agent(**DROPOUT, **kwargs)
    start = copy.deepcopy(agent.critic.state_dict())
    agent.learn(60)
    assert largest_relative_error(agent.critic.state_dict(), start) > 1e-4
    assert isinstance(SAC(LayerNormPolicy, "Pendulum-v1", buffer_size=10).critic.q_networks[0][1], nn.LayerNorm)
