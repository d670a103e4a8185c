"""
How much of a wrong log-ratio does the flow constraint correct?

    python benchmarks/dual_solved.py run
    python benchmarks/dual_solved.py page

All of 10,000 rows are of one policy, so that the true weights are 1, and the tasks are deterministic, so that no other weights
conserve the flow of probability: for any log-ratio, TOM's dual gives weights of 1 at its optimum. Here the log-ratio is a
smooth function of the state or of the action. ``left`` is the variance of the weights as a share of that of exp(R), 0 at the
optimum and 1 if the dual has no effect. ``page`` writes the table of ``docs/weighters.md``.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import checkout
import gymnasium as gym
import numpy as np
import torch as th
from marked_page import run_and_page, write_between

from sb3_tom import TOMWeighter
from sb3_tom.callbacks.tables import read_table, write_table
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.plots.drawing import grouped
from sb3_tom.weighters.tom.dual import RowFunction

TASKS = ("InvertedDoublePendulum-v5", "Hopper-v5", "Walker2d-v5", "HalfCheetah-v5")
COLUMNS = ("task", "error", "seed", "ess_ratio", "ess", "left", "best_step")
N_ROWS = 10_000
BEGIN, END = "<!-- dual solved: begin -->", "<!-- dual solved: end -->"

Rows = list[dict[str, str]]


class GivenRatio(TOMWeighter):
    """
    TOM with a given log-ratio.

    :param ratio: returns R for any rows
    """

    def __init__(self, ratio: RowFunction) -> None:
        super().__init__()
        self.ratio = ratio

    def fit_log_ratio(self, data: Transitions, recent: Transitions, context: Context) -> dict[str, th.Tensor]:
        """Does nothing."""
        return {}

    def log_ratio(self, data: Transitions, context: Context) -> th.Tensor:
        """The given log-ratio."""
        return self.ratio(data)


def policy_of(observation_dim: int, action_dim: int, generator: th.Generator) -> Callable[[th.Tensor, int], th.Tensor]:
    """A policy ``tanh(K tanh(s) + 0.7 noise)`` that draws n actions at each state."""
    gain = th.randn(observation_dim, action_dim, generator=generator) * 0.5 / observation_dim**0.5

    def sampler(observations: th.Tensor, n_actions: int) -> th.Tensor:
        noise = th.randn(len(observations), n_actions, action_dim, generator=generator)
        return th.tanh((observations.tanh() @ gain).unsqueeze(1) + 0.7 * noise)

    return sampler


def rollouts(task: str, seed: int) -> tuple[Transitions, th.Tensor, Context]:
    """Rows of one policy, the states that episodes began with, and the policy's context."""
    env, generator = gym.make(task), th.Generator().manual_seed(seed)
    space, high = env.action_space, env.action_space.high  # type: ignore[attr-defined]
    sampler = policy_of(env.observation_space.shape[0], space.shape[0], generator)  # type: ignore[index]
    observation, _ = env.reset(seed=seed)
    rows, starts = [], [observation]
    for _ in range(N_ROWS):
        action = sampler(th.as_tensor(observation[None], dtype=th.float32), 1)[0, 0].numpy()
        after, _, ended, cut, _ = env.step(action * high)
        rows.append((observation, action, after, [0.0], [float(ended)], [float(cut and not ended)]))
        observation = after
        if ended or cut:
            observation, _ = env.reset()
            starts.append(observation)
    *fields, terminated, truncated = (th.as_tensor(np.array(column), dtype=th.float32) for column in zip(*rows, strict=True))
    data = Transitions(*fields, terminated, th.zeros(N_ROWS, dtype=th.long), truncated)

    def policy(observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        return sampler(observations, 1)[:, 0], th.zeros(len(observations), 1)

    context = Context(policy, policy_version=1, generator=generator, action_sampler=sampler)
    return data, th.as_tensor(np.array(starts), dtype=th.float32), context


def wrong_ratios(data: Transitions, generator: th.Generator) -> dict[str, RowFunction]:
    """Log-ratios of no policy: ``tanh`` of a random direction of the state, in its units, or of the action."""
    mean, std = data.observations.mean(0), data.observations.std(0).clamp(min=1e-6)
    of_state, of_action = (th.randn(columns.shape[1], generator=generator) for columns in (data.observations, data.actions))
    of_state, of_action = of_state / of_state.norm(), of_action / of_action.norm()
    return {
        "of the state": lambda rows: th.tanh((rows.observations - mean) / std @ of_state),
        "of the action": lambda rows: th.tanh(2.0 * rows.actions @ of_action),
    }


def run(tasks: list[str], seeds: list[int], table: Path) -> None:
    """
    Measure.

    :param tasks: ids of environments
    :param seeds: of policies, data and log-ratios
    :param table: CSV file, rewritten after each data set
    """
    rows: Rows = []
    for task, seed in ((task, seed) for task in tasks for seed in seeds):
        data, starts, view = rollouts(task, seed)
        for error, ratio in wrong_ratios(data, view.generator).items():
            tom = GivenRatio(ratio)
            tom.build(data.observations.shape[1], data.actions.shape[1])
            figures = tom.fit(data, data.rows(th.arange(N_ROWS - 1000, N_ROWS)), starts, view)
            bare, weights = ratio(data).double().exp(), tom.weights(data, view)
            spread, bare_spread = (float((w / w.mean()).var(correction=0)) for w in (weights, bare))
            labels = {"task": task, "error": error, "seed": str(seed), "best_step": f"{figures['dual_best_step']:.0f}"}
            sizes = {"ess_ratio": f"{1 / (1 + bare_spread):.3f}", "ess": f"{1 / (1 + spread):.3f}"}
            rows.append(labels | sizes | {"left": f"{spread / bare_spread:.3f}"})
            print(", ".join(f"{column} {rows[-1][column]}" for column in COLUMNS), flush=True)
        write_table(table, COLUMNS, rows)


def page_text(rows: Rows) -> str:
    """A line per task and error: means over seeds."""
    lines = [
        "",
        "| task | log-ratio wrong by a function | seeds | ESS of exp(R) | ESS of TOM | variance left |",
        "|---|---|---|---|---|---|",
    ]
    for (task, error), found in grouped(rows, lambda row: (row["task"], row["error"])).items():
        bare, ess, left = (np.mean([float(row[column]) for row in found]) for column in ("ess_ratio", "ess", "left"))
        lines.append(f"| {task} | {error} | {len(found)} | {bare:.2f} | {ess:.2f} | {left:.2f} |")
    return "\n".join([*lines, "\n"])


def main() -> int:
    """Run the command; return the exit code."""
    parser, command = run_and_page(__doc__)
    command.add_argument("--tasks", nargs="+", default=list(TASKS), help="ids of environments")
    command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    table = arguments.out / "dual_solved.csv"
    if arguments.command == "run":
        th.set_num_threads(1)
        run(arguments.tasks, arguments.seeds, table)
    else:
        write_between(checkout.ROOT / "docs" / "weighters.md", BEGIN, END, page_text(read_table(table)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
