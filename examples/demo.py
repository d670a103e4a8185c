"""
Train DHMBPO with TOM weights until the inverted pendulum is solved, then look at the result (``make demo``).

Writes the agent, the learning curve and the weight of data by its age (CSV and PNG) to ``runs/demo``.
"""

import argparse
import sys
import time
from pathlib import Path

import gymnasium as gym
import torch as th

from sb3_tom import DHMBPO
from sb3_tom.callbacks import LearningCurveCallback, WeightByAgeCallback
from sb3_tom.callbacks.evaluation import evaluate
from sb3_tom.plots import plot_learning_curves, plot_weight_by_age

TASK = "InvertedPendulum-v5"
SOLVED = 950.0
"""Mean return of 10 episodes; the task's maximum is 1000."""


def main() -> int:
    """Train, evaluate and draw; return 0 if the task was solved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--steps", type=int, default=6_000, help="env steps at most; training stops as soon as the task is solved"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="default: runs/demo, and with another seed runs/demo_seed<n>")
    arguments = parser.parse_args()
    out = arguments.out or Path("runs/demo" if arguments.seed == 0 else f"runs/demo_seed{arguments.seed}")

    th.set_num_threads(1)  # Small networks gain little from more; so the result does not depend on the number of cores.
    print(f"{TASK}: training until the mean return of 10 episodes is {SOLVED:.0f}, at most {arguments.steps:,} env steps")
    agent = DHMBPO("MlpPolicy", TASK, weighter="tom", learning_starts=500, seed=arguments.seed)
    method = "dhmbpo_tom"
    curve = LearningCurveCallback(TASK, out / "learning_curve.csv", 250, method=method, reward_threshold=SOLVED, verbose=1)
    ages = WeightByAgeCallback(out / "weight_by_age.csv", method=method)
    start = time.monotonic()
    agent.learn(arguments.steps, callback=[curve, ages], progress_bar=True)
    seconds = time.monotonic() - start
    agent.save(out / "agent")

    # Ten other episodes, played by the loaded agent.
    envs = [gym.make(TASK) for _ in range(10)]
    result = evaluate(DHMBPO.load(out / "agent"), envs, n_episodes=10, seed=20_000)
    plot_learning_curves([curve.csv_path], out / "learning_curve.png")
    if ages.table.rows:
        plot_weight_by_age(ages.csv_path, out / "weight_by_age.png")
    print(f"In {out}: {', '.join(sorted(path.name for path in out.iterdir()))}")
    solved = curve.solved_step is not None and result.returns.mean() >= SOLVED
    verdict = f"SOLVED after {curve.solved_step:,} env steps" if solved else f"NOT solved in {agent.num_timesteps:,} env steps"
    figures = f"the loaded agent's mean return over 10 new episodes is {result.returns.mean():.1f}"
    print(f"{TASK} {verdict} and {seconds:.0f} s of training; {figures}.")
    return 0 if solved else 1


if __name__ == "__main__":
    sys.exit(main())
