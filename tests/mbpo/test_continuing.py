"""What goes on when: a second ``learn``, a load without the buffer, coarse collections, versions of offline fits, streams."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from sb3_tom import MBPO, PMACWeighter
from tests.mbpo.small import small_agent
from tests.mbpo.test_mbpo import Corridor

TINY: dict[str, Any] = {"dynamics": "linear", "rollout_batch_size": 50, "policy_kwargs": {"net_arch": [8]}}


def phases_of(agent: MBPO, env_steps: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    steps: list[int] = []
    fit = agent.fit_model
    monkeypatch.setattr(agent, "fit_model", lambda: (steps.append(agent.num_timesteps), fit())[1])
    agent.learn(env_steps)
    return steps


def test_the_pace_of_phases_carries_what_a_collection_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten envs, a phase every 25 transitions: after the first 50, then on average every 25, not every 30."""
    agent = small_agent(make_vec_env(Corridor, 10), model_train_freq=25, **TINY)
    steps = phases_of(agent, 400, monkeypatch)
    assert steps[:5] == [60, 90, 110, 140, 160] and len(steps) == 14


@pytest.mark.parametrize("kwargs", [{"train_freq": 100}, {"train_freq": (5, "episode")}, {"n_envs": 100}])
def test_what_is_imagined_is_kept_as_long_as_it_says(kwargs: dict[str, Any]) -> None:
    """A fifth of an epoch is 200 env steps: also where a collection has a hundred of them and the pace would be 25."""
    n_envs = kwargs.pop("n_envs", 1)
    env = make_vec_env(lambda: Corridor(limit=20), n_envs)
    agent = small_agent(env, model_train_freq=25, model_retain_epochs=0.2, update_to_data_ratio=0.02, **kwargs, **TINY).learn(
        1000
    )
    assert len(agent.imagined.made_at) == 2 and agent.imagined.capacity == 2 * 50
    assert agent._env_steps - min(agent.imagined.made_at) < 200


def test_a_bound_of_memory_is_said_once() -> None:
    with pytest.warns(
        UserWarning, match=r"imagined_capacity has room for 1.5 of the 2 model phases that model_retain_epochs"
    ) as w:
        agent = small_agent(imagined_capacity=75, model_train_freq=25, **TINY).learn(200)
    assert len([one for one in w if "imagined_capacity" in str(one.message)]) == 1
    assert agent.imagine()["phases_kept"] == 1.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        free = small_agent(model_train_freq=25, **TINY).learn(120)
    assert free.imagine()["phases_kept"] == free.imagine()["phases_asked"] - 1.0


def test_a_load_without_the_buffer_says_that_it_waits(tmp_path: Path) -> None:
    small_agent(**TINY).learn(80).save(tmp_path / "agent")
    loaded = MBPO.load(tmp_path / "agent", env="Pendulum-v1")
    with pytest.warns(UserWarning, match=r"the replay buffer holds 1 transitions: nothing is trained until there are 50") as w:
        loaded.learn(40, reset_num_timesteps=False)
    assert len(w) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small_agent(**TINY).learn(40)  # a new agent waits as it was told


def test_a_second_learn_goes_on_with_the_schedules() -> None:
    agent = small_agent(rollout_schedule=[60, 160, 1, 6], real_ratio=[60, 160, 0.1, 0.6], **TINY).learn(80)
    assert agent.imagine()["scheduled_length"] == 2.0
    agent.learn(80)
    assert agent.num_timesteps == 80 and agent.imagine()["scheduled_length"] == 6.0
    assert agent._batches(agent._context())._real_ratio == 0.6


def test_offline_fits_do_not_age_the_rows() -> None:
    """PMAC's newest block is what was collected since the last policy, however often the model was fitted to it."""
    agent = small_agent(weighter=PMACWeighter, weighter_kwargs=None, **TINY).learn(80)
    version = agent.policy_version
    for _ in range(5):
        agent.fit_weights()
        agent.fit_model()
    assert agent.policy_version == version + 1  # of the rows that came after the last phase
    agent.learn(60, reset_num_timesteps=False)
    versions = agent.replay_buffer.transitions().policy_version
    assert versions.unique().tolist() == list(range(int(versions.max()) + 1)), "a block without rows"


@pytest.mark.parametrize("seed", [0, 3, 123])
def test_the_agents_own_stream_is_not_torchs(seed: int) -> None:
    agent = small_agent(seed=seed, **TINY)
    own = th.randint(2**62, (1000,), generator=agent.generator)
    th.manual_seed(seed)
    assert not bool(th.isin(own, th.randint(2**62, (100_000,))).any())
    again = small_agent(seed=seed, **TINY)
    assert th.equal(th.randint(2**62, (1000,), generator=again.generator), own)


@pytest.mark.parametrize("vectorised", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_an_evaluation_on_the_training_env_is_refused(vectorised: bool, nested: bool) -> None:
    env = Corridor(limit=20)
    agent = small_agent(DummyVecEnv([lambda: env]) if vectorised else env, **TINY)
    callback = EvalCallback(env, eval_freq=30, verbose=0)
    with pytest.raises(ValueError, match=r"^EvalCallback\(eval_env=the environment that the agent trains on\) is not allowed"):
        agent.learn(60, callback=CallbackList([callback]) if nested else callback)
    assert agent.replay_buffer.n_transitions == 0
    agent.learn(60, callback=EvalCallback(Corridor(limit=20), eval_freq=30, verbose=0))


class Reading(BaseCallback):
    """Keeps the training env, as callbacks do that read from it or set its difficulty."""

    def _init_callback(self) -> None:
        self.env = self.training_env

    def _on_step(self) -> bool:
        return self.env.get_attr("limit") == [20]


def test_a_callback_may_read_from_the_training_env() -> None:
    agent, callback = small_agent(Corridor(limit=20), **TINY), Reading()
    agent.learn(60, callback=callback)
    agent.learn(60, callback=callback, reset_num_timesteps=False)
    assert agent.num_timesteps == 120


def test_processes_and_normalisation_hide_nothing() -> None:
    venv = SubprocVecEnv([Corridor])
    agent = small_agent(VecNormalize(venv), **TINY)
    with pytest.raises(ValueError, match="the environment that the agent trains on"):
        agent.learn(60, callback=EvalCallback(VecNormalize(venv, training=False), eval_freq=30, verbose=0))
    venv.close()


def test_rows_contradict_no_physics_after_evaluations() -> None:
    agent = small_agent(Corridor(limit=20), **TINY)
    agent.learn(200, callback=EvalCallback(Corridor(limit=20), eval_freq=30, n_eval_episodes=1, verbose=0))
    rows = agent.replay_buffer.transitions()
    assert rows.size > 150
    th.testing.assert_close(rows.next_observations - rows.observations, 0.3 * rows.actions, rtol=0.0, atol=1e-5)
