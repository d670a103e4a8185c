"""Tables, pictures and the page of ``benchmarks/road_and_rocks.py``, from the CSV files of its runs."""

from pathlib import Path
from typing import Any

import numpy as np
from marked_page import over_seeds
from matplotlib.figure import Figure

from sb3_tom.callbacks.tables import read_table, write_table
from sb3_tom.plots.statistics import mean_interval

Rows = list[dict[str, str]]
N_LAST = 3
"""Number of last evaluations whose mean is the return of a run."""

BARE = "ratio_sharp"
"""The best ratio weighter, with which all returns are compared."""
DRAWN = ("uniform", "ratio", BARE, "tom", "tom_sharp", "tom_chi2_sharp")
"""Methods in the picture of returns."""

MARKER = "<!-- tables: begin -->\n"
TITLES = {
    "paper": "4,000 random rows, 5 expert trajectories; the footprint is one of them, whole",
    "some_noise": "as above, but a fifth of the footprint's rows are random rows of the buffer",
    "noisy": "half of the footprint's rows are random rows of the buffer",
    "few": "one expert trajectory; ten rows of it are the footprint",
    "harmless": "as the first, but the rocks turn by any angle, so that their mean effect is none",
}


def collect(runs: Path, out: Path) -> None:
    """
    Put all finished runs into one tidy table each of curves, figures and maps. Rows of other data or methods are kept: not
    every machine has the runs of all. A method that has runs is replaced by them.
    """
    names = sorted(path.name.removesuffix(".csv") for path in runs.glob("*_seed*.csv") if not is_part(path))
    if not names:
        return
    out.mkdir(parents=True, exist_ok=True)
    curves = [row for name in names for row in read_table(runs / f"{name}.csv")]
    figures = [read_table(runs / f"{name}_figures.csv")[0] for name in names]
    update_table(out / "curves.csv", curves)
    update_table(out / "figures.csv", figures)
    maps: dict[tuple[str, str], list[np.ndarray]] = {}
    for name, row in zip(names, figures, strict=True):
        key = row["data"], row["method"]
        maps.setdefault(key, []).append(np.loadtxt(runs / f"{name}_map.csv", delimiter=","))
    cells: list[dict[str, Any]] = []
    for (data, method), values in maps.items():
        mean = np.nanmean(values, axis=0)
        places = np.ndindex(*mean.shape)
        cells += [{"data": data, "method": method, "row": i, "column": j, "weight": f"{mean[i, j]:.4g}"} for i, j in places]
    update_table(out / "maps.csv", cells)


