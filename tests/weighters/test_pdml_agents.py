"""PDML on agents: what it keeps of their policies, and what it refuses."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.env_util import make_vec_env

from sb3_tom import DHMBPO, MBPO
from tests.mbpo.small import SMALL_MODELS, small_agent
from tests.policy_updates.sac.test_policy_update import OwnPolicy


@pytest.mark.parametrize("use_sde", [False, True])
def test_an_agents_weights_fall_with_the_distance_of_the_policies(use_sde: bool) -> None:
    agent = small_agent(weighter="pdml", weighter_kwargs={"warmup_share": 0.5}, use_sde=use_sde).learn(160)
    agent.train_policy(20)
    weights, versions = agent.fit_weights(), agent.replay_buffer.transitions().policy_version
    blocks, distances = agent.weighter.blocks, agent.weighter.distances
    assert blocks.tolist() == [1, 2, 3, 4]
    per_block = th.stack([weights[versions == block].unique() for block in blocks]).flatten()
    np.testing.assert_allclose(per_block / per_block[0], distances[0] / distances, rtol=1e-5)
    assert float(weights[versions == 0][0]) == pytest.approx(0.5 * float(per_block[0]), rel=1e-5)
    assert float(weights[versions == 5][0]) == pytest.approx(float(weights.max()))


def test_the_double_horizons_policies_have_distances() -> None:
    kwargs = {"learning_starts": 50, "model_train_freq": 25, "dynamics_kwargs": SMALL_MODELS["smooth"], "seed": 0}
    agent = DHMBPO("MlpPolicy", "Pendulum-v1", weighter="pdml", policy_kwargs={"net_arch": [8]}, device="cpu", **kwargs)
    agent.learn(130)
    agent.fit_weights()
    assert agent.weighter.blocks.tolist() == [1, 2, 3]
    assert bool((agent.weighter.distances > 0).all())


def test_policies_are_in_the_file(tmp_path: Path) -> None:
    agent = small_agent(weighter="pdml").learn(140)
    agent.save(tmp_path / "agent")
    loaded = MBPO.load(tmp_path / "agent", env=agent.env)
    assert len(loaded.weighter.blocks) == 3
    for name, tensor in agent.weighter.state_dict().items():
        assert th.equal(loaded.weighter.state_dict()[name], tensor), name


def test_an_actor_that_may_be_anything_is_refused_in_the_first_phase() -> None:
    kwargs = {"weighter": "pdml", "learning_starts": 20, "dynamics_kwargs": SMALL_MODELS["ensemble"], "device": "cpu"}
    agent = MBPO(OwnPolicy, "Pendulum-v1", **kwargs)
    with pytest.raises(ValueError, match="the Gaussian of OwnActor is not known; allowed: SB3's Actor"):
        agent.learn(30)


def test_a_policy_of_which_only_samples_are_known_is_refused() -> None:
    agent = small_agent(weighter="pdml").learn(60)
    with pytest.raises(
        ValueError, match=r"^context\.snapshot: this context was made without that part of an agent; allowed: "
    ):
        agent.fit_weights(policy=lambda observations: (th.zeros(len(observations), 1), th.zeros(len(observations), 1)))


def test_a_buffer_of_another_run(tmp_path: Path) -> None:
    """Its rows have versions that the weighter has kept no policy of."""
    SAC("MlpPolicy", "Pendulum-v1", buffer_size=200, device="cpu").learn(60).save_replay_buffer(tmp_path / "sac.pkl")
    agent = small_agent(weighter="pdml", buffer_size=200, learning_starts=0)
    agent.load_replay_buffer(tmp_path / "sac.pkl")
    assert th.equal(agent.fit_weights(), th.ones(60))
    agent.learn(80)
    assert len(agent.fit_weights().unique()) > 1


def test_the_newest_rows_of_another_run_are_not_those_of_the_first_own_policy() -> None:
    """Own rows begin a block of their own, whose policy is the first that is kept."""
    source = small_agent(weighter="pdml").learn(130)
    newest = int(source.replay_buffer.policy_versions.max())
    agent = small_agent(weighter="pdml", learning_starts=0)
    agent.adopt_replay_buffer(copy.deepcopy(source.replay_buffer))
    agent.learn(80)
    foreign, kinds = agent.replay_buffer.transitions().policy_version[:130], agent.weighter._kinds
    assert int(agent.weighter.first) > newest == int(foreign.max())
    assert (kinds(foreign) == len(agent.weighter.blocks) + 1).all()


def test_several_envs_and_small_rings() -> None:
    agent = small_agent(make_vec_env("Pendulum-v1", 2), "pdml", buffer_size=50).learn(160)
    assert int(agent.weighter.blocks[0]) >= int(agent.replay_buffer.transitions().policy_version.min())
    assert len(agent.fit_weights().unique()) > 1


def test_another_runs_newest_rows_are_not_of_the_own_policy(tmp_path: Path) -> None:
    """Offline: no row of the agent's own has come since the buffer was loaded."""
    small_agent(weighter="pdml").learn(160).save_replay_buffer(tmp_path / "buffer.pkl")
    agent = small_agent(weighter="pdml", seed=1)
    agent.load_replay_buffer(tmp_path / "buffer.pkl")
    for _ in range(2):
        agent.fit_weights()
        agent.fit_model()
        agent.end_phase()
    assert agent.weighter.blocks.tolist() == []
    assert bool((agent.fit_weights() == 1.0).all())


def test_a_run_with_kept_policies_is_resumed(tmp_path: Path) -> None:
    """The size of a policy is not known when the weighter is built."""
    agent = small_agent(weighter="pdml").learn(140)
    agent.save_checkpoint(tmp_path / "run.zip")
    resumed = MBPO.resume(tmp_path / "run.zip", "Pendulum-v1")
    assert len(agent.weighter.policies) == 3 and th.equal(resumed.weighter.policies, agent.weighter.policies)
