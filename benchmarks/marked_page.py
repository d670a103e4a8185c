"""Shared by benchmarks with a page: a generated part between two marks, two commands, figures."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sb3_tom.callbacks.tables import read_table
from sb3_tom.plots.statistics import mean_interval

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"


def write_between(page: Path, begin: str, end: str, text: str) -> None:
    """
    Replace the text between two marks.

    :param page: its marks and the rest are kept
    :param begin: first mark
    :param end: second mark
    :param text: new text between them, on lines of its own
    """
    before, _, rest = page.read_text().partition(begin)
    page.write_text(f"{before}{begin}\n{text}{end}{rest.partition(end)[2]}")


def draw_and_write(
    table: Path,
    draw: Callable[[list[dict[str, str]], Path], None],
    page: Path,
    begin: str,
    end: str,
    text: Callable[[list[dict[str, str]]], str],
) -> None:
    """
    Draw a picture beside its table, if that has rows, and write the generated part of a page.

    :param table: CSV file; may be missing
    :param draw: ``draw(rows, path)``
    :param page: see :func:`write_between`
    :param begin: the same
    :param end: the same
    :param text: of the rows
    """
    rows = read_table(table) if table.exists() else []
    if rows:
        draw(rows, table.with_suffix(".png"))
    write_between(page, begin, end, text(rows))


def run_and_page(description: str | None) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """
    A command line with the commands ``run`` and ``page``, which both have ``--out``.

    :param description: the benchmark's docstring
    :return: the parser, and that of ``run``
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "page"):
        commands.add_parser(name).add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    return parser, commands.choices["run"]


def over_seeds(values: Sequence[float]) -> str:
    """
    Cell of a table for several seeds: the mean and its interval or, with too few seeds for one, the mean and the values.

    :param values: one per seed
    """
    center, low, high = mean_interval(np.array(values))
    if not np.isnan(low):
        return f"{center:.1f} [{low:.1f}, {high:.1f}]"
    return f"{center:.1f}" + (f" ({', '.join(f'{value:.1f}' for value in values)})" if len(values) > 1 else "")
