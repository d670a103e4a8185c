"""The folder of a sweep: its spec, the files of its runs, and their table. Every file is replaced atomically."""

import csv
import fcntl
import io
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from sb3_tom.callbacks.tables import read_table
from sb3_tom.checkpoint.replacing import PARTIAL, replaced
from sb3_tom.sweep.spec import RunSpec, as_json

LOCK, SPEC, TABLE = "lock", "sweep.json", "table.csv"
"""Files of a sweep; each run has its own lock too."""

CURVE, CHECKPOINTS, STEPS, RESULT = "learning_curve.csv", "checkpoints", "steps.txt", "result.json"
"""Files of a run: evaluations, checkpoints, its env steps so far, and its outcome."""

ASKED = ("env", "method", "algo", "seed", "n_timesteps")
FIGURES = ("return_mean", "return_std", "cumulative_max", "episode_length_mean", "n_updates", "seconds")
"""Columns of the table from the last row of the learning curve."""

COLUMNS = (*ASKED, "state", "env_steps", "evaluated_at", *FIGURES, "error")


def replace_file(path: Path, text: str) -> None:
    """
    Write a file atomically; see :func:`~sb3_tom.checkpoint.replacing.replaced`.

    :param path: its folder is created
    :param text: the content
    :raises OSError: if it cannot be written; the old file is kept
    """
    with replaced(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def only_one(path: Path, seconds: float, what: str) -> Iterator[None]:
    """
    Hold a lock in the block. The system releases it when the process ends, however it ends.

    :param path: the lock's file, which may be on a shared file system
    :param seconds: how long to wait for a process that holds it
    :param what: name of what is locked, for the message
    :raises BlockingIOError: if another process keeps holding it
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:  # does not change an existing file
        until = time.monotonic() + seconds
        while not _locked(file):
            if time.monotonic() >= until:
                raise BlockingIOError(f"{what} is being run by another process")
            time.sleep(0.1)
        yield


def _locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def check_folder(out: Path, runs: list[RunSpec]) -> None:
    """
    Check that a folder is this sweep's, or may become it, without changing it.

    :param out: the folder
    :param runs: of the sweep
    :raises ValueError: if it belongs to another, naming the folder and the first difference, or holds something else
    """
    path = out / SPEC
    if out.exists() and not out.is_dir():
        raise ValueError(f"out={str(out)!r} is not allowed: it is no folder; allowed: a folder")
    if path.exists():
        difference = _difference(_runs_of(path), as_json(runs))
        if difference:
            raise ValueError(
                f"out={str(out)!r} is of another sweep: {difference}; allowed: what {path} says, or another folder"
            )
        return
    left = (LOCK, SPEC + PARTIAL)  # also of a sweep that was killed while it claimed the folder
    others = [file.name for file in out.iterdir() if file.name not in left] if out.is_dir() else []
    if others:
        allowed = "allowed: a sweep's folder, or a new one"
        raise ValueError(f"out={str(out)!r} is not allowed: it holds {others[0]}, but no {SPEC}; {allowed}")


def claim(out: Path, runs: list[RunSpec]) -> None:
    """
    Make the folder of a sweep, or check that it belongs to this sweep.

    :param out: the folder
    :param runs: of the sweep
    :raises ValueError: see :func:`check_folder`
    """
    check_folder(out, runs)
    if not (out / SPEC).exists():
        replace_file(out / SPEC, json.dumps({"runs": as_json(runs)}, indent=1) + "\n")


def _runs_of(path: Path) -> dict[str, Any]:
    try:
        runs: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["runs"]
    except (ValueError, TypeError, KeyError) as error:
        allowed = "allowed: a sweep's folder as it was left, or a new one"
        raise ValueError(
            f"out={str(path.parent)!r} is not allowed: {path.name} cannot be read: {error!r}; {allowed}"
        ) from error
    return runs


def _difference(had: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """The first difference in words; empty if there is none."""
    for name in [*had, *asked]:
        if name not in asked or name not in had:
            return f"it has {'no' if name in asked else 'a'} run {name}"
        for key in [*had[name], *asked[name]]:
            before, now = (json.dumps(runs[name].get(key), sort_keys=True) for runs in (had, asked))
            if before != now:
                return f"{name} has {key}={before:.200}, not {now:.200}"
    return ""


def read_result(folder: Path) -> dict[str, Any]:
    """
    Outcome of a run.

    :param folder: of the run
    :return: its state ("done" or "failed") and its error; empty if it has not ended, or its machine lost the file
    """
    try:
        result: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):  # the latter: the name reached the disk, the content did not
        return {}
    return result


def steps_of(folder: Path) -> int:
    """
    Env steps that a run has done, up to a second old while it runs.

    :param folder: of the run
    """
    try:
        return int((folder / STEPS).read_text())
    except (OSError, ValueError):  # not there yet, or replaced by another machine while it is read (ESTALE)
        return 0


def write_steps(folder: Path, env_steps: int) -> None:
    """
    Write the progress of a run. A full disk is ignored: it surfaces in files that the run needs.

    :param folder: of the run
    :param env_steps: done so far
    """
    with suppress(OSError):
        replace_file(folder / STEPS, str(env_steps))


def write_sweep_table(out: Path, runs: Iterable[RunSpec], states: Mapping[str, str], errors: Mapping[str, str]) -> None:
    """
    Write the table, a row per run in the order of the spec: its labels, state and last evaluation.

    :param out: folder of the sweep
    :param runs: of the sweep
    :param states: by name of a run: waiting, running, done or failed
    :param errors: by name of a failed run
    :raises OSError: if it cannot be written; the old table is kept
    :raises ValueError: naming the learning curve that cannot be read
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for run in runs:
        asked = {name: getattr(run, name) for name in ASKED}
        ended = {"state": states[run.name], "error": errors.get(run.name, "")}
        writer.writerow({**asked, **_figures(out / run.name), **ended})
    replace_file(out / TABLE, text.getvalue())


def _figures(folder: Path) -> dict[str, Any]:
    path = folder / CURVE
    rows = read_table(path) if path.exists() else []
    last = rows[-1] if rows else {}
    figures = {name: last.get(name, "") for name in FIGURES}
    return {"env_steps": steps_of(folder), "evaluated_at": last.get("env_step", ""), **figures}
