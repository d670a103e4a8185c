"""Finds runs in files and folders: which files belong together, and the task, method and seed of each run."""

import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sb3_tom.plots.interrupted import interrupted_folders
from sb3_tom.plots.readers import READERS, UNREAD, Content, Phase, SeveralRunsError, kinds_of
from sb3_tom.plots.statistics import Curve

PathLike = str | os.PathLike[str]
Labels = tuple[str, str, str]

SHOWN = 3
"""Number of files that a message names."""

SPOILED = (ArithmeticError, EOFError, LookupError, OSError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)
"""What Python, numpy and zipfile raise of content that no writer leaves."""

_ENV_ID = re.compile(r"-v\d+$")
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_NUMBERED = re.compile(rf"^(?P<name>.+)_(?P<number>\d+(?:_{_UUID})?)$")
"""The zoo's ``--uuid`` numbers all folders 1 and tells them apart behind it."""


@dataclass
class Run:
    """
    One run.

    :param task: environment
    :param method: algorithm
    :param seed: its seed, or the number of its folder
    :param series: curves by name, see :data:`sb3_tom.plots.curves.QUANTITIES`
    :param phases: weights by age
    :param sources: source of each figure: kind (a key of ``READERS``) and file
    """

    task: str
    method: str
    seed: str
    series: dict[str, Curve] = field(default_factory=dict)
    phases: list[Phase] = field(default_factory=list)
    sources: dict[str, tuple[str, Path]] = field(default_factory=dict)


_Found = dict[Path, tuple[str, Content]]
"""Content and its kind by file (TensorBoard: by folder, with a name below it)."""


def read_runs(paths: PathLike | Iterable[PathLike], task: str | None = None, method: str | None = None) -> list[Run]:
    """
    Read runs. The CSV files of this package's callbacks contain task, method and seed. Files of loggers get those of such a
    file in their folder or in the one above; else they come from the names of folders: ``mbpo_tom/Hopper-v5_1`` (the RL Zoo)
    or ``Hopper-v5/MBPO_1`` (TensorBoard), with the number as the seed.

    :param paths: files, or folders that are searched recursively
    :param task: label that replaces the task of all runs
    :param method: label that replaces the method of all runs
    :return: in the order of the paths
    :raises ValueError: if a path is missing or a file cannot be read, or if two files hold the same figure of the same run
    """
    given = [Path(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
    found: _Found = {}
    for path in given:
        found.update(_read(path))
    _leave_out_unread(found)
    interrupted = interrupted_folders({path.parent for path, (kind, _) in found.items() if kind == "evaluations.npz"})
    found = {path: entry for path, entry in found.items() if interrupted.isdisjoint(path.resolve().parents)}
    runs: dict[Labels, Run] = {}
    for kind in READERS:  # in the order of precedence
        for path, (_, content) in ((path, entry) for path, entry in found.items() if entry[0] == kind):
            adopted = None if content.labels else _labels_beside(path, found)
            labels = content.labels or adopted or _labels_of_folder(path)
            labels = (task or labels[0], method or labels[1], labels[2])
            _merge(runs.setdefault(labels, Run(*labels)), content, kind, path, goes_on=adopted is not None)
    return list(runs.values())


def describe_sources(runs: Sequence[Run]) -> str:
    """
    The files that were read, for messages; the first ones if there are many.

    :param runs: from :func:`read_runs`
    """
    paths = sorted({str(path) for run in runs for _, path in run.sources.values()})
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(paths[:SHOWN]) + more or "no run was found"


def _read(path: Path) -> Iterator[tuple[Path, tuple[str, Content]]]:
    if path.is_dir():
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            try:
                yield from _read_file(file)
            except SeveralRunsError as error:  # such as a table of many runs beside theirs
                warnings.warn(f"{error}; the file is left out", stacklevel=3)
        return
    if not path.is_file():
        raise ValueError(f"no such file or folder: {path}")
    contents = list(_read_file(path))
    if not contents:
        raise ValueError(f"{path} is no file that can be drawn, or it has no row yet; allowed: {sorted(READERS)}, or a folder")
    yield from contents


def _read_file(path: Path) -> Iterator[tuple[Path, tuple[str, Content]]]:
    for kind in kinds_of(path):
        try:
            content = READERS[kind](path)
        except SeveralRunsError as error:
            raise SeveralRunsError(f"{path} cannot be read as {kind}: {error}") from error
        except SPOILED as error:
            raise ValueError(f"{path} cannot be read as {kind}: {error!r}") from error
        if content is not None and (content is UNREAD or content.series or content.phases):
            yield (path.parent / "events" if kind.startswith("events") else path), (kind, content)


def _leave_out_unread(found: _Found) -> None:
    """Logs that cannot be read here, where other files tell of the same run; else its curve would be missing unnoticed."""
    for path in [path for path, (_, content) in found.items() if content is UNREAD]:
        del found[path]
        text = f"{path.parent} holds TensorBoard files; to read them: pip install tensorboard"
        if not any(other.parent == path.parent for other in found) and _labels_beside(path, found) is None:
            raise ValueError(text)
        warnings.warn(f"{text}; the other files of the run are drawn", stacklevel=3)


def _labels_beside(path: Path, found: _Found) -> Labels | None:
    """Labels of the one labelled run in the same folder, or else in the one above."""
    for folder in (path.parent, path.parent.parent):
        labels = {content.labels for file, (_, content) in found.items() if content.labels and file.parent == folder}
        if labels:
            return labels.pop() if len(labels) == 1 else None
    return None


def _labels_of_folder(path: Path) -> Labels:
    folder = path.resolve().parent
    numbered = _NUMBERED.match(folder.name)
    name, number = (numbered["name"], numbered["number"]) if numbered else (folder.name, "0")
    if _ENV_ID.search(name):
        return name, folder.parent.name, number
    return folder.parent.name, name, number


def _merge(run: Run, content: Content, kind: str, path: Path, goes_on: bool) -> None:
    """
    Add the missing figures of a run. The same figure in two files of one kind means two runs with one name, unless they are
    logs beside one labelled file: those of a run that was interrupted and resumed.
    """
    for name in [*content.series, *(["weight by age"] if content.phases else [])]:
        first_kind, first_path = run.sources.setdefault(name, (kind, path))
        if first_kind == kind and first_path != path and not goes_on:
            raise ValueError(
                f"{first_path} and {path} hold {name} of the same run ({run.task}, {run.method}, seed {run.seed}); "
                "allowed: one of them, or files with other labels (the callbacks' method=... and task=...)"
            )
    for name, curve in content.series.items():
        if run.sources[name][0] == kind:
            run.series[name] = dict(sorted({**run.series.get(name, {}), **curve}.items()))
    if content.phases and run.sources["weight by age"][0] == kind:
        by_step = {phase.env_step: phase for phase in (*run.phases, *content.phases)}  # made again by a run that goes on
        run.phases = [by_step[step] for step in sorted(by_step)]
