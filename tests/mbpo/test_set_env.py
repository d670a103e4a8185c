"""``set_env``: the run goes on, and only rows of the new envs speak for or against their termination rule."""

from pathlib import Path

import gymnasium as gym
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize

from sb3_tom import MBPO
from tests.mbpo.small import small_agent
from tests.mbpo.test_contract import TINY
from tests.mbpo.test_mbpo import Corridor


def test_set_env_reads_the_rule_of_the_new_env(recwarn: pytest.WarningsRecorder) -> None:
    pytest.importorskip("mujoco")
    agent = small_agent(gym.make("Hopper-v5"), learning_starts=1000, **TINY).learn(20)
    old = agent.termination_rule
    agent.set_env(gym.make("Hopper-v5", healthy_angle_range=(-0.1, 0.1)))
    assert agent.termination_rule != old and agent.termination.rule == agent.termination_rule
    agent.learn(150, reset_num_timesteps=False)
    agent.fit_model()
    assert agent.termination.fit(agent.replay_buffer.transitions(), None)["rule_in_use"] == 1.0
    assert not [warning for warning in recwarn if "termination" in str(warning.message)]


def hopper_of_another_rule(first: str) -> MBPO:
    """An agent with rows of a Hopper that falls, and then an env without the rule, or the other way round."""
    pytest.importorskip("mujoco")
    falls, lies = (gym.make("Hopper-v5", terminate_when_unhealthy=ends) for ends in (True, False))
    agent = small_agent(falls if first == "falls" else lies, model_train_freq=10, **TINY).learn(100)
    assert float(agent.replay_buffer.terminated.sum()) >= 2 or first == "lies"
    assert agent.imagined.size > 0
    agent.set_env(lies if first == "falls" else falls)
    assert agent.imagined.size == 0 and agent.imagined.is_due, "what was imagined ends where the old rule says"
    return agent


@pytest.mark.parametrize("first", ["falls", "lies"])
def test_rows_from_before_set_env_say_nothing_about_the_new_rule(first: str, recwarn: pytest.WarningsRecorder) -> None:
    agent = hopper_of_another_rule(first)
    agent.fit_model()  # no row of the new env yet
    agent.learn(60, reset_num_timesteps=False)
    old, new = agent.replay_buffer.terminated[:100].sum(), agent.replay_buffer.terminated[100:160].sum()
    assert (old > 0, new > 0) == ((True, False) if first == "falls" else (False, True))
    assert agent.termination.head_in_use == 0.0
    assert agent.logger.name_to_value.get("health/termination_mismatch", 0.0) == 0.0
    assert not [warning for warning in recwarn if "termination" in str(warning.message)]


@pytest.mark.parametrize("way", ["checkpoint", "save"])
def test_what_set_env_changed_is_saved(way: str, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    agent = hopper_of_another_rule("falls").learn(20, reset_num_timesteps=False)
    env = gym.make("Hopper-v5", terminate_when_unhealthy=False)
    if way == "checkpoint":
        agent.save_checkpoint(tmp_path / "run.zip")
        again = MBPO.resume(tmp_path / "run.zip", env)
    else:
        agent.save(tmp_path / "agent")
        agent.save_replay_buffer(tmp_path / "buffer")
        again = MBPO.load(tmp_path / "agent", env=env)
        again.load_replay_buffer(tmp_path / "buffer")
    again.learn(30, reset_num_timesteps=False)
    assert again.replay_buffer.n_of_rule == 50 and again.replay_buffer.n_transitions == 150
    assert not [warning for warning in recwarn if "termination" in str(warning.message)]


def test_a_new_env_that_contradicts_its_rule_is_learned_from_its_own_rows() -> None:
    agent = hopper_of_another_rule("falls")
    agent.learn(20, reset_num_timesteps=False)
    agent.replay_buffer.terminated[105] = 1.0
    with pytest.warns(UserWarning, match="goes on, but it terminated") as caught:
        share = agent.fit_model()["termination_terminal_share"]
    assert len(caught) == 1 and share == pytest.approx(1 / 20)


def test_an_env_that_is_refused_does_not_take_the_old_ones_place() -> None:
    agent = small_agent(make_vec_env("Pendulum-v1", 1))
    kept = agent.env
    with pytest.raises(ValueError, match="VecNormalize"):
        agent.set_env(VecFrameStack(VecNormalize(make_vec_env("Pendulum-v1", 1)), 1))
    assert agent.env is kept
    agent.learn(60)


def test_set_env_continues_the_run() -> None:
    agent = small_agent(Corridor(), **TINY).learn(60)
    agent.set_env(Corridor(limit=5))
    agent.learn(20, reset_num_timesteps=False)
    assert agent.num_timesteps == 80 == agent.replay_buffer.n_transitions
    with pytest.raises(AssertionError, match="number of environments"):
        agent.set_env(make_vec_env(Corridor, 2))
