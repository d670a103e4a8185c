"""What benchmarks with a page share: a page that is written by hand but for the part between two marks, and two commands."""

import argparse
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"


def write_between(page: Path, begin: str, end: str, text: str) -> None:
    """
    Replace what stands between two marks.

    :param page: its marks and all else stay
    :param begin: first mark
    :param end: second mark
    :param text: what goes between them, on lines of its own
    """
    before, _, rest = page.read_text().partition(begin)
    page.write_text(f"{before}{begin}\n{text}{end}{rest.partition(end)[2]}")


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
