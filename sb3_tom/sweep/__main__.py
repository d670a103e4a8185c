"""The command line: ``python -m sb3_tom.sweep``."""

import argparse
import ast
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sb3_tom.checks.validation import check_integer, check_number
from sb3_tom.sweep.cluster import connected
from sb3_tom.sweep.driver import Sweep, say
from sb3_tom.sweep.spec import DEFAULTS, make_runs

RESOURCES: dict[str, Any] = {"cpus": 1, "gpus": 0, "retries": 3, "n_jobs": None, "address": None}
"""Arguments of execution, which may change when a sweep is started again."""

HELP = """\
Runs tasks x algorithms x seeds x hyperparameters on this machine, or on a Ray cluster. Started again, it goes on.

    python -m sb3_tom.sweep --out runs/sweep --env Hopper-v5 --algo sac dhmbpo --seed 0 1 2 --n-timesteps 20000
    python -m sb3_tom.sweep --out runs/sweep --file sweep.yml --address auto
"""


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    usage = "python -m sb3_tom.sweep --out FOLDER [--file YAML] [--env ...] [--algo ...] [...]; --help says more"
    parser = argparse.ArgumentParser(prog="python -m sb3_tom.sweep", usage=usage, description=HELP, formatter_class=form)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder of the sweep, which all machines share")
    add("--file", type=Path, help="YAML file with any of the following, their names with _ in place of -")
    what = parser.add_argument_group("what is run")
    add = what.add_argument
    add("--env", nargs="+", help="ids of environments")
    add("--algo", nargs="+", help="the RL Zoo's names of algorithms, those of this package among them")
    add("--seed", nargs="+", type=int, help="default: 0")
    add("--params", nargs="+", metavar="NAME:VALUE", help="hyperparameters in place of the Zoo's, for all algorithms")
    add("--grid", nargs="+", metavar="NAME:[VALUE,...]", help="hyperparameters of which every combination is run")
    add("--n-timesteps", type=int, help="env steps; default: those of the Zoo's file")
    add("--eval-freq", type=int, help="env steps between evaluations; default: a twentieth of the run")
    add("--eval-episodes", type=int, help="episodes of an evaluation; default: 10")
    add("--save-freq", type=int, help="env steps between checkpoints; default: as --eval-freq")
    add("--device", help="default: cpu")
    add("--num-threads", type=int, help="threads of PyTorch in a run; default: 1")
    add("--gym-packages", nargs="+", metavar="MODULE", help="modules to import, which register environments")
    how = parser.add_argument_group("how it is run")
    add = how.add_argument
    add("--cpus", type=int, help="CPUs that a run takes; default: 1")
    add("--gpus", type=float, help="GPUs that a run takes, or a share of one; default: 0")
    add("--retries", type=int, help="further attempts of a run that failed otherwise than for good; default: 3")
    add("--n-jobs", type=int, help="runs at a time; default: as many as there are CPUs for")
    add("--address", help="of a Ray cluster: auto, or host:port; default: a Ray on this machine alone")
    return parser


def _literal(node: ast.expr) -> Any:
    """A Python literal, or the Zoo's way to write a mapping on the command line: ``dict(name=value)``; no code is run."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        pairs = [(keyword.arg, _literal(keyword.value)) for keyword in node.keywords]
        if all(key for key, _ in pairs):  # no dict(**other)
            return dict(pairs)
    return ast.literal_eval(node)


def _pairs(name: str, words: Sequence[Any]) -> dict[str, Any]:
    """Parse ``name:value``, as in the Zoo's ``-params``; the value is a Python literal, ``dict(...)`` of some, or YAML."""
    import yaml

    pairs = {}
    for word in words:
        key, colon, text = word.partition(":") if isinstance(word, str) else ("", "", "")
        if not key or not colon:
            raise ValueError(f"{name}={word!r} is not allowed; allowed: NAME:VALUE, or in a file a mapping of names to values")
        try:
            pairs[key] = _literal(ast.parse(text.lstrip(" \t"), mode="eval").body)
        except (ValueError, TypeError, SyntaxError):
            try:
                # Of other Python, which the Zoo evaluates for some keys, YAML would take a colon for its own
                pairs[key] = text if text.startswith("dict(") else yaml.safe_load(text)
            except (ValueError, yaml.YAMLError) as error:
                raise ValueError(f"{name}={word!r} is not allowed: {error}; allowed: a value in Python or YAML") from None
    return pairs


def read_words(path: Path | None, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    Arguments from the file and from the command line, which overrides it.

    :param path: YAML file, read without running code
    :param given: arguments by their names in the file; None for those not given
    :return: those that determine results (:data:`~sb3_tom.sweep.spec.DEFAULTS`), and those of execution (:data:`RESOURCES`)
    :raises ValueError: naming the file or the argument, what came and what is allowed
    """
    words = {} if path is None else _read(path)
    words |= {name: value for name, value in given.items() if value is not None}
    for name in ("params", "grid"):
        if isinstance(words.get(name), list):
            words[name] = _pairs(name, words[name])
    resources = {name: words.pop(name, default) for name, default in RESOURCES.items()}
    check_integer("cpus", resources["cpus"], 1)
    check_number("gpus", resources["gpus"], 0.0)
    check_integer("retries", resources["retries"], 0)
    if resources["n_jobs"] is not None:
        check_integer("n_jobs", resources["n_jobs"], 1)
    if resources["address"] is not None and not isinstance(resources["address"], str):
        raise ValueError(f"address={resources['address']!r} is not allowed; allowed: 'auto', or host:port of a Ray")
    return words, resources


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        words = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"file={str(path)!r} cannot be read: {error}; allowed: a YAML file") from None
    names = {*DEFAULTS, *RESOURCES}
    if not isinstance(words, dict) or not set(words) <= names:
        wrong = sorted(map(str, set(words) - names)) if isinstance(words, dict) else words
        raise ValueError(f"file={str(path)!r} holds {wrong!r}; allowed: a mapping with any of {sorted(names)}")
    return words


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """In the block SIGTERM, which Slurm and ``timeout`` send, is like Ctrl-C: Ray's own handler would end in a C++ trace."""
    if threading.current_thread() is not threading.main_thread():  # where Python sets no handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the sweep of the command line.

    :param arguments: of the command line; None: those of this process
    :return: 0 if all runs are done, 130 if it was stopped by Ctrl-C or SIGTERM
    :raises SystemExit: with one line, if it cannot be run
    """
    parser = _parser()
    given = vars(parser.parse_args(arguments))
    out, path = given.pop("out").resolve(), given.pop("file")
    try:
        words, resources = read_words(path, given)
        sweep = Sweep(make_runs(words), out)
        retries, n_jobs = resources.pop("retries"), resources["n_jobs"]
        with connected(num_threads=sweep.runs[0].num_threads, **resources) as engine, _stopped_by_sigterm():
            missing = sweep.run(engine, retries, n_jobs)
    except ModuleNotFoundError as error:
        parser.error(f"{error}; python -m sb3_tom.sweep needs the RL Zoo and Ray: pip install 'sb3_tom[zoo,ray]'")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        say(f"stopped; the same command goes on with {out}")
        return 130
    print(f"table: {out / 'table.csv'}; pictures: python -m sb3_tom.plots all {out} --out {out}_plots")
    return min(missing, 1)


if __name__ == "__main__":
    sys.exit(main())