def update_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Replace the rows of each new data and method."""
    groups = {group(row) for row in rows}
    kept = [row for row in read_table(path) if group(row) not in groups] if path.exists() else []
    write_table(path, list(rows[0]), sorted([*kept, *rows], key=group))


def group(row: dict[str, Any]) -> tuple[str, str]:
    """Data and method of a row."""
    return row["data"], row["method"]


def is_part(path: Path) -> bool:
    """Whether a file belongs to a run besides its curve."""
    return path.stem.endswith(("_figures", "_map"))


def by_seed(rows: Rows, data: str, method: str, column: str) -> np.ndarray:
    """Values ``[seeds, rows of a run]`` in the order of the table."""
    runs: dict[str, list[float]] = {}
    for row in rows:
        if (row["data"], row["method"]) == (data, method):
            runs.setdefault(row["seed"], []).append(float(row[column]))
    return np.array(list(runs.values()))


def final_returns(curves: Rows, data: str, method: str) -> np.ndarray:
    """One figure per seed."""
    return by_seed(curves, data, method, "return_mean")[:, -N_LAST:].mean(1)


def unique(rows: Rows, column: str, **where: str) -> list[str]:
    """Values of a column in order of first appearance."""
    chosen = [row[column] for row in rows if all(row[name] == value for name, value in where.items())]
    return list(dict.fromkeys(chosen))


def write_page(out: Path) -> None:
    """Pictures beside the tables, and the page above them; its first lines are kept from the page that is there."""
    curves, figures, maps = (read_table(out / f"{name}.csv") for name in ("curves", "figures", "maps"))
    draw_curves(curves, out / "curves.png")
    draw_maps([row for row in maps if row["data"] == "paper"], out / "maps.png")
    page = out.parent / "road_and_rocks.md"
    head = page.read_text().partition(MARKER)[0] if page.exists() else "# Road-and-Rocks\n\n"
    page.write_text(f"{head}{MARKER}{tables(curves, figures)}")


def tables(curves: Rows, figures: Rows) -> str:
    """The generated part of the page, a function of the tables alone."""
    return "".join(f"\n{section(curves, figures, name)}" for name in TITLES if name in unique(curves, "data"))


def section(curves: Rows, figures: Rows, data: str) -> str:
    """The table of one dataset."""
    titles = ["weights", "seeds", "return", f"less `{BARE}`'s", "success", "weight on road : rocks", "least of a seed"]
    titles += ["ESS", "steers by"]
    lines = [f"### `{data}`: {TITLES[data]}", "", f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    methods = unique(curves, "method", data=data)
    finals = {method: final_returns(curves, data, method) for method in methods}
    for method in methods:
        versus = over_seeds(finals[method] - finals[BARE]) if method != BARE and BARE in finals else "-"
        success = by_seed(curves, data, method, "success_rate")[:, -N_LAST:].mean()
        road, rocks, ess, gain = (
            by_seed(figures, data, method, name)[:, 0] for name in ("road_weight", "rocks_weight", "ess", "gain_x")
        )
        ratio = f"{road.mean() / rocks.mean():.1f} | {(road / rocks).min():.1f}"
        lines.append(
            f"| `{method}` | {len(road)} | {over_seeds(finals[method])} | {versus} | {success:.0%} | {ratio} "
            f"| {ess.mean():.2f} | {gain.mean():.3f} |"
        )
    return "\n".join([*lines, ""])


def draw_curves(curves: Rows, path: Path) -> None:
    """A panel per dataset: mean return over seeds; for seven or more, Student's interval is shaded."""
    datasets = [name for name in TITLES if name in unique(curves, "data")]
    figure = Figure(figsize=(4.6 * len(datasets), 3.8), layout="constrained")
    for axes, data in zip(np.atleast_1d(figure.subplots(1, len(datasets), sharey=True)), datasets, strict=True):
        for index, method in enumerate(DRAWN):
            values = by_seed(curves, data, method, "return_mean")
            if not len(values):
                continue
            updates = sorted({int(row["env_step"]) for row in curves})
            mean, low, high = mean_interval(values)
            axes.plot(updates, mean, color=f"C{index}", label=f"{method} ({len(values)} seeds)")
            axes.fill_between(updates, low, high, color=f"C{index}", alpha=0.2, linewidth=0)
        axes.set(title=data, xlabel="policy updates", ylabel="return (mean, 95 % interval over seeds)")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def draw_maps(cells: Rows, path: Path) -> None:
    """Mean weight over the map, on a scale of powers of ten."""
    from matplotlib.colors import LogNorm

    methods = [name for name in unique(cells, "method") if name != "uniform"]
    figure = Figure(figsize=(4.2 * len(methods), 3.8), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(methods)))
    for axes, method in zip(panels, methods, strict=True):
        grid = np.array([float(row["weight"]) for row in cells if row["method"] == method])
        side = round(len(grid) ** 0.5)
        extent = (-1.0, 1.0, -1.0, 1.0)
        picture = axes.imshow(grid.reshape(side, side).clip(0.01), norm=LogNorm(0.01, 10.0), extent=extent, cmap="viridis")
        for edge in (-0.15, 0.15):
            axes.axhline(edge, color="white", linestyle="--", linewidth=0.8)
        axes.set(title=method, xlabel="x", ylabel="y")
    figure.colorbar(picture, ax=list(panels), label="mean weight (mean over seeds)")
    figure.savefig(path, dpi=120)
