"""Whose figures a file holds: by its own labels, those of a table beside it, or the names of its folders."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from sb3_tom.plots.files import Found

Labels = tuple[str, str, str]

LOGS = ("progress.csv", "events.out.tfevents.*")
"""Kinds of files of loggers, which say nothing of whose they are."""

_ENV_ID = re.compile(r"-v\d+$")
_SEED = re.compile(r"seed_(\d+)")
_ATTEMPT = re.compile(r"attempt_\d+")
"""Folders of a run of a sweep and of one of its attempts."""

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_NUMBERED = re.compile(rf"^(?P<name>.+)_(?P<number>\d+(?:_{_UUID})?)$")
"""The zoo's ``--uuid`` numbers all folders 1 and tells them apart behind it."""


class Owner(NamedTuple):
    """
    The run that a file belongs to.

    :param labels: task, method and seed
    :param place: files of one kind in one place are a run that was interrupted and went on; in two places they are two runs
    :param is_anew: whether the run began anew with this file
    """

    labels: Labels
    place: Path
    is_anew: bool = False


def owner_of(path: Path, found: Found) -> Owner:
    """
    Whose figures a file holds.

    :param path: of ``found``
    :param found: all files that were read
    """
    kind, content = found[path]
    if content.labels:
        return Owner(content.labels, path)
    started = _started(path)
    is_anew = started.get("from") == "the start"
    beside = labels_beside(path, kind, found)
    if beside is not None:
        return Owner(*beside, is_anew)
    of_attempt = _labels_of_attempt(path, started)
    return Owner(_labels_of_folder(path), path) if of_attempt is None else Owner(of_attempt, path.parent.parent, is_anew)


def labels_beside(path: Path, kind: str, found: Found) -> tuple[Labels, Path] | None:
    """
    Labels of the one labelled run in the same folder or, for a log, in the one above, if all logs below that are its own; and
    that folder.

    :param path: of a file
    :param kind: of the same
    :param found: all files that were read
    """
    for folder in (path.parent, *([path.parent.parent] if kind in LOGS else [])):
        labels = _labelled_in(folder, found)
        if labels:
            is_of_it = len(labels) == 1 and (folder == path.parent or _are_logs_of(labels[0], folder, found))
            return (labels[0], folder) if is_of_it else None
    return None


def _labelled_in(folder: Path, found: Found) -> list[Labels]:
    return list({content.labels for file, (_, content) in found.items() if content.labels and file.parent == folder})


def _are_logs_of(labels: Labels, folder: Path, found: Found) -> bool:
    """Whether the folders of logs below one folder are of one run: all have one name but for a number, not another task's."""
    below = {file.parent for file, (kind, _) in found.items() if kind in LOGS and file.parent.parent == folder}
    names = {_stem(place.name) for place in below if not _labelled_in(place, found)}
    other_runs = any(kind == "evaluations.npz" and file.parent in below for file, (kind, _) in found.items())
    return len(names) == 1 and not other_runs and not any(_ENV_ID.search(name) and name != labels[0] for name in names)


def _stem(name: str) -> str:
    numbered = _NUMBERED.match(name)
    return numbered["name"] if numbered else name


def _started(path: Path) -> dict[str, Any]:
    """What an attempt of a sweep was started with; nothing for other files, or where it cannot be read."""
    folder = path.resolve().parent
    if not _ATTEMPT.fullmatch(folder.name):
        return {}
    try:
        started = json.loads((folder / "started.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return started if isinstance(started, dict) else {}


def _labels_of_attempt(path: Path, started: dict[str, Any]) -> Labels | None:
    """Labels of a run of a sweep that has no evaluation yet: those it was started with, or else the names of its folders."""
    folder = path.resolve().parent
    seed = _SEED.fullmatch(folder.parent.name)
    if not seed or not _ATTEMPT.fullmatch(folder.name):
        return None
    spec = started.get("spec")
    if isinstance(spec, dict) and {"env", "method", "seed"} <= set(spec):
        return str(spec["env"]), str(spec["method"]), str(spec["seed"])
    method = folder.parent.parent
    return method.parent.name, method.name, seed[1]


def _labels_of_folder(path: Path) -> Labels:
    folder = path.resolve().parent
    numbered = _NUMBERED.match(folder.name)
    name, number = (numbered["name"], numbered["number"]) if numbered else (folder.name, "0")
    if _ENV_ID.search(name) or (folder / name).is_dir():  # the zoo has a folder of the env's name in that of a run
        return name, folder.parent.name, number
    return folder.parent.name, name, number
