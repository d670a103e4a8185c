"""The page of the verdict, ``docs/results/judging.md``: claims first, then every seed of every study."""

from pathlib import Path

import numpy as np
from curves_methods import TASKS
from curves_page import COLUMNS, Rows, first_at_least, runs_in, solved_text
from judge_plan import CLAIMS, STUDIES, Runs, Study, window_mean
from marked_page import over_seeds, write_between

from sb3_tom.callbacks.tables import read_table, write_table
from sb3_tom.plots.curves import draw_method
from sb3_tom.plots.drawing import finish, grouped, panels
from sb3_tom.plots.statistics import summarize

TABLE_COLUMNS = (*COLUMNS, "commit")
RUN = "python benchmarks/judge.py run --study"
BEGIN, END = "<!-- judging: begin -->", "<!-- judging: end -->"


def gather(out: Path) -> Rows:
    """
    The evaluations of all runs that are finished.

    :param out: folder with ``<task>/<method>_seed<k>.csv`` and ``.json``
    """
    return [
        {name: row[name] for name in COLUMNS} | {"commit": meta["git_commit"][:7]}
        for meta, evaluations in runs_in(out)
        if meta["finished"]
        for row in evaluations
    ]


def runs_of(rows: Rows) -> dict[str, Runs]:
    """Curves by task, method and seed."""
    runs: dict[str, dict[str, dict[int, dict[int, float]]]] = {}
    for row in rows:
        seeds = runs.setdefault(row["task"], {}).setdefault(row["method"], {})
        seeds.setdefault(int(row["seed"]), {})[int(row["env_step"])] = float(row["return_mean"])
    return runs


def page_text(rows: Rows, entered: Rows) -> str:
    """
    The generated part.

    :param rows: of ``judging_curves.csv``
    :param entered: of ``judging.csv``
    """
    runs = runs_of(rows)
    finished = {(row["task"], row["method"], row["seed"]) for row in rows}
    lines = [f"\n{len(finished)} of {len(entered)} entered runs are finished.\n"]
    lines += ["| claim | who makes it | evidence | seeds | verdict |", "|---|---|---|---|---|"]
    for claim in CLAIMS:
        verdict = claim.verdict(runs.get(claim.task, {}))
        lines.append(f"| {claim.text} | {claim.source} | {verdict.evidence} | {verdict.seeds} | **{verdict.word}** |")
    for name, study in STUDIES.items():
        own = [row for row in rows if row["task"] == study.task and row["method"] in study.methods]
        lines += [f"\n## {name}: {study.task} to {study.steps:,} env steps", f"\n```bash\n{RUN} {name}\n```\n"]
        lines += study_lines(study, runs.get(study.task, {}), own)
        if own:
            lines.append(f"\n![{name}](judging/{name}.png)")
    return "\n".join([*lines, "\n"])


def study_lines(study: Study, runs: Runs, rows: Rows) -> list[str]:
    """A line per method that has runs."""
    if not any(method in runs for method in study.methods):
        return ["Not run yet."]
    heads = [f"{low:,}-{high:,}" for low, high in study.windows]
    goal = TASKS[study.task].goal
    solved = [] if goal is None else [f"first of at least {goal:,g}"]
    lines = [f"| method | seeds | {' | '.join([*heads, *solved])} | s / 1,000 steps | commit |"]
    lines.append("|---" * (4 + len(heads) + len(solved)) + "|")
    for method in (name for name in study.methods if name in runs):
        curves = runs[method]
        cells = [f"`{method}`", f"{min(curves)}-{max(curves)} ({len(curves)})"]
        for window in study.windows:
            means = [window_mean(curve, window) for curve in curves.values()]
            cells.append(f"{over_seeds(means)}: {', '.join(f'{mean:,.0f}' for mean in means)}")
        if goal is not None:
            cells.append(", ".join(solved_text(first_at_least(curve, goal), max(curve)) for curve in curves.values()))
        own = [row for row in rows if row["method"] == method]
        last = [run[-1] for run in grouped(own, lambda row: row["seed"]).values()]
        paces = [1000 * float(row["seconds"]) / int(row["env_step"]) for row in last]
        cells += [f"{np.median(paces):.0f}", ", ".join(dict.fromkeys(row["commit"] for row in own))]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def draw(name: str, study: Study, runs: Runs, folder: Path) -> None:
    """
    Every seed of a study, and the mean of each method.

    :param name: of the picture
    :param study: its methods, in their order
    :param runs: of its task
    :param folder: of pictures
    """
    found = {method: list(runs[method].values()) for method in study.methods if method in runs}
    if not found:
        return
    figure, (axes,) = panels(1)
    for index, (method, curves) in enumerate(found.items()):
        draw_method(axes, method, curves, summarize(curves), f"C{index}")
    finish(axes, title=study.task, xlabel="env steps", ylabel="mean return of ten episodes")
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", dpi=110)


def write_page(results: Path) -> None:
    """
    Put the curves into one table, draw the pictures and write the page between its marks.

    :param results: folder of ``judging.csv``, ``judging.md`` and ``judging``
    """
    rows = gather(results / "judging")
    write_table(results / "judging_curves.csv", TABLE_COLUMNS, rows)
    runs = runs_of(rows)
    for name, study in STUDIES.items():
        draw(name, study, runs.get(study.task, {}), results / "judging")
    write_between(results / "judging.md", BEGIN, END, page_text(rows, list(read_table(results / "judging.csv"))))
