"""Finds runs in files and folders: which files belong together, and the task, method and seed of each run."""

import json
import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sb3_tom.plots.interrupted import interrupted_folders
from sb3_tom.plots.readers import READERS, UNREAD, Content, Phase, StrangeTableError, kinds_of
from sb3_tom.plots.statistics import Curve

PathLike = str | os.PathLike[str]
Labels = tuple[str, str, str]

SHOWN = 3
"""Number of files that a message names."""

SPOILED = (ArithmeticError, EOFError, LookupError, OSError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)
"""What Python, numpy and zipfile raise of content that no writer leaves."""

_ENV_ID = re.compile(r"-v\d+$")
_SEED = re.compile(r"seed_(\d+)")
_ATTEMPT = re.compile(r"attempt_\d+")
"""Folders of a run of a sweep and of one of its attempts."""

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
    or ``Hopper-v5/MBPO_1`` (TensorBoard), with the number as the seed. A run of a sweep has its labels from its start on.

    :param paths: files, or folders that are searched recursively, also behind links. What several names lead to is read once
    :param task: label that replaces the task of all runs
    :param method: label that replaces the method of all runs
    :return: in the order of the paths, with links last
    :raises ValueError: if a path is missing or a file cannot be read, or if two files hold the same figure of the same run
    """
    given = [Path(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
    found: _Found = {}
    seen: set[str] = set()
    for path in sorted(given, key=Path.is_symlink):
        found.update(_read(path, seen))
    _leave_out_unread(found)
    interrupted = interrupted_folders({path.parent for path, (kind, _) in found.items() if kind == "evaluations.npz"})
    found = {path: entry for path, entry in found.items() if interrupted.isdisjoint(path.resolve().parents)}
    runs: dict[Labels, Run] = {}
    for kind in READERS:  # in the order of precedence
        for path, (_, content) in ((path, entry) for path, entry in found.items() if entry[0] == kind):
            adopted = None if content.labels else _labels_beside(path, found)
            attempted = None if content.labels or adopted else _labels_of_attempt(path)
            labels = content.labels or adopted or attempted or _labels_of_folder(path)
            labels = (task or labels[0], method or labels[1], labels[2])
            run = runs.setdefault(labels, Run(*labels))
            is_next = attempted is not None and _same_place(path, run)
            _merge(run, content, kind, path, goes_on=adopted is not None or is_next)
    return list(runs.values())


def describe_sources(runs: Sequence[Run]) -> str:
    """
    The files that were read, for messages; the first ones if there are many.

    :param runs: from :func:`read_runs`
    """
    paths = sorted({str(path) for run in runs for _, path in run.sources.values()})
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(paths[:SHOWN]) + more or "no run was found"


def _read(path: Path, seen: set[str]) -> Iterator[tuple[Path, tuple[str, Content]]]:
    """Contents of a file or a folder, but for what is in ``seen``: real paths of what was read under another name."""
    if path.is_dir():
        for file in _files_below(path, seen):
            try:
                yield from _read_file(file)
            except StrangeTableError as error:  # such as a table of many runs beside theirs
                warnings.warn(f"{error}; the file is left out", stacklevel=3)
        return
    if not path.is_file():
        raise ValueError(f"no such file or folder: {path}")
    if not _is_new(path, seen):
        return
    contents = list(_read_file(path))
    if not contents:
        raise ValueError(f"{path} is no file that can be drawn, or it has no row yet; allowed: {sorted(READERS)}, or a folder")
    yield from contents


def _files_below(folder: Path, seen: set[str]) -> Iterator[Path]:
    """All files below a folder. Links come last, so that files have their own names, beside the others of their run."""
    waiting = [folder]
    while waiting:
        files: list[Path] = []
        links: list[Path] = []
        for place, folders, names in os.walk(waiting.pop(0)):
            if not _is_new(Path(place), seen):
                folders.clear()
            else:
                files += [Path(place, name) for name in names]
                links += [Path(place, name) for name in folders if Path(place, name).is_symlink()]
        ordered = sorted(files, key=lambda file: (file.is_symlink(), file))
        yield from (file for file in ordered if file.is_file() and _is_new(file, seen))
        waiting += sorted(links)


def _is_new(path: Path, seen: set[str]) -> bool:
    """Whether nothing in ``seen`` is the same file or folder; from now on it is there."""
    real = os.path.realpath(path)
    is_new = real not in seen
    seen.add(real)
    return is_new


def _read_file(path: Path) -> Iterator[tuple[Path, tuple[str, Content]]]:
    for kind in kinds_of(path):
        try:
            content = READERS[kind](path)
        except StrangeTableError as error:
            raise StrangeTableError(f"{path} cannot be read as {kind}: {error}") from error
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


def _labels_of_attempt(path: Path) -> Labels | None:
    """Labels of a run of a sweep that has no evaluation yet: those it was started with, or else the names of its folders."""
    folder = path.resolve().parent
    seed = _SEED.fullmatch(folder.parent.name)
    if not seed or not _ATTEMPT.fullmatch(folder.name):
        return None
    try:
        spec = json.loads((folder / "started.json").read_text(encoding="utf-8"))["spec"]
        return str(spec["env"]), str(spec["method"]), str(spec["seed"])
    except (OSError, ValueError, LookupError, TypeError):
        method = folder.parent.parent
        return method.parent.name, method.name, seed[1]


def _same_place(path: Path, run: Run) -> bool:
    """Whether all sources of a run are in the folder that this attempt is in, or in its attempts."""
    place = path.parent.parent
    return all(place in (source.parent, source.parent.parent) for _, source in run.sources.values())


def _labels_of_folder(path: Path) -> Labels:
    folder = path.resolve().parent
    numbered = _NUMBERED.match(folder.name)
    name, number = (numbered["name"], numbered["number"]) if numbered else (folder.name, "0")
    if _ENV_ID.search(name) or (folder / name).is_dir():  # the zoo has a folder of the env's name in that of a run
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
