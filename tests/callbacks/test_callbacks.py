"""The callbacks write what happened, and training is the same with and without them."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3 import SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize

from sb3_tom import MBPO
from sb3_tom.callbacks.learning_curve import LearningCurveCallback
from sb3_tom.callbacks.model_error import ModelErrorCallback
from sb3_tom.callbacks.tables import read_table
from sb3_tom.callbacks.weight_by_age import WeightByAgeCallback, weights_newest_first
from sb3_tom.checkpoint import ResumeCallback
from sb3_tom.data.diagnostics import equal_bins, weight_by_age
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from tests.mbpo.small import small_agent


class TenSteps(gym.Env):
    """Episodes of ten steps with reward 1."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,))
    action_space = gym.spaces.Box(-1.0, 1.0, (1,))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), 1.0, False, self.steps >= 10, {}


ONE = TenSteps()


def small_sac(**kwargs: Any) -> SAC:
    return SAC("MlpPolicy", TenSteps(), learning_starts=10, batch_size=16, policy_kwargs={"net_arch": [8]}, seed=0, **kwargs)


def steps_of(path: Path) -> list[int]:
    return [int(row["env_step"]) for row in read_table(path)]


@pytest.mark.parametrize("algorithm", ["sac", "mbpo"])
def test_training_is_the_same_with_and_without_evaluation(tmp_path: Path, algorithm: str) -> None:
    parameters = []
    for callback in (None, LearningCurveCallback("Pendulum-v1", tmp_path / "curve.csv", 10, n_eval_episodes=1)):
        small = {"learning_starts": 50, "batch_size": 16, "policy_kwargs": {"net_arch": [8]}, "seed": 0}
        agent = small_agent() if algorithm == "mbpo" else SAC("MlpPolicy", "Pendulum-v1", **small)
        agent.learn(80, callback=callback)
        parameters.append(th.cat([parameter.detach().flatten() for parameter in agent.policy.parameters()]))
    assert len(steps_of(tmp_path / "curve.csv")) == 8
    assert th.equal(*parameters)


def test_row_of_an_evaluation(tmp_path: Path) -> None:
    small_sac().learn(50, callback=LearningCurveCallback(TenSteps, tmp_path / "curve.csv", 20, task="ten", n_eval_episodes=3))
    rows = read_table(tmp_path / "curve.csv")
    assert [(row["task"], row["method"], row["seed"], row["env_step"]) for row in rows] == [
        ("ten", "sac", "0", "20"),
        ("ten", "sac", "0", "40"),
    ]
    for row in rows:
        same = ("return_mean", "return_min", "return_max", "cumulative_max", "episode_length_mean")
        assert {row[name] for name in same} == {"10"}
        assert row["return_std"] == "0"
    assert [int(row["n_updates"]) for row in rows] == [9, 29], "random steps 1-10, then one update after each step"


def test_several_training_envs_and_a_frequency_that_they_step_over(tmp_path: Path) -> None:
    agent = SAC("MlpPolicy", make_vec_env(TenSteps, 3), learning_starts=30, policy_kwargs={"net_arch": [8]}, seed=0)
    agent.learn(33, callback=LearningCurveCallback(TenSteps, tmp_path / "curve.csv", 10, n_eval_episodes=1))
    assert steps_of(tmp_path / "curve.csv") == [12, 21, 30]


def test_under_normalised_observations_the_policy_sees_them_and_returns_are_the_tasks(tmp_path: Path) -> None:
    """As SB3's own evaluation of an env that is wrapped with the same statistics, which stay as they are."""
    env = VecNormalize(make_vec_env("Pendulum-v1", 2), clip_obs=1.0)
    agent = SAC("MlpPolicy", env, learning_starts=100, policy_kwargs={"net_arch": [8]}, seed=0)
    callback = LearningCurveCallback("Pendulum-v1", tmp_path / "curve.csv", 40, n_eval_episodes=1, eval_seed=7)
    agent.learn(40, callback=callback)
    seen = env.obs_rms.count
    test_env = VecNormalize(make_vec_env("Pendulum-v1"), training=False, norm_reward=False, clip_obs=1.0)
    test_env.obs_rms = env.obs_rms
    test_env.seed(7)
    mean, _ = evaluate_policy(agent, test_env, n_eval_episodes=1)
    assert float(read_table(tmp_path / "curve.csv")[-1]["return_mean"]) == pytest.approx(mean, rel=1e-5)
    assert seen == pytest.approx(40 + 2, abs=0.01), "the rows of training and the two first observations"


