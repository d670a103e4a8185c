"""Observations in unit scale: another scale does not change what networks have learned."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch as th
from torch.nn.utils import parametrizations

from sb3_tom import DHMBPO
from sb3_tom.data.moments import Moments, moments_of_columns
from sb3_tom.policy_updates.double_horizon.policies import DoubleHorizonPolicy
from sb3_tom.policy_updates.sac.simba import SimbaPolicy
from sb3_tom.policy_updates.standardized_features import StandardizedFeatures, rescale
from tests.policy_updates.double_horizon.cases import TINY, make_sac, starts


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


def change_by(optimizer_class: type[th.optim.Optimizer] | None) -> Callable[[DHMBPO], None]:
    """Pretraining of the actor by an optimiser of one's own; None: by its own."""

    def pretrain(agent: DHMBPO) -> None:
        own = optimizer_class(agent.actor.parameters(), 1e-2) if optimizer_class else agent.actor.optimizer
        for _ in range(3):
            own.zero_grad()
            agent.actor(th.randn(20, 3), deterministic=True).square().mean().backward()
            own.step()

    return pretrain


def load_a_trained_policy(agent: DHMBPO) -> None:
    other = tiny(seed=1)
    change_by(th.optim.SGD)(other)
    agent.policy.load_state_dict(other.policy.state_dict())


def step_the_critics(agent: DHMBPO) -> None:
    """By an optimiser that keeps no state, and a file in between: the targets have not come along."""
    with th.no_grad():
        agent.critic.layers[-1].weight.add_(0.1)
    agent.set_parameters(agent.get_parameters())


def tiny(**changes: Any) -> DHMBPO:
    return DHMBPO("MlpPolicy", "Pendulum-v1", **{**TINY, "policy_update_kwargs": {"critic_warmup": 0}, **changes})


TRAINED: dict[str, Callable[[DHMBPO], None]] = {
    "the actor's optimiser": change_by(None),
    "another Adam": change_by(th.optim.Adam),
    "SGD": change_by(th.optim.SGD),
    "a state_dict": load_a_trained_policy,
    "the critics' targets": step_the_critics,
}


def phase(agent: DHMBPO) -> tuple[th.Tensor, th.Tensor]:
    """What the actor says before and after its first model phase."""
    rows = agent.replay_buffer.transitions().observations
    with th.no_grad():
        before = agent.actor(rows, deterministic=True)
        agent.end_phase()
        return before, agent.actor(rows, deterministic=True)


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("change", TRAINED.values(), ids=TRAINED)
def test_the_first_scale_leaves_what_was_trained_in_any_way(change: Callable[[DHMBPO], None], copied: bool) -> None:
    agent = tiny().learn(40)
    change(agent)
    assert float(agent.actor.features_extractor.std[2]) == 1.0
    if copied:
        agent.predict(agent.observation_space.sample())  # SB3's distribution keeps its last graph, which cannot be copied
        agent = copy.deepcopy(agent)
    th.testing.assert_close(*phase(agent), rtol=1e-4, atol=1e-5)
    assert float(agent.actor.features_extractor.std[2]) > 1.5


def test_new_networks_start_over_with_the_first_scale_also_from_a_file(tmp_path: Path) -> None:
    agent = tiny().learn(40)
    agent.save(tmp_path / "agent")
    agent.save_replay_buffer(tmp_path / "rows")
    loaded = DHMBPO.load(tmp_path / "agent", "Pendulum-v1")
    loaded.load_replay_buffer(tmp_path / "rows")
    for one in (agent, copy.deepcopy(agent), loaded):
        before, after = phase(one)
        assert float((after - before).abs().max()) > 1e-2
    assert th.equal(agent.actor.latent_pi[0].weight, loaded.actor.latent_pi[0].weight)


PARAMETRISED: dict[str, tuple[Callable[[DHMBPO], Any], str]] = {
    "weight_norm": (lambda agent: parametrizations.weight_norm(agent.actor.latent_pi[0]), "Actor.latent_pi.0"),
    "old spectral_norm": (lambda agent: th.nn.utils.spectral_norm(agent.actor.latent_pi[0]), "Actor.latent_pi.0"),
    "critics": (lambda agent: parametrizations.weight_norm(agent.critic.layers[0]), "LayerNormCritics.layers.0"),
    "no bias": (lambda agent: agent.actor.latent_pi[0].register_parameter("bias", None), "Actor.latent_pi.0"),
}


@pytest.mark.parametrize(("change", "name"), PARAMETRISED.values(), ids=PARAMETRISED)
def test_a_first_layer_whose_weights_are_computed_is_refused(change: Callable[[DHMBPO], Any], name: str) -> None:
    agent = tiny()
    change(agent)
    before = copy.deepcopy(agent.policy.state_dict())
    with pytest.raises(ValueError, match=f"StandardizedFeatures is not allowed with {name} as it is"):
        rescale(agent.policy, like(th.randn(50, 3)))
    th.testing.assert_close(agent.policy.state_dict(), before, rtol=0.0, atol=0.0)


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


@pytest.mark.parametrize(("value", "keeps"), [(0.05, True), (50.0, False)])
def test_an_entry_that_pauses_keeps_its_unit_near_what_it_was(value: float, keeps: bool) -> None:
    """A goal that stays for a while: the weights are right when it moves again, as those of the model."""
    agent = make_sac()
    rescale(agent.policy, like(starts()))
    layer, features = agent.actor.latent_pi[0], agent.actor.features_extractor
    agent.actor(starts()[:5].to(layer.weight.dtype), deterministic=True).sum().backward()
    agent.actor.optimizer.step()
    weight, unit = layer.weight.clone(), features.std.clone()
    still = starts()
    still[:, 2] = value
    rescale(agent.policy, like(still))
    assert th.equal(features.std[2], unit[2]) is keeps and th.equal(layer.weight[:, 2], weight[:, 2]) is keeps
    if keeps:
        rescale(agent.policy, like(starts()))
        th.testing.assert_close(layer.weight, weight)
