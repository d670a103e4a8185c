"""The command line: ``python -m sb3_tom.plots``."""

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import inf
from pathlib import Path

from sb3_tom.plots.ages import draw_weight_by_age
from sb3_tom.plots.curves import QUANTITIES, draw_curves
from sb3_tom.plots.differences import COMPARABLE, draw_differences
from sb3_tom.plots.drawing import NothingToDrawError
from sb3_tom.plots.runs import Run, describe_sources, read_runs
from sb3_tom.plots.statistics import LEAST_SEEDS

PICTURES: dict[str, tuple[str, Callable[..., Path]]] = {
    "curves": ("learning_curves", draw_curves),
    "weights": ("weight_by_age", draw_weight_by_age),
    "ess": ("effective_sample_size", partial(draw_curves, column="ess")),
    "model-error": ("model_error", partial(draw_curves, column="model_error")),
    "global-error": ("global_model_error", partial(draw_curves, column="global_error")),
    "local-error": ("local_model_error", partial(draw_curves, column="local_error")),
    "compounding-error": ("compounding_model_error", partial(draw_curves, column="compounding_error")),
}
"""By command: the file name for ``all``, and the function that draws it."""

PATHS = "files (CSV files of the callbacks, progress.csv, evaluations.npz, TensorBoard) or folders of runs"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sb3_tom.plots", description="Pictures (PNG) and tables (CSV) of runs.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in (*PICTURES, "differences", "all"):
        command = commands.add_parser(name)
        command.add_argument("paths", nargs="+", type=Path, metavar="PATH", help=PATHS)
        kind = ("FOLDER", "for all pictures that can be drawn") if name == "all" else ("PNG", "the picture")
        command.add_argument("--out", type=Path, required=True, metavar=kind[0], help=kind[1])
        command.add_argument("--task", help="label for all runs in place of what their files and folders tell")
        command.add_argument("--method", help="label for all runs in place of what their files and folders tell")
    commands.choices["curves"].add_argument("--column", choices=sorted(QUANTITIES), default="return_mean")
    differences = commands.choices["differences"]
    differences.add_argument("--column", choices=sorted(COMPARABLE), default="return_mean")
    differences.add_argument("--baseline", metavar="METHOD", help="to compare the others with; default: the first found")
    differences.add_argument("--first", type=int, metavar="STEP", default=0, help="first env step of the means")
    differences.add_argument("--last", type=int, metavar="STEP", default=inf, help="last env step of the means")
    return parser


def _draw_all(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Draw every picture for which there is data."""
    pictures, without = [], []
    for command, (name, draw) in PICTURES.items():
        try:
            pictures.append(draw(runs, folder / f"{name}.png"))
        except NothingToDrawError:
            without.append(command)
        except ValueError as error:
            print(f"no {name}: {error}")
    if not pictures:
        raise ValueError(f"nothing was drawn: {describe_sources(runs)}")
    if without:
        print(f"not drawn (no data): {', '.join(without)}")
    return pictures


def _compare(runs: Sequence[Run], parsed: argparse.Namespace) -> Path:
    """Draw the differences, and print a line of each."""
    window = (parsed.first, parsed.last)
    picture, comparison = draw_differences(runs, parsed.out, parsed.column, parsed.baseline, window)
    print(*comparison.differences, *(f"not compared: {reason}" for reason in comparison.not_compared), sep="\n")
    _say_why_no_interval(len(difference.values) for difference in comparison.differences)
    return picture


def _say_why_no_interval(numbers: Iterable[int]) -> None:
    """Print which numbers of seeds are too few for an interval of their mean. A single seed is drawn without a mean."""
    few = [str(number) for number in sorted(set(numbers)) if 1 < number < LEAST_SEEDS]
    if few:
        print(f"{' or '.join(few)} seeds: no interval below {LEAST_SEEDS} (docs/plots.md)")


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Draw the requested pictures and print their paths.

    :param arguments: of the command line; None: those of this process
    :raises SystemExit: with one line, if there is nothing to draw
    """
    parser = _parser()
    parsed = parser.parse_args(arguments)
    try:
        runs = read_runs(parsed.paths, parsed.task, parsed.method)
        if parsed.command == "all":
            pictures = _draw_all(runs, parsed.out)
        elif parsed.command == "curves":
            pictures = [draw_curves(runs, parsed.out, parsed.column)]
        elif parsed.command == "differences":
            pictures = [_compare(runs, parsed)]
        else:
            pictures = [PICTURES[parsed.command][1](runs, parsed.out)]
    except (ValueError, OSError) as error:
        parser.error(str(error))
    if parsed.command not in ("weights", "differences"):  # the first are of one run each
        _say_why_no_interval(Counter((run.task, run.method) for run in runs).values())
    print(*pictures, sep="\n")


if __name__ == "__main__":
    main()
