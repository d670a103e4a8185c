"""
Do weights bias a noise of known mean?

    python benchmarks/weights_noise.py run
    python benchmarks/weights_noise.py page

A linear system with Gaussian noise, with as many observations and actions as Hopper and HalfCheetah have: 10,000 rows, of one
policy or with the newest 1,000 of another one. The noise of a transition is known, and its mean is 0 whatever the state and
the action. If weights do not depend on s', its weighted mean is 0 too, up to chance: in units of its standard error at the
weights its mean square, over seeds and dimensions, is 1. ``page`` writes the table of ``docs/weighters.md``.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import checkout
import numpy as np
import torch as th
from marked_page import run_and_page, write_between

from sb3_tom import TOMWeighter, Weighter
from sb3_tom.callbacks.tables import read_table, write_table
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.data.weights import effective_sample_size, usable_weights
from sb3_tom.plots.drawing import grouped
from sb3_tom.weighters.tom import RatioWeighter

WEIGHTERS: dict[str, Callable[[], Weighter]] = {
    "tom": TOMWeighter,
    "tom, average_next=False": lambda: TOMWeighter(average_next=False),
    "tom, chi2": lambda: TOMWeighter("chi2"),
    "tom, chi2, average_next=False": lambda: TOMWeighter("chi2", average_next=False),
    "ratio": RatioWeighter,
}
SIZES = {"Hopper": (11, 3), "HalfCheetah": (17, 6)}
SHIFTS = {"one policy": 0.0, "newest by another": 0.3}
COLUMNS = ("size", "data", "weighter", "seed", "ess", "newest", "shift", "square")
N_ROWS, N_NEWEST, N_STEPS = 10_000, 1_000, 500
NOISE = 0.1
BEGIN, END = "<!-- weights and noise: begin -->", "<!-- weights and noise: end -->"

Rows = list[dict[str, str]]


class EpisodicSystem:
    """
    ``s' = F s + G a + 0.1 noise`` in episodes of 500 steps, and policies ``tanh(K s + shift + 0.5 noise)``.

    :param observation_dim: size O of a state
    :param action_dim: size A of an action
    :param seed: of the matrices and of all noise
    """

    def __init__(self, observation_dim: int, action_dim: int, seed: int) -> None:
        self.generator = th.Generator().manual_seed(seed)
        self.drift = 0.95 * th.linalg.qr(self.normal(observation_dim, observation_dim))[0]
        self.push = 0.3 * self.normal(action_dim, observation_dim) / action_dim**0.5
        self.gain = self.normal(observation_dim, action_dim) / observation_dim**0.5

    def normal(self, *shape: int) -> th.Tensor:
        """Standard normal numbers."""
        return th.randn(*shape, generator=self.generator)

    def actions(self, observations: th.Tensor, n_actions: int, shift: float) -> th.Tensor:
        """Actions ``[B, n, A]`` of a policy."""
        center = (observations @ self.gain + shift).unsqueeze(1)
        return th.tanh(center + 0.5 * self.normal(center.shape[0], n_actions, center.shape[2]))

    def rollouts(self, shift: float) -> tuple[Transitions, th.Tensor, th.Tensor]:
        """Rows, the newest of the shifted policy, their noise ``[N, O]``, and the first states ``[K, O]`` of episodes."""
        size, fields, noises, starts = self.drift.shape[0], [], [], []
        for step in range(N_ROWS):
            if step % N_STEPS == 0:
                state = self.normal(1, size)
                starts.append(state)
            action = self.actions(state, 1, shift if step >= N_ROWS - N_NEWEST else 0.0)[:, 0]
            noise = self.normal(1, size)
            after = state @ self.drift + action @ self.push + NOISE * noise
            fields.append((state, action, after))
            noises.append(noise)
            state = after
        observations, actions, following = (th.cat(field) for field in zip(*fields, strict=True))
        cut = (th.arange(1, N_ROWS + 1) % N_STEPS == 0).float().unsqueeze(1)
        zeros, versions = th.zeros(N_ROWS, 1), th.zeros(N_ROWS, dtype=th.long)
        rows = Transitions(observations, actions, following, zeros, zeros, versions, cut)
        return rows, th.cat(noises), th.cat(starts)

    def context(self, shift: float) -> Context:
        """A weighter's view of an agent with the shifted policy."""

        def policy(observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
            return self.actions(observations, 1, shift)[:, 0], th.zeros(len(observations), 1)

        def sampler(observations: th.Tensor, n_actions: int) -> th.Tensor:
            return self.actions(observations, n_actions, shift)

        return Context(policy, policy_version=1, generator=self.generator, action_sampler=sampler)


def moved(weights: th.Tensor, noise: th.Tensor) -> dict[str, str]:
    """
    Effect of weights on the mean of a standard normal noise.

    :param weights: ``[N]``
    :param noise: ``[N, O]``
    """
    share = weights.double() / weights.double().sum()
    mean, error = share @ noise.double(), share.square().sum().sqrt()
    return {
        "ess": f"{float(effective_sample_size(weights)):.4f}",
        "newest": f"{float(weights[-N_NEWEST:].mean()):.3f}",
        "shift": f"{float(mean.square().mean().sqrt()):.4f}",
        "square": f"{float((mean / error).square().mean()):.4f}",
    }


def run(names: list[str], seeds: list[int], table: Path) -> None:
    """
    Measure what the table lacks.

    :param names: of :data:`WEIGHTERS`
    :param seeds: of the data
    :param table: CSV file, rewritten after each data set
    """
    rows: Rows = read_table(table) if table.exists() else []
    for seed, size, kind in ((seed, size, kind) for seed in seeds for size in SIZES for kind in SHIFTS):
        labels = {"size": size, "data": kind, "seed": str(seed)}
        known = {row["weighter"] for row in rows if labels.items() <= row.items()}
        missing = [name for name in names if name not in known]
        if not missing:
            continue
        system = EpisodicSystem(*SIZES[size], seed)
        data, noise, starts = system.rollouts(SHIFTS[kind])
        for name in missing:
            weighter, view = WEIGHTERS[name](), system.context(SHIFTS[kind])
            weighter.build(*SIZES[size])
            weighter.fit(data, data.rows(th.arange(N_ROWS - N_NEWEST, N_ROWS)), starts, view)
            weights = usable_weights(th.as_tensor(weighter.weights(data, view)), weighter, N_ROWS)
            rows.append(labels | {"weighter": name} | moved(weights, noise))
            print(", ".join(f"{column} {rows[-1][column]}" for column in COLUMNS), flush=True)
        write_table(table, COLUMNS, rows)


def page_text(rows: Rows) -> str:
    """A line per size, data and weighter: means over seeds."""
    head = "| system | data | weights | seeds | mean square in standard errors | noise moved by | ESS | newest rows |"
    lines = ["", head, "|---|---|---|---|---|---|---|---|"]
    order = [(size, kind, name) for size in SIZES for kind in SHIFTS for name in WEIGHTERS]
    groups = grouped(rows, lambda row: (row["size"], row["data"], row["weighter"]))
    for size, kind, name in (key for key in order if key in groups):
        found = groups[size, kind, name]
        square, shift, ess, newest = (
            np.mean([float(row[column]) for row in found]) for column in ("square", "shift", "ess", "newest")
        )
        dims = "{} + {}".format(*SIZES[size])
        lines.append(f"| {dims} | {kind} | `{name}` | {len(found)} | {square:.2f} | {shift:.3f} | {ess:.2f} | {newest:.2f} |")
    return "\n".join([*lines, "\n"])


def main() -> int:
    """Run the command; return the exit code."""
    parser, command = run_and_page(__doc__)
    command.add_argument("--weighters", nargs="+", default=list(WEIGHTERS), choices=list(WEIGHTERS))
    command.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    arguments = parser.parse_args()
    table = arguments.out / "weights_noise.csv"
    if arguments.command == "run":
        th.set_num_threads(1)
        run(arguments.weighters, arguments.seeds, table)
    else:
        write_between(checkout.ROOT / "docs" / "weighters.md", BEGIN, END, page_text(read_table(table)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
