"""From a trained SAC agent, or its file, to an MBPO."""

import copy
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3 import SAC

from sb3_tom import MBPO, MBPOTOM
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from tests.mbpo.small import SMALL_WEIGHTERS, small_agent
from tests.mbpo.test_mbpo import Corridor

NETS = {"net_arch": [8]}
SMALL: dict[str, Any] = {"rollout_batch_size": 20, "dynamics": "linear", "update_to_data_ratio": 1}


def trained_sac(env: Any = "Pendulum-v1", **kwargs: Any) -> SAC:
    settings: dict[str, Any] = {"learning_starts": 20, "buffer_size": 200, "batch_size": 16, "gamma": 0.9, "seed": 0}
    return SAC("MlpPolicy", env, policy_kwargs=NETS, **{**settings, **kwargs}).learn(60)


@pytest.mark.parametrize("ent_coef", ["auto_0.3", 0.2])
@pytest.mark.parametrize("from_file", [False, True])
def test_warm_start_from_sac(ent_coef: Any, from_file: bool, tmp_path: Path) -> None:
    sac = trained_sac(ent_coef=ent_coef)
    sac.save(tmp_path / "sac")
    sac.save_replay_buffer(tmp_path / "buffer")
    agent = MBPOTOM.from_sac(
        tmp_path / "sac" if from_file else sac,
        "Pendulum-v1",
        weighter_kwargs=SMALL_WEIGHTERS["tom"],
        learning_starts=10,
        **SMALL,
    )
    assert type(agent) is MBPOTOM and agent.gamma == 0.9
    for name, state in sac.policy.state_dict().items():
        assert th.equal(state, agent.policy.state_dict()[name]), name
    theirs, ours = (one.critic.optimizer.state_dict()["state"] for one in (sac, agent))
    assert all(th.equal(theirs[0][name], ours[0][name]) for name in ("exp_avg", "exp_avg_sq"))
    if isinstance(ent_coef, str):
        assert th.equal(agent.log_ent_coef, sac.log_ent_coef)
    observations = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_array_equal(*(one.predict(observations, deterministic=True)[0] for one in (sac, agent)))
    assert agent.learning_starts == 10, "the argument"
    if from_file:
        assert agent.replay_buffer.n_transitions == 0
        agent.load_replay_buffer(tmp_path / "buffer")
    assert agent.replay_buffer.n_transitions == 60
    agent.learn(30)
    assert agent.replay_buffer.n_transitions == 90 and agent._n_updates > 0


@pytest.mark.parametrize("rows", [0, 60])
def test_with_transitions_the_policy_acts_and_trains_from_the_first_step(rows: int) -> None:
    sac = trained_sac()
    if rows == 0:
        sac.replay_buffer.reset()
    agent = MBPO.from_sac(sac, "Pendulum-v1", **SMALL)
    before = agent.actor.mu.weight.detach().clone()
    agent.learn(1)
    assert agent.learning_starts == (0 if rows else 1000)
    assert th.equal(before, agent.actor.mu.weight) == (rows == 0)


@pytest.mark.parametrize("weighter", ["uniform", "tom"])
def test_from_an_mbpo_with_its_networks_and_data_but_plugs_of_its_own(weighter: str) -> None:
    source = MBPO("MlpPolicy", "Pendulum-v1", learning_starts=20, buffer_size=100, seed=0, policy_kwargs=NETS, **SMALL).learn(
        40
    )
    before = copy.deepcopy(source.get_parameters())
    weights, version = source.replay_buffer.row_weights().clone(), source.policy_version
    small = SMALL_WEIGHTERS.get(weighter, {})
    agent = MBPO.from_sac(source, "Pendulum-v1", weighter=weighter, weighter_kwargs=small, learning_starts=10, seed=1, **SMALL)
    assert all(th.equal(state, agent.policy.state_dict()[name]) for name, state in source.policy.state_dict().items())
    slopes = [one.dynamics.state_dict()["slopes"] for one in (source, agent)]
    assert not th.equal(*slopes), "the model is the agent's own, and new"
    newest = int(source.replay_buffer.transitions().policy_version.max())
    assert agent.policy_version == newest + (newest > 0)
    agent.learn(30)
    th.testing.assert_close(source.get_parameters(), before, rtol=0.0, atol=0.0)
    assert source.replay_buffer.n_transitions == 40 and agent.replay_buffer.n_transitions == 70
    assert th.equal(source.replay_buffer.row_weights(), weights)
    assert source.policy_version == source.replay_buffer.policy_version == version


