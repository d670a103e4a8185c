"""
Weights, model and policy from a replay buffer of another run, without stepping an environment.

The buffer is that of a short SAC run, saved by Stable-Baselines3 itself.
"""

import argparse
from pathlib import Path

import torch as th
from stable_baselines3 import SAC

from sb3_tom import MBPO, Transitions

TASK = "Pendulum-v1"


def collect(steps: int, path: Path) -> None:
    """Collect and save a replay buffer with plain SB3."""
    agent = SAC("MlpPolicy", TASK, buffer_size=steps, seed=0)
    agent.learn(steps)
    path.parent.mkdir(parents=True, exist_ok=True)
    agent.save_replay_buffer(path)


def high_rewards(data: Transitions, n_rows: int) -> Transitions:
    """The rows with the highest rewards, standing for the visits of a policy that we would like to have."""
    return data.rows(th.topk(data.rewards.squeeze(-1), n_rows).indices)


def main() -> None:
    """Fill a buffer, then fit everything to it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5000, help="transitions in the buffer")
    parser.add_argument("--rounds", type=int, default=10, help="rounds of rollouts and policy updates")
    parser.add_argument("--updates", type=int, default=500, help="policy updates of a round")
    parser.add_argument("--out", type=Path, default=Path("runs/offline"))
    arguments = parser.parse_args()
    path = arguments.out / "replay_buffer.pkl"
    collect(arguments.steps, path)

    agent = MBPO("MlpPolicy", TASK, weighter="tom", rollout_schedule=3, seed=0)
    agent.load_replay_buffer(path)  # SB3's buffer is converted
    data = agent.replay_buffer.transitions()

    # `recent` may have any size if it is given.
    weights = agent.fit_weights(recent=high_rewards(data, data.size // 5))
    correlation = th.corrcoef(th.stack([weights, data.rewards.squeeze(-1)]))[0, 1]
    print(f"Correlation of weight and reward over {data.size} transitions: {correlation:.2f}")
    figures = agent.fit_model()
    print(f"Held-out error of the model, in standard deviations squared: {figures['validation_error']:.4f}")
    for _ in range(arguments.rounds):
        agent.imagine()  # rollouts of the current policy
        agent.end_phase()  # sets the scales of the policy's inputs and values, if the policy update has any
        agent.train_policy(arguments.updates)
    agent.save(arguments.out / "agent")
    print(f"{arguments.rounds * arguments.updates} policy updates without a step in the env; agent saved in {arguments.out}")


if __name__ == "__main__":
    main()
