"""Model errors against naive loops, and the callback that writes them."""

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
from stable_baselines3.common.vec_env import VecNormalize

from sb3_tom import MBPO, Transitions
from sb3_tom.callbacks.model_error import (
    Episode,
    ModelErrorCallback,
    compounding_errors,
    error_scale,
    play_episode,
    predict,
    scaled_error,
)
from sb3_tom.callbacks.tables import read_table
from tests.mbpo.small import small_agent


class Drift:
    """A model without randomness: next = 0.9 s + 0.5 a + 0.01; it counts its calls."""

    calls = 0

    def sample(self, observations: th.Tensor, actions: th.Tensor, generator: th.Generator) -> tuple[th.Tensor, th.Tensor]:
        self.calls += 1
        return 0.9 * observations + 0.5 * actions + 0.01, observations[:, :1]


class Noise:
    """A model that knows nothing."""

    def sample(self, observations: th.Tensor, actions: th.Tensor, generator: th.Generator) -> tuple[th.Tensor, th.Tensor]:
        return th.randn(observations.shape, generator=generator), observations[:, :1]


def episode(length: int, seed: int) -> Episode:
    generator = th.Generator().manual_seed(seed)
    return Episode(th.randn(length + 1, 2, generator=generator), th.rand(length, 2, generator=generator) * 2 - 1)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 12))
def test_compounding_error_is_that_of_a_naive_loop(lengths: list[int], horizon: int) -> None:
    episodes = [episode(length, seed) for seed, length in enumerate(lengths)]
    scale, model = th.tensor([0.5, 2.0]), Drift()
    found = compounding_errors(model, episodes, horizon, scale, 2, th.Generator())
    expected: list[list[float]] = [[] for _ in range(horizon)]
    for observations, actions in episodes:
        for start in range(len(actions)):
            state = observations[start]
            for step in range(1, min(horizon, len(actions) - start) + 1):
                state = 0.9 * state + 0.5 * actions[start + step - 1] + 0.01
                error = ((state - observations[start + step]) / scale).square().mean().sqrt()
                expected[step - 1].append(float(error))
    assert len(found) == horizon
    for values, loop in zip(found, expected, strict=True):
        assert values.numel() == len(loop)
        np.testing.assert_allclose(values.numpy(), loop, rtol=1e-4, atol=1e-6)
    assert model.calls == min(horizon, max(lengths))


def test_a_perfect_model_has_no_error_and_episodes_do_not_mix() -> None:
    """The last observation of one episode is not followed by the first of the next."""
    episodes = []
    for length in (3, 5):
        observations, actions = [th.randn(2)], th.rand(length, 2)
        for action in actions:
            observations.append(0.9 * observations[-1] + 0.5 * action + 0.01)
        episodes.append(Episode(th.stack(observations), actions))
    errors = compounding_errors(Drift(), episodes, 6, th.ones(2), 1, th.Generator())
    assert [values.numel() for values in errors] == [8, 6, 4, 2, 1, 0]
    assert max(float(values.max()) for values in errors[:5]) < 1e-6


def test_a_prediction_is_the_mean_of_samples_of_its_own_row() -> None:
    observations, actions = th.tensor([[0.0, 10.0], [-5.0, 3.0]]), th.zeros(2, 2)
    assert th.allclose(predict(Drift(), observations, actions, 7, th.Generator()), 0.9 * observations + 0.01)
    drawn = predict(Noise(), observations, actions, 10_000, th.Generator().manual_seed(0))
    assert drawn.abs().max() < 0.05


def test_a_dimension_that_has_not_varied_counts_as_no_error() -> None:
    scale = error_scale(Transitions(th.tensor([[1.0, 0.0], [5.0, 0.0]]), *(th.zeros(2, 1) for _ in range(5))))
    assert scale.tolist() == [2.0, float("inf")]
    found = scaled_error(th.tensor([[4.0, 0.01]]), th.tensor([[0.0, 0.0]]), scale)
    assert found.tolist() == pytest.approx([2.0**0.5])


def test_scaled_error() -> None:
    found = scaled_error(th.tensor([[3.0, 0.0], [0.0, 0.0]]), th.tensor([[0.0, 8.0], [0.0, 0.0]]), th.tensor([1.0, 2.0]))
    assert found.tolist() == pytest.approx([(25 / 2) ** 0.5, 0.0])


class Line(gym.Env):
    """next = s + 0.1 a exactly, for six steps; actions in [-2, 2], so that scaling matters."""

    observation_space = gym.spaces.Box(-10.0, 10.0, (1,))
    action_space = gym.spaces.Box(-2.0, 2.0, (1,))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps, self.state = 0, self.np_random.uniform(-1, 1, 1)
        return self.state.astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        self.state = self.state + 0.1 * action
        return self.state.astype(np.float32), 0.0, False, self.steps == 6, {}


