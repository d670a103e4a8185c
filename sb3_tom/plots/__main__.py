"""The command line: ``python -m sb3_tom.plots``."""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sb3_tom.plots.ages import draw_weight_by_age
from sb3_tom.plots.curves import QUANTITIES, draw_curves
from sb3_tom.plots.runs import Run, read_runs

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
    for name in (*PICTURES, "all"):
        command = commands.add_parser(name)
        command.add_argument("paths", nargs="+", type=Path, metavar="PATH", help=PATHS)
        kind = ("FOLDER", "for all pictures that can be drawn") if name == "all" else ("PNG", "the picture")
        command.add_argument("--out", type=Path, required=True, metavar=kind[0], help=kind[1])
        command.add_argument("--task", help="label for all runs in place of what their files and folders tell")
        command.add_argument("--method", help="label for all runs in place of what their files and folders tell")
    commands.choices["curves"].add_argument("--column", choices=sorted(QUANTITIES), default="return_mean")
    return parser


def _draw_all(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Draw every picture for which there is data."""
    pictures = []
    for name, draw in PICTURES.values():
        try:
            pictures.append(draw(runs, folder / f"{name}.png"))
        except ValueError as error:
            print(f"no {name}: {error}")
    if not pictures:
        raise ValueError("nothing was drawn")
    return pictures


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
        else:
            pictures = [PICTURES[parsed.command][1](runs, parsed.out)]
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(*pictures, sep="\n")


if __name__ == "__main__":
    main()
