"""Each sign of bad health warns once, with its number and an argument that helps; a sound run warns of nothing."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env

from sb3_tom import MBPO, Context, LinearDynamics, Transitions, Weighter
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from sb3_tom.mbpo import health
from sb3_tom.mbpo.health import return_range
from tests.mbpo.small import small_agent
from tests.mbpo.test_mbpo import Corridor
from tests.mbpo.toys import Halt


class Rare(Corridor):
    """Terminates every 150 steps, which no observation tells."""

    def step(self, action: Any) -> Any:
        after, reward, _, _, info = super().step(action)
        return after, reward, self.steps % 150 == 0, False, info


TINY: dict[str, Any] = {"rollout_batch_size": 20, "dynamics": "linear", "policy_kwargs": {"net_arch": [8]}}


def logged(agent: MBPO) -> dict[str, Any]:
    return agent.logger.name_to_value


def test_a_sound_run_is_quiet_and_logs_all_signs() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent = small_agent(Corridor(limit=200), rollout_schedule=3, **TINY)
        agent.learn(120, log_interval=None)
    signs = {"effective_rows", "termination_mismatch", "imagined_return_excess", "critic_to_bound"}
    signs |= {"largest_observation", "largest_reward"}
    found = {name.partition("/")[2]: value for name, value in logged(agent).items() if name.startswith("health/")}
    assert set(found) == signs
    assert found["effective_rows"] == pytest.approx(101.0)  # uniform weights: all rows of the last phase
    assert 0 <= found["critic_to_bound"] < 1


class OnlyFew(Weighter):
    def weights(self, data: Transitions, context: Context) -> th.Tensor:
        return (th.arange(data.size) < 7).float()


def test_collapsed_weights_warn_once() -> None:
    agent = small_agent(Corridor(), weighter=OnlyFew(), weighter_kwargs=None, buffer_size=2000, learning_starts=2000, **TINY)
    agent.learn(1500, log_interval=None)
    with pytest.warns(UserWarning, match=r"health/effective_rows=7 .*env step 1500: .*1500 rows .*ess_floor.*alpha") as caught:
        agent.fit_weights()
        agent.fit_weights()
    assert len(caught) == 1
    assert logged(agent)["health/effective_rows"] == pytest.approx(7.0)


def test_few_rows_are_no_collapse() -> None:
    agent = small_agent(Corridor(), weighter=OnlyFew(), weighter_kwargs=None, **TINY).learn(40, log_interval=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent.fit_weights()


@pytest.mark.parametrize(
    ("termination_fn", "mismatch"),
    [("never", 1.0), (lambda observations, actions, next_observations: next_observations < 0.5, None)],
)
def test_a_wrong_termination_rule_warns_once(termination_fn: Any, mismatch: float | None) -> None:
    agent = small_agent(Corridor(limit=50, ends=True), termination_fn=termination_fn, learning_starts=1000, **TINY)
    agent.learn(300, log_interval=None)
    assert agent.replay_buffer.terminated.sum() >= 10
    with pytest.warns(UserWarning, match=r"health/termination_mismatch=.*env step 300.*termination_fn='auto'") as caught:
        agent.fit_model()
        agent.fit_model()
    assert len(caught) == 1
    value = logged(agent)["health/termination_mismatch"]
    assert value == mismatch if mismatch is not None else value > 0.9


def test_a_wrong_termination_rule_is_seen_where_terminations_are_rare() -> None:
    """One in 150 steps: among the newest 1,000 rows there are never ten."""
    settings = {"termination_fn": "never", "learning_starts": 5000, "buffer_size": 3000}
    agent = small_agent(Rare(limit=1000), **{**TINY, **settings}).learn(2400, log_interval=None)
    assert agent.replay_buffer.terminated[-1000:].sum() < 10 <= agent.replay_buffer.terminated.sum()
    with pytest.warns(UserWarning, match=r"health/termination_mismatch=1 .*of the newest 2400 transitions 16 terminated"):
        agent.fit_model()


def test_rollouts_that_are_all_stopped_are_said_to_be() -> None:
    agent = small_agent(Corridor(limit=50), rollout_stop=Halt(-100.0), **TINY)
    with pytest.warns(UserWarning, match=r"health/stopped_share=1 .*each rollout was stopped before its first step"):
        agent.learn(60, log_interval=None)


def test_a_right_rule_has_no_mismatch() -> None:
    agent = small_agent(
        Corridor(limit=50, ends=True),
        termination_fn=lambda observations, actions, next_observations: next_observations > 0.5,
        **TINY,
    )
    agent.learn(60, log_interval=None)
    assert logged(agent)["health/termination_mismatch"] == 0.0


def test_a_reward_function_of_other_actions_warns_once() -> None:
    """Pendulum's torque is twice the action that a ``reward_fn`` sees; a wrong sign of the speed is worth a warning."""

    def pays(observations: th.Tensor, actions: th.Tensor, scale: float) -> th.Tensor:
        angle = th.atan2(observations[:, 1], observations[:, 0])
        return -(angle**2 + 0.1 * observations[:, 2] ** 2 + 0.001 * (scale * actions[:, 0]) ** 2).unsqueeze(1)

    right = small_agent(reward_fn=lambda observations, actions, after: pays(observations, actions, 2.0)).learn(60)
    assert logged(right)["health/reward_fn_mismatch"] < 1e-3
    wrong = small_agent(reward_fn=lambda observations, actions, after: -pays(observations, actions, 2.0), learning_starts=1000)
    wrong.learn(60)
    wrong.health.warned.update(("imagined_return_excess", "critic_to_bound"))
    with pytest.warns(UserWarning, match=r"health/reward_fn_mismatch=.*actions in \[-1, 1\]") as caught:
        wrong.fit_model()
        wrong.fit_model()
    assert len(caught) == 1


