"""
One side of ``same_as.py``: runs cases with the package of one folder. Not a script: ``sys.path`` determines the package, and
``same_as.py`` sets it before this module is imported.
"""

import multiprocessing
import os
import sys
import time
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch as th
from same_as_cases import CASES, Case
from same_as_record import Record
from stable_baselines3.common.utils import set_random_seed

import sb3_tom


def run_side(root: str, folder: str, names: list[str]) -> None:
    """
    Run cases, each in a fork of this process, so that they are independent and share the imports. Prints a line with the
    seconds after each.

    :param root: folder that the package must come from
    :param folder: receives ``<name>.npz``, or ``<name>.error``, and what was printed as ``<name>.txt``
    :param names: of the cases
    """
    if Path(sb3_tom.__file__).resolve().parents[1] != Path(root).resolve():
        raise SystemExit(f"{sb3_tom.__file__} was imported; it should come from {root}")
    th.set_num_threads(1)
    context = multiprocessing.get_context("fork")
    for name in names:
        began = time.monotonic()
        process = context.Process(target=_run_and_save, args=(name, Path(folder)))
        process.start()
        process.join()
        print(f"{time.monotonic() - began:.1f}", flush=True)


def _run_and_save(name: str, folder: Path) -> None:
    with (folder / f"{name}.txt").open("w") as output:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(output.fileno(), stream.fileno())
        try:
            run_case(CASES[name]).save(folder / f"{name}.npz")
        except Exception as error:
            traceback.print_exc()
            (folder / f"{name}.error").write_text(f"{type(error).__name__}: {error}")


def run_case(case: Case) -> Record:
    """
    What a case leaves.

    :param case: is run with fresh global random streams
    """
    set_random_seed(0)  # for envs and policies made before the agent's own seed, and draws of the case itself
    record = Record()
    with TemporaryDirectory(prefix="same_as_case_") as folder, np.errstate(all="ignore"):
        case(record, Path(folder))
    return record
