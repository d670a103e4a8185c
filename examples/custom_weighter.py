"""A weighter of your own: one method. Here, transitions from high rewards count more."""

import argparse

import torch as th

from sb3_tom import MBPO, Context, Transitions, Weighter


class RewardRank(Weighter):
    """Weight by the rank of the reward, from 0 (lowest) to 1 (highest)."""

    def weights(self, data: Transitions, context: Context) -> th.Tensor:
        return data.rewards.flatten().argsort().argsort() / data.size


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=float, default=3000)
    steps = parser.parse_args().steps
    MBPO("MlpPolicy", "Pendulum-v1", weighter=RewardRank, verbose=1).learn(steps)
