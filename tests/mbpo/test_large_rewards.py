"""Every reward that passes the check of rows can be trained on, as by SB3's SAC."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_tom import DHMBPO
from sb3_tom.checks.guards import LIMIT, DivergenceError
from tests.mbpo.small import SMALL_MODELS, small_agent


class Rich(gym.Env[Any, Any]):
    """A point that is pushed along a line; the reward is between -``scale`` and 0."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, scale: float) -> None:
        self.scale, self.place, self.time = scale, 0.0, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place, self.time = float(self.np_random.uniform(-1, 1)), 0
        return np.array([self.place], np.float32), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        self.place = float(np.clip(self.place + 0.1 * action[0], -1, 1))
        return np.array([self.place], np.float32), -self.scale * self.place**2, False, self.time == 20, {}


CASES: dict[str, dict[str, Any]] = {
    "by hand": {"dynamics": "linear"},
    "SB3's own": {"dynamics": "linear", "use_sde": True},
    "ensemble": {},
    "mdn": {"dynamics": "mdn"},
    "smooth, tom": {"dynamics": "smooth", "weighter": "tom"},
}


@pytest.mark.parametrize("scale", [1e9, 1e14, 0.99 * LIMIT])
@pytest.mark.parametrize("kwargs", CASES.values(), ids=CASES)
def test_they_are_trained_on_as_by_sac(kwargs: dict[str, Any], scale: float) -> None:
    agent = small_agent(Rich(scale), **kwargs)
    before = th.nn.utils.parameters_to_vector(agent.policy.parameters()).detach().clone()
    agent.learn(90)
    after = th.nn.utils.parameters_to_vector(agent.policy.parameters()).detach()
    assert agent._n_updates > 0 and bool(th.isfinite(after).all()) and not th.equal(before, after)
    rewards = agent.replay_buffer.rewards[: agent.replay_buffer.size()]
    assert rewards.min() < -0.1 * scale and -scale <= agent.imagine()["reward_mean"] < -0.001 * scale


def test_sac_trains_on_them_too() -> None:
    assert (
        SAC("MlpPolicy", Rich(0.99 * LIMIT), learning_starts=50, seed=0, policy_kwargs={"net_arch": [8]}).learn(60)._n_updates
    )


@pytest.mark.parametrize("settings", [{}, {"critic_scale": 1.0}], ids=["scaled critics", "plain critics"])
def test_the_double_horizon(settings: dict[str, Any]) -> None:
    agent = DHMBPO(
        "MlpPolicy",
        Rich(1e14),
        seed=0,
        learning_starts=50,
        model_train_freq=25,
        dynamics_kwargs=SMALL_MODELS["smooth"],
        policy_kwargs={"net_arch": [8]},
        policy_update_kwargs=settings,
    )
    assert agent.learn(60)._n_updates > 0


def test_normalised_rewards() -> None:
    env = VecNormalize(DummyVecEnv([lambda: Rich(1e17)]))
    assert small_agent(env, dynamics="linear").learn(80)._n_updates > 0


@pytest.mark.parametrize("scale", [1.0, 1e12])
def test_a_loss_that_the_rewards_do_not_explain_is_refused(scale: float) -> None:
    """Critics that are wrong by 1e12 are so where rewards are about 1, and not yet where they are that large."""
    agent = small_agent(Rich(scale), dynamics="linear").learn(60)
    with th.no_grad():
        agent.critic.q_networks[0][-1].bias += 1e12
    if scale > 1.0:
        agent.learn(20, reset_num_timesteps=False)
        return
    with pytest.raises(DivergenceError, match=r"^the critic's loss is .*e\+2[34]; allowed: at most 1e\+18, with rewards"):
        agent.learn(20, reset_num_timesteps=False)


def test_larger_ones_are_refused_where_they_come_from() -> None:
    with pytest.raises(DivergenceError, match=r"^the reward of env 0 is -.*e\+1[89]; allowed: finite numbers of at most"):
        small_agent(Rich(30 * LIMIT), dynamics="linear").learn(60)
