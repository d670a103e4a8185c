"""What users of SB3's SAC rely on, row by row of docs/sb3_contract.md: supported, or refused by name at construction."""

import pickle
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack, VecNormalize
from stable_baselines3.sac.policies import Actor, CnnPolicy, SACPolicy
from torch import nn

from sb3_tom import MBPO
from sb3_tom.mbpo.update_counter import optimizer_steps
from tests.mbpo.small import SMALL_WEIGHTERS, small_agent
from tests.mbpo.test_mbpo import Corridor, parameters_of

NETS = {"net_arch": [8]}
TINY: dict[str, Any] = {"rollout_batch_size": 20, "dynamics": "linear", "policy_kwargs": NETS}


@pytest.mark.parametrize("vec_env_cls", [DummyVecEnv, SubprocVecEnv])
def test_eight_envs(vec_env_cls: type) -> None:
    kwargs = {"vec_env_kwargs": {"start_method": "fork"}} if vec_env_cls is SubprocVecEnv else {}
    env = make_vec_env("Pendulum-v1", 8, seed=0, vec_env_cls=vec_env_cls, **kwargs)
    agent = small_agent(env, weighter="pmac", learning_starts=48, **TINY)
    agent.learn(96)
    env.close()
    assert agent.replay_buffer.n_transitions == 96
    assert optimizer_steps(agent.critic.optimizer) == 2 * 48
    assert agent.policy_version == 2  # at 56 (after learning_starts) and 25 or more transitions later, at 88


def test_both_kinds_of_vectorised_envs_give_the_same_run() -> None:
    runs = []
    for cls, kwargs in ((DummyVecEnv, None), (SubprocVecEnv, {"start_method": "fork"})):
        env = make_vec_env("Pendulum-v1", 2, seed=0, vec_env_cls=cls, vec_env_kwargs=kwargs)
        runs.append(parameters_of(small_agent(env, **TINY).learn(70)))
        env.close()
    assert th.equal(*runs)


@pytest.mark.parametrize("weighter", sorted({*SMALL_WEIGHTERS} - {"per", "recall", "maper", "value", "pdml"}))
@pytest.mark.parametrize("n_envs", [1, 3])
def test_vec_normalize(weighter: str, n_envs: int) -> None:
    env = VecNormalize(make_vec_env("Pendulum-v1", n_envs))
    agent = small_agent(env, weighter=weighter, **TINY).learn(90)
    assert agent._n_updates > 0 and bool(th.isfinite(parameters_of(agent)).all())


def test_stacked_frames_are_a_vector() -> None:
    agent = small_agent(VecFrameStack(make_vec_env("Pendulum-v1", 2), 3), **TINY).learn(70)
    assert agent._sizes == (9, 1) and agent._n_updates == 40


def test_n_step_returns_are_refused() -> None:
    with pytest.raises(ValueError, match=r"n_steps=3 is not allowed: imagined transitions are one step long"):
        small_agent(n_steps=3)


@pytest.mark.parametrize("buffer_class", [NStepReplayBuffer, HerReplayBuffer, DictReplayBuffer, ReplayBuffer])
def test_other_replay_buffers_are_refused(buffer_class: type) -> None:
    with pytest.raises(ValueError, match=rf"replay_buffer_class={buffer_class.__name__} is not allowed; allowed: None or"):
        small_agent(replay_buffer_class=buffer_class)


@pytest.mark.parametrize("n_envs", [1, 2])
def test_gsde_with_action_noise(n_envs: int) -> None:
    noise = NormalActionNoise(np.zeros(1), np.full(1, 0.1))
    env = make_vec_env("Pendulum-v1", n_envs)
    agent = small_agent(env, use_sde=True, sde_sample_freq=4, use_sde_at_warmup=True, action_noise=noise, **TINY)
    before = parameters_of(agent).clone()
    agent.learn(70)
    assert not th.equal(before, parameters_of(agent))


def test_imagination_with_gsde_draws_a_matrix_per_row() -> None:
    """Oracle: SB3's own distribution, whose actions at one state vary only over exploration matrices."""
    agent = small_agent("Pendulum-v1", use_sde=True, **{**TINY, "policy_kwargs": {"net_arch": [8], "log_std_init": 0.0}})
    observations = th.tensor([[0.3, -0.8, 1.5]]).repeat(20_000, 1)
    actions, log_prob = agent._context().policy(observations)
    drawn = []
    for _ in range(400):
        agent.actor.reset_noise()
        drawn.append(agent.actor.action_log_prob(observations[:1])[0])
    assert float(actions.std()) == pytest.approx(float(th.cat(drawn).std()), rel=0.15)
    assert actions.unique().numel() > 10_000
    mean, log_std, extra = agent.actor.get_action_dist_params(observations)
    distribution = agent.actor.action_dist.proba_distribution(mean, log_std, **extra)
    inner = actions.abs().flatten() < 0.99
    th.testing.assert_close(log_prob.flatten()[inner], distribution.log_prob(actions)[inner], rtol=1e-3, atol=1e-3)


