"""
Where the time goes: each part beside what it replaces, in one process, as medians of paired runs.

    python benchmarks/speed.py --threads 2 --out docs/results/speed.csv

Times are CPU-bound wall times; on a shared machine only the ratios of one run are worth quoting.
"""

import argparse
import csv
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch as th
from stable_baselines3 import SAC

from sb3_tom import MBPO, Context, Transitions
from sb3_tom.common.fast_matmul import fast_matmul, onednn_is_exact
from sb3_tom.dynamics.ensemble import ProbabilisticEnsemble
from sb3_tom.objectives.likelihood import LikelihoodObjective

OBSERVATIONS, ACTIONS, BATCH, WIDTH = 11, 3, 256, 256  # Hopper


def paired_medians(parts: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of each part; the parts take turns, so that all see the same machine."""
    times: dict[str, list[float]] = {name: [] for name in parts}
    for part in parts.values():
        part()
    for _ in range(repeats):
        for name, part in parts.items():
            start = time.perf_counter()
            part()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def random_transitions(n_rows: int) -> Transitions:
    """Random rows of Hopper's sizes with dynamics that can be learned."""
    observations, actions = th.randn(n_rows, OBSERVATIONS), th.rand(n_rows, ACTIONS) * 2 - 1
    mixing = th.randn(OBSERVATIONS + ACTIONS, OBSERVATIONS)
    next_observations = observations + 0.1 * th.tanh(th.cat([observations, actions], 1) @ mixing)
    terminated = (th.rand(n_rows, 1) < 0.01).float()
    version_numbers = th.arange(n_rows) // 250
    return Transitions(observations, actions, next_observations, actions[:, :1], terminated, version_numbers)


def products_of_a_sac_update() -> None:
    """The matrix products of one SAC update (networks 256 x 256) and nothing else, as PyTorch does them by default."""
    hidden, weight = th.randn(BATCH, WIDTH), th.randn(WIDTH, WIDTH)
    narrow, entrance = th.randn(BATCH, OBSERVATIONS + ACTIONS), th.randn(OBSERVATIONS + ACTIONS, WIDTH)
    for _ in range(8):  # forward: actor at s and s', two targets, two critics, two critics of the actor's loss
        _ = narrow @ entrance, hidden @ weight
    for _ in range(5):  # through the second layer: two critics, two critics of the actor's loss, actor
        _ = hidden @ weight
    for _ in range(3):  # gradients of the weights: two critics, actor
        _ = hidden.t() @ hidden, narrow.t() @ hidden


def product_parts(products: int) -> dict[str, Callable[[], object]]:
    """One product of 256 x 256 float32 numbers by each of PyTorch's two libraries, ``products`` times."""
    left, right = th.randn(WIDTH, WIDTH), th.randn(WIDTH, WIDTH)

    def multiply() -> None:
        for _ in range(products):
            _ = left @ right

    return {"PyTorch's default": multiply, "fast_matmul": fast_matmul()(multiply)}


def sac_parts(updates: int) -> dict[str, Callable[[], object]]:
    """SB3's own train, this package's, and the bare products, each ``updates`` times."""
    sac = SAC("MlpPolicy", "Hopper-v5", learning_starts=300, seed=0)
    sac.learn(301)
    agent = MBPO("MlpPolicy", "Hopper-v5", learning_starts=300, seed=0, update_to_data_ratio=1, rollout_batch_size=10_000)
    agent.learn(301)
    return {
        "SB3 SAC.train": lambda: sac.train(updates, BATCH),
        "sb3_tom": lambda: agent.train_policy(updates, BATCH),
        "matrix products alone": lambda: [products_of_a_sac_update() for _ in range(updates)],
    }


def fit_part(n_steps: int) -> Callable[[], object]:
    """A fit of the default ensemble of ``n_steps`` minibatches."""
    model = ProbabilisticEnsemble(steps_per_epoch=n_steps, max_epochs=1)
    model.build(OBSERVATIONS, ACTIONS)
    data, weights = random_transitions(10_000), th.ones(10_000)
    context = Context(lambda rows: (rows, rows), lambda rows, actions: rows, 0.99, 0, th.Generator().manual_seed(0))

    def fit() -> None:
        with fast_matmul():
            model.fit(data, weights, LikelihoodObjective(), context)

    return fit


def agent_with_rows(n_rows: int) -> MBPO:
    """An agent whose buffer holds ``n_rows`` random rows."""
    agent = MBPO("MlpPolicy", "Hopper-v5", seed=0, buffer_size=n_rows, weighter="tom")
    data, buffer = random_transitions(n_rows), agent.replay_buffer
    for name in ("observations", "actions", "next_observations"):
        getattr(buffer, name)[:, 0] = getattr(data, name).numpy()
    buffer.rewards[:] = data.rewards.numpy()
    buffer.terminated[:] = data.terminated.numpy()
    buffer.full = True
    buffer._find_starts()
    return agent


def measure(repeats: int) -> list[tuple[str, str, float, str]]:
    """Rows (part, variant, value, unit)."""
    rows = []
    updates, steps, products = 20, 50, 200
    for name, seconds in paired_medians(product_parts(products), repeats).items():
        rows.append(("product of two 256 x 256 matrices", name, 1e3 * seconds / products, "ms"))
    for name, seconds in paired_medians(sac_parts(updates), repeats).items():
        rows.append(("SAC update, batch 256, 256 x 256", name, 1e3 * seconds / updates, "ms"))
    fits = paired_medians({"sb3_tom": fit_part(steps)}, repeats)
    rows.append(("ensemble fit, one minibatch of 256, 7 x 4 x 200", "sb3_tom", 1e3 * fits["sb3_tom"] / steps, "ms"))
    agent = agent_with_rows(100_000)
    agent.dynamics.normalizer.fit(agent.replay_buffer.transitions())
    parts: dict[str, Callable[[], object]] = {
        "100,000 imagined steps, stored": agent.imagine,
        "TOM weights": agent.fit_weights,
    }
    for name, seconds in paired_medians(parts, max(repeats // 3, 2)).items():
        rows.append((f"{name}, 100,000 real rows", "sb3_tom", seconds, "s"))
    return rows


def main() -> None:
    """Print the table and, if asked, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, help="CSV file")
    arguments = parser.parse_args()
    th.set_num_threads(arguments.threads)
    machine = f"{platform.machine()}, {arguments.threads} threads, oneDNN float32 {onednn_is_exact()}"
    versions = " ".join(f"{name} {version(name)}" for name in ("torch", "stable_baselines3"))
    print(f"{machine}; {versions}")
    rows = measure(arguments.repeats)
    for part, variant, value, unit in rows:
        print(f"{part:55s} {variant:25s} {value:8.2f} {unit}")
    if arguments.out:
        with arguments.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["part", "variant", "median", "unit", "machine", "versions"])
            writer.writerows([*row, machine, versions] for row in rows)


if __name__ == "__main__":
    main()
