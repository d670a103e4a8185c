"""Which run is next, which attempt another follows, what the table and the terminal say meanwhile. No engine's inside."""

import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from sb3_tom.sweep.files import LOCK, claim, only_one, read_result, steps_of, write_sweep_table
from sb3_tom.sweep.run import Outcome
from sb3_tom.sweep.spec import RunSpec

POLL_SECONDS = 2.0
"""How often the table is written while nothing ends."""

LINE_SECONDS = 60.0
"""How often a line is printed where no terminal is."""


CLEAR = "\r\033[K"
"""What a terminal removes the line with that it is in."""


def say(line: str) -> None:
    """
    Print a line, in a terminal in place of that of the progress.

    :param line: to print
    """
    print(f"{CLEAR if sys.stdout.isatty() else ''}{line}", flush=True)


class Named(Protocol):
    """A run, as far as it matters here."""

    @property
    def name(self) -> str:
        """Distinguishes it from all others."""


class Engine(Protocol):
    """What starts runs somewhere."""

    def room(self) -> int:
        """How many runs there is room for at the moment, at least 1."""

    def submit(self, run: Any, out: Path) -> Hashable:
        """
        Start a run, or let it wait for its resources.

        :param run: to start
        :param out: folder of the sweep
        :return: what stands for this attempt
        """

    def wait(self, attempts: Sequence[Hashable], seconds: float) -> dict[Hashable, Outcome]:
        """
        Wait until an attempt ends, or for so long.

        :param attempts: that have not ended
        :param seconds: at most
        :return: those that have ended, also because their process or machine is lost
        """


class Watch(Protocol):
    """Is told what happens to runs."""

    def started(self, run: Any) -> None:
        """
        An attempt has begun, or waits for its resources.

        :param run: of which
        """

    def ended(self, run: Any, outcome: Outcome, left: int, again: bool) -> None:
        """
        An attempt has ended.

        :param run: of which
        :param outcome: how
        :param left: attempts that the run has left
        :param again: whether another one follows
        """

    def tick(self) -> None:
        """Some time has passed: at most :data:`POLL_SECONDS`."""


def drive(engine: Engine, runs: Iterable[Named], out: Path, retries: int, n_jobs: int | None, watch: Watch) -> None:
    """
    Run each run, one that failed otherwise than for good again after the others.

    :param engine: that starts runs
    :param runs: to run, in this order
    :param out: folder that the engine is told
    :param retries: further attempts of each
    :param n_jobs: runs at a time; None: as many as there is room for
    :param watch: is told what happens
    """
    waiting, running = deque(runs), dict[Hashable, Named]()
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
    The runs of a sweep and what is known of them; watches :func:`drive`.

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
        Run all that is not done.

        :param engine: that starts runs
        :param retries: further attempts of a run that failed otherwise than for good
        :param n_jobs: runs at a time; None: as many as there is room for
        :return: number of runs that are not done
        :raises ValueError: if the folder is another sweep's
        :raises OSError: if the table could not be written at the end, or another process runs this sweep
        """
        if self.out.exists() and not self.out.is_dir():
            raise ValueError(f"out={str(self.out)!r} is not allowed: it is no folder; allowed: a folder")
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
        """A full disk is no reason to stop runs that may write elsewhere: the table is made anew of their files."""
        try:
            write_sweep_table(self.out, self.runs, self.states, self.errors)
            self._unwritten = ""
        except OSError as error:
            if str(error) != self._unwritten:
                self.say(f"the table cannot be written: {error}")
            self._unwritten = str(error)


class Progress:
    """
    Runs done, env steps and the time that is left: one line that is written over in a terminal, else a line in a minute.

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
        """What is shown."""
        runs, states = self.sweep.runs, self.sweep.states
        steps, total = self._steps(), sum(run.n_timesteps for run in runs)
        left = sum(run.n_timesteps - self._steps_of(run) for run in runs if states[run.name] != "failed")
        seconds, made = time.monotonic() - self._began, steps - self._first
        eta = timedelta(seconds=round(left * seconds / max(made, 1))) if made > 0 or left == 0 else "unknown"
        counts = Counter(states.values())
        others = "".join(f", {counts[state]} {state}" for state in ("running", "waiting", "failed") if counts[state])
        return f"{counts['done']}/{len(runs)} runs done{others}; {steps:,}/{total:,} steps; ETA {eta}"

    def show(self) -> None:
        """Show it, if it is time to."""
        if sys.stdout.isatty():
            print(f"{CLEAR}{self.line()}", end="", flush=True)
        elif time.monotonic() >= self._shown + LINE_SECONDS:
            self._shown = time.monotonic()
            self.sweep.say(self.line())
