"""
Does a refactoring change a number? Runs small seeded agents with the package of the working tree and with that of another
commit, and compares their state and logs bit for bit. Exits with 0 only if everything is the same.

    python benchmarks/same_as.py HEAD~3
    python benchmarks/same_as.py main --cases tom resumed --keep runs/records
    python benchmarks/same_as.py main --allow-added

The working tree is compared with its uncommitted changes, as it is at the start: later ones have no effect. Both sides run the
cases of the working tree (``same_as_cases.py``), which use public names only. Equal bits are to be expected on one machine
only; see docs/resume.md.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from checkout import ROOT
from same_as_cases import CASES
from same_as_compare import compare
from same_as_record import load_values

BENCHMARKS = Path(__file__).resolve().parent
PROGRAM = """
import sys
sys.path[:0] = sys.argv[1:3]
from same_as_side import run_side
run_side(sys.argv[1], sys.argv[3], sys.argv[4:])
"""
SAME_EVERYWHERE = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONHASHSEED": "0",
    "SB3_TOM_NO_ZOO_HOOK": "1",
    # Large arrays begin at the same place within a page whatever was allocated before: the last bit of a sum or a product
    # may depend on where its numbers begin
    "MALLOC_MMAP_THRESHOLD_": str(2**18),
}
"""Environment variables of both sides."""
SIDES = ("here", "there")
"""Names of the folders of working tree and commit, of about equal length."""


def git(*arguments: str) -> str:
    """
    Output of a git command in this checkout.

    :param arguments: of git
    """
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def commit_of(revision: str) -> str:
    """
    The commit that a revision names.

    :param revision: any that git accepts
    """
    try:
        return git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except subprocess.CalledProcessError:
        raise SystemExit(f"{revision} is no commit of {ROOT}") from None


@contextmanager
def worktree(commit: str, path: Path) -> Iterator[None]:
    """
    A checkout of a commit, removed after the block.

    :param commit: its hash
    :param path: of the checkout
    """
    git("worktree", "add", "--quiet", "--detach", str(path), commit)
    try:
        yield
    finally:
        shutil.rmtree(path, ignore_errors=True)
        git("worktree", "prune")


@contextmanager
def side(root: Path, folder: Path, names: list[str]) -> Iterator[IO[str]]:
    """
    A process that runs cases; ended after the block.

    :param root: folder of the package
    :param folder: receives the records
    :param names: of the cases
    :return: lines that the process prints, one for each case
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | SAME_EVERYWHERE | {"TMPDIR": str(root.parent)}  # a killed process leaves its files there
    words = [sys.executable, "-c", PROGRAM, str(root), str(BENCHMARKS), str(folder), *names]
    with (folder / "process.txt").open("w") as errors:
        process = subprocess.Popen(
            words, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True,
            start_new_session=True,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # its cases too
        process.wait()
        process.stdout.close()


def problem_of(folder: Path, name: str) -> str:
    """
    Why a side has no record of a case; empty if it has one.

    :param folder: of the side
    :param name: of the case
    """
    if (folder / f"{name}.npz").exists():
        return ""
    error = folder / f"{name}.error"
    if error.exists():
        return error.read_text()
    lines = (folder / "process.txt").read_text().strip().splitlines()
    return f"its process died{': ' + lines[-1] if lines else ''}"


def judge(records: Path, name: str, allow_added: bool) -> tuple[str, str]:
    """
    Compare the records of a case.

    :param records: folder of both sides' folders
    :param name: of the case
    :param allow_added: whether names that only the working tree has are allowed
    :return: "same", "differs" or "failed", and the line about it
    """
    problems = {side: problem_of(records / side, name) for side in SIDES}
    failures = [f"{side}: {problem}" for side, problem in problems.items() if problem]
    if failures:
        return "failed", f"failed {'; '.join(failures)}"
    comparison = compare(*(load_values(records / side / f"{name}.npz") for side in SIDES))
    if not comparison.is_same(allow_added):
        return "differs", comparison.report()
    more = f"; added: {comparison.added_names()}" if comparison.added else ""
    return "same", f"same in {comparison.n_names - len(comparison.added)} names{more}"


def run(revision: str, names: list[str], records: Path, allow_added: bool) -> bool:
    """
    Run cases on both sides and print a line about each.

    :param revision: the other commit
    :param names: of the cases
    :param records: folder for both sides' records
    :param allow_added: see :func:`judge`
    :return: whether all are the same
    """
    began, commit = time.monotonic(), commit_of(revision)
    verdicts: list[str] = []
    with ExitStack() as stack:
        place = Path(stack.enter_context(TemporaryDirectory(prefix="same_as_")))
        here, there = (place / name for name in SIDES)
        shutil.copytree(ROOT / "sb3_tom", here / "sb3_tom", ignore=shutil.ignore_patterns("__pycache__"))
        stack.enter_context(worktree(commit, there))
        outputs = [stack.enter_context(side(root, records / root.name, names)) for root in (here, there)]
        for name in names:
            seconds = [output.readline().strip() or "?" for output in outputs]
            verdict, line = judge(records, name, allow_added)
            verdicts.append(verdict)
            print(f"{name}: {line} ({' and '.join(seconds)} s)", flush=True)
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in ("same", "differs", "failed"))
    print(f"{len(names)} cases, here and there ({revision}, {commit[:10]}): {counts}; {time.monotonic() - began:.0f} s")
    return verdicts.count("same") == len(names)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", metavar="REV", help="the other commit")
    parser.add_argument("--cases", metavar="NAME", nargs="+", choices=CASES, default=[*CASES], help="all by default")
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="keep the records, and what the cases printed, there")
    parser.add_argument("--allow-added", action="store_true", help="names that only the working tree has are listed, but pass")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the worktree is removed then too
    with TemporaryDirectory(prefix="same_as_records_") as temporary:
        records = (arguments.keep or Path(temporary)).resolve()
        if any(path.suffix in (".npz", ".error") for path in records.glob("*/*")):
            raise SystemExit(f"{records} holds records of another run: choose another folder")
        return 0 if run(arguments.revision, arguments.cases, records, arguments.allow_added) else 1


if __name__ == "__main__":
    sys.exit(main())
