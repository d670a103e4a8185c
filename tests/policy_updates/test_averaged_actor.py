"""An average over the actors of training: what it is, what it is used for, and that training does not know it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.utils import set_random_seed
from torch.nn.utils.parametrizations import weight_norm

from sb3_tom import DHMBPO, MBPO
from sb3_tom.data.moments import Moments
from sb3_tom.policy_updates.averaged_actor import AveragedActorPolicy
from sb3_tom.policy_updates.double_horizon.policies import DoubleHorizonPolicy
from sb3_tom.policy_updates.standardized_features import StandardizedFeatures, rescale

TINY: dict[str, Any] = {
    "learning_starts": 20,
    "batch_size": 8,
    "rollout_batch_size": 10,
    "rollout_schedule": 2,
    "model_train_freq": 20,
    "dynamics_kwargs": {"net_arch": [8], "n_members": 2, "n_elites": 2, "max_epochs": 1, "first_max_epochs": 1},
    "seed": 3,
}


def agent(averaging: float | None = 19.0, **changes: Any) -> DHMBPO:
    kwargs = {"net_arch": [8], "n_critics": 2, "averaging": averaging}
    return DHMBPO("MlpPolicy", "Pendulum-v1", policy_kwargs=kwargs, **{**TINY, **changes})


@pytest.fixture
def observations() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)


def actions(policy: AveragedActorPolicy, actor: Any, observations: np.ndarray) -> np.ndarray:
    with th.no_grad():
        return policy.unscale_action(actor(th.as_tensor(observations), deterministic=True).numpy())


@pytest.mark.parametrize("eta", [0.0, 1.0, 19.0])
def test_the_average_is_that_of_polynomial_decay(eta: float) -> None:
    """With eta = 0 all steps count the same, with 1 the t-th counts t times; with any, as a loop over numbers says."""
    policy: Any = agent(eta).policy
    generator, seen, by_hand = np.random.default_rng(0), [], 0.0
    for step in range(1, 41):
        value = float(generator.normal())
        seen.append(value)
        by_hand += (eta + 1) / (step + eta) * (value - by_hand)
        with th.no_grad():
            for parameter in policy.actor.parameters():
                parameter.fill_(value)
        policy.average()
    if eta <= 1.0:
        assert by_hand == pytest.approx(np.average(seen, weights=np.arange(1, 41) ** eta))
    for name, _ in policy.actor.named_parameters():
        assert policy.averaged_actor.get_buffer(name).numpy() == pytest.approx(by_hand, abs=1e-5)


def test_training_is_the_same_and_deterministic_actions_are_the_averages(observations: np.ndarray) -> None:
    with_average, without = agent().learn(60), agent(None).learn(60)
    for one, other in zip(with_average.policy.parameters(), without.policy.parameters(), strict=True):
        assert th.equal(one, other)
    policy: Any = with_average.policy
    assert float(policy.averaged_steps) == with_average._n_updates > 0
    deterministic = with_average.predict(observations, deterministic=True)[0]
    averages, present = (actions(policy, actor, observations) for actor in (policy.averaged_actor, policy.actor))
    assert np.array_equal(deterministic, averages)
    assert not np.allclose(averages, present, atol=1e-4)
    assert np.array_equal(without.predict(observations, deterministic=True)[0], present)
    drawn = []
    for one in (with_average, without):
        set_random_seed(5)
        drawn.append(one.predict(observations, deterministic=False)[0])
    assert np.array_equal(*drawn), "what collects data is the actor"


def test_sacs_update_feeds_it_too(observations: np.ndarray) -> None:
    trained: Any = agent(policy_update="sac").learn(60)
    policy = trained.policy
    assert float(policy.averaged_steps) == trained._n_updates > 0
    averages, present = (actions(policy, actor, observations) for actor in (policy.averaged_actor, policy.actor))
    assert np.array_equal(trained.predict(observations, deterministic=True)[0], averages)
    assert not np.array_equal(averages, present)


class Normed(FlattenExtractor):
    """With batch normalisation, whose policies SB3's own steps train."""

    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.norm = th.nn.BatchNorm1d(3)

    def forward(self, rows: th.Tensor) -> th.Tensor:
        return self.norm(super().forward(rows))


