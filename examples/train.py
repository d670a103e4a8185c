"""Train MBPO on a MuJoCo task, with a learning curve, the weight of data by its age, TensorBoard files and checkpoints."""

import argparse
from pathlib import Path

from sb3_tom import MBPO
from sb3_tom.callbacks import LearningCurveCallback, WeightByAgeCallback
from sb3_tom.checkpoint import ResumeCallback, latest_checkpoint


def main() -> None:
    """Train one agent and write its files to one folder; after a crash, start it again to resume."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="Hopper-v5")
    parser.add_argument("--weighter", default="tom", choices=["uniform", "pmac", "tom"])
    parser.add_argument("--steps", type=float, default=125_000)
    parser.add_argument("--eval-freq", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/train"))
    arguments = parser.parse_args()
    out: Path = arguments.out / arguments.env / f"{arguments.weighter}_{arguments.seed}"

    agent = MBPO(
        "MlpPolicy",
        arguments.env,
        weighter=arguments.weighter,
        seed=arguments.seed,
        tensorboard_log=str(out),
        verbose=1,
    )
    callbacks = [
        LearningCurveCallback(arguments.env, out / "learning_curve.csv", arguments.eval_freq, method=arguments.weighter),
        WeightByAgeCallback(out / "weight_by_age.csv", method=arguments.weighter),
        ResumeCallback(out / "checkpoints", save_freq=1000),  # keeps the newest two
    ]
    if latest_checkpoint(out / "checkpoints"):
        agent.load_checkpoint(out / "checkpoints")
    agent.learn(arguments.steps, callback=callbacks, progress_bar=True)
    agent.save(out / "agent")
    print(f"Everything is in {out}; to draw it: python -m sb3_tom.plots all {arguments.out} --out plots")


if __name__ == "__main__":
    main()
