"""
Accuracy of weights on data whose true weights are known.

    python benchmarks/weights_truth.py run
    python benchmarks/weights_truth.py page

Nulls: 10,000 rows of one policy, so that all true weights are 1; and their power, the same with the newest 1,000 by another
policy. The same with 20,000 rows whose newest 5,000 are five episodes. Ratios by formula: a linear system with Gaussian noise.
``run`` can be stopped and started again: it skips the rows that ``docs/results/weights_truth.csv`` has. ``page`` writes the
tables of ``docs/results/weights_truth.md``.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import checkout  # noqa: F401
import numpy as np
import torch as th
from marked_page import run_and_page, write_between
from scipy.stats import spearmanr
from weights_truth_data import Array, Known, linear_system, rollout

from sb3_tom import Context, Weighter
from sb3_tom.callbacks.tables import read_table, write_table
from sb3_tom.data.weights import effective_sample_size, usable_weights
from sb3_tom.plots.drawing import grouped
from sb3_tom.weighters.tom.ratio import RatioWeighter

BEFORE = {"folds": 1, "buffer_label": 0.1, "gradient_penalty": 10.0, "discriminator_weight_decay": 1e-3}
"""The discriminator that was the default before it was cross-fitted."""
VARIANTS: dict[str, dict[str, Any]] = {
    "before": BEFORE,
    "before_sharp": BEFORE | {"buffer_label": 0.0, "gradient_penalty": 0.0},
    "default": {},
    "default_label": {"buffer_label": 0.1},
    "default_penalty": {"gradient_penalty": 10.0},
    "default_two_folds": {"folds": 2},
    "policy_input": {"policy_input": True},
    "whole_episodes": {"recent_size": 5_000, "block_steps": 1_000},
}
TASKS = ("Humanoid-v5", "Hopper-v5", "HalfCheetah-v5")
SIZES = {4: 2, 17: 6, 45: 17}
FIVE_EPISODES = {"n_rows": 20_000, "n_recent": 5_000}
LONG: dict[str, Callable[[int], Known]] = {
    "HalfCheetah-v5, one policy, five episodes": partial(rollout, "HalfCheetah-v5", **FIVE_EPISODES),
    "HalfCheetah-v5, mean action + 0.3, five episodes": partial(rollout, "HalfCheetah-v5", shift=0.3, **FIVE_EPISODES),
}
"""Data whose footprint is several long episodes."""
DATA: dict[str, Callable[[int], Known]] = {
    **{f"{task}, one policy": partial(rollout, task) for task in TASKS},
    "HalfCheetah-v5, one policy, episodes of 100 steps": partial(rollout, "HalfCheetah-v5", max_episode_steps=100),
    **{f"{task}, mean action + 0.3": partial(rollout, task, shift=0.3) for task in TASKS},
    **LONG,
    **{
        f"{kind}, {size} dimensions": partial(linear_system, size, n, kind)
        for kind in ("shift", "gain")
        for size, n in SIZES.items()
    },
}
COLUMNS = ("data", "variant", "seed", "newest", "ess", "rank", "slope", "newest_true")
BEGIN, END = "<!-- weights: begin -->", "<!-- weights: end -->"

Rows = list[dict[str, str]]


def measure(known: Known, seed: int, arguments: dict[str, Any]) -> dict[str, float]:
    """
    Accuracy of the usable weights exp(R), with the newest rows as ``recent``.

    :param known: data
    :param seed: of the networks
    :param arguments: of the weighter
    :return: ``newest``, the mean weight of the newest rows; ``ess``, the effective sample size as a share; where the true
        ratio is known, ``rank``, Spearman's correlation of the weights with it, ``slope``, of log w over its log, and
        ``newest_true``, the mean weight of the newest rows by the true ratios of all rows
    """
    usable = fitted_weights(RatioWeighter(**arguments), known, seed)
    weights = usable.double().numpy()
    figures = {"newest": weights[-known.n_recent :].mean(), "ess": effective_sample_size(usable)}
    if known.log_ratio is not None:
        figures["rank"] = rank_correlation(weights, known.log_ratio)
        figures["slope"] = np.polyfit(known.log_ratio, np.log(weights), 1)[0]
        true = np.exp(known.log_ratio)
        figures["newest_true"] = true[-known.n_recent :].mean() / true.mean()
    return {name: float(value) for name, value in figures.items()}


def fitted_weights(weighter: Weighter, known: Known, seed: int, starts: th.Tensor | None = None) -> th.Tensor:
    """
    Usable weights ``[N]`` of a new weighter that was fitted to the data.

    :param weighter: is built here
    :param known: data
    :param seed: of the networks and the fit
    :param starts: observations at which episodes begin; None: the first row's
    """
    data, generator = known.data, th.Generator().manual_seed(seed)
    with th.random.fork_rng():
        th.manual_seed(seed)
        weighter.build(data.observations.shape[1], data.actions.shape[1])
    context = Context(generator=generator, log_prob=known.log_prob, policy=known.policy(generator))
    recent = data.rows(th.arange(data.size - known.n_recent, data.size))
    weighter.fit(data, recent, data.observations[:1] if starts is None else starts, context)
    return usable_weights(weighter.weights(data, context), weighter, data.size)


def rank_correlation(first: Array, second: Array) -> float:
    """Spearman's correlation, 0 for constant weights, which have no order."""
    return 0.0 if np.ptp(first) == 0 or np.ptp(second) == 0 else float(spearmanr(first, second).statistic)


