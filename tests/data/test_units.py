"""VecNormalize: the same numbers as SB3's own sampling, and raw rows."""

import copy
import pickle
from collections.abc import Callable

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecMonitor, VecNormalize

from sb3_tom import MBPO
from sb3_tom.checks.episode_ends import RAW_TERMINAL
from sb3_tom.data.batches import MixedBatches
from sb3_tom.data.imagined import ImaginedBuffer
from sb3_tom.data.units import PolicyUnits, policy_units
from tests.mbpo.small import small_agent
from tests.mbpo.test_mbpo import Corridor

TINY = {"rollout_batch_size": 20, "dynamics": "linear", "policy_kwargs": {"net_arch": [8]}}


def normalized(n_envs: int = 1, ends: bool = False, **kwargs: object) -> VecNormalize:
    return VecNormalize(make_vec_env(lambda: Corridor(limit=9, ends=ends), n_envs), **kwargs)


@pytest.mark.parametrize("kwargs", [{}, {"norm_obs": False}, {"norm_reward": False}, {"clip_obs": 0.5, "clip_reward": 0.3}])
def test_batches_are_those_of_sb3(kwargs: dict) -> None:
    """Oracle: SB3's ReplayBuffer._get_samples with the env."""
    env = normalized(2, **kwargs)
    agent = small_agent(env, **TINY).learn(80)
    buffer, rows = agent.replay_buffer, np.arange(20)
    theirs = ReplayBuffer(20, env.observation_space, env.action_space, "cpu", n_envs=1)
    real = buffer.transitions().rows(th.from_numpy(rows))
    for name in ("observations", "next_observations", "actions"):
        getattr(theirs, name)[:, 0] = getattr(real, name).numpy()
    theirs.rewards[:] = real.rewards.numpy()
    expected = theirs._get_samples(rows, env=env)
    empty = ImaginedBuffer(0, 1, 1, "cpu")
    mixed = MixedBatches(real, empty, 1.0, th.Generator(), policy_units(env, "cpu"))
    mixed._draw = lambda n_rows, shape: th.arange(20).expand(shape)
    (batch,) = mixed(1, 20)
    for name in ("observations", "actions", "next_observations", "rewards"):
        assert th.equal(getattr(batch, name), getattr(expected, name)), name
    assert kwargs.get("norm_obs", True) == (not th.equal(batch.observations, real.observations))


def test_without_vec_normalize_nothing_is_copied() -> None:
    values = th.randn(3, 2)
    units = policy_units(None, "cpu")
    assert units.observations(values) is values and units.rewards(values) is values
    assert units == PolicyUnits()


def test_plugs_speak_raw_units_and_the_policy_normalised_ones() -> None:
    env = normalized()
    agent = small_agent(env, **TINY).learn(80)
    raw = agent.replay_buffer.transitions().observations
    seen: list[th.Tensor] = []
    agent.actor.register_forward_pre_hook(lambda *arguments: None)
    original = agent.actor.get_action_dist_params
    agent.actor.get_action_dist_params = lambda observations: seen.append(observations) or original(observations)
    context = agent._context()
    context.policy(raw)
    np.testing.assert_array_equal(seen[0].numpy(), env.normalize_obs(raw.numpy()))
    actions = th.zeros(raw.shape[0], 1)
    expected = th.cat(agent.critic(th.from_numpy(env.normalize_obs(raw.numpy())), actions), dim=1).t()
    unit = float(np.sqrt(env.ret_rms.var + env.epsilon))  # rewards are normalised too: values come back in the env's own
    assert unit != 1.0 and th.equal(context.values(raw, actions), expected * unit)
    targets = th.cat(agent.critic_target(th.from_numpy(env.normalize_obs(raw.numpy())), actions), dim=1).t()
    assert th.equal(context.target_values(raw, actions), targets * unit)
    th.testing.assert_close(context.ent_coef, agent.log_ent_coef.exp().squeeze() * unit)
    starts = agent.imagined.gather(th.arange(agent.imagined.size))[0]
    assert set(starts.flatten().tolist()) <= set(raw.flatten().tolist())  # length 1: every imagined row starts at a raw one


def test_terminal_observations_are_stored_as_the_env_gave_them() -> None:
    """SB3 alone stores them normalised, clipped, and back: far from the truth with a tight clip."""
    env = normalized(2, ends=True, clip_obs=0.1)
    agent = small_agent(env, termination_fn=lambda _o, _a, after: after > 0.5, **TINY).learn(120)
    data = agent.replay_buffer.transitions()
    assert float(data.terminated.sum()) > 0
    th.testing.assert_close(data.next_observations, data.observations + 0.3 * data.actions, rtol=1e-5, atol=1e-6)
    assert bool((data.next_observations[data.terminated > 0] > 0.5).all())


def test_the_known_rule_holds_under_vec_normalize(recwarn: pytest.WarningsRecorder) -> None:
    pytest.importorskip("mujoco")
    env = VecNormalize(make_vec_env("InvertedPendulum-v5", 1))
    agent = small_agent(env, learning_starts=1000, **TINY).learn(60)
    agent.fit_model()
    assert agent.termination_rule is not None
    assert agent.replay_buffer.terminated.sum() >= 3
    assert not [warning for warning in recwarn if "termination" in str(warning.message)]


