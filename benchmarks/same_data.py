"""
Same data, same policy, other weights: is a model that is fitted to weighted data better where the policy goes?

    python benchmarks/same_data.py run runs/curves/Hopper-v5/mbpo_seed0/checkpoints/*.zip --method mbpo mbpo_pmac mbpo_tom
    python benchmarks/same_data.py run runs/curves/*/dhmbpo*/checkpoints/*.zip --method dhmbpo dhmbpo_tom --phases 1 10
    python benchmarks/same_data.py page

Two training runs differ in their data and policies too, so that their model errors do not compare weights alone. Here each
checkpoint of a run (``benchmarks/curves.py`` keeps the last two) gives its replay buffer and its policy to new agents, one
for each method and fit. Such an agent weighs the data, fits a new model to it and measures the model's errors
(:mod:`sb3_tom.callbacks.model_error`) on the buffer and on the same fresh episodes of the policy. A run's model was fitted in
many model phases, each from the previous parameters: ``--phases 1 10`` weighs and fits ten times and measures the first and
the tenth model. Weights by the model (``error``) are uniform in the first phase, before there is one. The methods are those
of the run's own backbone, MBPO's or the double horizon's. The gain of a method is one number per run. ``run`` can be stopped
and started again: it skips the fits that ``docs/results/same_data.csv`` has. ``page`` draws ``same_data.png`` and
writes the table of ``docs/results/model_error.md``.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import checkout  # noqa: F401
import numpy as np
import torch as th
from curves_jobs import Job
from curves_methods import METHODS, VARIANTS
from marked_page import draw_and_write, run_and_page
from run_checkpoints import describe, resumed, successor

from sb3_tom import MBPO
from sb3_tom.callbacks.model_error import Episode, error_scale, model_errors, play_episode
from sb3_tom.callbacks.tables import read_table, write_table
from sb3_tom.checks.validation import check_integer
from sb3_tom.data.weights import effective_sample_size
from sb3_tom.plots.drawing import finish, grouped, panels, save

LABELS = ("task", "run", "env_step", "rows", "near_newest", "method", "phases", "fit")
COLUMNS = (*LABELS, "ess", "global", "local", "5_steps", "20_steps")
MODEL_BASED = [name for name, method in (METHODS | VARIANTS).items() if method.is_model_based]
KEY = ("task", "run", "env_step", "method", "phases", "fit")
ERRORS = {"global": ("global", 1), "local": ("local", 1), "5_steps": ("compounding", 5), "20_steps": ("compounding", 20)}
N_EPISODES, FIRST_EPISODE, HORIZON, N_GLOBAL, N_SAMPLES = 10, 20_000, 20, 5_000, 8
NEWEST = 1_000
NEAR = 0.6
DRAWN = (
    *("mbpo_tom", "mbpo_tom_chi2_sharp", "mbpo_tom_official", "mbpo_pmac"),
    *("dhmbpo_tom", "dhmbpo_tom_one_network", "dhmbpo_tom_policy_input", "dhmbpo_ratio", "dhmbpo_pmac", "dhmbpo_recency"),
)
BEGIN, END = "<!-- same data: begin -->", "<!-- same data: end -->"

Rows = list[dict[str, str]]


def run(checkpoints: list[Path], methods: list[str], fits: int, table: Path, phases: tuple[int, ...] = (1,)) -> None:
    """
    Measure what the table lacks.

    :param checkpoints: files below ``<task>/<run>/``
    :param methods: model-based methods of ``benchmarks/curves.py``
    :param fits: models per checkpoint and method, each of another seed
    :param table: CSV file, rewritten after each fit
    :param phases: after how many model phases each model is measured, at least one
    :raises ValueError: naming ``phases``
    """
    for number in phases:
        check_integer("phases", number, 1)
    table.parent.mkdir(parents=True, exist_ok=True)
    rows: Rows = read_table(table) if table.exists() else []
    known = {tuple(row[name] for name in KEY) for row in rows}
    for path in checkpoints:
        task, name, step = describe(path)
        missing = {
            (method, fit): absent
            for fit in range(fits)
            for method in methods
            if (absent := [one for one in phases if (task, name, step, method, str(one), str(fit)) not in known])
        }
        for row in measure(path, task, missing):
            rows.append({"task": task, "run": name, "env_step": step} | row)
            write_table(table, COLUMNS, sorted(rows, key=_place))
            print(", ".join(f"{name} {rows[-1].get(name, '-')}" for name in COLUMNS), flush=True)


def _place(row: dict[str, str]) -> tuple[str, int, str, int, int, int]:
    """Order of the table."""
    phases, step, fit = (int(row[name]) for name in ("phases", "env_step", "fit"))
    return row["task"], phases, row["run"], step, fit, MODEL_BASED.index(row["method"])


def measure(path: Path, task: str, cells: dict[tuple[str, int], list[int]]) -> Iterator[dict[str, str]]:
    """Rows of one checkpoint: a new agent for each method and fit, measured after these numbers of phases."""
    if not cells:
        return
    driver, env = resumed(path)
    episodes = [play_episode(driver, env, FIRST_EPISODE + index) for index in range(N_EPISODES)]
    near = {"near_newest": f"{near_newest(driver, episodes):.2f}"}
    for (method, fit), phases in cells.items():
        for figures in fitted_errors(driver, env, episodes, Job(task, method, fit, 0, 0, {}), phases):
            yield near | {"method": method, "fit": str(fit)} | figures


def near_newest(driver: MBPO, episodes: list[Episode]) -> float:
    """
    Whether the newest rows are like those of the current policy: share of the episodes' steps whose observation is nearer to
    one of the newest rows than to any of as many others; about a half if they are not, NaN without others.

    :param driver: its replay buffer is read
    :param episodes: of its policy
    """
    data, generator = driver.replay_buffer.transitions(), th.Generator().manual_seed(0)
    scale = error_scale(data)
    scaled = data.observations / scale
    newest = driver.replay_buffer.newest_rows(NEWEST)
    others = th.ones(data.size, dtype=th.bool).index_fill(0, newest, False).nonzero().squeeze(1)
    if len(others) == 0:
        return float("nan")
    others = others[th.randperm(len(others), generator=generator)[: len(newest)]]
    newest = newest[-len(others) :]
    fresh = th.cat([episode.observations[:-1] for episode in episodes]) / scale
    fresh = fresh[th.randperm(len(fresh), generator=generator)[:NEWEST]]
    to_newest, to_others = (th.cdist(fresh, scaled[rows]).min(1).values for rows in (newest, others))
    return float((to_newest < to_others).float().mean())


def fitted_errors(driver: MBPO, env: Any, episodes: list[Episode], job: Job, phases: list[int]) -> Iterator[dict[str, str]]:
    """
    Effective sample size and errors of a new model, as it is after some numbers of phases.

    :param driver: its replay buffer and its policy are used
    :param env: of the task
    :param episodes: of the driver's policy
    :param job: its method decides the weights, its seed the rest
    :param phases: after which phases to measure; each weighs the data and fits the model, from their current state
    """
    agent = successor(driver, env, job)
    for phase in range(1, max(phases) + 1):
        weights = agent.fit_weights()
        agent.fit_model()
        if phase in phases:
            generator = th.Generator().manual_seed(phase)  # measuring does not change later phases
            errors = model_errors(agent, episodes, HORIZON, N_GLOBAL, N_SAMPLES, generator)
            figures = {name: f"{float(errors[key].mean()):.5g}" for name, key in ERRORS.items() if key in errors}
            sizes = {"rows": str(len(weights)), "ess": f"{effective_sample_size(weights):.3f}"}
            yield {"phases": str(phase)} | sizes | figures


def page_text(rows: Rows) -> str:
    """A table per task: errors in units of those of uniform weights on the same data."""
    lines = []
    for (task, phases, uniform), task_rows in grouped(rows, lambda row: (row["task"], row["phases"], _uniform(row))).items():
        places = grouped(task_rows, lambda row: row["run"])
        buffers = len({(row["run"], row["env_step"]) for row in task_rows})
        often = f"{phases} model phase{'s' * (phases != '1')}"
        lines += [f"\n### {task}, {uniform}: {len(places)} runs, {buffers} buffers, {often}\n"]
        lines += [
            "| method | ess | global | local | local: median | local: range | local: better | 5 steps | 20 steps |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for method in dict.fromkeys(row["method"] for row in task_rows):
            ess = np.mean([float(row["ess"]) for row in task_rows if row["method"] == method])
            ratios = {name: _ratios(list(places.values()), method, name) for name in ERRORS}
            local = ratios["local"]
            cells = [f"`{method}`", f"{ess:.2f}", _center(ratios["global"]), _center(local)]
            cells += [
                f"{np.median(local):.2f}",
                f"{min(local):.2f} to {max(local):.2f}",
                f"{sum(ratio < 1.0 for ratio in local)} of {len(local)}",
            ]
            lines.append(f"| {' | '.join([*cells, _center(ratios['5_steps']), _center(ratios['20_steps'])])} |")
        lines.append(f"\n{near_line(list(places.values()))}")
    return "\n".join([*lines, "\n"]) if lines else "\nNothing was measured yet.\n\n"


def near_line(places: list[Rows]) -> str:
    """How often the drawn methods are better where the newest rows are the policy's, and where they are not."""
    near = [place for place in places if _near(place) > NEAR]
    far = [place for place in places if _near(place) <= NEAR]
    texts = []
    for method in DRAWN:
        counts = [_ratios(part, method, "local") for part in (near, far)]
        if not any(counts):
            continue
        above, below = (f"{sum(ratio < 1.0 for ratio in part)} of {len(part)}" for part in counts)
        texts.append(f"`{method}` {above} above, {below} below")
    return f"Runs that are better, by `near_newest` above and below {NEAR}: {'; '.join(texts)}."


