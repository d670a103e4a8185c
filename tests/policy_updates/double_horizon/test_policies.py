"""The networks of the double horizon: their scales, and that critics side by side are the networks that they say."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.torch_layers import FlattenExtractor

from sb3_tom import DHMBPO
from sb3_tom.data.units import PolicyUnits
from sb3_tom.policy_updates.double_horizon.policies import DoubleHorizonPolicy, LayerNormCritics
from sb3_tom.policy_updates.standardized_features import StandardizedFeatures
from tests.dynamics.cases import make_data
from tests.mbpo.small import SMALL_NETWORK, small_agent
from tests.policy_updates.double_horizon.cases import (
    GAMMA,
    TINY,
    Fixed,
    context,
    made,
    make_sac,
    make_world,
    parts_of,
    starts,
)


@pytest.mark.parametrize(
    ("rewards", "gamma", "scale"),
    [(0.0, 0.99, 1.0), (1e-3, 0.99, 1.0), (1.0, 0.99, 100.0), (-1.0, 0.99, 100.0), (50.0, 0.9, 500.0), (1.0, 1.0, 1000.0)],
)
def test_the_critics_scale_is_that_of_the_first_rewards_for_ever(rewards: float, gamma: float, scale: float) -> None:
    agent, update = make_sac(), made(critic_warmup=0)
    data: Any = small_agent(dynamics="linear").learn(60).replay_buffer.transitions()
    parts, batches = parts_of(agent)._replace(gamma=gamma), Fixed(starts())
    for factor in (1.0, 7.0):
        rows = data._replace(rewards=th.full_like(data.rewards, factor * rewards))
        update.end_phase(parts, rows, batches, make_world(), context())
        assert float(agent.critic.scale) == float(agent.critic_target.scale) == pytest.approx(scale, rel=1e-4)
    agent = make_sac()
    made(critic_scale=3.0, critic_warmup=0).end_phase(parts_of(agent), data, batches, make_world(), context())
    assert float(agent.critic.scale) == 3.0


def test_the_critics_scale_is_that_of_the_rewards_that_they_learn() -> None:
    """``VecNormalize`` divides those of the buffer."""
    agent, batches = make_sac(), Fixed(starts())
    batches.units = PolicyUnits(reward_std=4.0)
    rows = make_data(60)._replace(rewards=th.full((60, 1), 8.0))
    made(critic_warmup=0).end_phase(parts_of(agent), rows, batches, make_world(), context())
    assert float(agent.critic.scale) == pytest.approx(2.0 / (1.0 - GAMMA), rel=1e-4)


def test_the_scale_goes_where_the_networks_go() -> None:
    """Into another agent, and back when a step diverges; a second scale would multiply trained values."""
    agent = DHMBPO("MlpPolicy", "Pendulum-v1", **TINY).learn(80)
    rows, scale = agent.replay_buffer.transitions(), float(agent.critic.scale)
    assert scale > 1.0
    other = DHMBPO.from_sac(agent, "Pendulum-v1", policy_update="double_horizon", dynamics="smooth")
    other.replay_buffer.rewards *= 3
    made(critic_warmup=0).end_phase(parts_of(other), rows, Fixed(rows.observations), make_world(), context())
    assert float(other.critic.scale) == float(other.critic_target.scale) == scale
    untrained = DHMBPO("MlpPolicy", "Pendulum-v1", **TINY)
    untrained.policy.load_state_dict(DHMBPO("MlpPolicy", "Pendulum-v1", **TINY).policy.state_dict())
    untrained.learn(80)
    assert float(untrained.critic.scale) == scale


def test_the_scale_multiplies_what_the_critics_say() -> None:
    agent = make_sac()
    observations, actions = starts(), th.zeros(40, 2, dtype=th.float64)
    one = th.stack(agent.critic(observations, actions))
    agent.critic.scale.fill_(50.0)
    th.testing.assert_close(th.stack(agent.critic(observations, actions)), 50.0 * one)
    fresh = DoubleHorizonPolicy(agent.observation_space, agent.action_space, lambda _: 1e-3)
    assert float(th.stack(fresh.critic(observations.float(), actions.float())).abs().max()) == 0.0
    assert fresh.critic.n_critics == 5 and fresh.critic(observations.float(), actions.float())[0].shape == (40, 1)


def test_each_critic_is_the_network_that_it_says() -> None:
    """One critic after the other, layer by layer, with SB3's own modules."""
    agent = make_sac()
    observations, actions = starts(), th.rand(40, 2, dtype=th.float64)
    for number, value in enumerate(agent.critic(observations, actions)):
        hidden = th.cat([agent.critic.features_extractor(observations), actions], 1)
        for place, layer in enumerate(agent.critic.layers):
            hidden = hidden if place == 0 else th.nn.functional.layer_norm(th.nn.functional.silu(hidden), (16,))
            hidden = hidden @ layer.weight[number] + layer.bias[number]
        th.testing.assert_close(value, hidden)
        th.testing.assert_close(agent.critic.values(observations, actions, th.tensor([number]))[0], hidden)


