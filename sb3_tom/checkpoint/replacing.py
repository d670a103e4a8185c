"""Replaces files atomically."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = ".partial"
"""Suffix of a file while it is written; an interrupted process may leave such a file."""


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """
    Write a file atomically: readers find the old one or the new one, also if the disk is full.

    :param path: the file; its folder is created
    :return: path to write to in the block; at its end it replaces the file, after an error the old file is kept
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
