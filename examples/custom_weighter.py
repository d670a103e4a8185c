"""A custom weighter: a class with one method, given to MBPO."""

import argparse

import torch as th

from sb3_tom import MBPO, Context, Transitions, Weighter


class RewardWeighter(Weighter):
    """Weighs transitions with a high reward more: up to e^2 times as much as those with a low one."""

    def weights(self, data: Transitions, context: Context) -> th.Tensor:
        """Weights ``[N]``, positive; only ratios matter."""
        rewards = data.rewards.squeeze(-1)
        return th.exp(th.tanh((rewards - rewards.mean()) / (rewards.std() + 1e-6)))


def main() -> None:
    """Train with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    arguments = parser.parse_args()
    agent = MBPO("MlpPolicy", "Pendulum-v1", weighter=RewardWeighter(), verbose=1)
    agent.learn(arguments.steps, log_interval=1)


if __name__ == "__main__":
    main()
