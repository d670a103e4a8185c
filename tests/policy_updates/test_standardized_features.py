"""Observations in unit scale: another scale does not change what networks have learned."""

from typing import Any

import pytest
import torch as th

from sb3_tom.data.moments import Moments, moments_of_columns
from sb3_tom.policy_updates.double_horizon.policies import DoubleHorizonPolicy
from sb3_tom.policy_updates.sac.simba import SimbaPolicy
from sb3_tom.policy_updates.standardized_features import StandardizedFeatures, rescale
from tests.policy_updates.double_horizon.cases import make_sac, starts


def like(observations: th.Tensor) -> Moments:
    return moments_of_columns(len(observations), lambda rows: observations[rows])


@pytest.mark.parametrize(
    ("policy", "kwargs"),
    [
        (DoubleHorizonPolicy, {}),
        (DoubleHorizonPolicy, {"net_arch": {"pi": [], "qf": [8]}}),
        ("MlpPolicy", {"features_extractor_class": StandardizedFeatures}),
        ("MlpPolicy", {"features_extractor_class": StandardizedFeatures, "net_arch": []}),
        (SimbaPolicy, {}),
        (SimbaPolicy, {"share_features_extractor": True}),
    ],
    ids=["the double horizon's", "no layers", "SB3's", "SB3's, no layers", "SimBa's", "SimBa's, shared features"],
)
def test_another_scale_changes_nothing_that_trained_networks_say(policy: Any, kwargs: dict[str, Any]) -> None:
    agent = make_sac(policy=policy, policy_kwargs=kwargs)
    observations, actions = starts(), th.rand(40, 2, dtype=th.float64)

    def said() -> list[th.Tensor]:
        mean, log_std, _ = agent.actor.get_action_dist_params(observations)
        return [mean, log_std, *agent.critic(observations, actions), *agent.critic_target(observations, actions)]

    fresh = said()
    rescale(agent.policy, like(observations))
    before, mean = said(), agent.actor.features_extractor.mean.clone()
    assert all(float((one - other).abs().max()) > 1e-3 for one, other in zip(fresh, before, strict=True))  # a first scale
    rescale(agent.policy, like(3.0 * observations + 0.5 * observations.std(0)))
    assert float((agent.actor.features_extractor.mean - mean).abs().min()) > 1e-3
    for one, other in zip(said(), before, strict=True):
        th.testing.assert_close(one, other)


@pytest.mark.parametrize("unit", [1e-3, 100.0])
def test_weights_of_a_constant_entry_are_for_any_unit(unit: float) -> None:
    """As they were drawn: nothing was learned with them."""
    agent = make_sac()
    rescale(agent.policy, like(starts() * th.tensor([1.0, 1.0, 0.0], dtype=th.float64)))
    before = agent.actor.latent_pi[0].weight[:, 2].clone()
    third = starts()[:, 2:] / starts()[:, 2].std(correction=0) * unit
    rescale(agent.policy, like(th.cat([starts()[:, :2], third], 1)))
    th.testing.assert_close(agent.actor.latent_pi[0].weight[:, 2], before)


def test_an_entry_that_begins_to_vary_does_not_blow_weights_up() -> None:
    """Inputs were cut at ten standard deviations: what networks said beyond is not kept."""
    agent = make_sac()
    before, bias = agent.critic.layers[0].weight.clone(), agent.critic.layers[0].bias.clone()
    still = starts() * th.tensor([1.0, 1.0, 1e-9], dtype=th.float64)
    rescale(agent.policy, like(still))
    rescale(agent.policy, like(starts()))
    after = agent.critic.layers[0].weight
    assert float((after / before).abs().max()) <= StandardizedFeatures.bound * (1 + 1e-9)
    most = StandardizedFeatures.bound * before.abs().sum(1, keepdim=True)
    assert bool(((agent.critic.layers[0].bias - bias).abs() <= 2 * most).all())


def test_a_constant_entry_that_moves_far_away_does_not_blow_biases_up() -> None:
    agent = make_sac()
    rescale(agent.policy, like(starts() * th.tensor([1.0, 1.0, 1e-9], dtype=th.float64)))
    weight, bias = agent.critic.layers[0].weight.clone(), agent.critic.layers[0].bias.clone()
    rescale(agent.policy, like(starts() + th.tensor([0.0, 0.0, 100.0], dtype=th.float64)))
    most = StandardizedFeatures.bound * weight.abs().sum(1, keepdim=True)
    assert bool(((agent.critic.layers[0].bias - bias).abs() <= 2 * most).all())
