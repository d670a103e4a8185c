"""DHMBPO as an agent: its defaults, files, envs, offline training, and that it learns."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_tom import DHMBPO, MBPO
from sb3_tom.policy_updates.double_horizon.path import roll
from sb3_tom.policy_updates.double_horizon.policies import DoubleHorizonPolicy
from sb3_tom.policy_updates.sac.simba import SimbaPolicy
from sb3_tom.policy_updates.standardized_features import StandardizedFeatures
from tests.mbpo.small import SMALL_NETWORK
from tests.mbpo.test_mbpo import Corridor
from tests.mbpo.toys import Trust
from tests.policy_updates.double_horizon.cases import (
    TINY,
)


def test_dhmbpo_is_the_whole_recipe_and_a_user_keeps_what_he_gave() -> None:
    agent = DHMBPO("MlpPolicy", "Pendulum-v1")
    names = (
        "batch_size",
        "tau",
        "update_to_data_ratio",
        "real_ratio",
        "rollout_schedule",
        "rollout_batch_size",
        "rollout_freq",
        "gamma",
    )
    assert [getattr(agent, name) for name in names] == [128, 0.01, 2.0, 0.0, 20, 256, 10, 0.998]
    assert type(agent.policy) is DoubleHorizonPolicy and agent.ent_coef == "auto_0.1" and agent.dynamics.clamp is None
    assert agent.critic.n_critics == 5 and agent.dynamics.n_members == agent.dynamics.n_elites == 4
    own = MBPO("MlpPolicy", "Pendulum-v1", policy_update="double_horizon", batch_size=64, rollout_schedule=3)
    assert (own.batch_size, own.rollout_schedule, own.tau, own.critic.n_critics) == (64, 3, 0.01, 2)
    assert MBPO("MlpPolicy", "Pendulum-v1").gamma == 0.99 and DHMBPO("MlpPolicy", "Pendulum-v1", gamma=0.9).gamma == 0.9
    with pytest.warns(UserWarning, match="update_to_data_ratio=20 is more than this policy update is made for") as warned:
        MBPO("MlpPolicy", "Pendulum-v1", policy_update="double_horizon", update_to_data_ratio=20)
    assert len(warned) == 1


JUDGED: dict[str, Any] = {"confidence": "inverse_std", "rollout_stop": "quantile"}
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "SB3's critics": {"policy_kwargs": {"net_arch": [16], "n_critics": 2, "features_extractor_class": StandardizedFeatures}},
    "tom": {
        "weighter": "tom",
        "weighter_kwargs": {"recent_size": 40, "discriminator_steps": 10, "q_steps": 10, "average_steps": 50},
    },
    "pmac, confidence": {"weighter": "pmac", "confidence": Trust},
    "inverse_std, quantile": JUDGED,
    "ensemble": {"dynamics": "ensemble", "dynamics_kwargs": {"n_members": 3, "n_elites": 2, **SMALL_NETWORK}},
    "real transitions": {
        "policy_update_kwargs": {"real_critic_coef": 0.5},
        "dynamics_kwargs": {"n_members": 2, "bootstrap": True, "dropout_rate": 0.1, **SMALL_NETWORK},
    },
    "fixed temperature, no learned reward": {"ent_coef": 0.1, "reward_fn": lambda _o, _a, after: after[:, :1]},
}


def test_a_mixture_is_refused() -> None:
    """Its component is drawn: of a choice between two modes the gradient would be nearly nothing."""
    with pytest.raises(ValueError, match=r"policy_update=DoubleHorizonUpdate is not allowed with dynamics=Mixture"):
        DHMBPO("MlpPolicy", "Pendulum-v1", dynamics="mdn")


@pytest.mark.parametrize("name", SETTINGS)
def test_it_resumes_bit_for_bit(name: str, tmp_path: Path) -> None:
    kwargs = {**TINY, "update_to_data_ratio": 0.5, **SETTINGS[name]}
    whole = DHMBPO("MlpPolicy", "Pendulum-v1", **kwargs).learn(80)
    whole.save_checkpoint(tmp_path / "run.zip")
    whole.learn(60, reset_num_timesteps=False)
    resumed = DHMBPO("MlpPolicy", "Pendulum-v1", **kwargs)
    resumed.load_checkpoint(tmp_path / "run.zip")
    resumed.learn(60, reset_num_timesteps=False)
    assert whole._n_updates == resumed._n_updates > 40
    th.testing.assert_close(resumed.get_parameters(), whole.get_parameters(), rtol=0.0, atol=0.0, equal_nan=True)
    assert th.equal(resumed.imagined._rows[:50], whole.imagined._rows[:50])


@pytest.mark.parametrize("plugs", [{}, JUDGED], ids=["no plugs", "judged"])
@pytest.mark.parametrize("env", ["several", "normalised", "ends"])
def test_it_trains_in_all_kinds_of_envs(env: str, plugs: dict[str, Any]) -> None:
    envs: dict[str, Any] = {
        "several": lambda: make_vec_env("Pendulum-v1", 3),
        "normalised": lambda: VecNormalize(make_vec_env("Pendulum-v1", 2)),
        "ends": lambda: Corridor(limit=20, ends=True),
    }
    agent = DHMBPO("MlpPolicy", envs[env](), **{**TINY, "update_to_data_ratio": 0.5}, **plugs).learn(120)
    assert agent._n_updates > 30 and agent.imagined.size > 0
    logged = {name for name in agent.logger.name_to_value if name.startswith("train/path_")}
    judgements = ("path_stopped_share", "path_confidence_mean", "path_confidence_effective_share")
    assert logged == ({f"train/{name}" for name in judgements} if plugs else set())
    for verb in (agent.fit_weights, agent.fit_model, agent.imagine, lambda: agent.train_policy(2)):
        verb()
    assert all(bool(th.isfinite(parameter).all()) for parameter in agent.policy.parameters())


def test_under_vec_normalize_paths_start_in_the_envs_units() -> None:
    env = VecNormalize(make_vec_env("Pendulum-v1", 2))
    agent = DHMBPO("MlpPolicy", env, **TINY).learn(100)
    context = agent._context()
    batches = agent._batches(context)
    batch = next(batches.raw(1, 16))
    path = roll(agent.actor, agent._world, batch.observations, 5, batches.units, context)
    known = agent.imagined.gather(th.arange(agent.imagined.size))[0]
    assert bool(th.isin(path.observations[0], known).all()) and not th.allclose(
        batches.units.observations(path.observations[0]), path.observations[0]
    )
    assert float(path.rewards[0].abs().max()) <= env.clip_reward


@pytest.mark.parametrize("plugs", [{}, JUDGED], ids=["no plugs", "judged"])
def test_offline_a_phase_ends_too(plugs: dict[str, Any]) -> None:
    agent = DHMBPO("MlpPolicy", "Pendulum-v1", **TINY, **plugs)
    agent.adopt_replay_buffer(DHMBPO("MlpPolicy", "Pendulum-v1", **TINY).learn(60).replay_buffer)
    agent.fit_weights()
    agent.fit_model()
    agent.imagine()
    agent.end_phase()
    assert float(agent.critic.scale) > 1.0
    agent.train_policy(3)


@pytest.mark.parametrize("policy", [DoubleHorizonPolicy, SimbaPolicy])
def test_trained_networks_of_sac_stay_the_same_function(policy: Any) -> None:
    """Also where they learned without scales of inputs and values, which the first phase brings."""
    rows: dict[str, Any] = {"policy_kwargs": {"net_arch": [16]}, "learning_starts": 50, "batch_size": 16, "seed": 0}
    sac = SAC(policy, "Pendulum-v1", **rows).learn(100)
    agent = DHMBPO.from_sac(
        sac, "Pendulum-v1", **{**TINY, "policy_kwargs": {"net_arch": [16]}}, policy_update_kwargs={"critic_warmup": 0}
    )
    data = agent.replay_buffer.transitions()

    def outputs() -> list[th.Tensor]:
        with th.no_grad():
            return [agent.actor(data.observations, deterministic=True), *agent.critic(data.observations, data.actions)]

    before = outputs()
    agent.fit_weights()
    agent.fit_model()
    agent.imagine()
    agent.end_phase()
    assert float(agent.actor.features_extractor.std[2]) > 1.5
    for one, other in zip(outputs(), before, strict=True):
        th.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_a_horizon_of_0_learns_no_reward() -> None:
    with pytest.raises(
        ValueError, match=r"horizon=0 is not allowed with real_critic_coef=0.*allowed: a horizon of at least 1"
    ):
        DHMBPO("MlpPolicy", "Pendulum-v1", **TINY, policy_update_kwargs={"horizon": 0})
    DHMBPO("MlpPolicy", "Pendulum-v1", **TINY, policy_update_kwargs={"horizon": 0, "real_critic_coef": 0.1})


@pytest.mark.expensive
def test_it_learns_the_inverted_pendulum(tmp_path: Path) -> None:
    """From 500 random steps to a pole that stands for the whole episode, within 2,500 env steps."""
    from sb3_tom.callbacks import LearningCurveCallback

    curve = LearningCurveCallback("InvertedPendulum-v5", tmp_path / "curve.csv", 250, reward_threshold=950.0)
    DHMBPO("MlpPolicy", "InvertedPendulum-v5", learning_starts=500, seed=0, device="cpu").learn(2_500, callback=curve)
    assert curve.solved_step is not None


@pytest.mark.expensive
def test_it_balances_the_double_pendulum(tmp_path: Path) -> None:
    """Which takes a model that is quiet where the poles stand: with one noise for all places no policy balances in it."""
    from sb3_tom.callbacks import LearningCurveCallback

    name = "InvertedDoublePendulum-v5"
    curve = LearningCurveCallback(name, tmp_path / "curve.csv", 500, reward_threshold=8_000.0)
    DHMBPO("MlpPolicy", name, learning_starts=500, seed=1, device="cpu").learn(5_000, callback=curve)
    assert curve.solved_step is not None


def test_a_reward_that_cannot_be_climbed_is_named() -> None:
    """At construction, not in the first path; SAC's update does not climb it."""

    def through_numpy(observations: th.Tensor, actions: th.Tensor, after: th.Tensor) -> th.Tensor:
        return th.from_numpy(after.numpy()[:, :1])

    def sparse(observations: th.Tensor, actions: th.Tensor, after: th.Tensor) -> th.Tensor:
        return (after[:, :1] > 0).float()

    with pytest.raises(ValueError, match=r"reward_fn=.*through_numpy.* failed on two rows of zeros: RuntimeError"):
        DHMBPO("MlpPolicy", "Pendulum-v1", reward_fn=through_numpy, **TINY)
    with pytest.warns(UserWarning, match=r"reward_fn=.*sparse.* has no gradient"):
        DHMBPO("MlpPolicy", "Pendulum-v1", reward_fn=sparse, **TINY)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DHMBPO("MlpPolicy", "Pendulum-v1", reward_fn=lambda observations, actions, after: -after[:, :1].square(), **TINY)
        for reward_fn in (through_numpy, sparse):
            MBPO("MlpPolicy", "Pendulum-v1", reward_fn=reward_fn, device="cpu")


def test_a_file_with_another_kind_of_noise_says_so(tmp_path: Path) -> None:
    DHMBPO("MlpPolicy", "Pendulum-v1", **{**TINY, "dynamics_kwargs": {"n_members": 2, "homoscedastic": True}}).save(
        tmp_path / "it"
    )
    with pytest.raises(
        ValueError, match=r"the file's model has another kind of noise; allowed: DHMBPO.load\(path, dynamics_kw"
    ):
        DHMBPO.load(tmp_path / "it", dynamics_kwargs={"n_members": 2})
