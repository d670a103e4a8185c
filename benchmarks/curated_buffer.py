"""
TOM's Figure 4: weights of a buffer that is half random rows and half a whole training run, compared with the truth.

    python benchmarks/curated_buffer.py run runs/curves/Hopper-v5/dhmbpo_seed0/checkpoints/checkpoint_25000_steps.zip
    python benchmarks/curated_buffer.py page

A checkpoint of ``benchmarks/curves.py`` gives the rows of its run, in their order, and its policy, the policy of interest; Ma
et al. (2023, Sec. 5.2) take both from D4RL. As many random rows come before them. New agents on the run's backbone, with its
settings, weigh this buffer. ``tom_fresh`` and ``ratio_fresh`` get 1,000 fresh rows of the policy instead of the newest 1,000,
which are of policies shortly before it. The truth, d^pi / d^D, is estimated from 100,000 other fresh rows as in
``benchmarks/nearest_ratio.py``, whose table shows its accuracy: by ``distances``, whose order is the better one, and by
``matches``, whose means no single row dominates. Random rows count as a part of the run's warm-up: version 0 for PMAC, the
oldest for ``recency``. ``pdml`` compares the policies of the run's model phases, which only the checkpoint of a run with it
has: there the run's own weighter weighs the buffer, and other runs have no such line. ``run`` skips what
``docs/results/curated_buffer.csv`` has. ``page`` draws ``curated_buffer.png`` and writes the second table of
``docs/results/curated_buffer.md``.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import checkout  # noqa: F401
import numpy as np
import torch as th
from curated_buffer_data import curated_buffer, policy_rows
from marked_page import draw_and_write, run_and_page
from nearest_ratio import N_FRESH, distances_and_halves, matches, mean_one, same_units
from run_checkpoints import describe, method_of, resumed, same_backbone, successor
from weights_truth import rank_correlation
from weights_truth_data import Array

from sb3_tom import MBPO, Transitions
from sb3_tom.callbacks.tables import read_table, write_table
from sb3_tom.data.weights import effective_sample_size
from sb3_tom.plots.drawing import finish, grouped, panels, save

N_BINS, N_FOOTPRINT = 100, 1_000
PDML = "pdml"
TRUTH, MATCHES = "truth", "matches"
"""Two estimates of the truth; the first one's line has the agreement of the estimates from both halves of the fresh rows."""
WEIGHTERS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "tom": ("tom", {}, False),
    "tom_fresh": ("tom", {}, True),
    "tom_official": ("tom", {"weighter_kwargs": {"preset": "official"}}, False),
    "ratio": ("ratio", {}, False),
    "ratio_fresh": ("ratio", {}, True),
    "pmac": ("pmac", {}, False),
    "recency": ("recency", {}, False),
    PDML: (PDML, {}, False),
}
"""Weighter of ``benchmarks/curves.py``, changed arguments, and whether ``recent`` is fresh rows."""
FIGURES = ("rank_rows", "rank_bins", "run_rows", "run_bins")
COLUMNS = ("task", "run", "env_step", "return", "rows", "fresh", "method", "ess", "random", *FIGURES, "bins")
KEY = ("task", "run", "env_step", "method")
BEGIN, END = "<!-- curated: begin -->", "<!-- curated: end -->"

Rows = list[dict[str, str]]


def run(checkpoints: list[Path], names: list[str], table: Path, n_fresh: int = N_FRESH) -> None:
    """
    Measure what the table lacks; the truth is estimated again for each checkpoint with missing methods.

    :param checkpoints: files below ``<task>/<run>/``
    :param names: of :data:`WEIGHTERS`
    :param table: CSV file, rewritten after each method
    :param n_fresh: fresh rows of the truth
    """
    table.parent.mkdir(parents=True, exist_ok=True)
    rows: Rows = read_table(table) if table.exists() else []
    known = {tuple(row[name] for name in KEY) for row in rows}
    for path in checkpoints:
        labels = dict(zip(KEY, describe(path), strict=False))
        possible = [name for name in names if name != PDML or method_of(path).endswith(f"_{PDML}")]
        missing = [name for name in (TRUTH, MATCHES, *possible) if (*labels.values(), name) not in known]
        for found in measure(path, [name for name in missing if name in names], n_fresh) if missing else ():
            row = labels | found
            rows = [old for old in rows if any(old[name] != row[name] for name in KEY)] + [row]
            write_table(table, COLUMNS, sorted(rows, key=_place))
            print(", ".join(f"{name} {value}" for name, value in row.items() if name != "bins"), flush=True)


def _place(row: dict[str, str]) -> tuple[str, str, int]:
    """Order of the table."""
    return row["task"], row["run"], [TRUTH, MATCHES, *WEIGHTERS].index(row["method"])


def measure(path: Path, names: list[str], n_fresh: int) -> Iterator[dict[str, str]]:
    """Rows of one checkpoint: the truth, and the weighters."""
    driver, env = resumed(path)
    driver.replay_buffer = curated_buffer(driver, env)
    fresh, returns = policy_rows(driver, env, N_FOOTPRINT + n_fresh)
    footprint, judges = fresh.rows(th.arange(N_FOOTPRINT)), fresh.rows(th.arange(N_FOOTPRINT, fresh.size))
    data = driver.replay_buffer.transitions()
    labels = {"return": f"{np.mean(returns):.0f}", "rows": str(data.size), "fresh": str(n_fresh)}
    buffer, others = same_units(_pairs(data), _pairs(judges))
    truth, *halves = (mean_one(log_ratio) for log_ratio in distances_and_halves(buffer, others))
    agreement = figures(*halves)
    yield labels | {"method": TRUTH} | figures(truth, truth) | {name: agreement[name] for name in FIGURES}
    yield labels | {"method": MATCHES} | figures(matches(buffer, others), truth)
    for name in names:
        agent = driver if name == PDML else _agent(path, driver, env, name)
        weights = agent.fit_weights(recent=footprint if WEIGHTERS[name][2] else None).double().numpy()
        yield labels | {"method": name} | figures(weights, truth)