def _near(place: Rows) -> float:
    return float(np.mean([float(row["near_newest"]) for row in place]))


def _uniform(row: dict[str, str]) -> str:
    """The method of uniform weights on the same backbone."""
    return "dhmbpo" if row["method"].startswith("dhmbpo") else "mbpo"


def _ratios(places: list[Rows], method: str, column: str) -> list[float]:
    """
    For each run that the method was fitted to: geometric mean of its error over the run's buffers and fits, relative to that
    of uniform weights on the same buffers.
    """
    ratios = []
    for place in places:
        own, uniform = (
            _mean_logs([row for row in place if row["method"] == name], column)
            for name in (method, _uniform({"method": method}))
        )
        if both := [own[step] - uniform[step] for step in own if step in uniform]:
            ratios.append(float(np.exp(np.mean(both))))
    return ratios


def _mean_logs(rows: Rows, column: str) -> dict[str, float]:
    """For each buffer that has errors, by its env steps, the mean over fits of their logarithms."""
    buffers = grouped((row for row in rows if row[column]), lambda row: row["env_step"])
    return {step: float(np.mean([np.log(float(row[column])) for row in buffer])) for step, buffer in buffers.items()}


def _center(ratios: list[float]) -> str:
    return f"{np.exp(np.mean(np.log(ratios))):.2f}" if ratios else "-"


