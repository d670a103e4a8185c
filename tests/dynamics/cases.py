"""The dynamics models in small, data for them, and what the tests do with them again and again."""

import math
from collections.abc import Callable
from typing import Any

import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.dynamics import DynamicsModel
from sb3_tom.contracts.types import Transitions
from sb3_tom.dynamics.ensemble import ProbabilisticEnsemble
from sb3_tom.dynamics.linear import LinearDynamics
from sb3_tom.dynamics.mdn import MixtureDensityNetwork
from sb3_tom.dynamics.smooth import SmoothEnsemble
from sb3_tom.objectives.likelihood import LikelihoodObjective

FIT = {"steps_per_epoch": 30, "max_epochs": 3, "batch_size": 64}
NETWORK: dict[str, Any] = {"net_arch": (16, 16), **FIT}
Factory = Callable[..., DynamicsModel]
FACTORIES: dict[str, Factory] = {
    "ensemble": lambda **kwargs: ProbabilisticEnsemble(**{"n_members": 3, "n_elites": 2, **NETWORK, **kwargs}),
    # What all models promise is asked of its networks; what it leaves out by default, in test_smooth.py
    "smooth": lambda **kwargs: SmoothEnsemble(**{"n_members": 3, "clamp": "range", "reward_noise": True, **NETWORK, **kwargs}),
    "mdn": lambda **kwargs: MixtureDensityNetwork(**{"n_components": 3, **NETWORK, **kwargs}),
    "linear": lambda **kwargs: LinearDynamics(**{key: value for key, value in kwargs.items() if key == "predict"}),
}
MEMBERS = {"ensemble": 3, "smooth": 3, "mdn": 1, "linear": 1}
OBS, ACT = 3, 2


def make_data(n_rows: int, seed: int = 0, observation_dim: int = OBS) -> Transitions:
    """A noisy, mildly nonlinear system with columns of unlike scales."""
    generator = th.Generator().manual_seed(seed)
    scale = th.tensor([1.0, 20.0, 0.05])[:observation_dim]
    unit = th.randn(n_rows, observation_dim, generator=generator)
    actions = th.rand(n_rows, ACT, generator=generator) * 2 - 1
    noise = th.randn(n_rows, observation_dim, generator=generator)
    change = 0.3 * th.sin(unit) + 0.2 * actions[:, :1] + 0.1 * noise
    rewards = unit[:, :1] + actions[:, 1:] + 0.1 * th.randn(n_rows, 1, generator=generator)
    version = th.zeros(n_rows, dtype=th.long)
    return Transitions(scale * unit, actions, scale * (unit + change), rewards, th.zeros(n_rows, 1), version)


def make_context(seed: int = 0) -> Context:
    """A context without an agent, of which a likelihood fit has no need."""
    return Context(policy_version=1, generator=th.Generator().manual_seed(seed))


def built(kind: str, seed: int = 0, observation_dim: int = OBS, **kwargs: Any) -> DynamicsModel:
    """As quick in the first fit as in later ones, unless a test gives a number of epochs."""
    if "max_epochs" not in kwargs:
        kwargs.setdefault("first_max_epochs", FIT["max_epochs"])
    th.manual_seed(seed)
    model = FACTORIES[kind](**kwargs)
    model.build(observation_dim, ACT)
    return model


def fit(
    model: DynamicsModel, data: Transitions, weights: th.Tensor | None = None, seed: int = 0, **kwargs: Any
) -> dict[str, float]:
    weights = th.ones(data.size) if weights is None else weights
    return model.fit(data, weights, LikelihoodObjective(), make_context(seed), **kwargs)


def draw(model: DynamicsModel, data: Transitions, seed: int = 0) -> tuple[th.Tensor, th.Tensor]:
    return model.sample(data.observations, data.actions, th.Generator().manual_seed(seed))


def unclamp(model: DynamicsModel) -> None:
    """Take the range of the data away, so that a sample can be seen as it is."""
    model.normalizer.low.fill_(-th.inf)
    model.normalizer.high.fill_(th.inf)


def same_state(one: DynamicsModel, two: DynamicsModel) -> bool:
    """Equal to the last bit."""
    other = two.state_dict()
    return all(th.equal(value, other[name]) for name, value in one.state_dict().items())


def all_finite(model: DynamicsModel, figures: dict[str, float]) -> bool:
    finite = all(bool(th.isfinite(value).all()) for value in model.state_dict().values())
    return finite and all(math.isfinite(value) for value in figures.values())
