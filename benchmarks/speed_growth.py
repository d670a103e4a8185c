"""
Cost of a model phase with few and with many real rows: memory besides the rows themselves, and time. Each size runs in a new
process; the processes take turns with their phases, so that all sizes are measured under the same load.
"""

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import checkout  # noqa: F401
import torch as th
from growth_rows import NEW, MadeRows, add_new, fill, make_agent
from line_process import LineProcess

from sb3_tom import MBPO
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from sb3_tom.weighters.tom import averaging

WEIGHTERS = ("uniform", "pmac", "tom")
RECENT = 1_000
"""Number of newest rows, with another policy's actions, so that TOM's discriminator has something to learn."""
FEW = 2_000
"""Number of rows at which the memory of everything else is measured."""
PARTS = ("fit", "weights", "final pass", "all")


def phase(agent: MBPO) -> dict[str, float]:
    """Processor seconds of a model phase, and of its :data:`PARTS`; the final pass is no part of the weights."""
    spent = dict.fromkeys(PARTS, 0.0)

    def timed(part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            result = call(*args, **kwargs)
            spent[part] += time.process_time() - start
            return result

        return run

    original = averaging.of_all_rows
    averaging.of_all_rows = timed("final pass", original)
    try:
        start = time.process_time()
        timed("weights", agent.fit_weights)()
        timed("fit", agent.fit_model)()
        agent.imagine()
        agent.end_phase()
        spent["all"] = time.process_time() - start
    finally:
        averaging.of_all_rows = original
    spent["weights"] -= spent["final pass"]
    return spent


def resident(line: str) -> float:
    """
    Bytes of this process in memory.

    :param line: "VmRSS" for now, "VmHWM" for its peak (that of ``resource`` may be the parent's)
    """
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024.0 * float(lines[line].split()[0])


def prepared(agent: MBPO, n_rows: int) -> tuple[MadeRows, dict[str, float]]:
    """
    Make a model phase with few rows, then one with many, so that the next is typical.

    :param agent: from :func:`make_agent`
    :param n_rows: real rows
    :return: the source of rows; bytes of the real "rows", and of this process "before" them: its libraries, networks,
        optimisers and imagined rows after the first phase
    """
    sizes = agent.observation_space.shape[0], agent.action_space.shape[0]
    rows, before = MadeRows(*sizes), 0.0
    for number in (FEW, n_rows):
        before = resident("VmRSS")
        fill(agent.replay_buffer, rows, number - RECENT)
        for _ in range(RECENT // NEW):
            add_new(agent, rows)
        phase(agent)
    return rows, {"rows": float(n_rows * WeightedReplayBuffer.row_bytes(*sizes)[0]), "before": before}


def work(weighter: str, n_rows: int, n_observed: int, n_actions: int, threads: int) -> None:
    """
    Runs in its own process: prints the cost of a phase as a line of JSON, then for each input line the seconds of one more.

    :param weighter: one of :data:`WEIGHTERS`
    :param n_rows: real rows
    :param n_observed: O
    :param n_actions: A
    :param threads: of PyTorch
    """
    th.set_num_threads(threads)
    warnings.simplefilter("ignore", UserWarning)  # of health: synthetic rows
    agent = make_agent(weighter, n_rows, n_observed, n_actions)
    rows, memory = prepared(agent, n_rows)
    add_new(agent, rows)
    print(json.dumps({**phase(agent), **memory, "peak": resident("VmHWM")}), flush=True)
    for _ in sys.stdin:
        add_new(agent, rows)
        print(json.dumps(phase(agent)), flush=True)


class Process(LineProcess):
    """
    A process that runs :func:`work`.

    :param arguments: of :func:`work`
    :raises RuntimeError: if it ends early
    """

    def __init__(self, *arguments: object) -> None:
        words = [repr(argument) for argument in arguments]
        code = f"import speed_growth; speed_growth.work({', '.join(words)})"
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": words[-1], "MKL_NUM_THREADS": words[-1]}
        super().__init__([sys.executable, "-c", code], "a process of the section growth", env=environment)
        self.figures: dict[str, float] = json.loads(self.first)

    def __call__(self) -> dict[str, float]:
        """Seconds of one more phase."""
        answer: dict[str, float] = json.loads(self.ask())
        return answer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this section."""
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 200_000], help="growth: real rows")
    parser.add_argument("--weighters", nargs="+", choices=WEIGHTERS, default=WEIGHTERS, help="growth: of these")
    parser.add_argument("--observations", type=int, default=348, help="growth: numbers of an observation")
    parser.add_argument("--actions", type=int, default=17, help="growth: numbers of an action")


def table(weighter: str, arguments: argparse.Namespace) -> Iterator[tuple[str, str, float, str, str]]:
    """Two rows of the table of ``speed.py`` for each size: memory and time."""
    first = arguments.sizes[0]
    for n_rows, figures in zip(arguments.sizes, measured(weighter, arguments), strict=True):
        title = f"model phase, {n_rows} rows of {arguments.observations} numbers"
        above = (figures["peak"] - figures["before"]) / figures["rows"]
        note = f"{figures['rows'] / 1e9:.2f} GB of rows, {figures['before'] / 1e9:.2f} GB without them"
        yield f"{title}, memory", weighter, above, "x the rows", note
        note = ", ".join(f"{part} {figures[part]:.1f}" for part in PARTS[:-1])
        note += f"; without the final pass {figures['growth']:.2f} x {first} rows"
        yield f"{title}, time", weighter, figures["all"], "processor s", note


def measured(weighter: str, arguments: argparse.Namespace) -> list[dict[str, float]]:
    """
    One weighter at each size.

    :param weighter: one of :data:`WEIGHTERS`
    :param arguments: of the command line; ratios of time are to the first of the sizes
    :return: a dict per size: bytes as in :func:`prepared` and at the "peak", medians of :data:`PARTS` in processor seconds,
        and as "growth" of all but the final pass the median of the ratios of neighbouring phases
    """
    processes = []
    try:
        for size in arguments.sizes:
            processes.append(Process(weighter, size, arguments.observations, arguments.actions, arguments.threads))
        times = [[process.figures] for process in processes]
        for _, (process, own) in product(range(arguments.phases - 1), zip(processes, times, strict=True)):
            own.append(process())
    finally:
        for process in processes:
            process.close()
    found = []
    for process, own in zip(processes, times, strict=True):
        figures = {part: statistics.median(spent[part] for spent in own) for part in PARTS}
        pairs = zip(own, times[0], strict=True)
        figures["growth"] = statistics.median(_flat(ours) / _flat(small) for ours, small in pairs)
        found.append({**process.figures, **figures})
    return found


def _flat(spent: dict[str, float]) -> float:
    return spent["all"] - spent["final pass"]
