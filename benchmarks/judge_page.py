"""The page of the verdict, ``docs/results/judging.md``: claims first, then every seed of every study."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from curves_methods import TASKS
from curves_page import COLUMNS, Rows, first_at_least, runs_in, solved_text
from judge_pace import mean_within, pace_text, paces, spent, totals
from judge_plan import CLAIMS, STUDIES
from judge_rules import Claim, Runs, Study, Verdict, published_mean, window_mean
from judge_runs import spoilt_seeds
from marked_page import over_seeds, write_between

from sb3_tom.callbacks.tables import read_table, write_table
from sb3_tom.plots.curves import draw_method
from sb3_tom.plots.drawing import finish, panels
from sb3_tom.plots.statistics import Curve, summarize

READ = (*COLUMNS, "n_updates")
TABLE_COLUMNS = (*READ, "commit", "core_seconds", "diverged")
RUN = "python benchmarks/judge.py run --study"
BEGIN, END = "<!-- judging: begin -->", "<!-- judging: end -->"


def gather(out: Path, entered: Rows) -> Rows:
    """
    The evaluations of all runs that are finished; after a divergence they are 0.

    :param out: folder with ``<task>/<method>_seed<k>.csv`` and ``.json``
    :param entered: of ``judging.csv``
    :raises SystemExit: for results of a run that was never entered, or by other code, and for evaluations that are missing
    """
    known = {(row["task"], row["method"], row["seed"]): row for row in entered}
    rows: Rows = []
    for meta, evaluations in runs_in(out):
        name = f"{meta['task']} {meta['method']} seed {meta['seed']}"
        row = known.get((meta["task"], meta["method"], str(meta["seed"])))
        if row is None or row["commit"] != meta["git_commit"] or int(row["steps"]) != meta["steps"]:
            raise SystemExit(f"{name} in {out} is no run of judging.csv: another commit or length, or never entered")
        if not meta["finished"]:
            continue
        core = meta.get("core_seconds")  # one that diverges has none
        labels = {"commit": row["commit"][:7], "core_seconds": "" if core is None else f"{core:.1f}", "diverged": ""}
        found = {int(one["env_step"]): {column: one[column] for column in READ} | labels for one in evaluations}
        rows += [found.get(step) or _after(meta, step, name, labels) for step in _expected(meta)]
    return rows


def _expected(meta: dict[str, Any]) -> range:
    return range(meta["eval_freq"], meta["steps"] + 1, meta["eval_freq"])


def _after(meta: dict[str, Any], step: int, name: str, labels: dict[str, str]) -> dict[str, str]:
    if "diverged" not in meta:
        raise SystemExit(f"{name} is finished, and has no evaluation at {step}")
    own = {"task": meta["task"], "method": meta["method"], "seed": str(meta["seed"]), "env_step": str(step)}
    return dict.fromkeys(READ, "0") | own | labels | {"diverged": "1"}


def runs_of(rows: Rows) -> dict[str, Runs]:
    """Curves by task, method and seed."""
    runs: dict[str, dict[str, dict[int, dict[int, float]]]] = {}
    for row in rows:
        seeds = runs.setdefault(row["task"], {}).setdefault(row["method"], {})
        seeds.setdefault(int(row["seed"]), {})[int(row["env_step"])] = float(row["return_mean"])
    return runs


def counting(runs: dict[str, Runs], entered: Rows) -> dict[str, Runs]:
    """
    Of all runs those that claims are decided by: of the seeds that their study judges.

    :param runs: by task
    :param entered: of ``judging.csv``
    """
    counted: dict[str, dict[str, dict[int, Curve]]] = {}
    for study in STUDIES.values():
        seeds = study.judged(spoilt_seeds(entered, study.task))
        for method in study.methods:
            curves = runs.get(study.task, {}).get(method, {})
            if own := {seed: curves[seed] for seed in seeds if seed in curves}:
                counted.setdefault(study.task, {})[method] = own
    return dict(counted)


def page_text(rows: Rows, entered: Rows) -> str:
    """
    The generated part.

    :param rows: of ``judging_curves.csv``
    :param entered: of ``judging.csv``
    """
    runs = runs_of(rows)
    counted = counting(runs, entered)
    finished = {(row["task"], row["method"], row["seed"]) for row in rows}
    given_up = sum(bool(row["spoilt"]) and (row["task"], row["method"], row["seed"]) not in finished for row in entered)
    of_others = f"; {given_up} of the others were struck out before" if given_up else ""
    lines = [f"\n{len(finished)} of {len(entered)} entered runs are finished{of_others}.\n"]
    lines += ["| claim | who makes it | evidence | seeds | verdict |", "|---|---|---|---|---|"]
    for claim in CLAIMS:
        verdict = claim.verdict(counted)
        evidence = verdict.evidence + with_struck_out(claim, verdict, runs)
        lines.append(f"| {claim.text} | {claim.source} | {evidence} | {verdict.seeds} | **{verdict.word}** |")
    for name, study in STUDIES.items():
        lines += [f"\n## {name}: {study.task} to {study.steps:,} env steps", f"\n```bash\n{RUN} {name}\n```\n"]
        lines += study_lines(study, counted.get(study.task, {}), rows)
        lines += equal_time_line(study, counted.get(study.task, {}), rows)
        lines += diverged_line(study, rows) + without_say(study, runs.get(study.task, {}), entered, finished)
        if any(method in counted.get(study.task, {}) for method in study.methods):
            lines.append(f"\n![{name}](judging/{name}.png)")
    return "\n".join([*lines, "\n"])


def with_struck_out(claim: Claim, verdict: Verdict, runs: Mapping[str, Runs]) -> str:
    """
    What all runs say together, those of the seeds that do not count included.

    :param claim: of the plan
    :param verdict: of the runs that count
    :param runs: by task
    """
    every = claim.verdict(runs)
    if not verdict.mean or every.seeds == verdict.seeds:
        return ""
    return f"; on all {every.seeds}, those struck out too, {every.mean}"


def study_lines(study: Study, runs: Runs, rows: Rows) -> list[str]:
    """A line per method that has runs."""
    if not any(method in runs for method in study.methods):
        return ["Not run yet."]
    heads = [f"{low:,}-{high:,}" for low, high in study.windows]
    goal = TASKS[study.task].goal
    solved = [] if goal is None else [f"first of at least {goal:,g}"]
    lines = [f"| method | seeds | {' | '.join([*heads, *solved])} | s / 1,000 steps | core-s / 1,000 steps | commit |"]
    lines.append("|---" * (5 + len(heads) + len(solved)) + "|")
    first: Mapping[str, float] | None = None
    for method, curves in shown(study, runs).items():
        cells = [f"`{method}`", ", ".join(map(str, curves))]
        for window in study.windows:
            means = [window_mean(curve, window) for curve in curves.values()]
            cells.append(f"{over_seeds(means)}: {', '.join(f'{mean:,.0f}' for mean in means)}")
        if goal is not None:
            cells.append(", ".join(solved_text(first_at_least(curve, goal), max(curve)) for curve in curves.values()))
        own = rows_of(study.task, method, curves, rows)
        pace = paces(own)
        first = pace if first is None else first
        cells += [pace_text(paces(own, "seconds"), {}), pace_text(pace, first)]
        lines.append(f"| {' | '.join([*cells, ', '.join(dict.fromkeys(row['commit'] for row in own))])} |")
    return lines + published_line(study, len(solved))


def equal_time_line(study: Study, runs: Runs, rows: Rows) -> list[str]:
    """A line that compares a study's methods with the first one beside them, over the processor time that both have."""
    cells = []
    for method, other in ((method, other) for method in study.methods for other in study.beside[:1]):
        pair = [rows_of(study.task, name, runs.get(name, {}), rows) for name in (method, other)]
        ours, theirs = (totals(own) for own in pair)
        limits = {seed: min(ours[seed], theirs[seed]) for seed in sorted(ours.keys() & theirs.keys(), key=int)}
        if limits:
            means = [mean_within(own, limits) for own in pair]
            mine, its = (", ".join(_text(found[seed], "{:,.0f}") for seed in limits) for found in means)
            cells.append(f"`{method}` {mine} and `{other}` {its} (seeds {', '.join(limits)})")
    text = "means of the evaluations that both reach within the core-seconds of the shorter run, of whole runs; not judged"
    return [f"\nAt equal processor time ({text}): {'; '.join(cells)}."] if cells else []


