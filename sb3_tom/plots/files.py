"""Finds the files of runs below folders, each once, and reads them."""

import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from sb3_tom.plots.readers import READERS, UNREAD, Content, StrangeTableError, is_table_of_a_run, kind_of

SPOILED = (ArithmeticError, EOFError, LookupError, OSError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)
"""What Python, numpy and zipfile raise of content that no writer leaves."""

Found = dict[Path, tuple[str, Content]]
"""Kind and content by file; TensorBoard's files of a folder are one, named ``events``."""


def read_files(paths: Sequence[Path]) -> Found:
    """
    Read files, and all below folders, also behind links. What several names lead to is read once.

    :param paths: files and folders
    :return: contents in the order of the paths, links last; in a folder numbers are in their order, 2 before 10
    :raises ValueError: if a path is missing, or a file cannot be read
    """
    found: Found = {}
    empty: list[Path] = []
    seen: set[str] = set()
    for path in sorted(paths, key=Path.is_symlink):
        if path.is_dir():
            found.update(_read_below(path, seen))
        elif _is_new(_key(path), seen):
            content = _read_given(path)
            if content is None:
                empty.append(path)
            else:
                found[_key(path)] = content
    if empty and not found:
        raise ValueError(f"{empty[0]} has no row yet; allowed: a file that has, or a folder")
    for path in empty:
        warnings.warn(f"{path} has no row yet; the others are drawn", stacklevel=3)
    return found


def natural_order(path: Path) -> list[str | int]:
    """
    For sorting: the numbers in a path count as numbers.

    :param path: any
    """
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", str(path))]


def _read_below(folder: Path, seen: set[str]) -> Iterator[tuple[Path, tuple[str, Content]]]:
    """Contents of the files below a folder, but for what is in ``seen``: real paths of what was read under another name."""
    for file in _files_below(folder, seen):
        try:
            content = _read(file) if _is_new(_key(file), seen) else None
        except StrangeTableError as error:  # such as a table of many runs beside theirs
            warnings.warn(f"{error}; the file is left out", stacklevel=4)
            continue
        if content is not None:
            yield _key(file), content


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
        ordered = sorted(files, key=lambda file: (file.is_symlink(), natural_order(file)))
        yield from (file for file in ordered if file.is_file())
        waiting += sorted(links)


def _is_new(path: Path, seen: set[str]) -> bool:
    """Whether nothing in ``seen`` is the same file or folder; from now on it is there."""
    real = os.path.realpath(path)
    is_new = real not in seen
    seen.add(real)
    return is_new


def _key(path: Path) -> Path:
    """The name under which a file's content is kept."""
    return path.parent / "events" if (kind_of(path) or "").startswith("events") else path


def _read_given(path: Path) -> tuple[str, Content] | None:
    """Kind and content of a file that was named; None if it is a run's, and has no row yet."""
    if not path.is_file():
        raise ValueError(f"no such file or folder: {path}")
    content = _read(path)
    if content is None and not is_table_of_a_run(path):
        raise ValueError(f"{path} is no file that can be drawn; allowed: {sorted(READERS)}, or a folder")
    return content


def _read(path: Path) -> tuple[str, Content] | None:
    """Kind and content; None if it holds nothing of a run."""
    kind = kind_of(path)
    if kind is None:
        return None
    try:
        content = READERS[kind](path)
    except StrangeTableError as error:
        raise StrangeTableError(f"{path} cannot be read as {kind}: {error}") from error
    except SPOILED as error:
        raise ValueError(f"{path} cannot be read as {kind}: {error!r}") from error
    return (kind, content) if content is not None and (content is UNREAD or content.figures) else None
