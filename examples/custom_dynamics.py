"""A custom dynamics model: a single network that predicts the mean, with one noise level per dimension."""

import argparse

import torch as th
from torch import nn

from sb3_tom import MBPO, Context, DynamicsModel, ModelObjective, Transitions
from sb3_tom.contracts.dynamics import Prediction
from sb3_tom.dynamics.fitting import FitSettings, fit_by_gradient
from sb3_tom.dynamics.gaussian import draw, log_density
from sb3_tom.dynamics.normalizer import Normalizer


class MeanNetwork(DynamicsModel):
    """
    A Gaussian whose mean is a network of the state and the action, and whose variance does not depend on them.

    :param width: units of the two hidden layers
    :param fit_kwargs: settings of :class:`sb3_tom.dynamics.fitting.FitSettings`
    """

    def __init__(self, width: int = 128, **fit_kwargs: float) -> None:
        super().__init__()
        self.width = width
        self.settings = FitSettings(**fit_kwargs)  # type: ignore[arg-type]

    def build(self, observation_dim: int, action_dim: int) -> None:
        """Create what depends on the sizes. Whatever is learned is a parameter or a buffer, so that it is saved."""
        n_targets = 1 + observation_dim  # the reward, then the change of the state
        self.normalizer = Normalizer(observation_dim, action_dim, "delta")
        self.network = nn.Sequential(
            nn.Linear(observation_dim + action_dim, self.width),
            nn.SiLU(),
            nn.Linear(self.width, self.width),
            nn.SiLU(),
            nn.Linear(self.width, n_targets),
        )
        self.log_var = nn.Parameter(th.zeros(n_targets))
        self.optimizer = th.optim.Adam(self.parameters(), lr=1e-3)  # "optim" in its name: it is saved too

    def forward(self, observations: th.Tensor, actions: th.Tensor) -> Prediction:
        """The prediction ``[1, B, D]`` in unit scale: a model of one member."""
        mean = self.network(self.normalizer.inputs(observations, actions))
        mean = mean if mean.dim() == 3 else mean.unsqueeze(0)
        return Prediction(mean, self.log_var.expand_as(mean))

    def log_likelihood(self, batch: Transitions) -> th.Tensor:
        """Log-likelihood ``[1, B]``, which the objective maximises."""
        return log_density(self.normalizer.targets(batch), *self(batch.observations, batch.actions)).mean(-1)

    def validation_error(self, batch: Transitions) -> th.Tensor:
        """Error ``[1, B]`` for early stopping."""
        mean, _ = self(batch.observations, batch.actions)
        return (self.normalizer.targets(batch) - mean).square().mean(-1)

    def sample(
        self,
        observations: th.Tensor,
        actions: th.Tensor,
        generator: th.Generator,
    ) -> tuple[th.Tensor, th.Tensor]:
        """Next observations ``[B, O]`` and rewards ``[B, 1]`` in raw units."""
        mean, log_var = (values.squeeze(0) for values in self(observations, actions))
        return self.normalizer.outcomes(draw(mean, log_var, generator), observations)  # no other source of randomness

    def fit(
        self,
        data: Transitions,
        weights: th.Tensor,
        objective: ModelObjective,
        context: Context,
        weighting: str = "sample",
    ) -> dict[str, float]:
        """Called once per model phase: a weighted fit with early stopping on held-out rows."""
        self.normalizer.fit(data)
        _, figures = fit_by_gradient(self, self.optimizer, data, weights, objective, context, weighting, self.settings)
        return figures


def main() -> None:
    """Train with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    arguments = parser.parse_args()
    agent = MBPO("MlpPolicy", "Pendulum-v1", dynamics=MeanNetwork(width=200, max_epochs=10), weighter="pmac", verbose=1)
    agent.learn(arguments.steps)


if __name__ == "__main__":
    main()