def test_threshold_stops_training(tmp_path: Path) -> None:
    reached = LearningCurveCallback(TenSteps, tmp_path / "a.csv", 20, n_eval_episodes=1, reward_threshold=10.0)
    agent = small_sac().learn(100, callback=reached)
    assert agent.num_timesteps == reached.solved_step == 20
    missed = LearningCurveCallback(TenSteps, tmp_path / "b.csv", 20, n_eval_episodes=1, reward_threshold=10.1)
    assert small_sac().learn(50, callback=missed).num_timesteps == 50
    assert missed.solved_step is None


def test_a_return_that_is_no_number_reaches_no_threshold(tmp_path: Path) -> None:
    class Broken(TenSteps):
        def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
            observation, _, *rest = super().step(action)
            return observation, float("nan"), *rest

    callback = LearningCurveCallback(Broken, tmp_path / "a.csv", 20, n_eval_episodes=1, reward_threshold=10.0)
    assert small_sac().learn(50, callback=callback).num_timesteps == 50
    assert callback.solved_step is None and steps_of(tmp_path / "a.csv") == [20, 40]


def test_cumulative_max_is_kept_and_carried_over_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    agent = SAC("MlpPolicy", "Pendulum-v1", learning_starts=1000, policy_kwargs={"net_arch": [8]}, seed=0)
    for _ in range(2):  # the second round goes on where the first one ended
        agent.learn(30, callback=LearningCurveCallback("Pendulum-v1", path, 10, n_eval_episodes=1), reset_num_timesteps=False)
        with th.no_grad():
            agent.actor.mu.bias.add_(5.0)
    rows = read_table(path)
    assert steps_of(path) == [10, 20, 30, 40, 50, 60]
    means = [float(row["return_mean"]) for row in rows]
    assert len(set(means)) == 2
    assert [float(row["cumulative_max"]) for row in rows] == np.maximum.accumulate(means).tolist()
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)


@pytest.mark.parametrize(("before", "after", "steps"), [(20, 10, [50, 60, 70]), (10, 25, [50, 75]), (20, 20, [60])])
def test_a_resumed_run_may_be_evaluated_at_another_distance(tmp_path: Path, before: int, after: int, steps: list[int]) -> None:
    def curve(eval_freq: int) -> Any:
        return [LearningCurveCallback("Pendulum-v1", tmp_path / "c.csv", eval_freq, n_eval_episodes=1), saving]

    saving = ResumeCallback(tmp_path / "checkpoints", 100)
    small_agent().learn(40, callback=curve(before))
    MBPO.resume(tmp_path / "checkpoints", "Pendulum-v1").learn(75, callback=curve(after))
    assert steps_of(tmp_path / "c.csv") == [*range(before, 41, before), *steps]


def test_a_checkpoint_that_does_not_say_how_often_was_evaluated_is_gone_on_with(tmp_path: Path) -> None:
    """Older ones do not."""
    callback = LearningCurveCallback("Pendulum-v1", tmp_path / "c.csv", 20, n_eval_episodes=1)
    SAC("MlpPolicy", "Pendulum-v1", seed=0).learn(20, callback=callback)
    state = callback.state_dict()
    assert state.pop("eval_freq") == 20
    callback.load_state_dict({**state, "evaluations_due": 7})
    assert callback._is_due.passed == 7


@pytest.mark.parametrize(("name", "value"), [("eval_freq", 0), ("eval_freq", "10"), ("n_eval_episodes", 0), ("eval_env", 3)])
def test_wrong_arguments_are_named(tmp_path: Path, name: str, value: Any) -> None:
    arguments = {"eval_env": TenSteps, "csv_path": tmp_path / "curve.csv", name: value}
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        LearningCurveCallback(**arguments)


def test_weight_by_age_needs_weights(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="SAC"):
        small_sac().learn(20, callback=WeightByAgeCallback(tmp_path / "ages.csv"))


@given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 20))
def test_ages_follow_the_ring(size: int, n_envs: int, added: int) -> None:
    """A row's weight is when it came: newest first it must descend without a gap, also within a step, as in the log."""
    space, zeros = gym.spaces.Box(-1.0, 1.0, (1,)), np.zeros((n_envs, 1))
    buffer = WeightedReplayBuffer(size * n_envs, space, space, "cpu", n_envs)
    for step in range(added):
        buffer.add(zeros, zeros, zeros, zeros[:, 0], zeros[:, 0], [{}] * n_envs)
        buffer.weights[step % size] = step * n_envs + np.arange(n_envs)
    n_rows, n_written = min(added, size) * n_envs, added * n_envs
    newest_first = weights_newest_first(buffer)
    assert newest_first.tolist() == list(range(n_written - 1, n_written - 1 - n_rows, -1))
    logged = weight_by_age(buffer.row_weights()[buffer.newest_rows(n_rows)], n_bins=3)
    assert [logged[f"{index:02}"] for index in range(min(3, n_rows))] == pytest.approx(
        [newest_first[low:high].mean() for low, high in equal_bins(n_rows, 3)]
    )


