"""
A run that can be resumed: start this script, kill it at any moment, start it again.

    python examples/resume.py --steps 20000
"""

import argparse
from pathlib import Path

import torch as th

from sb3_tom import MBPO
from sb3_tom.checkpoint import ResumeCallback, latest_checkpoint

TASK = "InvertedPendulum-v5"


def main() -> None:
    """Resume from the newest checkpoint, or begin."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6_000, help="env steps of the whole run, however often it is interrupted")
    parser.add_argument("--save-freq", type=int, default=500, help="env steps between two checkpoints")
    parser.add_argument("--folder", type=Path, default=Path("runs/resume"), help="of the checkpoints")
    arguments = parser.parse_args()

    th.set_num_threads(1)  # equal bits need an equal number of threads
    if latest_checkpoint(arguments.folder):
        agent = MBPO.resume(arguments.folder, TASK)
        print(f"{TASK}: goes on after {agent.num_timesteps:,} env steps")
    else:
        agent = MBPO("MlpPolicy", TASK, weighter="tom", learning_starts=500, update_to_data_ratio=10.0, seed=0)
        print(f"{TASK}: begins")
    # The same call in both cases: a resumed agent finishes the interrupted one
    agent.learn(arguments.steps, callback=ResumeCallback(arguments.folder, arguments.save_freq, keep=2, verbose=1))
    print(f"{TASK}: {agent.num_timesteps:,} env steps done, {agent._n_updates:,} gradient steps of the policy")


if __name__ == "__main__":
    main()
