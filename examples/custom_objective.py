"""A custom model objective: a likelihood with heavy tails, which is robust to outliers among the transitions."""

import argparse

import torch as th

from sb3_tom import MBPO, DynamicsModel, ModelObjective, Transitions
from sb3_tom.contracts.objective import Extras


class StudentObjective(ModelObjective):
    r"""
    Weighted negative log-likelihood of Student's t instead of a Gaussian (Lange et al. 1989, JASA 84(408)):

    .. math:: \ell = \tfrac{\nu + 1}{2} \log\big(1 + z^2 / \nu\big) + \tfrac12 \log \sigma^2, \qquad z = (y - \mu) / \sigma

    per dimension of the normalised targets y. The Gaussian's loss grows with z^2, this one with log z: a rare jump changes
    neither mean nor variance much.

    :param nu: degrees of freedom; the larger, the more like a Gaussian
    """

    recordable = True  # a step is the same kernels, whatever the values

    def __init__(self, nu: float = 4.0) -> None:
        super().__init__()
        if not nu > 0.0:
            raise ValueError(f"nu={nu!r} is not allowed; allowed: a positive number")
        self.nu = nu

    def loss(self, model: DynamicsModel, batch: Transitions, weights: th.Tensor, extras: Extras) -> th.Tensor:
        """The loss, a scalar; fields of the batch ``[E, B, .]``, weights ``[E, B]``."""
        mean, log_var = model(batch.observations, batch.actions)  # [E, B, D], the reward first
        squares = (model.targets(batch) - mean).square() * th.exp(-log_var)
        losses = 0.5 * (self.nu + 1.0) * th.log1p(squares / self.nu) + 0.5 * log_var
        return (weights * losses.mean(-1)).mean(-1).sum() + model.regularization()

    def validation_error(self, model: DynamicsModel, batch: Transitions, extras: Extras) -> th.Tensor:
        """Mean absolute error ``[E, B]`` in normalised units: the model's squared error would depend on the outliers."""
        mean, _ = model(batch.observations, batch.actions)
        return (model.targets(batch) - mean).abs().mean(-1)


def main() -> None:
    """Train with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    arguments = parser.parse_args()
    agent = MBPO("MlpPolicy", "Pendulum-v1", objective=StudentObjective, objective_kwargs={"nu": 3.0}, verbose=1)
    agent.learn(arguments.steps)


if __name__ == "__main__":
    main()
