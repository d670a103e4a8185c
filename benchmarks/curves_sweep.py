"""Runs of ``benchmarks/curves.py`` side by side, on the engine of ``python -m sb3_tom.sweep``."""

import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

from curves_jobs import Job, check_kept, is_finished, run_job

from sb3_tom.sweep.cluster import connected
from sb3_tom.sweep.driver import drive
from sb3_tom.sweep.run import Outcome, failed

RETRIES = 3
"""Further attempts of a run whose process was lost."""


@dataclass(frozen=True)
class PlacedJob:
    """
    A job and the folders of its files, for another process.

    :param job: the run
    :param out: folder of the results
    :param runs: folder of logs and checkpoints
    :param model_error: whether to measure the model's errors too
    """

    job: Job
    out: Path
    runs: Path
    model_error: bool

    @property
    def name(self) -> str:
        """Unique name among the jobs of a command."""
        return f"{self.job.task} {self.job.name}"


def run_there(placed: PlacedJob, runs: Path) -> Outcome:
    """
    Run a job on a machine; its output goes to the run's folder.

    :param placed: the run
    :param runs: folder of logs and checkpoints
    """
    folder = runs / placed.job.task / placed.job.name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output.txt").open("a") as output, redirect_stdout(output), redirect_stderr(output):
        try:
            run_job(placed.job, placed.out, runs, placed.model_error)
            outcome = Outcome("done")
        except SystemExit as error:  # existing files have other settings, or another method
            outcome = Outcome("failed", str(error))
        except Exception as error:
            traceback.print_exc()
            outcome = failed(error)
    return outcome if outcome.state == "done" else replace(outcome, error=f"{outcome.error}; see {output.name}")


class Lines:
    """
    Prints the events of runs.

    :param number: of runs
    """

    def __init__(self, number: int) -> None:
        self.waiting, self.running, self.failed = number, 0, 0

    def started(self, run: PlacedJob) -> None:
        """See :class:`~sb3_tom.sweep.driver.Watch`."""
        self.waiting, self.running = self.waiting - 1, self.running + 1

    def ended(self, run: PlacedJob, outcome: Outcome, left: int, again: bool) -> None:
        """See :class:`~sb3_tom.sweep.driver.Watch`."""
        self.waiting, self.running = self.waiting + again, self.running - 1
        self.failed += outcome.state == "failed" and not again
        state = "done" if outcome.state == "done" else f"FAILED{', tried again' * again}: {outcome.error}"
        print(f"{run.name} {state}; {self.waiting} waiting, {self.running} running", flush=True)

    def tick(self) -> None:
        """Does nothing: the runs print their evaluations to their own folders."""


def run_all(
    jobs: list[Job],
    out: Path,
    runs: Path,
    parallel: int,
    model_error: bool = False,
    address: str | None = None,
    there: Callable[[PlacedJob, Path], Outcome] = run_there,
) -> int:
    """
    Run the unfinished jobs.

    :param jobs: of the command
    :param out: folder of the results; on a cluster, one that all machines share, as ``runs``
    :param runs: folder of logs and checkpoints
    :param parallel: runs at a time
    :param model_error: whether to measure the models' errors too
    :param address: of a Ray cluster; None for this machine alone
    :param there: called on a machine with each run
    :return: the number of failed jobs
    :raises SystemExit: with one line, if there is no Ray, or none at the address
    """
    waiting = [job for job in jobs if not is_finished(job, out)]
    for job in waiting:
        check_kept(job, out, runs)
    print(f"{len(jobs)} jobs, {len(jobs) - len(waiting)} of them finished before", flush=True)
    if not waiting:
        return 0
    out, runs = out.resolve(), runs.resolve()
    lines = Lines(len(waiting))
    placed = [PlacedJob(job, out, runs, model_error) for job in waiting]
    try:
        with connected(address, parallel, there=there) as engine:
            drive(engine, placed, runs, RETRIES, parallel, lines)
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error}; benchmarks/curves.py run needs Ray: pip install 'sb3_tom[ray]'") from error
    except ValueError as error:  # of the address
        raise SystemExit(str(error)) from error
    return lines.failed
