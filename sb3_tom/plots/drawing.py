"""Panels and files of figures, and their tables."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sb3_tom.callbacks.tables import write_table

T = TypeVar("T")
COLUMNS = 4
"""Panels in a row."""


class NothingToDrawError(ValueError):
    """The runs have not the quantity of a picture."""


def grouped(items: Iterable[T], key: Callable[[T], str]) -> dict[str, list[T]]:
    """
    Items by key, in order of appearance.

    :param items: to group
    :param key: returns the key of an item
    """
    groups: dict[str, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def panels(count: int) -> tuple[Figure, list[Axes]]:
    """
    Panels in rows of at most four. A Figure without pyplot is drawn by Agg, without a display.

    :param count: number of panels
    """
    n_columns = min(count, COLUMNS)
    n_rows = -(-count // n_columns)
    figure = Figure(figsize=(6.4 * n_columns, 4.2 * n_rows), layout="constrained")
    axes: Any = figure.subplots(n_rows, n_columns, squeeze=False)
    for unused in axes.flat[count:]:
        unused.remove()
    return figure, list(axes.flat[:count])


def finish(axes: Axes, legend_title: str | None = None, **texts: Any) -> None:
    """
    Set titles and grid, and a legend if anything has a label.

    :param axes: one panel
    :param legend_title: of the legend
    :param texts: for ``Axes.set``
    """
    axes.set(**texts)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best", fontsize="small", title=legend_title)


def legend_text(name: str) -> str:
    """
    A name as matplotlib draws it: an underscore at its beginning would hide it, and dollars would make it mathematics.

    :param name: of a method
    """
    return name.lstrip("_").replace("$", r"\$")


def save(figure: Figure, out: str | os.PathLike[str], rows: Sequence[dict[str, Any]]) -> Path:
    """
    Write the PNG, and the drawn data beside it as ``<name>_summary.csv``.

    :param figure: the picture
    :param out: its path; folders are created
    :param rows: of the table, all with the same keys
    :return: the PNG's path
    :raises ValueError: if the path has another ending: a picture must not replace a table
    """
    path = Path(out)
    if path.suffix.lower() not in (".png", ""):
        raise ValueError(f"out={str(path)!r} is not allowed; allowed: a name that ends in .png")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, format="png")
    write_table(path.with_name(f"{path.stem}_summary.csv"), list(rows[0]), rows)
    return path
