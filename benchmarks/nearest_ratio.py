"""
Ratio of a policy's visits to a buffer's by nearest neighbours, and the accuracy of the estimates.

    python benchmarks/nearest_ratio.py run
    python benchmarks/nearest_ratio.py page

Two estimators of d^pi / d^D at the rows of a buffer, from fresh rows of the policy, without learning: a
reference. ``distances`` compares how far the k-th neighbour is among the fresh rows and among the buffer's (Wang, Kulkarni and
Verdu 2009, "Divergence Estimation for Multidimensional Densities via k-Nearest-Neighbor Distances"). ``matches`` counts how
often a row is among the k neighbours that a fresh row has in the buffer (Lin, Ding and Han 2023, "Estimation Based on Nearest
Neighbor Matching: From Density Ratio to Average Treatment Effect"). Both are scaled to mean 1. ``run`` tries them on the
linear systems of ``benchmarks/weights_truth.py``, whose ratio is a formula, with 100,000 fresh rows; it skips what
``docs/results/nearest_ratio.csv`` has. ``page`` writes the first table of ``docs/results/curated_buffer.md``.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import checkout  # noqa: F401
import numpy as np
import torch as th
from marked_page import run_and_page, write_between
from weights_truth import SIZES, rank_correlation
from weights_truth_data import N_RECENT, Array, fresh_rows, linear_system

from sb3_tom.callbacks.tables import read_table, write_table
from sb3_tom.plots.drawing import grouped

N_FRESH = 100_000
K_DISTANCES, K_MATCHES = 100, 5
DATA = {f"{kind}, {size} dimensions": (size, SIZES[size], kind) for kind in ("shift", "gain") for size in (4, 17)}
COLUMNS = ("data", "estimator", "seed", "rank", "slope", "newest", "newest_true")
BEGIN, END = "<!-- neighbours: begin -->", "<!-- neighbours: end -->"
_AT_ONCE = 1000

Rows = list[dict[str, str]]


def _nearest(points: th.Tensor, among: th.Tensor, k: int) -> Iterator[tuple[th.Tensor, th.Tensor]]:
    """Distances and numbers ``[B, k]`` of the k nearest, of B points at a time, by comparing all with all."""
    for part in points.split(_AT_ONCE):
        nearest = th.cdist(part, among).topk(k, largest=False)
        yield nearest.values, nearest.indices


def _distances_to(points: th.Tensor, among: th.Tensor, k: int) -> th.Tensor:
    """Distances of the k nearest ``[N, k]``, ascending."""
    return th.cat([found for found, _ in _nearest(points, among, k)])


def _log_ratio(own: th.Tensor, theirs: th.Tensor, n_fresh: int, size: int) -> Array:
    tiny = 1e-9  # rows with k duplicates have distance 0
    log_ratio = size * (own.double().clamp(min=tiny).log() - theirs.double().clamp(min=tiny).log())
    return (log_ratio + np.log((len(own) - 1) / n_fresh)).numpy()


def distances(buffer: Array, fresh: Array, k: int = K_DISTANCES) -> Array:
    r"""
    :math:`\frac {N - 1} M (\rho_D / \rho_\pi)^d` with the distances of the k-th neighbours, the row itself left out.

    :param buffer: N rows ``[N, d]`` in units in which columns compare
    :param fresh: M rows of the policy ``[M, d]``
    :param k: number of the neighbour
    :return: the logarithm of the ratio at the buffer's rows ``[N]``
    """
    return distances_and_halves(buffer, fresh, k)[0]


def distances_and_halves(buffer: Array, fresh: Array, k: int = K_DISTANCES) -> tuple[Array, Array, Array]:
    """
    As :func:`distances`, and also from the first and from the second half of the fresh rows alone.

    :param buffer: ``[N, d]``
    :param fresh: ``[M, d]``, at least 2 k
    :param k: which neighbour
    """
    rows, others = (th.as_tensor(part, dtype=th.float32) for part in (buffer, fresh))
    own = _distances_to(rows, rows, k + 1)[:, -1]
    halves = others.tensor_split(2)
    found = [_distances_to(rows, half, k) for half in halves]
    whole = th.cat(found, dim=1).topk(k, largest=False).values[:, -1]
    size = rows.shape[1]
    first, second = (_log_ratio(own, part[:, -1], len(half), size) for part, half in zip(found, halves, strict=True))
    return _log_ratio(own, whole, len(others), size), first, second


def matches(buffer: Array, fresh: Array, k: int = K_MATCHES) -> Array:
    """
    How often a row is one of the k neighbours of a fresh row, in units of the mean.

    :param buffer: N rows ``[N, d]`` in units in which columns compare
    :param fresh: M rows of the policy ``[M, d]``
    :param k: neighbours of each
    :return: weights ``[N]`` of mean 1
    """
    rows, others = (th.as_tensor(part, dtype=th.float32) for part in (buffer, fresh))
    counts = th.zeros(len(rows), dtype=th.int64)
    for _, found in _nearest(others, rows, k):
        counts += th.bincount(found.flatten(), minlength=len(rows))
    return (counts.double() * len(rows) / counts.sum()).numpy()


def same_units(buffer: Array, fresh: Array) -> tuple[Array, Array]:
    """
    Divide columns by their standard deviations in the buffer; constant columns are not changed.

    :param buffer: ``[N, d]``
    :param fresh: ``[M, d]``
    """
    spread = buffer.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    return (buffer - buffer.mean(0)) / spread, (fresh - buffer.mean(0)) / spread


def mean_one(log_ratio: Array) -> Array:
    """Weights of mean 1, as the true ratio's are on the buffer."""
    weights = np.exp(log_ratio - log_ratio.max())
    return weights / weights.mean()


