"""Runs of files and folders: the files that belong together are one run, with its task, method and seed."""

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sb3_tom.plots.belonging import Belonging, Labels, Owner
from sb3_tom.plots.files import Found, natural_order, read_files
from sb3_tom.plots.interrupted import interrupted_folders
from sb3_tom.plots.readers import PHASES, PROFILES, READERS, UNREAD, Phase
from sb3_tom.plots.statistics import Curve

PathLike = str | os.PathLike[str]
Figures = dict[str, dict[int, Any]]
"""By name, then by env step."""

SHOWN = 3
"""Number of files that a message names."""


@dataclass
class Run:
    """
    One run.

    :param task: environment
    :param method: algorithm
    :param seed: its seed, or the number of its folder
    :param series: curves by name, see :data:`sb3_tom.plots.curves.QUANTITIES`
    :param phases: weights by age
    :param profiles: compounding errors of the model by number of predicted steps, by env step of the evaluation
    :param sources: source of each figure: kind (a key of ``READERS``) and file
    """

    task: str
    method: str
    seed: str
    series: dict[str, Curve] = field(default_factory=dict)
    phases: list[Phase] = field(default_factory=list)
    profiles: dict[int, Curve] = field(default_factory=dict)
    sources: dict[str, tuple[str, Path]] = field(default_factory=dict)


def read_runs(paths: PathLike | Iterable[PathLike], task: str | None = None, method: str | None = None) -> list[Run]:
    """
    Read runs. The CSV files of this package's callbacks contain task, method and seed. Files of loggers get those of such a
    file in their folder, or in the one above if all logs there have one name but for their numbers; else they come from the
    names of folders: ``mbpo_tom/Hopper-v5_1`` (the RL Zoo) or ``Hopper-v5/MBPO_1`` (TensorBoard), with the number as the
    seed. A run of a sweep has its labels from its start on.

    :param paths: files, or folders that are searched recursively, also behind links. What several names lead to is read once
    :param task: label that replaces the task of all runs
    :param method: label that replaces the method of all runs
    :return: in the order of the paths, with links last
    :raises ValueError: if a path is missing or a file cannot be read, or if two files hold the same figure of the same run
    """
    found = read_files([Path(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)])
    _leave_out_unread(found)
    interrupted = interrupted_folders({path.parent for path, (kind, _) in found.items() if kind == "evaluations.npz"})
    found = {path: entry for path, entry in found.items() if interrupted.isdisjoint(path.resolve().parents)}
    files: dict[Labels, dict[Path, Owner]] = {}
    belonging = Belonging(found)
    for path in found:
        owner = belonging.owner(path)
        labels = (task or owner.labels[0], method or owner.labels[1], owner.labels[2])
        files.setdefault(labels, {})[path] = owner
    return [_run(labels, owners, found) for labels, owners in files.items()]


def describe_sources(runs: Sequence[Run]) -> str:
    """
    The files that were read, for messages; the first ones if there are many.

    :param runs: from :func:`read_runs`
    """
    paths = sorted({str(path) for run in runs for _, path in run.sources.values()})
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(paths[:SHOWN]) + more or "no run was found"


def _leave_out_unread(found: Found) -> None:
    """Logs that cannot be read here, where other files tell of the same run; else its curve would be missing unnoticed."""
    belonging = Belonging(found)
    for path in [path for path, (_, content) in found.items() if content is UNREAD]:
        text = f"{path.parent} holds TensorBoard files; to read them: pip install tensorboard"
        has_others = any(other.parent == path.parent for other in found if other != path)
        if not has_others and belonging.labels_beside(path) is None:
            raise ValueError(text)
        del found[path]
        warnings.warn(f"{text}; the other files of the run are drawn", stacklevel=3)


def _run(labels: Labels, owners: dict[Path, Owner], found: Found) -> Run:
    """The run of some files: figures come from the first kind that has them, in the order in which the run went on."""
    run, figures = Run(*labels), Figures()
    for kind in READERS:
        for path in sorted((path for path in owners if found[path][0] == kind), key=natural_order):
            _merge(run, figures, found[path][1].figures, kind, path, owners)
    run.phases = [*figures.pop(PHASES, {}).values()]
    run.profiles = figures.pop(PROFILES, {})
    run.series = figures
    return run


def _merge(run: Run, figures: Figures, new: Figures, kind: str, path: Path, owners: dict[Path, Owner]) -> None:
    """
    Add the missing figures of a run. The same figure in two files of one kind means two runs with one name, unless the files
    are in one place: then the run was interrupted, and what it had from the later one's beginning on was lost.
    """
    own = [name for name in new if run.sources.setdefault(name, (kind, path))[0] == kind]
    earlier = {name: run.sources[name][1] for name in own if run.sources[name][1] != path}
    for name, first in earlier.items():
        if owners[first].place != owners[path].place:
            raise ValueError(
                f"{first} and {path} hold {name} of the same run ({run.task}, {run.method}, seed {run.seed}); "
                "allowed: one of them, or files with other labels (the callbacks' method=... and task=...)"
            )
    _forget_lost(run, figures, new, kind, path, owners)
    for name in own:
        figures[name] = dict(sorted((figures.get(name, {}) | new[name]).items()))


def _forget_lost(run: Run, figures: Figures, new: Figures, kind: str, path: Path, owners: dict[Path, Owner]) -> None:
    """Forget what files of this place and kind, which are earlier ones, have from the beginning of this one on."""
    place, is_anew = owners[path].place, owners[path].is_anew
    sources = {name: source for name, (source_kind, source) in run.sources.items() if source_kind == kind and source != path}
    lost = [name for name, source in sources.items() if owners[source].place == place]
    start = -1 if is_anew else min(step for values in new.values() for step in values)
    had = [step for name in lost for step in figures[name]]
    if had and not is_anew and start < min(had):
        warnings.warn(f"{path} begins before {sources[lost[0]]}: the run was made again, and is drawn so", stacklevel=5)
    for name in lost:
        figures[name] = {step: value for step, value in figures[name].items() if step <= start}