class Learned(FlattenExtractor):
    """Features with parameters."""

    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.layer = th.nn.Linear(3, 3)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.layer(super().forward(observations))


@pytest.mark.parametrize("policy", ["MlpPolicy", DoubleHorizonPolicy])
@pytest.mark.parametrize("shared", [False, True])
def test_shared_features_are_trained_by_the_actor_alone(policy: Any, shared: bool) -> None:
    """As by SB3's critics; in the first critic alone no features are trained, but actions get a gradient."""
    kwargs = {"net_arch": [8], "features_extractor_class": Learned, "share_features_extractor": shared}
    agent = SAC(policy, "Pendulum-v1", policy_kwargs=kwargs, buffer_size=10, device="cpu")
    for parameter in agent.critic.parameters():
        parameter.data += 0.1
    weight = agent.critic.features_extractor.layer.weight
    th.cat(agent.critic(th.randn(5, 3), th.randn(5, 1))).sum().backward()
    assert (weight.grad is None) == shared
    weight.grad, actions = None, th.randn(5, 1, requires_grad=True)
    observations = th.randn(5, 3)
    first = agent.critic.q1_forward(observations, actions)
    first.sum().backward()
    assert weight.grad is None and bool(actions.grad.any())
    th.testing.assert_close(first, agent.critic(observations, actions)[0])
    with th.no_grad():
        assert not agent.critic(observations, actions)[0].requires_grad


def test_inputs_are_scaled_by_the_policy_itself(tmp_path: Path) -> None:
    """What is saved predicts from the env's own observations."""
    agent = DHMBPO("MlpPolicy", "Pendulum-v1", **TINY).learn(80)
    rows = agent.replay_buffer.transitions().observations
    features = agent.actor.features_extractor
    assert isinstance(agent.critic, LayerNormCritics) and isinstance(features, StandardizedFeatures)
    assert float((features.std / rows.std(0, correction=0) - 1.0).abs().max()) < 0.3  # of the last model phase
    agent.save(tmp_path / "agent")
    loaded = DHMBPO.load(tmp_path / "agent")
    for one in (loaded.actor, loaded.critic, loaded.critic_target):
        assert th.equal(one.features_extractor.mean, features.mean) and th.equal(one.features_extractor.std, features.std)
    actions = [one.predict(rows[:5].numpy(), deterministic=True)[0] for one in (loaded, agent)]
    np.testing.assert_array_equal(*actions)
    assert float(loaded.critic.scale) == float(agent.critic.scale) and float(loaded.critic.scaled) == 1.0
    with pytest.raises(ValueError, match="policy_update=DoubleHorizonUpdate is not allowed: the file was saved with"):
        small_agent(dynamics="smooth", dynamics_kwargs=SMALL_NETWORK).save(tmp_path / "sac")
        DHMBPO.load(tmp_path / "sac")


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_the_export_on_the_page_is_predict() -> None:
    """SB3's own recipe would leave the standardisation out."""
    page = (Path(__file__).parents[3] / "docs" / "sb3_contract.md").read_text()
    code = re.search(r"## Export of a policy\n.*?```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    model = DHMBPO("MlpPolicy", "Pendulum-v1", **TINY).learn(60)
    observation = th.tensor([[0.3, -0.4, 5.0]])
    names: dict[str, Any] = {"model": model, "observation": observation}
    exec(code[1], names)
    np.testing.assert_allclose(names["action"], model.predict(observation.numpy(), deterministic=True)[0], atol=1e-6)
