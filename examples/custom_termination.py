"""A custom termination function: which transitions end an episode, as a function of tensors."""

import argparse

import torch as th

from sb3_tom import MBPO


def pole_has_fallen(observations: th.Tensor, actions: th.Tensor, next_observations: th.Tensor) -> th.Tensor:
    """
    InvertedPendulum-v5 ends where the pole's angle leaves [-0.2, 0.2], or where the state is not finite.

    :param observations: ``[B, 4]``, unused
    :param actions: ``[B, 1]`` in [-1, 1], unused
    :param next_observations: ``[B, 4]``: position, angle, and their velocities
    :return: bool ``[B, 1]``, True where the transition ends the episode
    """
    healthy = th.isfinite(next_observations).all(-1, keepdim=True) & (next_observations[:, 1:2].abs() <= 0.2)
    return ~healthy


def main() -> None:
    """Train with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6000)
    arguments = parser.parse_args()
    agent = MBPO(
        "MlpPolicy",
        "InvertedPendulum-v5",
        termination_fn=pole_has_fallen,
        learning_starts=500,
        update_to_data_ratio=10.0,
        target_entropy=-0.05,
        verbose=1,
    )
    agent.learn(arguments.steps)


if __name__ == "__main__":
    main()