def test_sb3s_steps_feed_it_too(observations: np.ndarray) -> None:
    """Its running statistics are the actor's: means of the batches that the averaged weights do not see."""
    kwargs = {"net_arch": [8], "averaging": 19.0, "features_extractor_class": Normed}
    trained: Any = MBPO(DoubleHorizonPolicy, "Pendulum-v1", policy_kwargs=kwargs, **TINY).learn(60)
    policy = trained.policy
    assert float(policy.averaged_steps) == trained._n_updates > 0
    assert not policy.actor.optimizer._optimizer_step_post_hooks, "nothing is left behind"
    now, before = policy.actor.features_extractor.norm, policy.averaged_actor.features_extractor.norm
    assert th.equal(now.running_mean, before.running_mean) and bool(now.running_mean.any())
    averages, present = (actions(policy, actor, observations) for actor in (policy.averaged_actor, policy.actor))
    assert np.array_equal(trained.predict(observations, deterministic=True)[0], averages)
    assert not np.array_equal(averages, present)


def test_an_average_that_is_begun_anew_is_not_used(observations: np.ndarray) -> None:
    """What the documentation says of fine-tuning with SB3's SAC."""
    policy: Any = agent().learn(60).policy
    policy.averaged_steps.zero_()
    expected = actions(policy, policy.actor, observations)
    assert np.array_equal(policy.predict(observations, deterministic=True)[0], expected)


def test_other_parameters_than_the_actor_was_made_with_are_named() -> None:
    trained = agent()
    weight_norm(trained.actor.latent_pi[0])
    with pytest.raises(ValueError, match=r"^averaging=19.0 is not allowed with an actor that got latent_pi.0.parametriz"):
        trained.policy.average()
    assert int(trained.policy.averaged_steps) == 0


def test_an_average_that_nobody_feeds_is_not_used(observations: np.ndarray) -> None:
    """SB3's SAC knows of none."""
    kwargs = {"net_arch": [8], "averaging": 19.0}
    sac = SAC(DoubleHorizonPolicy, "Pendulum-v1", policy_kwargs=kwargs, learning_starts=20, batch_size=8).learn(40)
    present = actions(sac.policy, sac.actor, observations)
    assert np.array_equal(sac.predict(observations, deterministic=True)[0], present)


def test_it_stays_the_same_function_when_units_move() -> None:
    trained = agent().learn(60)
    policy, seen = trained.policy, trained.replay_buffer.transitions().observations.numpy()
    features = policy.averaged_actor.features_extractor
    assert isinstance(features, StandardizedFeatures)
    before, mean, std = actions(policy, policy.averaged_actor, seen), features.mean.clone(), features.std.clone()
    rescale(policy, Moments(mean + 0.1 * std, 1.2 * std, mean - 5.0 * std, mean + 5.0 * std))
    assert th.allclose(features.mean, mean + 0.1 * std)
    np.testing.assert_allclose(actions(policy, policy.averaged_actor, seen), before, atol=1e-5)


def test_it_is_saved_loaded_and_resumed(observations: np.ndarray, tmp_path: Path) -> None:
    one = agent().learn(40)
    one.save(tmp_path / "agent")
    one.policy.save(tmp_path / "policy")
    one.save_checkpoint(tmp_path / "run.zip")
    expected = one.predict(observations, deterministic=True)[0]
    for other in (DHMBPO.load(tmp_path / "agent"), type(one.policy).load(tmp_path / "policy")):
        assert np.array_equal(other.predict(observations, deterministic=True)[0], expected)
    resumed = DHMBPO.resume(tmp_path / "run.zip", "Pendulum-v1").learn(20, reset_num_timesteps=False)
    whole = agent().learn(60)
    for name, value in whole.policy.state_dict().items():
        assert th.equal(resumed.policy.state_dict()[name], value), name


def test_a_policy_without_an_average_begins_one_with_its_actor(observations: np.ndarray) -> None:
    old, new = agent(None).learn(40), agent()
    new.policy.load_state_dict(old.policy.state_dict())
    assert float(new.policy.averaged_steps) == 0.0
    assert np.array_equal(new.predict(observations, deterministic=True)[0], old.predict(observations, deterministic=True)[0])


def test_another_eta_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="averaging=-1 is not allowed"):
        agent(-1)