def draw(rows: Rows, path: Path) -> None:
    """A panel per task: the local error in units of uniform weights', a point for each buffer, over :func:`near_newest`."""
    tasks = grouped(rows, lambda row: (row["task"], row["phases"], _uniform(row)))
    figure, axes = panels(len(tasks))
    table = []
    for axis, ((task, phases, uniform), task_rows) in zip(axes, tasks.items(), strict=True):
        places = grouped(task_rows, lambda row: (row["run"], row["env_step"], row["near_newest"]))
        for number, method in enumerate(one for one in DRAWN if _uniform({"method": one}) == uniform):
            points = [
                {"task": task, "phases": phases, "method": method, "run": name, "env_step": step}
                | {"near_newest": float(near), "local": ratio}
                for (name, step, near), place in places.items()
                for ratio in _ratios([place], method, "local")
            ]
            if not points:
                continue
            table += points
            columns = ([point[name] for point in points] for name in ("near_newest", "local"))
            axis.scatter(*columns, color=f"C{number}", label=f"{method} ({len(points)} buffers)", marker="osx^Dv"[number])
        axis.axhline(1.0, color="grey")
        labels = {"xlabel": "share of the policy's steps near to the newest rows", "ylabel": "local error / uniform's"}
        finish(axis, title=f"{task}, {uniform}, model phases: {phases}", **labels)
    save(figure, path, table)


def write_page(out: Path) -> None:
    """Draw the picture, and write the part of ``model_error.md`` between its marks."""
    draw_and_write(out / "same_data.csv", draw, out / "model_error.md", BEGIN, END, page_text)


def main() -> None:
    """Run the command."""
    parser, command = run_and_page(__doc__)
    command.add_argument("checkpoints", type=Path, nargs="+")
    usual, listed = ["mbpo", "mbpo_pmac", "mbpo_tom"], "model-based methods of curves_methods.py"
    command.add_argument("--method", choices=MODEL_BASED, nargs="+", metavar="METHOD", default=usual, help=listed)
    command.add_argument("--fits", type=int, default=2, help="models per checkpoint and method")
    command.add_argument("--phases", type=int, nargs="+", default=[1], help="model phases before each measurement")
    arguments = parser.parse_args()
    if arguments.command == "page":
        write_page(arguments.out)
    else:
        table = arguments.out / "same_data.csv"
        run(arguments.checkpoints, arguments.method, arguments.fits, table, tuple(arguments.phases))


if __name__ == "__main__":
    sys.exit(main())
