"""Files that are replaced in one step."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = ".partial"
"""End of the name of what is being written; an interrupted process may leave it."""


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """
    Write a file in one step: whoever reads it, and a full disk, find the old one or the new one.

    :param path: the file; its folder is created
    :return: where to write what takes its place at the end of the block; after an error the old file is as it was
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
