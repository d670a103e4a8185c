"""Lives in the model, and what is known of a fall ahead, where both are known by formula."""

import gymnasium as gym
import imagined_lives
import numpy as np
import pytest
import torch as th

from sb3_tom import DHMBPO

pytestmark = pytest.mark.filterwarnings("ignore:health")


def agent_that_falls_at(height: float) -> DHMBPO:
    """In Pendulum's observations, whose first entry is a cosine; the model is that of an agent that was fitted once."""

    def falls(observations: th.Tensor, actions: th.Tensor, next_observations: th.Tensor) -> th.Tensor:
        return next_observations[:, 0] < height

    small = {"net_arch": [8], "first_max_epochs": 1, "steps_per_epoch": 2}
    agent = DHMBPO(
        "MlpPolicy", "Pendulum-v1", learning_starts=100, seed=0, termination_fn=falls, gamma=0.9, dynamics_kwargs=small
    )
    return agent.learn(101)


def test_lives_end_at_the_first_termination_and_count_no_reward_after_it() -> None:
    agent = agent_that_falls_at(2.0)  # at once: a cosine is at most 1
    starts = th.tensor([[1.0, 0.0, 0.0]]).repeat(8, 1)
    lives, returns = imagined_lives.imagined_lives(agent, starts, 5, noise=True)
    assert lives.tolist() == [1.0] * 8 and bool((returns > -20.0).all())
    lives, _ = imagined_lives.imagined_lives(agent_that_falls_at(-1e6), starts, 5, noise=True)
    assert lives.tolist() == [5.0] * 8


def test_without_noise_only_members_differ_and_the_noise_comes_back() -> None:
    agent = agent_that_falls_at(-1e6)
    starts = th.tensor([[1.0, 0.0, 0.0]]).repeat(400, 1)
    kinds = {noise: imagined_lives.imagined_lives(agent, starts, 1, noise)[1].unique().numel() for noise in (False, True)}
    assert kinds[False] <= agent.dynamics.n_members
    later = {noise: imagined_lives.imagined_lives(agent, starts, 2, noise)[1].unique().numel() for noise in (False, True)}
    assert later[False] <= agent.dynamics.n_members**2 < later[True], "noise moves states, and with them later rewards"
    moved = agent.dynamics.sample(starts, th.zeros(400, 1), th.Generator().manual_seed(0))[0]
    assert moved[:, 2].unique().numel() > agent.dynamics.n_members


def test_what_is_paid_after_a_state_is_discounted_from_there() -> None:
    assert imagined_lives.discounted(np.array([1.0, 2.0, 4.0]), 0.5) == 3.0
    agent, rewards = agent_that_falls_at(2.0), np.arange(8.0)
    seen = np.tile(np.array([1.0, 0.0, 0.0]), (9, 1))
    rows = imagined_lives.before_falls(agent, [(seen, rewards, True), (seen, rewards, False)])
    assert [row["kind"] for row in rows] == ["5 steps before a fall"], "no episode is long enough for more"
    assert rows[0]["fallen"] == 1.0
    np.testing.assert_allclose(rows[0]["from_there"], sum(0.9**k * (3 + k) for k in range(5)))


def test_episodes_end_at_a_fall_or_at_the_limit() -> None:
    agent, env = agent_that_falls_at(-1e6), gym.make("Pendulum-v1")
    ((seen, rewards, fallen),) = imagined_lives.real_episodes(agent, env.unwrapped, 1)
    assert not fallen and len(rewards) == imagined_lives.LIMIT and len(seen) == len(rewards) + 1
