"""Laws that are known, and models and critics that say what they are told, for MnM."""

from typing import Any

import torch as th
from gymnasium import RewardWrapper, make
from torch import nn

from sb3_tom import Context, DynamicsModel, Transitions
from sb3_tom.contracts.dynamics import Prediction
from sb3_tom.dynamics.ensemble import ProbabilisticEnsemble
from sb3_tom.dynamics.gaussian import draw, log_density
from sb3_tom.objectives.classifier import TransitionClassifier
from sb3_tom.objectives.mnm import MnMObjective

STATE_MAP = th.tensor([[0.9, 0.2], [-0.1, 0.8]])
ACTION_MAP = th.tensor([0.5, -0.2])
NOISE = th.tensor([0.3, 0.1])
SLOPE = th.tensor([2.0, 0.0])
"""Of the value."""
N_ROWS = 4


class Paid(RewardWrapper):
    """Pendulum, whose rewards are above 0."""

    def __init__(self) -> None:
        super().__init__(make("Pendulum-v1"))

    def reward(self, reward: float) -> float:
        return reward + 20.0


class Said(DynamicsModel):
    """E = 2 members that predict what their parameters say, whatever they are asked: one prediction for each row."""

    n_members = 2

    def __init__(self, n_rows: int, n_targets: int = 3) -> None:
        super().__init__()
        generator = th.Generator().manual_seed(5)
        self.mean = nn.Parameter(th.randn(2, n_rows, n_targets, generator=generator))
        self.log_var = nn.Parameter(0.5 * th.randn(2, n_rows, n_targets, generator=generator))

    def forward(self, observations: th.Tensor, actions: th.Tensor) -> Prediction:
        return Prediction(self.mean, self.log_var)

    def sample_members(
        self, observations: th.Tensor, actions: th.Tensor, generator: th.Generator
    ) -> tuple[th.Tensor, th.Tensor]:
        drawn = draw(self.mean, self.log_var, generator)
        return drawn[..., 1:], drawn[..., :1]

    def targets(self, batch: Transitions) -> th.Tensor:
        return th.cat([batch.rewards, batch.next_observations], dim=-1)

    def log_likelihood(self, batch: Transitions) -> th.Tensor:
        return log_density(self.targets(batch), self.mean, self.log_var).mean(-1)

    def validation_error(self, batch: Transitions) -> th.Tensor:
        raise NotImplementedError

    sample = fit = validation_error  # type: ignore[assignment]


class Known(nn.Module):
    """A classifier whose logits are a formula of the outcomes."""

    def forward(self, batch: Transitions, outcomes: th.Tensor, prediction: Prediction) -> th.Tensor:
        first, second = outcomes.unbind(-1)
        return th.sin(first) * second - 0.3 * second.square() + batch.observations[..., 0] * first


class Formula(TransitionClassifier):
    """Whose logits are known, with the losses of the real one."""

    def forward(self, batch: Transitions, outcomes: th.Tensor, prediction: Prediction) -> th.Tensor:
        return Known()(batch, outcomes, prediction)


def linear_law(n_rows: int, seed: int = 0) -> Transitions:
    """Linear, Gaussian, two dimensions, one action; the reward is the first coordinate."""
    generator = th.Generator().manual_seed(seed)
    states, noise = (th.randn(n_rows, 2, generator=generator) for _ in range(2))
    actions = th.rand(n_rows, 1, generator=generator) * 2 - 1
    following = mean_of(states, actions) + NOISE * noise
    version = th.zeros(n_rows, dtype=th.int64)
    return Transitions(states, actions, following, states[:, :1], th.zeros(n_rows, 1), version)


def mean_of(states: th.Tensor, actions: th.Tensor) -> th.Tensor:
    return states @ STATE_MAP.T + actions * ACTION_MAP


def linear_context(seed: int = 1) -> Context:
    """The value is linear in the state, of two critics the second is larger; the policy does nothing."""

    def policy(observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        return th.zeros(len(observations), 1), th.zeros(len(observations), 1)

    def values(observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        value = 5.0 + observations @ SLOPE + actions[:, 0]
        return th.stack([value, value + 3.0])

    return Context(policy, values, 0.99, 1, th.Generator().manual_seed(seed))


def objective_for(model: DynamicsModel, sizes: tuple[int, int] = (2, 1), **arguments: Any) -> MnMObjective:
    objective = MnMObjective(**{"likelihood_fits": 1, "net_arch": (64, 64), **arguments})
    objective.check_model(model)
    objective.build(*sizes)
    return objective


def a_batch(n_rows: int = N_ROWS) -> Transitions:
    """Other rows for each of two members; one of them ends an episode."""
    batch = Transitions(*(field.unflatten(0, (2, n_rows)) for field in linear_law(2 * n_rows)))
    return batch._replace(terminated=th.eye(2, n_rows).unsqueeze(-1))


def small_ensemble(**arguments: Any) -> ProbabilisticEnsemble:
    th.manual_seed(0)
    model = ProbabilisticEnsemble(**{"n_members": 2, "n_elites": 2, "net_arch": (32, 32), "weight_decay": 0.0, **arguments})
    model.build(2, 1)
    return model


def law_of(model: ProbabilisticEnsemble, data: Transitions) -> tuple[th.Tensor, th.Tensor]:
    """How far the members' mean next states are from the law's on average ``[E, 2]``, and their mean noise ``[E, 2]``."""
    with th.no_grad():
        mean, log_var = model(data.observations, data.actions)
        states, _ = model.normalizer.raw_outcomes(mean, data.observations)
    bias = (states - mean_of(data.observations, data.actions)).mean(1)
    return bias, (log_var.mul(0.5).exp() * model.target_scales())[..., 1:].mean(1)
