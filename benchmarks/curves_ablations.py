"""Effects of parts of TOM and of the double horizon: ``ablations.png`` and a table of ``docs/results/README.md``."""

from pathlib import Path
from typing import Any

import numpy as np
from curves_methods import TASKS, VARIANTS
from curves_page import Rows, curves_of, first_at_least, solved_text
from marked_page import write_between

from sb3_tom.callbacks.tables import read_table
from sb3_tom.plots.drawing import grouped, panels, save

REFERENCES = ("mbpo", "mbpo_tom", "mbpo_tom_chi2_sharp", "mbpo_tom_official", "dhmbpo")
ORDER = (*REFERENCES, *VARIANTS)
BEGIN, END = "<!-- ablations: begin -->", "<!-- ablations: end -->"

Runs = list[dict[str, Any]]


def ablation_runs(rows: Rows) -> Runs:
    """
    The finished runs that the ablations compare: of the tasks that can be solved and on which a part was changed.

    :param rows: of ``curves.csv``
    :return: task, method and seed of each; ``solved_at``, its first env step at the task's goal (None: never); ``env_steps``,
        its length; ``mean`` of its evaluations up to the length of the task's shortest run
    """
    runs: Runs = []
    for task, task_rows in grouped(rows, lambda row: row["task"]).items():
        goal = TASKS[task].goal
        methods = grouped([row for row in task_rows if row["finished"] == "True"], lambda row: row["method"])
        if goal is None or not any(method in VARIANTS for method in methods):
            continue
        by_seed = [grouped(methods.get(method, []), lambda row: row["seed"]) for method in ORDER]
        seeds = [seed for groups in by_seed for _, seed in sorted(groups.items())]
        curves = [curves_of(seed)[0] for seed in seeds]
        end = min(max(curve) for curve in curves)
        for seed, curve in zip(seeds, curves, strict=True):
            labels = {name: seed[0][name] for name in ("task", "method", "seed")}
            figures = {"solved_at": first_at_least(curve, goal), "env_steps": max(curve), "to": end}
            runs.append(labels | figures | {"mean": float(np.mean([value for step, value in curve.items() if step <= end]))})
    return runs


def page_text(runs: Runs) -> str:
    """The table: a line per method, each figure with its seed in parentheses."""
    if not runs:
        return "\nNothing was ablated yet.\n\n"
    titles, columns = ["method"], []
    for task, task_runs in grouped(runs, lambda run: run["task"]).items():
        methods = grouped(task_runs, lambda run: run["method"])
        titles.append(f"{task}, first evaluation of at least {TASKS[task].goal:,g}")
        columns.append(
            {
                name: [(solved_text(run["solved_at"], run["env_steps"]), run["seed"]) for run in each]
                for name, each in methods.items()
            }
        )
        if TASKS[task].reward_threshold is None:  # runs end when they are solved, so their lengths differ
            titles.append(f"mean of its evaluations to {task_runs[0]['to']:,} steps")
            columns.append({name: [(f"{run['mean']:,.0f}", run["seed"]) for run in each] for name, each in methods.items()})
    lines = [f"\n| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for method in (name for name in ORDER if any(name in column for column in columns)):
        cells = ["; ".join(f"{text} ({seed})" for text, seed in column.get(method, [])) for column in columns]
        lines.append(f"| `{method}` | {' | '.join(cells)} |")
    return "\n".join([*lines, "\n"])


def draw(runs: Runs, path: Path) -> None:
    """A panel per task, a line per method, a point per seed where it was solved; a cross at the end of a run that was not."""
    tasks = grouped(runs, lambda run: run["task"])
    figure, all_axes = panels(len(tasks))
    figure.set_figheight(1.6 + 0.3 * max(len({run["method"] for run in task_runs}) for task_runs in tasks.values()))
    for axes, (task, task_runs) in zip(all_axes, tasks.items(), strict=True):
        methods = grouped(task_runs, lambda run: run["method"])
        for place, found in enumerate(methods.values()):
            for number, run in enumerate(found):
                beside = 0.2 * (number - (len(found) - 1) / 2)
                step, marker = (run["env_steps"], "x") if run["solved_at"] is None else (run["solved_at"], "o")
                axes.plot(step, place + beside, marker, color="C0" if run["method"] in REFERENCES else "C1", alpha=0.7)
        axes.set(title=task, xlabel=f"env step of the first evaluation of at least {TASKS[task].goal:,g}")
        axes.set_yticks(range(len(methods)), list(methods))
        axes.invert_yaxis()
        axes.grid(alpha=0.3)
    save(figure, path, runs)


def write_ablations(out: Path) -> None:
    """
    Draw the picture and write the table between its marks.

    :param out: folder of ``curves.csv`` and ``README.md``
    """
    runs = ablation_runs(read_table(out / "curves.csv"))
    if runs:
        draw(runs, out / "ablations.png")
    write_between(out / "README.md", BEGIN, END, page_text(runs))
