"""Replay buffers that are loaded: an agent's own, those of SB3, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.save_util import save_to_pkl

from sb3_tom import DHMBPO, MBPO
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from tests.mbpo.small import small_agent
from tests.mbpo.test_save_load import assert_same


def test_replay_buffer_round_trip(tmp_path: Path) -> None:
    agent = small_agent(weighter="pmac").learn(120)
    agent.save_replay_buffer(tmp_path / "buffer")
    other = small_agent(weighter="pmac")
    other.load_replay_buffer(tmp_path / "buffer")
    assert_same(tuple(agent.replay_buffer.transitions()), tuple(other.replay_buffer.transitions()))
    assert th.equal(agent.replay_buffer.row_weights(), other.replay_buffer.row_weights())
    assert other.policy_version >= int(other.replay_buffer.transitions().policy_version.max())
    other.learn(60)


def test_an_agent_with_a_larger_loaded_buffer_can_be_resumed(tmp_path: Path) -> None:
    small_agent(buffer_size=1000).learn(60).save_replay_buffer(tmp_path / "rows")
    agent = small_agent(buffer_size=500)
    agent.load_replay_buffer(tmp_path / "rows")
    agent.save_checkpoint(tmp_path / "run.zip")
    resumed = MBPO.resume(tmp_path / "run.zip", "Pendulum-v1")
    assert resumed.buffer_size == resumed.replay_buffer.buffer_size == 1000
    assert resumed.replay_buffer.n_transitions == 60


def test_a_sac_users_buffer_is_loaded_and_used(tmp_path: Path) -> None:
    sac = SAC("MlpPolicy", "Pendulum-v1", learning_starts=300, buffer_size=500, seed=0)
    sac.learn(250)
    sac.save_replay_buffer(tmp_path / "sac")
    agent = small_agent(weighter="tom")
    agent.load_replay_buffer(tmp_path / "sac")
    assert isinstance(agent.replay_buffer, WeightedReplayBuffer)
    assert agent.replay_buffer.n_transitions == 250
    np.testing.assert_array_equal(agent.replay_buffer.observations[:250, 0], sac.replay_buffer.observations[:250, 0])
    agent.learn(60)
    assert agent.replay_buffer.n_transitions == 310
    assert agent._n_updates > 0


def test_a_loaded_buffer_with_room_for_less_than_learning_starts_is_used(tmp_path: Path) -> None:
    sac = SAC("MlpPolicy", "Pendulum-v1", learning_starts=300, buffer_size=40, seed=0)
    sac.learn(60)
    sac.save_replay_buffer(tmp_path / "sac")
    agent = small_agent(learning_starts=50)
    agent.load_replay_buffer(tmp_path / "sac")
    agent.learn(60)
    assert agent.replay_buffer.n_transitions == 40
    assert agent._n_updates == 2 * 10


def refuses(path: Path, said: str) -> None:
    """A file that an agent refuses leaves it its buffer."""
    agent = small_agent()
    kept = agent.replay_buffer
    with pytest.raises(ValueError, match=said):
        agent.load_replay_buffer(path)
    assert agent.replay_buffer is kept


def test_a_buffer_of_other_envs_is_refused(tmp_path: Path) -> None:
    small_agent(make_vec_env("Pendulum-v1", 2)).learn(60).save_replay_buffer(tmp_path / "buffer")
    refuses(tmp_path / "buffer", r"n_envs=2.*allowed.*1")


def test_a_file_that_holds_no_buffer_is_refused(tmp_path: Path) -> None:
    save_to_pkl(tmp_path / "buffer", {"observations": np.zeros(3)})
    refuses(tmp_path / "buffer", r"path='.*buffer' is not allowed: it holds a dict; allowed: a file of save_replay")


def test_a_buffer_size_that_the_number_of_envs_does_not_divide_stays(tmp_path: Path) -> None:
    agent = small_agent(make_vec_env("Pendulum-v1", 3)).learn(60)
    agent.save_replay_buffer(tmp_path / "buffer.pkl")
    agent.load_replay_buffer(tmp_path / "buffer.pkl")
    assert agent.buffer_size == 1000 and agent.replay_buffer.capacity == 999


def test_actions_in_the_envs_own_scale_are_refused(tmp_path: Path) -> None:
    """Demonstrations that were not scaled: the model would believe in pushes of half their effect."""
    agent = small_agent(buffer_size=20)
    demonstrations = ReplayBuffer(20, agent.observation_space, agent.action_space, "cpu")
    for action in (-2.0, 1.5):
        demonstrations.add(np.zeros(3), np.ones(3), np.full(1, action), np.zeros(1), np.zeros(1), [{}])
    save_to_pkl(tmp_path / "demonstrations.pkl", demonstrations)
    with pytest.raises(ValueError, match=r"actions are up to 2 and not allowed.*allowed: \[-1, 1\].*scale_action"):
        agent.load_replay_buffer(tmp_path / "demonstrations.pkl")


def test_a_policy_is_not_trained_through_a_model_that_was_never_fitted(tmp_path: Path) -> None:
    small_agent(buffer_size=200).learn(60).save_replay_buffer(tmp_path / "rows.pkl")
    agent = DHMBPO("MlpPolicy", "Pendulum-v1", buffer_size=200, rollout_batch_size=8, device="cpu")
    agent.load_replay_buffer(tmp_path / "rows.pkl")
    for train in (agent.end_phase, lambda: agent.train_policy(2)):
        with pytest.raises(ValueError, match=r"a model that was never fitted.*allowed: after fit_model\(\)"):
            train()
