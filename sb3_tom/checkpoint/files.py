"""The folder with the checkpoints of a run."""

import errno
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sb3_tom.checkpoint.reading import Archive, open_archive
from sb3_tom.checkpoint.replacing import PARTIAL

_NAME = re.compile(r"checkpoint_(\d+)_steps\.zip")


def checkpoint_path(folder: Path, env_step: int) -> Path:
    """
    Path of the checkpoint of an env step.

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

    :param folder: of a :class:`ResumeCallback`; it may be missing
    :return: its path, None if there is none
    """
    return next(reversed(list_checkpoints(folder).values()), None)


def prune(folder: Path, keep: int) -> None:
    """
    Remove all but the newest checkpoints, and files of interrupted writes.

    :param folder: of the run
    :param keep: number of checkpoints to keep
    """
    for path in list(list_checkpoints(folder).values())[:-keep]:
        path.unlink(missing_ok=True)
    for path in folder.glob(f"checkpoint_*_steps.zip{PARTIAL}"):
        path.unlink(missing_ok=True)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """
    Keep other processes from training with a folder in the block, or until this process ends, however it ends. Where the
    system has no such locks, nothing is kept from anybody.

    :param folder: of the run, created if it is not there
    :raises ValueError: if another process holds the folder
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as file:
        try:
            import fcntl

            # Not flock: processes of envs, which are forked, would hold the folder too, and outlive a killed parent
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise ValueError(
                    f"folder={str(folder)!r} is not allowed: another process trains with it; allowed: to wait for its end, or "
                    "another folder"
                ) from error
        yield


@contextmanager
def open_checkpoint(path: str | os.PathLike[str]) -> Iterator[Archive]:
    """
    Open a checkpoint, or the newest usable one of a folder; a warning names damaged newer ones.

    :param path: file or folder
    :return: the open file
    :raises ValueError: naming the file and what is wrong with it, or the folder if none in it is usable
    """
    with ExitStack() as stack:
        is_folder = Path(path).is_dir()
        yield _newest_usable(path, stack) if is_folder else stack.enter_context(open_archive(path))


def _newest_usable(folder: str | os.PathLike[str], stack: ExitStack) -> Archive:
    problems: list[str] = []
    for file in reversed(list_checkpoints(folder).values()):
        try:
            archive = stack.enter_context(open_archive(file))
        except ValueError as error:
            problems.append(str(error))
            continue
        if problems:
            warnings.warn(f"{'; '.join(problems)}. An older one is used: {file}", stacklevel=2)
        return archive
    problem = "; ".join(problems) or "there is no checkpoint in it"
    raise ValueError(
        f"path={os.fspath(folder)!r} is not allowed: {problem}; allowed: a folder of a ResumeCallback, or a file of it"
    )