def test_episodes_with_several_envs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"train_freq=\(1, 'episode'\) is not allowed with 2 envs"):
        small_agent(make_vec_env("Pendulum-v1", 2), train_freq=(1, "episode"))


@pytest.mark.parametrize("weighter", SMALL_WEIGHTERS)
def test_learning_starts_at_zero(weighter: str) -> None:
    agent = small_agent(Corridor(), weighter=weighter, learning_starts=0, tau=0.0, **{**TINY, "dynamics": "ensemble"}).learn(8)
    assert agent._n_updates == 16


class Dropout(BaseFeaturesExtractor):
    """A custom extractor with dropout or batch normalisation, as a user would write it."""

    def __init__(self, observation_space: spaces.Box, batch_norm: bool = False) -> None:
        super().__init__(observation_space, 6)
        size = observation_space.shape[0]
        self.norm = nn.BatchNorm1d(size, momentum=1.0) if batch_norm else nn.Dropout(0.5)
        self.net = nn.Sequential(nn.Linear(size, 6), nn.ReLU())

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.net(self.norm(observations))


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("share", [False, True])
def test_custom_extractors_with_dropout_and_batch_norm(batch_norm: bool, share: bool, tmp_path: Path) -> None:
    extractor = {"features_extractor_class": Dropout, "features_extractor_kwargs": {"batch_norm": batch_norm}}
    agent = small_agent(Corridor(), **{**TINY, "policy_kwargs": {**NETS, **extractor, "share_features_extractor": share}})
    before = parameters_of(agent).clone()
    agent.learn(70)
    assert not th.equal(before, parameters_of(agent))
    frozen = {name: value.clone() for name, value in agent.policy.state_dict().items()}
    agent.fit_weights()
    agent.imagine()
    assert all(th.equal(value, agent.policy.state_dict()[name]) for name, value in frozen.items())
    observations = np.linspace(-1, 1, 5, dtype=np.float32)[:, None]
    first = agent.predict(observations, deterministic=True)[0]
    np.testing.assert_array_equal(first, agent.predict(observations, deterministic=True)[0])
    agent.save(tmp_path / "agent")
    np.testing.assert_array_equal(first, MBPO.load(tmp_path / "agent").predict(observations, deterministic=True)[0])


def test_nothing_is_trained_with_zero_gradient_steps_and_batch_norm() -> None:
    extractor = {"features_extractor_class": Dropout, "features_extractor_kwargs": {"batch_norm": True}}
    agent = small_agent(Corridor(), gradient_steps=0, **{**TINY, "policy_kwargs": {**NETS, **extractor}})
    frozen = {name: value.clone() for name, value in agent.policy.state_dict().items()}
    agent.learn(60)
    assert all(th.equal(value, agent.policy.state_dict()[name]) for name, value in frozen.items())


@pytest.mark.parametrize(
    ("optimizer_class", "optimizer_kwargs"),
    [(th.optim.SGD, {"momentum": 0.9}), (th.optim.SGD, {}), (th.optim.RMSprop, {}), (th.optim.AdamW, {"weight_decay": 0.1})],
)
def test_custom_optimisers(optimizer_class: type, optimizer_kwargs: dict) -> None:
    policy_kwargs = {**NETS, "optimizer_class": optimizer_class, "optimizer_kwargs": optimizer_kwargs}
    agent = small_agent(Corridor(), **{**TINY, "policy_kwargs": policy_kwargs}, learning_rate=1e-4)
    before = parameters_of(agent).clone()
    agent.learn(70, log_interval=1)
    assert not th.equal(before, parameters_of(agent))
    agent.dump_logs()
    assert agent._updates_made() == 40


def test_an_optimiser_that_needs_a_closure_is_refused() -> None:
    with pytest.raises(ValueError, match=r"policy_kwargs=\{'optimizer_class': LBFGS\} is not allowed"):
        small_agent(Corridor(), **{**TINY, "policy_kwargs": {"optimizer_class": th.optim.LBFGS}})


class CustomActor(Actor):
    """A user's subclass."""


class CustomPolicy(SACPolicy):
    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        return CustomActor(**self._update_features_extractor(self.actor_kwargs, features_extractor)).to(self.device)


def test_a_custom_policy_with_its_own_actor() -> None:
    agent = MBPO("MlpPolicy", Corridor(), buffer_size=10)
    assert type(agent.actor) is Actor
    agent = MBPO(CustomPolicy, Corridor(), learning_starts=20, batch_size=8, buffer_size=100, **TINY, update_to_data_ratio=1)
    assert type(agent.actor) is CustomActor
    agent.learn(30)
    assert agent._n_updates == 10


