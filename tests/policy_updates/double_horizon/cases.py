"""A world that is known, in float64, and a policy in it."""

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3 import SAC

from sb3_tom import Context
from sb3_tom.contracts.dynamics import DynamicsModel
from sb3_tom.contracts.imagination import Confidence, RolloutStop
from sb3_tom.contracts.policy_update import PolicyParts
from sb3_tom.contracts.types import Batch, Transitions
from sb3_tom.data.units import PolicyUnits
from sb3_tom.dynamics.linear import LinearDynamics
from sb3_tom.imagination.world import World
from sb3_tom.objectives.likelihood import LikelihoodObjective
from sb3_tom.policy_updates.double_horizon.gradient_step import GradientStep
from sb3_tom.policy_updates.double_horizon.policies import DoubleHorizonPolicy
from sb3_tom.policy_updates.double_horizon.settings import DoubleHorizonSettings
from sb3_tom.policy_updates.double_horizon.update import DoubleHorizonUpdate
from sb3_tom.terminations.user_function import CallableTermination
from tests.dynamics.cases import make_context, make_data
from tests.mbpo.small import SMALL_NETWORK

OBS, ACT, GAMMA = 3, 2, 0.9


def make_world(limit: float = 100.0) -> World:
    """Linear with Gaussian noise, without bounds; episodes end where the first entry exceeds a limit."""
    data, model = make_data(300), LinearDynamics(clamp=None)
    model.build(OBS, ACT)
    model.fit(data, th.ones(300), LikelihoodObjective(), make_context())
    model.double()
    ends = CallableTermination(lambda observations, actions, after: after[:, :1] > limit)
    return World(model, ends, LikelihoodObjective(), None)


def make_sac(**kwargs: Any) -> SAC:
    """SB3's SAC with the double horizon's networks, in float64, for the observations of the world."""
    import gymnasium as gym

    class Space(gym.Env):
        observation_space = spaces.Box(-100.0, 100.0, (OBS,))
        action_space = spaces.Box(-1.0, 1.0, (ACT,))

        def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
            return self.observation_space.sample(), {}

    policy_kwargs = {"net_arch": [16, 16], **kwargs.pop("policy_kwargs", {})}
    policy = kwargs.pop("policy", DoubleHorizonPolicy)
    agent = SAC(policy, Space(), policy_kwargs=policy_kwargs, buffer_size=10, seed=0, device="cpu", gamma=GAMMA, **kwargs)
    agent.policy.double()
    for module in (agent.actor, agent.critic, agent.critic_target):  # SB3 casts observations to float32
        module.extract_features = lambda observations, extractor, module=module: extractor(observations)
    if agent.log_ent_coef is not None:
        agent.log_ent_coef.data = agent.log_ent_coef.data.double()
    for parameter in agent.policy.parameters():  # critics begin at 0: let them say something
        parameter.data += 0.1 * th.randn(parameter.shape, generator=th.Generator().manual_seed(7), dtype=th.float64)
    for parameter in agent.critic_target.parameters():  # other things than the critics
        parameter.data += 0.1 * th.randn(parameter.shape, generator=th.Generator().manual_seed(8), dtype=th.float64)
    return agent


def parts_of(agent: SAC) -> PolicyParts:
    return PolicyParts.of(agent)


def context(seed: int = 0) -> Context:
    return Context(gamma=GAMMA, generator=th.Generator().manual_seed(seed))


def starts(n_rows: int = 40) -> th.Tensor:
    """Spread as the world's data are."""
    scale = th.tensor([0.5, 10.0, 0.02], dtype=th.float64)
    return scale * th.randn(n_rows, OBS, generator=th.Generator().manual_seed(3), dtype=th.float64)


UNITS = PolicyUnits()

TINY: dict[str, Any] = {
    "learning_starts": 50,
    "buffer_size": 1000,
    "seed": 0,
    "policy_kwargs": {"net_arch": [16, 16]},
    "dynamics_kwargs": {"n_members": 2, **SMALL_NETWORK},
    "rollout_batch_size": 20,
    "model_train_freq": 25,
    "batch_size": 16,
    "device": "cpu",
}


class Fading(Confidence):
    """The less, the farther the first entry of s' is from 0."""

    def forward(self, model: DynamicsModel, batch: Transitions, context: Context) -> th.Tensor:
        return 1.0 / (1.0 + batch.next_observations[:, :1].abs())


class Low(RolloutStop):
    """Stops where the second entry of s' would be below a limit."""

    def __init__(self, limit: float = -3.0) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, model: DynamicsModel, batch: Transitions, context: Context) -> th.Tensor:
        return batch.next_observations[:, 1:2] < self.limit


PLUGS: dict[str, dict[str, Any]] = {
    "no plugs": {},
    "confidence": {"confidence": Fading()},
    "stop": {"rollout_stop": Low()},
    "both": {"confidence": Fading(), "rollout_stop": Low()},
}
"""What may be judged of a path: fields of the world."""


class Fixed:
    """The same minibatch again and again."""

    units = UNITS

    def __init__(self, observations: th.Tensor) -> None:
        rows = th.zeros(len(observations), 1, dtype=observations.dtype)
        self.batch = Batch(observations, rows, observations, rows, rows)

    def raw(self, n_batches: int, batch_size: int) -> Any:
        return iter([self.batch] * n_batches)

    __call__ = raw


def made(**settings: Any) -> DoubleHorizonUpdate:
    update = DoubleHorizonUpdate(**settings)
    update.build(3, 2)
    return update


def step_of(agent: SAC, world: World, source: Context, **settings: Any) -> GradientStep:
    return GradientStep(DoubleHorizonSettings(**settings), parts_of(agent), world, UNITS, source)
