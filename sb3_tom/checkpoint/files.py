"""The checkpoints of one run in one folder."""

import os
import re
import warnings
from pathlib import Path
from typing import Any

from sb3_tom.checkpoint.archive import read_archive

_NAME = re.compile(r"checkpoint_(\d+)_steps\.zip")


def checkpoint_path(folder: Path, env_step: int) -> Path:
    """
    Where the checkpoint of an env step is written.

    :param folder: of the run
    :param env_step: env steps done
    """
    return folder / f"checkpoint_{env_step}_steps.zip"


def list_checkpoints(folder: str | os.PathLike[str]) -> dict[int, Path]:
    """
    Checkpoints by env step, the oldest first.

    :param folder: may be missing
    """
    files = Path(folder).iterdir() if Path(folder).is_dir() else ()
    found = {int(match[1]): path for path in files if (match := _NAME.fullmatch(path.name))}
    return dict(sorted(found.items()))


def latest_checkpoint(folder: str | os.PathLike[str]) -> Path | None:
    """
    The newest checkpoint of a run.

    :param folder: that :class:`ResumeCallback` writes to; it may be missing
    :return: its path, None if there is none
    """
    return next(reversed(list_checkpoints(folder).values()), None)


def prune(folder: Path, keep: int) -> None:
    """
    Remove all but the newest checkpoints, and what interrupted writes left.

    :param folder: of the run
    :param keep: how many stay
    """
    for path in list(list_checkpoints(folder).values())[:-keep]:
        path.unlink(missing_ok=True)
    for path in folder.glob("checkpoint_*_steps.zip.partial"):
        path.unlink(missing_ok=True)


def read_checkpoint(path: str | os.PathLike[str]) -> tuple[str, dict[str, Any]]:
    """
    Read a checkpoint, or the newest usable one of a folder; damaged newer ones are named in a warning.

    :param path: file or folder
    :return: the file that was read, and the state
    :raises ValueError: naming the file and what is wrong with it, or the folder if none in it is usable
    """
    if not Path(path).is_dir():
        return os.fspath(path), read_archive(path)
    problems: list[str] = []
    for file in reversed(list_checkpoints(path).values()):
        try:
            state = read_archive(file)
        except ValueError as error:
            problems.append(str(error))
            continue
        if problems:
            warnings.warn(f"{'; '.join(problems)}. An older one is used: {file}", stacklevel=2)
        return str(file), state
    problem = "; ".join(problems) or "there is no checkpoint in it"
    raise ValueError(
        f"path={os.fspath(path)!r} is not allowed: {problem}; allowed: a folder of a ResumeCallback, or a file of it"
    )
