"""The agent: Algorithm 1, ratios, versions, time-outs, SB3's contract."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from sb3_tom import MBPO, MBPOPMAC, MBPOTOM, Context, Transitions, Weighter
from sb3_tom.mbpo.update_counter import optimizer_steps
from tests.mbpo.small import small_agent


class Corridor(gym.Env):
    """Moves by its action; ends above 0.5; a time-out after ``limit`` steps."""

    observation_space = spaces.Box(-10.0, 10.0, (1,), np.float64)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, limit: int = 7, ends: bool = False) -> None:
        self.limit, self.ends, self.steps = limit, ends, 0
        self.position = np.zeros(1)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        self.position, self.steps = np.zeros(1), 0
        return self.position.copy(), {}

    def step(self, action: np.ndarray):
        self.position = self.position + 0.3 * action
        self.steps += 1
        terminated = self.ends and bool(self.position[0] > 0.5)
        return self.position.copy(), -float(self.position[0]), terminated, self.steps >= self.limit, {}


class Ones(Weighter):
    """A weighter other than uniform whose weights are all the same."""

    def weights(self, data: Transitions, context: Context) -> th.Tensor:
        return th.full((data.size,), 7.0)


def parameters_of(agent: MBPO) -> th.Tensor:
    parts = [*agent.policy.parameters(), *agent.dynamics.parameters(), agent.log_ent_coef]
    return th.cat([part.detach().flatten() for part in parts])


@pytest.mark.parametrize(("ratio", "expected"), [(2.0, 100), (0.3, 15), (7.25, 362)])
def test_the_ratio_is_per_transition_and_fractions_are_carried(ratio: float, expected: int) -> None:
    agent = small_agent(Corridor(), update_to_data_ratio=ratio).learn(100)
    assert optimizer_steps(agent.critic.optimizer) == optimizer_steps(agent.actor.optimizer) == expected
    assert agent._n_updates == expected


def test_the_ratio_counts_every_env() -> None:
    agent = small_agent(make_vec_env(Corridor, 4), learning_starts=40).learn(120)
    assert optimizer_steps(agent.critic.optimizer) == 2 * 80


def test_the_ratio_with_whole_episodes() -> None:
    agent = small_agent(Corridor(limit=10), train_freq=(2, "episode"), learning_starts=40).learn(100)
    assert optimizer_steps(agent.critic.optimizer) == 2 * 60


def test_explicit_gradient_steps_keep_the_meaning_of_sb3() -> None:
    agent = small_agent(Corridor(), gradient_steps=3, train_freq=4).learn(100)
    assert optimizer_steps(agent.critic.optimizer) == 3 * 13


def test_zero_gradient_steps_train_nothing() -> None:
    agent = small_agent(Corridor(), gradient_steps=0)
    before = parameters_of(agent).clone()
    agent.learn(100)
    assert th.equal(before, parameters_of(agent))
    assert agent.policy_version == 0
    assert agent.imagined.size == 0


def test_model_phases_and_policy_versions() -> None:
    agent = small_agent(Corridor()).learn(130)  # phases at 51, 76, 101, 126
    versions = agent.replay_buffer.transitions().policy_version
    assert agent.policy_version == agent.replay_buffer.policy_version == 4
    assert th.bincount(versions).tolist() == [51, 25, 25, 25, 4]


def test_a_time_out_is_a_termination_nowhere() -> None:
    agent = small_agent(Corridor(limit=7, ends=False)).learn(150)
    assert agent.replay_buffer.dones.sum() >= 20
    assert float(agent.replay_buffer.transitions().terminated.sum()) == 0
    assert float(agent.imagined.gather(th.arange(agent.imagined.size))[4].sum()) == 0
    ends = agent.replay_buffer.transitions()
    assert not bool(agent.termination(ends.observations, ends.actions, ends.next_observations).any())


def test_real_terminations_are_stored() -> None:
    agent = small_agent(Corridor(limit=200, ends=True), learning_starts=1000).learn(150)
    data = agent.replay_buffer.transitions()
    assert th.equal(data.terminated.flatten() > 0, data.next_observations.flatten() > 0.5)
    assert float(data.terminated.sum()) > 0


def test_weights_that_are_all_the_same_are_plain_mbpo_number_for_number() -> None:
    plain = small_agent(Corridor(), weighter="uniform").learn(120)
    same = small_agent(Corridor(), weighter=Ones(), weighter_kwargs=None).learn(120)
    assert th.equal(parameters_of(plain), parameters_of(same))


@pytest.mark.parametrize("weighter", ["pmac", "tom"])
def test_weights_that_differ_are_not(weighter: str) -> None:
    plain = small_agent(Corridor(), weighter="uniform").learn(120)
    weighted = small_agent(Corridor(), weighter=weighter).learn(120)
    assert not th.equal(parameters_of(plain), parameters_of(weighted))
    assert weighted.replay_buffer.row_weights()[: 25 * 4].std() > 0


@pytest.mark.parametrize("weighter", ["uniform", "pmac", "tom"])
def test_two_seeded_runs_are_equal_bit_for_bit(weighter: str) -> None:
    first = small_agent(weighter=weighter).learn(120)
    second = small_agent(weighter=weighter).learn(120)
    assert th.equal(parameters_of(first), parameters_of(second))
    other = small_agent(weighter=weighter, seed=1).learn(120)
    assert not th.equal(parameters_of(first), parameters_of(other))


def test_the_rollout_schedule_is_really_used() -> None:
    agent = small_agent(Corridor(), rollout_schedule=[60, 110, 1, 6], model_retain_epochs=1, model_train_freq=1000)
    lengths = []
    agent.learn(55)
    for steps in (0, 30, 60):
        agent._env_steps = 60 + steps
        lengths.append(agent.imagine()["length"])
    assert lengths == [1.0, 4.0, 6.0]
    assert agent.imagined.capacity == 100 * 6
    assert agent.imagined.size == 600


def test_the_rollout_schedule_can_be_changed_between_phases(tmp_path: Path) -> None:
    agent = small_agent(Corridor()).learn(55)
    agent.rollout_schedule = 4
    assert agent.imagine()["length"] == 4.0
    agent.save(tmp_path / "agent")
    loaded = MBPO.load(tmp_path / "agent", env=agent.env)
    assert loaded.learn(55).imagine()["length"] == 4.0
    agent.save_checkpoint(tmp_path / "run.zip")
    assert MBPO.resume(tmp_path / "run.zip", Corridor()).imagine()["length"] == 4.0
    agent.rollout_schedule = 0
    with pytest.raises(ValueError, match=r"^rollout_schedule=0 is not allowed; allowed: an integer of at least 1"):
        agent.imagine()


def test_no_more_rollouts_are_made_than_the_ring_holds_whole() -> None:
    agent = small_agent(Corridor(), rollout_batch_size=100, rollout_schedule=5, imagined_capacity=60).learn(50)
    agent.fit_model()
    agent.imagine()
    observations, _, following, *_ = agent.imagined.gather(th.arange(60))
    # Step by step: the starts are real, and each later step goes on where the one before it ended
    assert th.isin(observations[:12], agent.replay_buffer.transitions().observations).all()
    assert th.equal(observations[12:], following[:-12])


def test_imagined_capacity_is_capped() -> None:
    agent = small_agent(Corridor(), rollout_schedule=5, imagined_capacity=321).learn(60)
    agent.imagine()
    assert agent.imagined.capacity == agent.imagined.size == 321


def test_rollout_starts_follow_the_weights() -> None:
    class OnlyFirst(Weighter):
        def weights(self, data: Transitions, context: Context) -> th.Tensor:
            return (th.arange(data.size) < 3).float()

    class FitOnly(OnlyFirst):
        weighs_starts = False

    for weighter, said, weighted in (
        (OnlyFirst, None, True),
        (OnlyFirst, False, False),
        (FitOnly, None, False),
        (FitOnly, True, True),
    ):
        agent = small_agent(Corridor(), weighter=weighter(), weight_rollout_starts=said).learn(60)
        assert agent.weight_rollout_starts is weighted
        starts = th.unique(agent.imagined.gather(th.arange(agent.imagined.size))[0])
        observations = agent.replay_buffer.transitions().observations
        assert bool(th.isin(starts, observations).all())
        assert bool(th.isin(starts, observations[:3]).all()) == weighted


def test_a_known_reward_replaces_the_learned_one() -> None:
    agent = small_agent(Corridor(), reward_fn=lambda observations, actions, next_observations: -next_observations).learn(60)
    _, _, next_observations, rewards, _ = agent.imagined.gather(th.arange(agent.imagined.size))
    assert th.equal(rewards, -next_observations)


def test_weights_in_the_loss() -> None:
    by_sample = small_agent(Corridor(), weighter="pmac", weighting="sample").learn(120)
    by_loss = small_agent(Corridor(), weighter="pmac", weighting="loss").learn(120)
    assert not th.equal(parameters_of(by_sample), parameters_of(by_loss))


@pytest.mark.parametrize(
    "kwargs", [{"use_sde": True, "sde_sample_freq": 4}, {"policy_kwargs": {"share_features_extractor": True}}]
)
def test_what_the_fast_update_does_not_cover_takes_sb3s_own(kwargs: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("the fast update must not be used")

    monkeypatch.setattr("sb3_tom.policy_updates.sac.update.SACUpdate", never)
    agent = small_agent(Corridor(), **kwargs)
    before = parameters_of(agent).clone()
    agent.learn(70)
    assert not th.equal(before, parameters_of(agent))
    assert optimizer_steps(agent.critic.optimizer) == 2 * 20
    assert type(agent.replay_buffer).__name__ == "WeightedReplayBuffer"


def test_offline_verbs_step_no_env() -> None:
    source = small_agent(Corridor()).learn(40)  # fewer than learning_starts: nothing trained
    agent = small_agent(Corridor(), weighter="tom")
    agent.replay_buffer = source.replay_buffer
    before = parameters_of(agent).clone()
    footprint = agent.replay_buffer.transitions().rows(th.arange(40))
    weights = agent.fit_weights(recent=footprint, policy=lambda observations: (-observations.tanh(), observations * 0))
    agent.fit_model()
    agent.imagine()
    agent.train_policy(10)
    assert weights.shape == (40,)
    assert float(weights.mean()) == pytest.approx(1.0, abs=1e-5)
    assert agent.num_timesteps == 0
    assert optimizer_steps(agent.critic.optimizer) == 10
    assert not th.equal(before, parameters_of(agent))


def test_a_callback_that_cancels_is_called_once() -> None:
    class Cancel(BaseCallback):
        def _on_step(self) -> bool:
            return bool(np.bool_(False))

    callback = Cancel()
    small_agent(Corridor()).learn(100, callback)
    assert callback.n_calls == 1


def test_log_keys_and_tensorboard_name(tmp_path: Path) -> None:
    agent = small_agent(Corridor(), tensorboard_log=str(tmp_path), weighter="tom")
    agent.learn(120.0, log_interval=1)  # a float, as in learn(3e5)
    assert (tmp_path / "MBPO_1").is_dir()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "MBPO_1"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {f"train/{name}" for name in ("ent_coef", "actor_loss", "critic_loss", "ent_coef_loss", "learning_rate")} <= tags
    assert {"model/validation_error", "model/seconds", "weighter/effective_sample_size", "rollout_model/length"} <= tags
    assert "train/n_updates" not in tags
    assert events.Scalars("train/update_to_data_ratio")[-1].value == pytest.approx(2.0, abs=0.2)


def test_learn_can_be_continued_and_started_again() -> None:
    agent = small_agent(Corridor()).learn(80)
    agent.learn(20, reset_num_timesteps=False)
    assert agent.num_timesteps == 100
    version = agent.policy_version
    agent.learn(80)
    assert agent.num_timesteps == 80
    assert agent.policy_version > version


def test_learning_from_the_first_step() -> None:
    agent = small_agent(Corridor(), learning_starts=0).learn(30)
    assert optimizer_steps(agent.critic.optimizer) == 60
    assert bool(th.isfinite(parameters_of(agent)).all())


def test_a_full_buffer_is_enough_to_begin() -> None:
    """100 rows for 3 envs are 33 for each: 100 transitions are never there."""
    agent = small_agent(make_vec_env(Corridor, 3), buffer_size=100, learning_starts=100).learn(120)
    assert agent.replay_buffer.n_transitions == 99
    assert optimizer_steps(agent.critic.optimizer) == 2 * 21  # from 102 env steps on, three at a time


@pytest.mark.parametrize(("cls", "name"), [(MBPO, "UniformWeighter"), (MBPOPMAC, "PMACWeighter"), (MBPOTOM, "TOMWeighter")])
def test_default_weighters(cls: type[MBPO], name: str) -> None:
    agent = cls("MlpPolicy", "Pendulum-v1", buffer_size=1000)
    assert type(agent.weighter).__name__ == name


def test_no_warnings(recwarn: pytest.WarningsRecorder) -> None:
    small_agent(learning_starts=10).learn(50)
    assert [str(warning.message) for warning in recwarn] == []