@pytest.mark.parametrize("policy", ["CnnPolicy", "MultiInputPolicy", CnnPolicy, "MlpPolicies", nn.Linear, 3])
def test_policies_for_other_observations_are_refused(policy: Any) -> None:
    with pytest.raises(
        ValueError, match=r"policy=.* is not allowed; allowed: 'MlpPolicy', 'LayerNormPolicy', 'SimbaPolicy' or a subclass"
    ):
        MBPO(policy, "Pendulum-v1")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("policy_kwargs", {"net_arhc": [8]}),
        ("policy_kwargs", {"net_arch": [-8]}),
        ("replay_buffer_kwargs", {"capacity": 3}),
        ("replay_buffer_kwargs", {"handle_timeout_termination": False}),
        ("n_start_observations", {"n_start_observations": 0}),
        ("action_noise", "normal"),
        ("action_noise", NormalActionNoise(np.zeros(2), np.ones(2))),
        ("device", "gpu"),
        ("device", "meta"),
        ("device", "mps"),
        ("verbose", "1"),
        ("use_sde", "yes"),
        ("stats_window_size", 0),
        ("tensorboard_log", 3),
    ],
)
def test_arguments_that_sb3_takes_without_a_look(name: str, value: Any) -> None:
    argument = "replay_buffer_kwargs" if name == "n_start_observations" else name
    with pytest.raises(ValueError, match=rf"{name}=.*(allowed|fit)"):
        small_agent(Corridor(), **{**TINY, argument: value})


def test_a_discount_of_one_with_the_mask_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gamma=1.0 is not allowed with terminal='mask'"):
        small_agent(gamma=1.0, weighter="tom", weighter_kwargs={"terminal": "mask"})
    small_agent(gamma=1.0, weighter="tom", weighter_kwargs={"preset": "official"})  # has a discount of its own


class Goal(gym.Env):
    """A goal task of plain vectors."""

    observation_space = spaces.Dict({name: spaces.Box(-5.0, 5.0, (2,), np.float32) for name in ("position", "goal")})
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        self.position, self.goal = np.zeros(2, np.float32), self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return {"position": self.position, "goal": self.goal}, {}

    def step(self, action: np.ndarray):
        self.position = np.clip(self.position + 0.1 * action, -5, 5).astype(np.float32)
        distance = float(np.abs(self.position - self.goal).sum())
        return {"position": self.position, "goal": self.goal}, -distance, distance < 0.1, False, {}


def test_dicts_of_vectors_are_refused_and_flattened_by_gymnasiums_wrapper() -> None:
    with pytest.raises(ValueError, match=r"observation_space=Dict.*FlattenObservation"):
        small_agent(Goal(), **TINY)
    agent = small_agent(gym.wrappers.TimeLimit(gym.wrappers.FlattenObservation(Goal()), 20), **TINY).learn(70)
    assert agent._sizes == (4, 2) and agent._n_updates == 40


def test_integers_are_refused_and_made_floats_by_gymnasiums_wrapper() -> None:
    taxi = gym.wrappers.TransformAction(
        gym.wrappers.FlattenObservation(gym.make("CliffWalking-v1", max_episode_steps=20)),
        lambda action: int(action[0] > 0),
        gym.spaces.Box(-1.0, 1.0, (1,), np.float32),
    )
    with pytest.raises(ValueError, match=r"observation_space=Box.*int64.*DtypeObservation\(env, numpy.float32\)"):
        small_agent(taxi, **TINY)
    agent = small_agent(gym.wrappers.DtypeObservation(taxi, np.float32), **TINY).learn(70)
    assert agent._n_updates == 40


def test_a_folder_may_be_a_path(tmp_path: Path) -> None:
    agent = small_agent(Corridor(), **{**TINY, "tensorboard_log": tmp_path})
    assert agent.tensorboard_log == str(tmp_path)


@pytest.mark.parametrize("weighter", ["uniform", "pmac", "tom"])
def test_agents_can_be_pickled_as_sb3s_can(weighter: str) -> None:
    agent = small_agent(Corridor(), **{**TINY, "weighter": weighter, "weighter_kwargs": None}).learn(60)
    twin = pickle.loads(pickle.dumps(agent))
    there, here = twin.get_parameters(), agent.get_parameters()
    assert {"policy", "dynamics"} <= here.keys() and agent._n_updates == twin._n_updates > 0
    th.testing.assert_close(there, here, rtol=0.0, atol=0.0)


def test_offline_updates_with_gsde_before_the_first_learn() -> None:
    source = small_agent(Corridor(), learning_starts=1000, **TINY).learn(40)
    agent = small_agent(Corridor(), use_sde=True, **TINY)
    agent.replay_buffer = source.replay_buffer
    agent.fit_model()
    agent.imagine()
    agent.train_policy(3)
    assert optimizer_steps(agent.critic.optimizer) == 3
    agent.learn(60)