def published_line(study: Study, n_solved: int) -> list[str]:
    """
    What the paper shows in the same windows.

    :param study: that may name a published curve
    :param n_solved: columns that a curve of means cannot fill
    """
    if study.published is None:
        return []
    method, task = study.published
    steps = study.eval_freq or TASKS[study.task].eval_freq
    means = [published_mean(method, task, range(low, high + 1, steps)) for low, high in study.windows]
    cells = [_text(mean, "{:,.1f}") for mean in means]
    return [f"| {' | '.join([f'{method}, {task}, published', '8 others', *cells, *['-'] * n_solved, '-', '-', '-'])} |"]


def shown(study: Study, runs: Runs) -> dict[str, dict[int, Curve]]:
    """
    The curves that a study shows by method and seed: of a method that belongs to another study as many as of its own.

    :param study: its methods in their order, then those beside
    :param runs: of its task, those that count
    """
    found = {method: dict(runs[method]) for method in study.methods if method in runs}
    for method in study.beside:
        if curves := sorted(runs.get(method, {}).items())[: len(study.seeds)]:
            found[method] = dict(curves)
    return found


def rows_of(task: str, method: str, seeds: Collection[int], rows: Rows) -> Rows:
    """
    The evaluations of a method.

    :param task: on which
    :param method: of which
    :param seeds: of some of its runs
    :param rows: of ``judging_curves.csv``
    """
    return [row for row in rows if (row["task"], row["method"]) == (task, method) and int(row["seed"]) in seeds]