class Optimistic(LinearDynamics):
    """Predicts rewards that no env pays."""

    shift = 100.0

    def sample(self, observations: th.Tensor, actions: th.Tensor, generator: th.Generator) -> tuple[th.Tensor, th.Tensor]:
        after, rewards = super().sample(observations, actions, generator)
        return after, rewards + self.shift


class Pessimistic(Optimistic):
    """The same below."""

    shift = -100.0


@pytest.mark.parametrize(
    ("model", "cause"),
    [(Optimistic, "the policy exploits the model"), (Pessimistic, "the model is wrong where the policy goes")],
)
def test_imagined_returns_outside_of_the_real_range_warn_once(model: type, cause: str) -> None:
    agent = small_agent(Corridor(), **{**TINY, "dynamics": model, "dynamics_kwargs": None})
    with pytest.warns(
        UserWarning, match=rf"health/imagined_return_excess=.*: {cause};.*rollout_schedule.*real_ratio"
    ) as caught:
        agent.learn(90, log_interval=None)
    assert len([one for one in caught if "imagined_return_excess" in str(one.message)]) == 1


def test_imagined_returns_of_a_known_reward_are_compared_with_its_own() -> None:
    """A dense reward for a task whose env pays a sparse one."""
    agent = small_agent(Corridor(), reward_fn=lambda observations, actions, after: 100.0 - after.square(), **TINY)
    agent.health.warned.update(("reward_fn_mismatch", "critic_to_bound"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent.learn(90, log_interval=None)


def test_advice_is_that_of_the_policy_update() -> None:
    agent = small_agent(policy_update="double_horizon", batch_size=8, rollout_batch_size=8, dynamics="linear").learn(60)
    figures = {
        "phases_asked": 1.0,
        "phases_kept": 1.0,
        "scheduled_length": 1.0,
        "length": 1.0,
        "return_low": 0.0,
        "return_high": 1e6,
    }
    agent.health.warned.clear()
    with pytest.warns(UserWarning, match="a smaller horizon or a larger real_critic_coef in policy_update_kwargs, or more"):
        agent._record("rollout_model", figures)


def test_critics_above_every_possible_return_warn_once() -> None:
    agent = small_agent(Corridor(), gamma=0.5, ent_coef=0.01, **TINY).learn(60, log_interval=None)
    with th.no_grad():
        for network in (agent.critic, agent.critic_target):
            for layers in network.q_networks if hasattr(network, "q_networks") else []:
                layers[-1].bias.fill_(1e4)
    with pytest.warns(UserWarning, match=r"health/critic_to_bound=.*gamma=0.5.*learning_rate.*update_to_data_ratio") as caught:
        agent.train_policy(2)
        agent.train_policy(2)
    assert len(caught) == 1


@pytest.mark.parametrize("n_envs", [1, 2])
def test_the_bound_of_the_critics_knows_the_reward_function(n_envs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The env pays at most a few units, ``reward_fn`` 400 to 500: critics that have learned it are sound."""
    monkeypatch.setattr("sb3_tom.mbpo.health.rows_at_once", lambda device: 7)

    def reward_fn(observations: th.Tensor, actions: th.Tensor, next_observations: th.Tensor) -> th.Tensor:
        return 450.0 + 50.0 * next_observations.clamp(-1.0, 1.0)

    env = make_vec_env(lambda: Corridor(limit=50), n_envs)
    agent = small_agent(env, gamma=0.5, ent_coef=0.01, reward_fn=reward_fn, learning_starts=1000, **TINY)
    agent.health.warned.add("reward_fn_mismatch")
    agent.learn(60, log_interval=None)
    data = agent.replay_buffer.transitions()
    agent.fit_model()
    agent.health.warned.add("imagined_return_excess")  # the env's returns are another matter
    agent.imagine()
    with th.no_grad():
        for network in (agent.critic, agent.critic_target):
            for layers in network.q_networks:
                layers[-1].bias.fill_(450.0 / (1.0 - 0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent.train_policy(1)
    largest = float(reward_fn(data.observations, data.actions, data.next_observations).max())
    assert agent.health.state_dict()["reward_bound"] == largest > 400.0
    assert 0.7 < logged(agent)["health/critic_to_bound"] < 1.0


def brute_force(buffer: WeightedReplayBuffer, length: int) -> list[float]:
    """Return of each start row among the newest by walking on, env by env."""
    found = []
    n_steps = min(buffer.size(), health.STEPS_LOOKED_AT)
    order = [(buffer.pos - n_steps + row) % buffer.buffer_size for row in range(n_steps)]
    for env in range(buffer.n_envs):
        for start in range(len(order)):
            total = 0.0
            for step, row in enumerate(order[start : start + length], 1):
                total += buffer.rewards[row, env]
                if buffer.dones[row, env] or step == length:
                    found.append(total)
                    break
    return found


@pytest.mark.parametrize("rows", [1, 3, 20, 33, 70])
@pytest.mark.parametrize("length", [1, 4, 50])
@pytest.mark.parametrize("looked_at", [7, 100])
def test_return_range_is_that_of_a_walk(rows: int, length: int, looked_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "STEPS_LOOKED_AT", looked_at)
    generator = np.random.default_rng(0)
    buffer = WeightedReplayBuffer(40, Corridor.observation_space, Corridor.action_space, "cpu", n_envs=2)
    for _ in range(rows):
        zeros = np.zeros((2, 1))
        buffer.add(zeros, zeros.copy(), zeros, generator.normal(size=2), generator.random(2) < 0.1, [{}, {}])
    expected = brute_force(buffer, length)
    low, high = return_range(buffer, length)
    if expected:
        assert (low, high) == pytest.approx((min(expected), max(expected)), abs=1e-5)
    else:
        rewards = buffer.rewards[np.arange(buffer.pos - min(buffer.size(), looked_at), buffer.pos)]
        assert (low, high) == pytest.approx((length * rewards.min(), length * rewards.max()), abs=1e-4)