def _agent(path: Path, driver: MBPO, env: Any, name: str) -> MBPO:
    weighter, changes, _ = WEIGHTERS[name]
    return successor(driver, env, same_backbone(path, weighter, changes))


def _pairs(rows: Transitions) -> Array:
    return th.cat([rows.observations, rows.actions], dim=1).double().numpy()


def figures(weights: Array, truth: Array) -> dict[str, str]:
    """
    Accuracy of weights.

    :param weights: ``[N]`` of mean 1, the oldest row first
    :param truth: ``[N]``
    :return: effective sample size as a share, share of the weight on the random half, rank correlations with the truth over
        rows and over bins, of all and of the run's half, and the bins' mean weights
    """
    half = len(weights) // 2
    means, true_means = bins(weights), bins(truth)
    pairs = {
        "rank_rows": (weights, truth),
        "rank_bins": (means, true_means),
        "run_rows": (weights[half:], truth[half:]),
        "run_bins": (means[N_BINS // 2 :], true_means[N_BINS // 2 :]),
    }
    found = {name: f"{rank_correlation(*pair):.3f}" for name, pair in pairs.items()}
    random = {"random": f"{weights[:half].sum() / weights.sum():.3f}"}
    ess = {"ess": f"{effective_sample_size(th.as_tensor(weights)):.3f}"}
    return ess | random | found | {"bins": " ".join(f"{mean:.4g}" for mean in means)}


def bins(weights: Array) -> Array:
    """Mean weights ``[N_BINS]`` of rows of the same age, the oldest first."""
    return np.array([part.mean() for part in np.array_split(weights, N_BINS)])


def _means(row: dict[str, str]) -> Array:
    return np.array(row["bins"].split(), dtype=np.float64)


_HEADS = ("rows", "bins", "rows of the run", "bins of the run", "the same by matches")


def page_text(rows: Rows) -> str:
    """A table per checkpoint."""
    lines = []
    for (task, name, step), found in grouped(rows, lambda row: (row["task"], row["run"], row["env_step"])).items():
        first = found[0]
        lines += [f"\n### {task}, {name}\n"]
        lines += [f"After {int(step):,} env steps, mean return with noise {first['return']}; {int(first['rows']):,} rows."]
        lines += ["", f"| method | ESS | on random rows | {' | '.join(_HEADS)} |", "|---" * (3 + len(_HEADS)) + "|"]
        matched = next((_means(row) for row in found if row["method"] == MATCHES), np.ones(N_BINS))
        for row in found:
            cells = [f"`{row['method']}`", *(f"{float(row[column]):.2f}" for column in ("ess", "random", *FIGURES))]
            cells.append(f"{rank_correlation(_means(row)[N_BINS // 2 :], matched[N_BINS // 2 :]):.2f}")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "\n"]) if lines else "\nNothing was measured yet.\n\n"


_STYLES: dict[str, dict[str, Any]] = {
    TRUTH: {"color": "grey", "linewidth": 1.5, "linestyle": ":"},
    MATCHES: {"color": "black", "linewidth": 2.5},
}


def draw(rows: Rows, path: Path) -> None:
    """A panel per checkpoint: mean weights over the bins of age."""
    table = []
    checkpoints = grouped(rows, lambda row: (row["task"], row["run"], row["env_step"]))
    figure, axes = panels(len(checkpoints))
    for axis, ((task, name, step), found) in zip(axes, checkpoints.items(), strict=True):
        for row in found:
            means = [float(mean) for mean in _means(row)]
            style = _STYLES.get(row["method"], {"linewidth": 1.0})
            axis.plot(range(N_BINS), means, label=row["method"], **style)
            labels = {"task": task, "run": name, "env_step": step, "method": row["method"]}
            table += [labels | {"bin": place, "weight": mean} for place, mean in enumerate(means)]
        axis.set_yscale("symlog", linthresh=0.1)
        finish(axis, title=f"{task}, {name}", xlabel="age: random rows to 50, then the run", ylabel="mean weight")
    save(figure, path, table)


def write_page(out: Path) -> None:
    """Draw the picture, and write the part of ``curated_buffer.md`` between its marks."""
    draw_and_write(out / "curated_buffer.csv", draw, out / "curated_buffer.md", BEGIN, END, page_text)


def main() -> int:
    """Run the command; return the exit code."""
    parser, command = run_and_page(__doc__)
    command.add_argument("checkpoints", type=Path, nargs="+")
    command.add_argument("--method", choices=list(WEIGHTERS), nargs="+", default=list(WEIGHTERS))
    arguments = parser.parse_args()
    if arguments.command == "page":
        write_page(arguments.out)
    else:
        run(arguments.checkpoints, arguments.method, arguments.out / "curated_buffer.csv")
    return 0


if __name__ == "__main__":
    sys.exit(main())