def _text(number: float, form: str = "{:.0f}") -> str:
    return "-" if np.isnan(number) else form.format(number)


def diverged_line(study: Study, rows: Rows) -> list[str]:
    """A line that names the runs of a study's methods that diverged."""
    cut: dict[tuple[str, str], int] = {}
    for row in rows:
        if row["diverged"] and row["task"] == study.task and row["method"] in study.methods:
            cut.setdefault((row["method"], row["seed"]), int(row["env_step"]))
    named = [f"{method} {seed} (before {step:,})" for (method, seed), step in cut.items()]
    return [f"\nDiverged, and count 0 from there on: {', '.join(named)}."] if named else []


def without_say(study: Study, runs: Runs, entered: Rows, finished: Collection[tuple[str, str, str]]) -> list[str]:
    """Lines about runs of a study that do not count: not finished, or spoilt."""
    own = [row for row in entered if row["task"] == study.task and row["method"] in study.methods]
    reasons = {row["seed"]: row["spoilt"] for row in entered if row["task"] == study.task and row["spoilt"]}
    going_on = (row for row in own if (row["task"], row["method"], row["seed"]) not in finished and row["seed"] not in reasons)
    waiting = [f"{row['method']} {row['seed']}" for row in going_on]
    lines = [f"\nNot finished: {', '.join(waiting)}."] if waiting else []
    spoilt: dict[str, list[str]] = {}
    for row in (row for row in own if row["seed"] in reasons):  # spoilt for one method, for all
        curve = runs.get(row["method"], {}).get(int(row["seed"]))
        found = [] if curve is None else [_text(window_mean(curve, window), "{:,.0f}") for window in study.windows]
        means = ", ".join(found) or "not finished"
        spoilt.setdefault(reasons[row["seed"]], []).append(f"{row['method']} {row['seed']} ({means})")
    lines += [f"\nDo not count: {', '.join(found)}: {reason}." for reason, found in spoilt.items()]
    return lines


def draw(name: str, study: Study, runs: Runs, rows: Rows, folder: Path) -> None:
    """
    Every seed of a study, and the mean of each method: over env steps, and over the core-seconds that these take.

    :param name: of the picture
    :param study: its methods, in their order
    :param runs: of its task, those that count
    :param rows: of ``judging_curves.csv``
    :param folder: of pictures
    """
    if not any(method in runs for method in study.methods):
        return
    figure, (left, right) = panels(2)
    first: Mapping[str, float] | None = None
    for index, (method, curves) in enumerate(shown(study, runs).items()):
        summary = summarize(list(curves.values()))
        draw_method(left, method, list(curves.values()), summary, f"C{index}")
        own = rows_of(study.task, method, curves, rows)
        first = paces(own) if first is None else first
        seconds = spent(own, first)
        right.plot([seconds.get(step, np.nan) for step in summary.steps], summary.center, color=f"C{index}", label=method)
    finish(left, title=study.task, xlabel="env steps", ylabel="mean return of ten episodes")
    finish(right, title="the means", xlabel="core-seconds", xscale="log")
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", dpi=110)


def write_page(results: Path) -> None:
    """
    Put the curves into one table, draw the pictures and write the page between its marks.

    :param results: folder of ``judging.csv``, ``judging.md`` and ``judging``
    """
    entered = read_table(results / "judging.csv")
    rows = gather(results / "judging", entered)
    write_table(results / "judging_curves.csv", TABLE_COLUMNS, rows)
    counted = counting(runs_of(rows), entered)
    for name, study in STUDIES.items():
        draw(name, study, counted.get(study.task, {}), rows, results / "judging")
    write_between(results / "judging.md", BEGIN, END, page_text(read_table(results / "judging_curves.csv"), entered))