def test_the_sac_agent_stays_as_it_was() -> None:
    """An optimiser that loads a state keeps its tensors: two agents would step the same moments."""
    sac = trained_sac()
    before = copy.deepcopy(sac.get_parameters())
    MBPO.from_sac(sac, "Pendulum-v1", learning_starts=10, **SMALL).learn(30)
    th.testing.assert_close(sac.get_parameters(), before, rtol=0.0, atol=0.0)


def test_a_sac_zip_is_not_loaded_as_an_mbpo(tmp_path: Path) -> None:
    trained_sac().save(tmp_path / "sac")
    with pytest.raises(ValueError, match=r"path=.*sac.* is not allowed.*MBPO.from_sac\(path, env\)"):
        MBPO.load(tmp_path / "sac")
    with open(tmp_path / "sac.zip", "rb") as file, pytest.raises(ValueError, match=r"MBPO.from_sac"):
        MBPO.load(file)


def test_a_sac_of_another_env_is_refused() -> None:
    with pytest.raises(ValueError, match=r"env=.* is not allowed: its observation_space is"):
        MBPO.from_sac(trained_sac(), Corridor(), buffer_size=10)


def test_an_mbpo_zip_is_not_taken_for_a_sac(tmp_path: Path) -> None:
    small_agent(Corridor(), dynamics="linear").save(tmp_path / "mbpo")
    with pytest.raises(ValueError, match=r"sac=.*mbpo.* holds an MBPO; allowed: .*MBPO.load\(path\)"):
        MBPO.from_sac(tmp_path / "mbpo", Corridor())


def test_actions_of_other_bounds_are_refused() -> None:
    """Actions are stored in [-1, 1]: with other bounds the same number is another action."""
    sac = trained_sac()
    strong = gym.wrappers.RescaleAction(gym.make("Pendulum-v1"), -np.ones(1, np.float32), np.ones(1, np.float32))
    with pytest.raises(ValueError, match=r"env=.* is not allowed: its action_space is Box\(-1.0, 1.0"):
        MBPO.from_sac(sac, strong, learning_starts=10, **SMALL)
    agent = small_agent(strong)
    with pytest.raises(ValueError, match=r"the replay buffer's action_space=Box\(-2.0, 2.0.* is not allowed"):
        agent.adopt_replay_buffer(sac.replay_buffer)


class OwnBuffer(WeightedReplayBuffer):
    """As its base."""


def test_rows_come_into_a_buffer_of_the_class_and_arguments_that_were_asked_for(tmp_path: Path) -> None:
    """Otherwise a checkpoint holds another buffer than its arguments make, and cannot be resumed."""
    asked: dict[str, Any] = {"replay_buffer_class": OwnBuffer, "replay_buffer_kwargs": {"n_start_observations": 5}}
    sac = trained_sac()
    agent = MBPO.from_sac(sac, "Pendulum-v1", **asked, **SMALL)
    agent.save_checkpoint(tmp_path / "run.zip")
    resumed = MBPO.resume(tmp_path / "run.zip", "Pendulum-v1", replay_buffer_class=OwnBuffer)
    assert type(agent.replay_buffer) is type(resumed.replay_buffer) is OwnBuffer
    assert resumed.replay_buffer.n_start_observations == 5 and resumed.replay_buffer.n_transitions == 60
    heir = MBPO.from_sac(agent, "Pendulum-v1", **SMALL)
    assert type(heir.replay_buffer) is OwnBuffer and heir.replay_buffer.n_start_observations == 5, "as it comes"
    for name, came in (
        ("replay_buffer_class", {"replay_buffer_class": OwnBuffer}),
        ("n_start_observations", asked | {"replay_buffer_class": None}),
    ):
        other = small_agent(gym.make("Pendulum-v1"), **came)
        with pytest.raises(ValueError, match=rf"the replay buffer's {name}=.* is not allowed; allowed: the agent's, "):
            other.adopt_replay_buffer(small_agent(gym.make("Pendulum-v1")).replay_buffer)
