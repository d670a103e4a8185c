"""Runs a sweep: order of runs, further attempts, table and progress. Independent of the engine."""

import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from sb3_tom.sweep.files import LOCK, check_folder, claim, only_one, read_result, steps_of, write_sweep_table
from sb3_tom.sweep.run import Outcome
from sb3_tom.sweep.spec import RunSpec

POLL_SECONDS = 2.0
"""Seconds between two writes of the table while no run ends."""

LINE_SECONDS = 60.0
"""Seconds between two lines of progress if there is no terminal."""

CLEAR = "\r\033[K"
"""Sequence that clears a terminal's line."""


def say(line: str) -> None:
    """
    Print a line; in a terminal it replaces that of the progress.

    :param line: to print
    """
    print(f"{CLEAR if sys.stdout.isatty() else ''}{line}", flush=True)


class Engine(Protocol):
    """Starts runs, on this machine or others."""

    def room(self) -> int:
        """Number of runs that it can currently hold, at least 1."""

    def submit(self, run: Any, out: Path) -> Hashable:
        """
        Start a run, or queue it until there are resources.

        :param run: to start
        :param out: folder of the sweep
        :return: handle of this attempt
        """

    def wait(self, attempts: Sequence[Hashable], seconds: float) -> dict[Hashable, Outcome]:
        """
        Wait until an attempt ends, or for ``seconds``.

        :param attempts: that have not ended
        :param seconds: maximum time to wait
        :return: outcomes of those that have ended, also because their process or machine is lost
        """


class Watch(Protocol):
    """Gets the events of runs."""

    def started(self, run: Any) -> None:
        """
        An attempt was started or queued.

        :param run: its run
        """

    def ended(self, run: Any, outcome: Outcome, left: int, again: bool) -> None:
        """
        An attempt has ended.

        :param run: its run
        :param outcome: its outcome
        :param left: number of attempts that are left
        :param again: whether another one follows
        """

    def tick(self) -> None:
        """Called at least every :data:`POLL_SECONDS`."""


def drive(engine: Engine, runs: Iterable[Any], out: Path, retries: int, n_jobs: int | None, watch: Watch) -> None:
    """
    Run all runs; retry failures that are not final after the others.

    :param engine: starts the runs
    :param runs: to run, in this order; each has a unique ``name``
    :param out: folder of the sweep, for the engine
    :param retries: maximum number of further attempts of each
    :param n_jobs: runs at a time; None: as many as the engine can hold
    :param watch: gets the events
    """
    waiting, running = deque(runs), dict[Hashable, Any]()
    attempts: Counter[str] = Counter()
    while waiting or running:
        room = n_jobs or engine.room()
        while waiting and len(running) < room:
            run = waiting.popleft()
            running[engine.submit(run, out)] = run
            watch.started(run)
        watch.tick()
        for attempt, outcome in engine.wait(list(running), POLL_SECONDS).items():
            run = running.pop(attempt)
            attempts[run.name] += 1
            left = retries + 1 - attempts[run.name]
            again = outcome.state != "done" and not outcome.is_final and left > 0
            watch.ended(run, outcome, left, again)
            if again:
                waiting.append(run)


class Sweep:
    """
    The runs of a sweep and their states; the watch of :func:`drive`.

    :param runs: all of them
    :param out: folder of the sweep
    :param say: prints a line
    """

    def __init__(self, runs: Sequence[RunSpec], out: Path, say: Callable[[str], None] = say) -> None:
        self.runs, self.out, self.say = list(runs), out, say
        self.states: dict[str, str] = {}
        self.errors: dict[str, str] = {}
        self._unwritten = ""

    def run(self, engine: Engine, retries: int, n_jobs: int | None = None) -> int:
        """
        Run all runs that are not done.

        :param engine: starts the runs
        :param retries: maximum number of further attempts after failures that are not final
        :param n_jobs: runs at a time; None: as many as the engine can hold
        :return: number of runs that are not done
        :raises ValueError: if the folder belongs to another sweep, or if a learning curve cannot be read at the end
        :raises OSError: if the table cannot be written at the end, or another process runs this sweep
        """
        check_folder(self.out, self.runs)  # before the lock, which is a file in it
        with only_one(self.out / LOCK, 0.0, f"the sweep of {self.out}"):
            claim(self.out, self.runs)
            for run in self.runs:
                self.states[run.name] = "done" if read_result(self.out / run.name).get("state") == "done" else "waiting"
            self._progress = Progress(self)
            waiting = [run for run in self.runs if self.states[run.name] == "waiting"]
            try:
                drive(engine, waiting, self.out, retries, n_jobs, self)
            except BaseException:  # stopped by the user, or the engine is lost
                self.states = {name: "waiting" if state == "running" else state for name, state in self.states.items()}
                self._write()
                raise
            write_sweep_table(self.out, self.runs, self.states, self.errors)
            self.say(self._progress.line())
        return sum(state != "done" for state in self.states.values())

    def started(self, run: RunSpec) -> None:
        """See :class:`Watch`."""
        self.states[run.name] = "running"

    def ended(self, run: RunSpec, outcome: Outcome, left: int, again: bool) -> None:
        """See :class:`Watch`."""
        self.states[run.name] = "waiting" if again else outcome.state
        self.errors.pop(run.name, None)
        if outcome.state == "done":
            self.say(f"{run.name}: done")
            return
        self.errors[run.name] = outcome.error
        self.say(f"{run.name}: {outcome.error}; {f'tried again, {left} attempts are left' if again else 'given up'}")

    def tick(self) -> None:
        """See :class:`Watch`."""
        self._write()
        self._progress.show()

    def _write(self) -> None:
        """Write the table, made of the runs' files. A full disk, or a file that cannot be read, does not stop other runs."""
        try:
            write_sweep_table(self.out, self.runs, self.states, self.errors)
            self._unwritten = ""
        except (OSError, ValueError) as error:
            if str(error) != self._unwritten:
                self.say(f"the table cannot be written: {error}")
            self._unwritten = str(error)


class Progress:
    """
    Runs done, env steps and remaining time: one line that is overwritten in a terminal, else a line per minute.

    :param sweep: the runs and their states
    """

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self._began, self._first = time.monotonic(), self._steps()
        self._shown = -LINE_SECONDS

    def _steps(self) -> int:
        return sum(map(self._steps_of, self.sweep.runs))

    def _steps_of(self, run: RunSpec) -> int:
        is_done = self.sweep.states[run.name] == "done"
        return run.n_timesteps if is_done else min(steps_of(self.sweep.out / run.name), run.n_timesteps)

    def line(self) -> str:
        """The line."""
        runs, states = self.sweep.runs, self.sweep.states
        steps, total = self._steps(), sum(run.n_timesteps for run in runs)
        left = sum(run.n_timesteps - self._steps_of(run) for run in runs if states[run.name] != "failed")
        seconds, made = time.monotonic() - self._began, steps - self._first
        eta = timedelta(seconds=round(left * seconds / max(made, 1))) if made > 0 or left == 0 else "unknown"
        counts = Counter(states.values())
        others = "".join(f", {counts[state]} {state}" for state in ("running", "waiting", "failed") if counts[state])
        return f"{counts['done']}/{len(runs)} runs done{others}; {steps:,}/{total:,} steps; ETA {eta}"

    def show(self) -> None:
        """Print the line, if it is due."""
        if sys.stdout.isatty():
            print(f"{CLEAR}{self.line()}", end="", flush=True)
        elif time.monotonic() >= self._shown + LINE_SECONDS:
            self._shown = time.monotonic()
            self.sweep.say(self.line())
