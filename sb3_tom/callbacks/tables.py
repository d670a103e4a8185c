"""CSV files: of a run, which survive an interruption, and complete ones."""

import codecs
import csv
import io
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from sb3_tom.checkpoint.replacing import replaced
from sb3_tom.checks.validation import check_integer


class RunTable:
    """
    CSV table of one run, written row by row and flushed, so that an interrupted run keeps all of its rows. A run that
    continues from a saved agent keeps its rows, except those of later env steps, which it will produce again. A new run
    renames the file of an earlier one to ``<name>.1``, ``<name>.2``, ... Rows of a file stay where they
    are until :meth:`begin`, or the first row: a run that does not begin, because something else is wrong, changes nothing.

    :param path: the file; its folder is created
    :param columns: names of all columns, ``env_step`` among them
    :param labels: values of the columns that are the same in all rows (task, method, seed)
    :param env_step: env steps that the agent has done so far
    :raises ValueError: if the file is of another run (other columns or labels), or somebody else's
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        columns: Sequence[str],
        labels: dict[str, Any],
        env_step: int = 0,
    ) -> None:
        self.path = Path(path)
        self.columns = (*labels, *columns)
        self.labels = {name: str(value) for name, value in labels.items()}
        found = self._read()
        self.rows = [row for row in found if 0 < int(row["env_step"]) <= env_step]
        self._is_begun, self._is_anew = not found, env_step == 0
        if self._is_begun:
            self._rewrite()

    def _read(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        rows = read_table(self.path)
        stranger: object = next((row for row in rows if not self._is_own(row)), None)
        if stranger is None and not rows and not self._has_own_header():
            stranger = self.path.read_text(encoding="utf-8", errors="replace")[:200]
        if stranger is not None:
            expected = f"the columns {self.columns} and {self.labels}"
            raise ValueError(f"{self.path} belongs to another run: expected {expected}, found {stranger!r}")
        return rows

    def _is_own(self, row: Mapping[str, str]) -> bool:
        is_whole = tuple(row) == self.columns and None not in row.values()
        return is_whole and row["env_step"].isdecimal() and all(row[name] == value for name, value in self.labels.items())

    def _has_own_header(self) -> bool:
        """Or the beginning of it, or nothing at all: a run that was killed leaves that. Any other line is somebody's."""
        first, newline, _ = self.path.read_bytes().partition(b"\n")
        header = ",".join(self.columns).encode()
        return first == header if newline else header.startswith(first)

    def _move_aside(self) -> None:
        """Rename a file that has rows: they are an earlier run's result."""
        names = (self.path.with_name(f"{self.path.name}.{number}") for number in count(1))
        self.path.replace(next(name for name in names if not name.exists()))

    def begin(self) -> None:
        """Take over the file: rename that of an earlier run, drop later rows. The first row does so too."""
        if self._is_begun:
            return
        if self._is_anew and self.path.exists():
            self._move_aside()
        self._rewrite()
        self._is_begun = True

    def _rewrite(self) -> None:
        with replaced(self.path) as partial:
            write_table(partial, self.columns, self.rows)

    def keep(self, n_rows: int) -> None:
        """
        Drop the rows that were written after a checkpoint.

        :param n_rows: number of rows to keep
        :raises ValueError: if it is not a number of rows
        """
        n_rows = check_integer("rows", n_rows, 0)
        self.rows = self.rows[:n_rows]
        if self._is_begun:
            self._rewrite()
        else:
            self.begin()

    def append(self, *rows: dict[str, Any]) -> None:
        """
        Append rows to the file and flush it.

        :param rows: values of all columns that are not labels; floats are written with six significant digits
        """
        self.begin()
        texts = [self.labels | _texts(row) for row in rows]
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns, lineterminator="\n").writerows(texts)
        self.rows.extend(texts)


def _texts(row: Mapping[str, Any]) -> dict[str, str]:
    return {name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in row.items()}


def write_table(path: str | os.PathLike[str], columns: Collection[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """
    Write a CSV file with a header, for :func:`read_table`.

    :param path: the file
    :param columns: names of the columns, in order
    :param rows: values of all columns; floats are written with six significant digits
    """
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_texts(row) for row in rows)


def read_table(path: str | os.PathLike[str]) -> list[dict[str, str]]:
    """
    Rows of a CSV file with a header, in order, without a last line that was written only in part.

    :param path: the file
    :raises ValueError: if it is no text or no CSV file, naming it
    """
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(Path(path).read_bytes())  # it may end within a letter
        complete, _, _ = text.rpartition("\n")
        while complete.count('"') % 2:  # cut within a quoted label that has a line break
            complete, _, _ = complete.rpartition("\n")
        return list(csv.DictReader(io.StringIO(complete, newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV file: {error}") from error


def check_fields(rows: Iterable[Mapping[str, str]]) -> None:
    """
    Refuse rows with more or fewer values than the header has names: something else has written into the file, or its disk was
    full.

    :param rows: from :func:`read_table`
    :raises ValueError: naming the row
    """
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise ValueError(f"row {number} has {'more' if None in row else 'fewer'} values than the header has names: {row}")
