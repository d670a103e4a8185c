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


class Belonging:
    """
    Tells whose figures the files hold.

    :param found: all files that were read
    """

    def __init__(self, found: Found) -> None:
        self._found = found
        self._labelled: dict[Path, set[Labels]] = {}  # by folder
        self._logs: dict[Path, set[Path]] = {}  # folders of logs, by the one above
        self._evaluated = {path.parent for path, (kind, _) in found.items() if kind == "evaluations.npz"}
        for path, (kind, content) in found.items():
            if content.labels:
                self._labelled.setdefault(path.parent, set()).add(content.labels)
            elif kind in LOGS:
                self._logs.setdefault(path.parent.parent, set()).add(path.parent)

    def owner(self, path: Path) -> Owner:
        """
        Whose figures a file holds.

        :param path: one of the files
        """
        content = self._found[path][1]
        if content.labels:
            return Owner(content.labels, path)
        started = _started(path)
        is_anew = started.get("from") == "the start"
        beside = self.labels_beside(path)
        if beside is not None:
            return Owner(*beside, is_anew)
        of_attempt = _labels_of_attempt(path, started)
        return Owner(_labels_of_folder(path), path) if of_attempt is None else Owner(of_attempt, path.parent.parent, is_anew)

    def labels_beside(self, path: Path) -> tuple[Labels, Path] | None:
        """
        Labels of the one labelled run in the same folder or, for a log, in the one above, if all logs below that are its own;
        and that folder.

        :param path: one of the files
        """
        for folder in (path.parent, *([path.parent.parent] if self._found[path][0] in LOGS else [])):
            labels = [*self._labelled.get(folder, ())]
            if labels:
                is_of_it = len(labels) == 1 and (folder == path.parent or self._has_only_logs_of(labels[0], folder))
                return (labels[0], folder) if is_of_it else None
        return None

    def _has_only_logs_of(self, labels: Labels, folder: Path) -> bool:
        """Whether the folders of logs below one are of one run: all have one name but for a number, not another task's."""
        below = self._logs.get(folder, set())
        names = {_stem(place.name) for place in below if place not in self._labelled}
        is_of_another_task = any(_ENV_ID.search(name) and name != labels[0] for name in names)
        return len(names) == 1 and self._evaluated.isdisjoint(below) and not is_of_another_task


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