def test_save_and_load_with_statistics(tmp_path) -> None:
    env = normalized()
    agent = small_agent(env, **TINY).learn(80)
    agent.save(tmp_path / "agent")
    agent.save_replay_buffer(tmp_path / "buffer")
    env.save(tmp_path / "statistics.pkl")
    again = VecNormalize.load(str(tmp_path / "statistics.pkl"), make_vec_env(lambda: Corridor(limit=9), 1))
    loaded = MBPO.load(tmp_path / "agent", env=again)
    loaded.load_replay_buffer(tmp_path / "buffer")
    assert loaded._vec_normalize_env is again
    loaded.learn(30, reset_num_timesteps=False)
    assert loaded._n_updates > agent._n_updates


def test_evaluation_with_statistics_of_the_training_env() -> None:
    """EvalCallback compares the wrappers of both envs one by one."""
    env, evaluation = normalized(), normalized(training=False)
    agent = small_agent(env, learning_starts=1000, **TINY)
    agent.learn(40, EvalCallback(evaluation, eval_freq=20, n_eval_episodes=1, verbose=0))
    np.testing.assert_array_equal(evaluation.obs_rms.mean, env.obs_rms.mean)
    small_agent(env, learning_starts=1000, **TINY).learn(20)  # a second agent on the same envs


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda env: VecFrameStack(VecNormalize(env), 2), r"env=VecFrameStack\(VecNormalize"),
        (lambda env: VecNormalize(VecNormalize(env)), r"env=VecNormalize\(\.\.\. VecNormalize"),
    ],
)
def test_orders_of_wrappers_that_are_refused(wrap, message: str) -> None:
    env = DummyVecEnv([lambda: gym.make("Pendulum-v1")])
    with pytest.raises(ValueError, match=message + r".*allowed"):
        small_agent(wrap(env), **TINY)
    small_agent(VecMonitor(VecNormalize(env)), **TINY)


def test_a_checkpoint_under_vec_normalize_is_no_episode_boundary() -> None:
    """What is put into the envs holds no state that a checkpoint would miss."""
    from sb3_tom.checkpoint.vec_env_state import boundary_reasons, vec_env_state

    plain, used = (VecNormalize(make_vec_env("Pendulum-v1", 1)) for _ in range(2))
    small_agent(used, learning_starts=1000, **TINY).learn(3)
    plain.reset()
    assert boundary_reasons(vec_env_state(used)) == boundary_reasons(vec_env_state(plain)) == []


COPIES: dict[str, Callable] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda envs: pickle.loads(pickle.dumps(envs)),
    "cloudpickle": lambda envs: pickle.loads(cloudpickle.dumps(envs)),
}


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("from_within", [False, True])
def test_a_copy_of_the_envs_steps_itself(duplicate: Callable, from_within: bool) -> None:
    envs = make_vec_env("Pendulum-v1", 2, seed=0)
    small_agent(VecNormalize(envs), **TINY)
    envs.reset()
    copied = duplicate(envs.step_wait).venv if from_within else duplicate(envs)
    assert copied is not envs
    states = [[env.unwrapped.state.copy() for env in one.envs] for one in (envs, copied)]
    for _ in range(200):  # Pendulum's time limit
        *_, infos = copied.step(np.zeros((2, 1)))
    assert all(RAW_TERMINAL in info for info in infos)
    moved = [
        [(env.unwrapped.state != old).any() for env, old in zip(one.envs, olds, strict=True)]
        for one, olds in zip((envs, copied), states, strict=True)
    ]
    assert moved == [[False, False], [True, True]]


def test_a_patch_of_the_users_own_is_kept() -> None:
    envs = make_vec_env("Pendulum-v1", 1, seed=0)
    calls = []
    original = envs.step_wait
    envs.step_wait = lambda: calls.append(1) or original()
    small_agent(VecNormalize(envs), learning_starts=1000, **TINY).learn(3)
    assert len(calls) == 3


def test_minibatches_come_in_both_units() -> None:
    """Rollouts start from raw states, networks see the policy's."""
    env = normalized()
    agent = small_agent(env, **TINY).learn(80)
    batches = agent._batches(agent._context())
    agent.generator.manual_seed(0)
    raw = next(batches.raw(1, 16))
    agent.generator.manual_seed(0)
    seen = next(batches(1, 16))
    assert th.equal(seen.observations, batches.units.observations(raw.observations))
    assert th.equal(seen.rewards, batches.units.rewards(raw.rewards))
    assert not th.allclose(seen.observations, raw.observations)
    real = next(batches.real(1, 16))
    stored = batches.units.observations(agent.replay_buffer.transitions().observations)
    assert bool((real.observations.unsqueeze(1) == stored).all(-1).any(1).all()), "in the policy's units"
    known = [agent.replay_buffer.transitions().observations, agent.imagined.gather(th.arange(agent.imagined.size))[0]]
    assert bool(th.isin(raw.observations, th.cat(known)).all())