def test_weight_by_age_of_pmac_against_its_blocks(tmp_path: Path) -> None:
    path = tmp_path / "ages.csv"
    agent = small_agent(weighter="pmac", weighter_kwargs={"alpha": 0.5})
    agent.learn(150, callback=WeightByAgeCallback(path, n_bins=10))
    rows = read_table(path)
    phases = sorted({int(row["policy_version"]) for row in rows})
    assert phases == list(range(1, agent.policy_version + 1)), "one entry per model phase, the last one included"
    for version in phases:
        phase = [row for row in rows if int(row["policy_version"]) == version]
        counts = np.array([int(row["rows"]) for row in phase])
        means = np.array([float(row["weight_mean"]) for row in phase])
        assert counts.max() - counts.min() <= 1
        assert [int(row["age_low"]) for row in phase] == [0, *np.cumsum(counts)[:-1]]
        assert np.average(means, weights=counts) == pytest.approx(1.0, abs=1e-4)
    last = [float(row["weight_mean"]) for row in rows[-10:]]
    assert last[0] > last[-1] > 0, "PMAC with alpha 0.5 prefers new data"
    assert int(rows[-1]["env_step"]) == 126, "random steps 1-50, then a phase every 25 steps"
    expected = agent.replay_buffer.weights[:126].ravel()[::-1].astype(np.float64)
    assert last[0] == pytest.approx(expected[:12].mean(), rel=1e-4)
    ess = expected.sum() ** 2 / (expected.size * (expected**2).sum())
    assert float(rows[-1]["ess"]) == pytest.approx(ess, rel=1e-3)


@pytest.mark.parametrize(
    ("eval_env", "message"),
    [
        (
            lambda: gym.wrappers.FlattenObservation(gym.wrappers.FrameStackObservation(TenSteps(), 2)),
            r"of shape \(4,\).*\(2,\)",
        ),
        (lambda: make_vec_env(TenSteps, 1), "eval_env made a DummyVecEnv"),
        (lambda: gym.wrappers.RescaleAction(TenSteps(), -100.0, 100.0), r"the actions Box\(-100.*the agent, Box\(-1"),
        (lambda: ONE, "eval_env: the same environment came twice"),
        (lambda: gym.wrappers.TimeLimit(ONE, 5), "eval_env: the same environment came twice"),
    ],
)
def test_an_evaluation_env_of_another_kind_is_refused_before_training(tmp_path: Path, eval_env: Any, message: str) -> None:
    agent = small_sac()
    with pytest.raises(ValueError, match=message):
        agent.learn(50, callback=LearningCurveCallback(eval_env, tmp_path / "curve.csv", 20))
    assert agent.num_timesteps == 0


@pytest.mark.parametrize("callback_class", [LearningCurveCallback, ModelErrorCallback])
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_training_env_is_no_evaluation_env(tmp_path: Path, callback_class: Any, wrapped: bool) -> None:
    """Each evaluation would leave a transition that never happened, and its end would close the environment."""
    env = TenSteps()
    agent = small_agent(make_vec_env(lambda: env, 1))
    make = (lambda: gym.wrappers.TimeLimit(env, 5)) if wrapped else (lambda: env)
    with pytest.raises(ValueError, match="eval_env made the environment that the agent trains on"):
        agent.learn(50, callback=callback_class(make, tmp_path / "table.csv", 20))
    assert agent.num_timesteps == 0 and not (tmp_path / "table.csv").exists()


def test_actions_of_another_number_type_are_the_same_actions(tmp_path: Path) -> None:
    class Double(TenSteps):
        action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float64)

    small_sac().learn(20, callback=LearningCurveCallback(Double, tmp_path / "curve.csv", 20))
    assert steps_of(tmp_path / "curve.csv") == [20]


@pytest.mark.parametrize("deterministic", [True, False])
def test_episodes_are_played_with_the_actions_that_were_asked_for(deterministic: bool, tmp_path: Path) -> None:
    """Steps of training are random here, so that the policy is asked for an evaluation only."""
    agent, asked = small_sac(), set()
    predict = agent.predict
    agent.predict = lambda *args, **kwargs: (asked.add(kwargs["deterministic"]), predict(*args, **kwargs))[1]
    agent.learn(10, callback=LearningCurveCallback(TenSteps, tmp_path / "curve.csv", 10, deterministic=deterministic))
    assert asked == {deterministic}


def test_weight_by_age_names_the_env_step_of_the_phase_with_several_envs(tmp_path: Path) -> None:
    agent = small_agent(make_vec_env("Pendulum-v1", 3), weighter="pmac", dynamics="linear", update_to_data_ratio=0.1)
    agent.learn(60, callback=WeightByAgeCallback(tmp_path / "ages.csv", n_bins=1))
    assert steps_of(tmp_path / "ages.csv") == [51]
