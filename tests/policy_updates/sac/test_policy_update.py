"""What plugs may ask of the policy, against the plain way of asking."""

from typing import Any

import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.sac.policies import Actor, SACPolicy

from sb3_tom import MBPO
from sb3_tom.contracts.context import Context
from tests.mbpo.small import small_agent


class OwnActor(Actor):
    """Of a user."""


class OwnPolicy(SACPolicy):
    """Its actor draws its noise where it likes."""

    def make_actor(self, features_extractor: Any = None) -> Actor:
        return OwnActor(**self._update_features_extractor(self.actor_kwargs, features_extractor)).to(self.device)


def seeded(agent: MBPO, policy: Any = None) -> Context:
    """A view of the agent with all sources of noise at the same place each time."""
    agent.generator.manual_seed(0)
    th.manual_seed(0)
    return agent._context(policy)


@pytest.mark.parametrize("kwargs", [{}, {"use_sde": True}, {"policy": OwnPolicy}], ids=["default", "gSDE", "own actor"])
@pytest.mark.parametrize("given", [False, True], ids=["the agent's policy", "a given one"])
def test_several_actions_are_those_of_repeated_rows(kwargs: dict[str, Any], given: bool) -> None:
    env = VecNormalize(make_vec_env("Pendulum-v1"))
    agent = MBPO(kwargs.get("policy", "MlpPolicy"), env, use_sde=kwargs.get("use_sde", False), dynamics="linear", seed=0)
    env.obs_rms.mean += 0.5
    observations = th.randn(7, 3)
    policy = (lambda rows: (th.rand_like(rows[:, :1]), rows)) if given else None
    with th.no_grad():
        expected, _ = seeded(agent, policy).policy(observations.repeat_interleave(3, dim=0))
        actions = seeded(agent, policy).sample_actions(observations, 3)
    assert actions.shape == (7, 3, 1)
    assert len(actions.unique()) == 21
    th.testing.assert_close(actions.flatten(0, 1), expected, rtol=1e-6, atol=1e-6)


def test_several_actions_cost_one_pass() -> None:
    agent, seen = small_agent(), []
    agent.actor.mu.register_forward_hook(lambda _module, _inputs, outputs: seen.append(len(outputs)))
    agent._context().sample_actions(th.randn(7, agent.observation_space.shape[0]), 3)
    assert seen == [7]