def run(names: list[str], variants: list[str], seeds: list[int], table: Path) -> None:
    """
    Measure what the table lacks.

    :param names: of :data:`DATA`
    :param variants: of :data:`VARIANTS`
    :param seeds: of data and networks
    :param table: CSV file, rewritten after each fit
    """
    rows: Rows = read_table(table) if table.exists() else []
    known = {(row["data"], row["variant"], row["seed"]) for row in rows}
    for name, seed, make in ((name, seed, DATA[name]) for name in names for seed in seeds):
        fitting = [variant for variant in variants if variant != "whole_episodes" or name in LONG]
        missing = [variant for variant in fitting if (name, variant, str(seed)) not in known]
        data = make(seed) if missing else None
        for variant in missing:
            figures = measure(data, seed, VARIANTS[variant])
            rows.append({column: "" for column in COLUMNS} | {"data": name, "variant": variant, "seed": str(seed)})
            rows[-1] |= {column: f"{value:.4f}" for column, value in figures.items()}
            write_table(table, COLUMNS, rows)
            print(", ".join(f"{column} {value}" for column, value in rows[-1].items()), flush=True)


def page_text(rows: Rows) -> str:
    """Three tables with a line per data and variant: nulls, their power, and known ratios."""
    nulls = [row for row in rows if "one policy" in row["data"]]
    powers = [row for row in rows if "mean action" in row["data"]]
    ratios = [row for row in rows if row["rank"]]
    lines = ["", "## One policy: the true weights are 1", ""]
    lines += _table(nulls, ("newest rows: mean", "least", "greatest", "ESS: median"), _null)
    lines += ["", "## The newest rows by another policy", ""]
    lines += _table(powers, ("newest rows: median", "least", "ESS: median"), _power)
    lines += ["", "## Ratios by formula", ""]
    heads = ("rank correlation: median", "least", "slope: median", "least", "greatest", "newest rows: mean", "its truth")
    lines += _table(ratios, heads, _ratio)
    return "\n".join([*lines, "\n"])


def _table(rows: Rows, head: tuple[str, ...], figures: Callable[[Rows], list[float]]) -> Iterator[str]:
    yield f"| data | variant | seeds | {' | '.join(head)} |"
    yield "|---" * (3 + len(head)) + "|"
    for (data, variant), found in sorted(grouped(rows, lambda row: (row["data"], row["variant"])).items(), key=_order):
        seeds = ", ".join(sorted((row["seed"] for row in found), key=int))
        yield f"| {data} | `{variant}` | {seeds} | {' | '.join(f'{value:.2f}' for value in figures(found))} |"


def _order(item: tuple[tuple[str, str], Rows]) -> tuple[int, int]:
    (data, variant), _ = item
    return list(DATA).index(data), list(VARIANTS).index(variant)


def _column(rows: Rows, name: str) -> np.ndarray:
    return np.array([float(row[name]) for row in rows])


def _null(rows: Rows) -> list[float]:
    newest = _column(rows, "newest")
    return [newest.mean(), newest.min(), newest.max(), float(np.median(_column(rows, "ess")))]


def _power(rows: Rows) -> list[float]:
    newest = _column(rows, "newest")
    return [float(np.median(newest)), newest.min(), float(np.median(_column(rows, "ess")))]


def _ratio(rows: Rows) -> list[float]:
    rank, slope = _column(rows, "rank"), _column(rows, "slope")
    means = [_column(rows, name).mean() for name in ("newest", "newest_true")]
    return [float(np.median(rank)), rank.min(), float(np.median(slope)), slope.min(), slope.max(), *means]


def main() -> int:
    """Run the command; return the exit code."""
    parser, command = run_and_page(__doc__)
    command.add_argument("--data", nargs="+", choices=list(DATA), default=list(DATA), metavar="DATA", help="of the tables")
    command.add_argument("--variant", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    command.add_argument("--seed", type=int, nargs="+", default=list(range(5)))
    arguments = parser.parse_args()
    table = arguments.out / "weights_truth.csv"
    if arguments.command == "run":
        run(arguments.data, arguments.variant, arguments.seed, table)
    else:
        write_between(arguments.out / "weights_truth.md", BEGIN, END, page_text(read_table(table)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
