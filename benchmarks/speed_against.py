"""
Is the working tree slower than another commit? Both sides run the same parts in turn, each in a process of its own with one
torch thread; the result is the median of the ratios of pairs.

    python benchmarks/speed_against.py HEAD~3
    python benchmarks/speed_against.py HEAD~3 --pairs 31 --parts update

Parts: ``update``, 100 SAC updates of batch 256 on Hopper; ``run``, 50 env steps with one model phase at 5,000 real rows;
``weights``, TOM's weights of 100,000 rows, with the defaults of each side; ``double_horizon``, 50 gradient steps of DHMBPO on
Hopper. Run it on idle cores.
"""

import argparse
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from checkout import ROOT
from line_process import LineProcess
from same_as import SIDES, commit_of, worktree

PROGRAM = "import sys; sys.path[:0] = sys.argv[1:3]; from speed_against import serve; serve(sys.argv[3])"
ROWS, MANY_ROWS, STEPS, UPDATES = 5_000, 100_000, 50, 100
PARTS = ("update", "run", "weights", "double_horizon")


def make_part(name: str) -> Callable[[], Any]:
    """
    One of the parts, ready to run.

    :param name: of :data:`PARTS`
    """
    import torch as th

    from sb3_tom import DHMBPO, MBPO

    th.set_num_threads(1)
    if name == "double_horizon":
        short = DHMBPO("MlpPolicy", "Hopper-v5", learning_starts=1_000, device="cpu", seed=0)
        short.learn(1_001)
        return lambda: short.train_policy(STEPS)
    if name == "weights":
        agent = MBPO("MlpPolicy", "Hopper-v5", weighter="tom", learning_starts=MANY_ROWS, device="cpu", seed=0)
        agent.learn(MANY_ROWS)
        return agent.fit_weights
    # One phase per call of `run`, of the budget that phases of 250 steps have for 50
    settings: dict[str, Any] = {"rollout_batch_size": 20_000, "model_train_freq": STEPS, "device": "cpu", "seed": 0}
    agent = MBPO("MlpPolicy", "Hopper-v5", learning_starts=ROWS, dynamics_kwargs={"max_epochs": 3}, **settings)
    agent.learn(ROWS + 1)
    parts = {
        "update": lambda: agent.train_policy(UPDATES),
        "run": lambda: agent.learn(STEPS, reset_num_timesteps=False),
    }
    return parts[name]


def serve(name: str) -> None:
    """
    One side: runs the part for each line on standard input, and prints its seconds.

    :param name: of the part
    """
    part = make_part(name)
    part()
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        part()
        print(time.perf_counter() - began, flush=True)


class Side(LineProcess):
    """
    A process with the package of one folder.

    :param root: the folder
    :param name: of the part
    :raises RuntimeError: if it ends early
    """

    def __init__(self, root: Path, name: str) -> None:
        words = [sys.executable, "-c", PROGRAM, str(root), str(Path(__file__).resolve().parent), name]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "SB3_TOM_NO_ZOO_HOOK": "1"}
        super().__init__(words, "a side", cwd=root, env=environment)

    def __call__(self) -> float:
        """Seconds of one run."""
        return float(self.ask())


def compare(roots: list[Path], name: str, pairs: int) -> None:
    """
    Run a part on both sides in turn, and print the ratio.

    :param roots: folders of the working tree's package and of the commit's
    :param name: of the part
    :param pairs: number of pairs
    """
    with ExitStack() as stack:
        sides = []
        for root in roots:
            sides.append(Side(root, name))
            stack.callback(sides[-1].close)
        times = [[side() for side in sides] for _ in range(pairs)]
    ratios = sorted(ours / theirs for ours, theirs in times)
    here, there = (statistics.median(column) for column in zip(*times, strict=True))
    middle = f"{ratios[pairs // 4]:.3f} to {ratios[-1 - pairs // 4]:.3f}"
    median = statistics.median(ratios)
    print(f"{name}: {median:.3f} x (middle half {middle}); {here:.3f} s here, {there:.3f} s there, {pairs} pairs", flush=True)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", metavar="REV", help="the other commit")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["update", "run"])
    arguments = parser.parse_args()
    with ExitStack() as stack:
        place = Path(stack.enter_context(TemporaryDirectory(prefix="speed_against_")))
        roots = [place / name for name in SIDES]
        shutil.copytree(ROOT / "sb3_tom", roots[0] / "sb3_tom", ignore=shutil.ignore_patterns("__pycache__"))
        stack.enter_context(worktree(commit_of(arguments.revision), roots[1]))
        for name in arguments.parts:
            try:
                compare(roots, name, arguments.pairs)
            except RuntimeError as error:
                raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