def measure(size: int, n_actions: int, kind: str, seed: int, n_fresh: int = N_FRESH) -> dict[str, dict[str, float]]:
    """
    Accuracy of both estimators.

    :param size: of the state; as the others, of :func:`weights_truth_data.linear_system`
    :param n_actions: size of the action
    :param kind: what changes
    :param seed: of the data
    :param n_fresh: rows of the policy
    :return: of each: ``rank``, Spearman's correlation with the true ratio; ``slope`` of log w over its log, for ``distances``;
        the mean weight of the newest rows, and what it is in truth
    """
    known = linear_system(size, n_actions, kind, seed)
    assert known.log_ratio is not None
    columns = th.cat([known.data.observations, known.data.actions], dim=1).double().numpy()
    buffer, fresh = same_units(columns, fresh_rows(size, n_actions, kind, seed, n_fresh))
    log_ratio, counted = distances(buffer, fresh), matches(buffer, fresh)
    true = {"newest_true": float(np.exp(known.log_ratio[-N_RECENT:]).mean())}
    found = {}
    for name, weights in {"distances": mean_one(log_ratio), "matches": counted}.items():
        rank = rank_correlation(weights, known.log_ratio)
        found[name] = {"rank": rank, "newest": float(weights[-N_RECENT:].mean())} | true
    found["distances"]["slope"] = float(np.polyfit(known.log_ratio, log_ratio, 1)[0])
    return found


def run(seeds: list[int], table: Path) -> None:
    """
    Measure what the table lacks.

    :param seeds: of the data
    :param table: CSV file, rewritten after each measurement
    """
    rows: Rows = read_table(table) if table.exists() else []
    known = {(row["data"], row["seed"]) for row in rows}
    for name, seed in ((name, seed) for name in DATA for seed in seeds if (name, str(seed)) not in known):
        for estimator, figures in measure(*DATA[name], seed).items():
            row = {column: "" for column in COLUMNS} | {"data": name, "estimator": estimator, "seed": str(seed)}
            rows.append(row | {column: f"{value:.4f}" for column, value in figures.items()})
            print(", ".join(f"{column} {value}" for column, value in rows[-1].items()), flush=True)
        write_table(table, COLUMNS, rows)


def page_text(rows: Rows) -> str:
    """A line per data and estimator."""
    lines = ["", "| data | estimator | seeds | rank correlation | slope | newest rows: mean weight | its truth |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for (data, estimator), found in grouped(rows, lambda row: (row["data"], row["estimator"])).items():
        cells = [_values(found, column) for column in ("rank", "slope", "newest", "newest_true")]
        lines.append(f"| {data} | `{estimator}` | {len(found)} | {' | '.join(cells)} |")
    return "\n".join([*lines, "\n"])


def _values(rows: Rows, column: str) -> str:
    return ", ".join(f"{float(row[column]):.2f}" for row in rows if row[column]) or "-"


def main() -> int:
    """Run the command; return the exit code."""
    parser, command = run_and_page(__doc__)
    command.add_argument("--seed", type=int, nargs="+", default=[0, 1])
    arguments = parser.parse_args()
    table = arguments.out / "nearest_ratio.csv"
    if arguments.command == "run":
        run(arguments.seed, table)
    else:
        write_between(arguments.out / "curated_buffer.md", BEGIN, END, page_text(read_table(table)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