def test_callback_on_a_system_that_its_model_fits_exactly(tmp_path: Path) -> None:
    """All three errors vanish only if observations, scaled actions and next observations are matched rightly."""
    agent = small_agent(Line(), dynamics="linear", dynamics_kwargs={"deterministic": True}, termination_fn="never")
    agent.learn(100, callback=ModelErrorCallback(Line, tmp_path / "e.csv", 40, horizon=8, n_episodes=3, task="line"))
    rows = read_table(tmp_path / "e.csv")
    assert {row["env_step"] for row in rows} == {"80"}, "at 40 there was no model yet"
    assert [(row["kind"], row["horizon"], row["transitions"]) for row in rows] == [
        ("global", "1", "79"),  # callbacks run before the newest row is stored
        ("local", "1", "18"),
        *(("compounding", str(step), str(3 * (7 - step))) for step in range(1, 7)),
    ]
    assert max(float(row["error"]) for row in rows) < 1e-3


def test_callback_sees_a_model_that_is_wrong_for_the_current_policy(tmp_path: Path) -> None:
    callback = ModelErrorCallback(Line, tmp_path / "e.csv", 40, horizon=3, n_episodes=2)
    agent = small_agent(Line(), dynamics="linear", dynamics_kwargs={"deterministic": True}, termination_fn="never")
    agent.learn(60, callback=None)
    agent.dynamics.slopes.data[1] = 0.0  # the model ignores actions
    agent.learning_starts = 10_000  # no training any more: the broken model stays
    agent.learn(60, callback=callback, reset_num_timesteps=False)
    errors = {(row["kind"], int(row["horizon"])): float(row["error"]) for row in read_table(tmp_path / "e.csv")}
    assert errors["global", 1] > 0.05 and errors["local", 1] > 0.01
    assert errors["compounding", 1] == errors["local", 1] < errors["compounding", 3]


@pytest.mark.parametrize("kwargs", [{}, {"use_sde": True, "train_freq": 20, "gradient_steps": 5}], ids=["", "gSDE"])
def test_training_is_the_same_with_and_without(kwargs: dict[str, Any], tmp_path: Path) -> None:
    """Also in the middle of a collection, which with gSDE has one noise."""
    parameters = []
    for callback in (None, ModelErrorCallback("Pendulum-v1", tmp_path / "e.csv", 10, n_episodes=1, horizon=3)):
        agent = small_agent(**kwargs)
        agent.learn(80, callback=callback)
        parameters.append(th.cat([parameter.detach().flatten() for parameter in agent.policy.parameters()]))
    assert th.equal(*parameters)
    assert {int(row["env_step"]) for row in read_table(tmp_path / "e.csv")} >= {70, 80}


def test_an_agent_without_a_model_and_wrong_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="SAC"):
        SAC("MlpPolicy", Line()).learn(2, callback=ModelErrorCallback(Line, tmp_path / "e.csv"))
    for wrong in ({"horizon": 0}, {"eval_freq": "1"}, {"n_episodes": 0}, {"eval_env": 3}, {"n_samples": 1.5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ModelErrorCallback(**{"eval_env": Line, "csv_path": tmp_path / "e.csv", **wrong})


def test_each_episode_has_its_own_noise_with_gsde() -> None:
    agent, noises = small_agent(Line(), use_sde=True), []
    for seed in (1, 1, 2):
        play_episode(agent, Line(), seed)
        noises.append(agent.actor.action_dist.exploration_mat.clone())
    assert th.equal(noises[0], noises[1]) and not th.equal(noises[0], noises[2])


def test_the_policy_of_a_normalised_env_sees_normalised_observations() -> None:
    env = VecNormalize(make_vec_env("Pendulum-v1", 1))
    agent = small_agent(env).learn(60)
    played = play_episode(agent, gym.make("Pendulum-v1"), seed=3, deterministic=True)
    raw = played.observations[:-1].numpy()
    assert np.abs(env.normalize_obs(raw) - raw).max() > 0.1
    actions, _ = agent.predict(env.normalize_obs(raw), deterministic=True)
    np.testing.assert_allclose(agent.policy.scale_action(actions), played.actions.numpy(), atol=1e-5)


def test_no_row_before_the_first_model_phase_of_an_agent_with_old_rows(tmp_path: Path) -> None:
    """Its policy version counts on from the rows, but its model is new."""
    source = small_agent().learn(100)
    agent = MBPO.from_sac(
        source, "Pendulum-v1", learning_starts=70, dynamics="linear", rollout_batch_size=20, update_to_data_ratio=1
    )
    assert agent.policy_version > 0
    agent.learn(100, callback=ModelErrorCallback("Pendulum-v1", tmp_path / "errors.csv", 30, n_episodes=1, horizon=2))
    assert {int(row["env_step"]) for row in read_table(tmp_path / "errors.csv")} == {90}


@pytest.mark.parametrize("deterministic", [True, False])
def test_episodes_are_played_with_the_actions_that_were_asked_for(deterministic: bool, tmp_path: Path) -> None:
    agent, asked = small_agent(Line(), dynamics="linear", update_to_data_ratio=0.1).learn(60), set()
    agent.learning_starts = 10_000  # random steps: the policy is asked for new episodes only
    predict = agent.predict
    agent.predict = lambda *args, **kwargs: (asked.add(kwargs["deterministic"]), predict(*args, **kwargs))[1]
    callback = ModelErrorCallback(Line, tmp_path / "e.csv", 10, horizon=1, n_episodes=1, deterministic=deterministic)
    agent.learn(10, callback=callback, reset_num_timesteps=False)
    assert asked == {deterministic}
