"""
TOM's Appendix D: do older data sometimes have larger weights than newer ones while an agent learns?

    python benchmarks/weights_in_training.py run docs/results/*/dhmbpo_tom_seed?_weight_by_age.csv
    python benchmarks/weights_in_training.py page

Ma et al. (2023, Sec. 5.2) report that of their weights, in contrast to rules by age alone. A run of ``benchmarks/curves.py``
writes the mean weight of its rows by age, in tenths, for each model phase. Counted are phases whose heaviest tenth is not the
newest, and neighbouring tenths of which the older is heavier, by more than a hundredth of the mean weight. ``run``
writes ``docs/results/weights_in_training.csv``, ``page`` its picture and the last table of ``docs/results/curated_buffer.md``.
"""

import sys
from pathlib import Path

import checkout  # noqa: F401
import numpy as np
from marked_page import draw_and_write, run_and_page
from weights_truth_data import Array

from sb3_tom.callbacks.tables import read_table, write_table
from sb3_tom.plots.drawing import grouped, panels, save

COLUMNS = ("task", "method", "seed", "env_step", "bins")
FLAT = 0.01
"""Weights that differ by less than this share of the mean weight count as equal."""
LIMIT = 3
"""The colour scale ends at 2 to this power."""
BEGIN, END = "<!-- in training: begin -->", "<!-- in training: end -->"

Rows = list[dict[str, str]]


def gather(paths: list[Path]) -> Rows:
    """
    A row per model phase.

    :param paths: tables of :class:`~sb3_tom.callbacks.weight_by_age.WeightByAgeCallback`
    :return: labels, and the mean weights of rows of the same age, the oldest first
    """
    rows: Rows = []
    for path in paths:
        for labels, bins in grouped(read_table(path), lambda row: tuple(row[name] for name in COLUMNS[:-1])).items():
            oldest_first = sorted(bins, key=lambda row: -int(row["age_bin"]))
            means = " ".join(f"{float(row['weight_mean']):.4g}" for row in oldest_first)
            rows.append(dict(zip(COLUMNS, (*labels, means), strict=True)))
    return rows


def weights_of(rows: Rows) -> Array:
    """``[phases, bins]`` of one run."""
    return np.array([row["bins"].split() for row in rows], dtype=np.float64)


def counts(weights: Array) -> dict[str, float]:
    """
    How closely weights follow age.

    :param weights: ``[phases, bins]``, the oldest first
    :return: shares of phases and of neighbours, and mean weights of the oldest and the newest bin; phases of uniform
        weights, such as the first ones, are left out
    """
    uneven = weights[weights.max(1) - weights.min(1) > FLAT]
    if not len(uneven):
        return {"phases": 0.0, "older_first": np.nan, "older_heavier": np.nan, "oldest": np.nan, "newest": np.nan}
    return {
        "phases": float(len(uneven)),
        "older_first": float((uneven[:, :-1].max(1) > uneven[:, -1] + FLAT).mean()),
        "older_heavier": float((uneven[:, :-1] > uneven[:, 1:] + FLAT).mean()),
        "oldest": float(uneven[:, 0].mean()),
        "newest": float(uneven[:, -1].mean()),
    }


def page_text(rows: Rows) -> str:
    """A line per run."""
    if not rows:
        return "\nNothing was measured yet.\n\n"
    heads = ("phases", "heaviest tenth is not the newest", "older neighbour is heavier", "oldest tenth", "newest")
    lines = [f"\n| task | method | seed | {' | '.join(heads)} |", "|---" * (3 + len(heads)) + "|"]
    for (task, method, seed), found in _runs(rows).items():
        figures = counts(weights_of(found))
        shares = (f"{100 * figures[name]:.0f} %" for name in ("older_first", "older_heavier"))
        means = (f"{figures[name]:.2f}" for name in ("oldest", "newest"))
        lines.append(f"| {' | '.join([task, f'`{method}`', seed, str(int(figures['phases'])), *shares, *means])} |")
    return "\n".join([*lines, "\n"])


def _runs(rows: Rows) -> dict[tuple[str, str, str], Rows]:
    return grouped(rows, lambda row: (row["task"], row["method"], row["seed"]))


def draw(rows: Rows, path: Path) -> None:
    """A panel per run: each phase a column, the newest tenth on top, the mean weight as colour; the figures beside it."""
    runs = _runs(rows)
    figure, axes = panels(len(runs))
    table = []
    for axis, ((task, method, seed), found) in zip(axes, runs.items(), strict=True):
        weights, steps = weights_of(found), [int(row["env_step"]) for row in found]
        drawn, place = np.log2(np.maximum(weights.T, 2.0**-LIMIT)), (steps[0], steps[-1], 0, weights.shape[1])
        image = axis.imshow(drawn, aspect="auto", origin="lower", cmap="coolwarm", vmin=-LIMIT, vmax=LIMIT, extent=place)
        figure.colorbar(image, ax=axis, label="log2 of the mean weight")
        axis.set(title=f"{task}, {method}, seed {seed}", xlabel="env steps", ylabel="tenth of the rows, the newest on top")
        table.append({"task": task, "method": method, "seed": seed} | counts(weights))
    save(figure, path, table)


def main() -> int:
    """Run the command; return the exit code."""
    parser, command = run_and_page(__doc__)
    command.add_argument("tables", type=Path, nargs="+")
    arguments = parser.parse_args()
    table = arguments.out / "weights_in_training.csv"
    if arguments.command == "page":
        draw_and_write(table, draw, arguments.out / "curated_buffer.md", BEGIN, END, page_text)
    else:
        write_table(table, COLUMNS, gather(arguments.tables))
    return 0


if __name__ == "__main__":
    sys.exit(main())
