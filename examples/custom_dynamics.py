"""A custom dynamics model: a single network that predicts the mean, with one noise level per dimension."""

import argparse

import torch as th
from torch import nn

from sb3_tom import MBPO, Context, ModelObjective, Prediction, Transitions
from sb3_tom.dynamics import (
    ConstantNoise,
    EnsembleLinear,
    FitSettings,
    NormalizedDynamics,
    UnitChange,
    draw,
    fit_by_gradient,
    preserve_outputs,
)


class MeanNetwork(NormalizedDynamics):
    """
    A Gaussian whose mean is a network of the state and the action, and whose variance does not depend on them.

    :param width: units of the two hidden layers
    :param fit_kwargs: settings of :class:`sb3_tom.dynamics.fitting.FitSettings`
    """

    def __init__(self, width: int = 128, **fit_kwargs: float) -> None:
        super().__init__(predict="delta", clamp="range")
        self.width = width
        self.settings = FitSettings(**fit_kwargs)  # type: ignore[arg-type]

    def build(self, observation_dim: int, action_dim: int) -> None:
        """Create what depends on the sizes. Whatever is learned is a parameter or a buffer, so that it is saved."""
        super().build(observation_dim, action_dim)  # creates self.normalizer
        n_targets = 1 + observation_dim  # the reward, then the change of the state
        self.network = nn.Sequential(
            EnsembleLinear(1, observation_dim + action_dim, self.width),
            nn.SiLU(),
            EnsembleLinear(1, self.width, self.width),
            nn.SiLU(),
            EnsembleLinear(1, self.width, n_targets),
        )
        self.noise = ConstantNoise(n_targets, 1)
        self.optimizer = th.optim.Adam(self.parameters(), lr=1e-3)  # an attribute of its own: it is saved too

    def forward(self, observations: th.Tensor, actions: th.Tensor) -> Prediction:
        """The prediction ``[1, B, D]`` in unit scale: a model of one member."""
        inputs = self.normalizer.inputs(observations, actions)
        mean = self.network(inputs if inputs.dim() == 3 else inputs.unsqueeze(0))
        return Prediction(mean, self.noise(mean))

    def sample(
        self,
        observations: th.Tensor,
        actions: th.Tensor,
        generator: th.Generator,
    ) -> tuple[th.Tensor, th.Tensor]:
        """Next observations ``[B, O]`` and rewards ``[B, 1]`` in raw units."""
        mean, log_var = (values.squeeze(0) for values in self(observations, actions))
        return self.normalizer.outcomes(draw(mean, log_var, generator), observations)  # no other source of randomness

    def adapt(self, change: UnitChange) -> None:
        """Compensate first and last layer, noise and optimiser for new units, so that predictions stay the same."""
        preserve_outputs(self.network, self.noise, change, (change.target_scale, change.target_shift), self.optimizer)

    def fit(
        self,
        data: Transitions,
        weights: th.Tensor,
        objective: ModelObjective,
        context: Context,
        weighting: str = "sample",
    ) -> dict[str, float]:
        """Called once per model phase: a weighted fit with early stopping on held-out rows."""
        self.fit_normalizer(data)  # calls `adapt` from the second fit on
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
