"""
Folders of the zoo's runs that another of its folders goes on with: ``-i .../checkpoint_N_steps.zip`` makes a folder of its
own, which holds the whole curve. Both are one run.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

_CHECKPOINT = re.compile(r"checkpoint_\d+_steps\.zip")


def interrupted_folders(folders: Iterable[Path]) -> set[Path]:
    """
    What the ``args.yml`` of runs say that they went on from; never one of the runs that say so of themselves.

    :param folders: of the zoo's runs
    :return: real paths, whether there is something or not
    """
    pairs = [(folder, _origin(folder, _arguments(file))) for folder in folders for file in folder.glob("*/args.yml")]
    return {origin for folder, origin in pairs if origin is not None and origin != folder.resolve()}


def _arguments(path: Path) -> dict[str, str]:
    """What the zoo was called with, as text; nothing of the file is made an object. A file of another form says nothing."""
    try:
        import yaml
    except ImportError as error:
        raise ValueError(f"{path} cannot be read: pip install pyyaml") from error
    try:
        (pairs,) = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader).value
        return {key.value: value.value for key, value in (pair.value for pair in pairs.value)}
    except (yaml.YAMLError, AttributeError, TypeError, ValueError):
        return {}


def _origin(folder: Path, arguments: Mapping[str, str]) -> Path | None:
    """
    The folder of the checkpoint. The paths of ``-i`` and ``-f`` are those of the machine and of the working directory that the
    run had: what holds also after both have been moved is the way from the one to the other.
    """
    checkpoint = Path(str(arguments.get("trained_agent")))
    if not _CHECKPOINT.fullmatch(checkpoint.name):
        return None
    origin = checkpoint.parent
    logs = Path(str(arguments.get("log_folder", origin.parent.parent)))
    is_moved = not (origin.is_absolute() and origin.is_dir())
    if is_moved and origin.is_absolute() == logs.is_absolute():
        origin = folder.resolve().parent.parent / os.path.relpath(origin, logs)
    return origin.resolve()
