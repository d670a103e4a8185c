"""
Where the time goes: each part compared with what it replaces, as medians of paired runs in one process.

    python benchmarks/speed.py --threads 2 --out docs/results/speed.csv
    python benchmarks/speed.py --sections sac --sbx-python /path/to/venv/bin/python
    python benchmarks/speed.py --gpu --out docs/results/speed_gpu.csv
    python benchmarks/speed.py --sections processes
    python benchmarks/speed.py --sections growth --threads 1 --sizes 10000 1000000
    python benchmarks/speed.py --sections backbones tried weighters --threads 1

SBX (``pip install sbx-rl``) runs in a process of its own that takes turns with the others; without it its row is left out.
``processes`` measures the cost of several runs on one machine, ``growth`` of a model phase with few and with many rows,
``backbones`` (in processor time) of an env step with either policy update, ``tried`` of alternatives for a step of the double
horizon, ``weighters`` (in processor time) of the weights of all rows. Other times are wall times; on a shared machine only
ratios within one run are meaningful.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import date
from importlib.metadata import version
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import checkout  # noqa: F401
import speed_backbones
import speed_growth
import speed_parts
import speed_weighters
import torch as th
from curves_jobs import machine
from speed_parts import Part
from speed_sbx import SBXProcess

from sb3_tom.callbacks.tables import read_table, write_table
from sb3_tom.compute.fast_matmul import onednn_is_exact

ENSEMBLES = ((7, (200,) * 4, 256), (5, (200,) * 4, 256), (7, (200,) * 4, 64), (7, (64, 64), 256), (7, (400,) * 4, 256))
UPDATES, MINIBATCHES, PRODUCTS = 20, 25, 200
COLUMNS = ("part", "variant", "median", "unit", "compared", "machine", "versions")
Row = tuple[str, str, float, str, str]
"""Part, variant, median, unit, what it is compared with: ratios to the other variants."""


def table(title: str, parts: dict[str, Part], repeats: int, scale: float, unit: str, ours: str | None = None) -> list[Row]:
    """Rows of one comparison; the row of ``ours`` carries the medians of its ratios to the others."""
    times = speed_parts.paired_times(parts, repeats)
    ratios = {
        name: statistics.median(a / b for a, b in zip(times[ours], values, strict=True))
        for name, values in times.items()
        if ours and name != ours
    }
    note = "; ".join(f"{ratio:.2f} x {name}" for name, ratio in ratios.items())
    return [
        (title, name, scale * statistics.median(values), unit, note if name == ours else "") for name, values in times.items()
    ]


def products(arguments: argparse.Namespace) -> list[Row]:
    """One product of two matrices."""
    title = f"product of two {speed_parts.WIDTH} x {speed_parts.WIDTH} matrices"
    return table(title, speed_parts.product_parts(PRODUCTS), arguments.repeats, 1e6 / PRODUCTS, "us", "fast_matmul")


def sac(arguments: argparse.Namespace) -> list[Row]:
    """One SAC update."""
    parts = speed_parts.sac_parts(UPDATES, arguments.device)
    sbx = None
    if arguments.sbx_python or find_spec("sbx"):
        sbx = SBXProcess(arguments.sbx_python or sys.executable, UPDATES, speed_parts.BATCH, arguments.threads)
        parts[f"SBX ({sbx.versions})"] = sbx
    try:
        return table("SAC update, batch 256, 256 x 256", parts, arguments.repeats, 1e3 / UPDATES, "ms", "sb3_tom")
    finally:
        if sbx is not None:
            sbx.close()


def networks(arguments: argparse.Namespace) -> list[Row]:
    """One SAC update by the networks of the policy, those of ``curves.py``'s methods."""
    parts = speed_parts.network_parts(UPDATES, arguments.device)
    return table("SAC update by networks, batch 256", parts, arguments.repeats, 1e3 / UPDATES, "ms", "mbpo")


def ensemble(arguments: argparse.Namespace) -> list[Row]:
    """One minibatch of the model fit at several sizes."""
    rows = []
    for n_members, net_arch, batch_size in ENSEMBLES:
        parts = speed_parts.fit_parts(MINIBATCHES, n_members, net_arch, batch_size, arguments.device)
        title = f"ensemble fit, one minibatch of {batch_size}, {n_members} x {len(net_arch)} x {net_arch[0]}"
        rows += table(title, parts, arguments.repeats, 1e3 / MINIBATCHES, "ms", "members batched (sb3_tom)")
    return rows


def phase(arguments: argparse.Namespace) -> list[Row]:
    """Rollouts and weights with 100,000 real rows."""
    agent = speed_parts.evidence_agent("mbpo_tom", device=arguments.device)
    speed_parts.fill(agent, arguments.rows)
    agent.dynamics.normalizer.fit(agent.replay_buffer.transitions())
    repeats = max(arguments.repeats // 3, 2)
    where = f"{arguments.rows} real rows"
    rows = []
    for length in (1, 15):
        part = {"sb3_tom": speed_parts.rollout_part(agent, length)}
        rows += table(f"100,000 rollouts of {length}, stored, {where}", part, repeats, 1.0, "s")
    return rows + table(f"TOM weights, {where}", {"sb3_tom": agent.fit_weights}, repeats, 1.0, "s")


def run(arguments: argparse.Namespace) -> list[Row]:
    """Whole runs on Hopper at a small and a large buffer, taking turns."""
    rows: list[Row] = []
    sizes = (min(5_000, arguments.rows), arguments.rows)
    for method in ("mbpo", "mbpo_tom"):
        phases = {n_rows: speed_parts.phase_part(method, n_rows, arguments.device) for n_rows in sizes}
        measured: dict[int, list[dict[str, float]]] = {n_rows: [] for n_rows in sizes}
        for _, (n_rows, part) in product(range(arguments.phases), phases.items()):
            measured[n_rows].append(part())
        for n_rows, figures in measured.items():
            medians = {name: statistics.median(figure[name] for figure in figures) for name in figures[0]}
            note = ", ".join(f"{name} {value:.1f}" for name, value in medians.items() if name != "total")
            pairs = zip(figures, measured[sizes[0]], strict=True)
            growth = statistics.median(ours["total"] / small["total"] for ours, small in pairs)
            note += f"; {growth:.2f} x the small buffer" if n_rows > sizes[0] else ""
            rows.append((f"whole run, Hopper, ratio 20, {n_rows} rows", method, medians["total"], "ms per env step", note))
    return rows


def memory(arguments: argparse.Namespace) -> list[Row]:
    """Memory of a fresh process."""
    code = f"import json, speed_parts; print(json.dumps(speed_parts.resident_memory({arguments.rows})))"
    folder = Path(__file__).parent
    path = os.pathsep.join([str(folder), str(folder.parent)])
    output = subprocess.check_output([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, text=True)
    figures = json.loads(output.splitlines()[-1])
    title = f"resident memory, {arguments.rows} real and {figures['imagined rows']:.0f} imagined rows"
    return [(title, name, figures[name], "MiB", "") for name in ("now", "at its peak")]


def growth(arguments: argparse.Namespace) -> list[Row]:
    """Memory and processor time of a model phase at each size of the buffer."""
    return [row for weighter in arguments.weighters for row in speed_growth.table(weighter, arguments)]


def processes(arguments: argparse.Namespace) -> list[Row]:
    """SAC updates per second of k processes with t threads each, all together."""
    rates: dict[tuple[int, int], float] = {}
    for count in arguments.processes:
        for threads in (1, 2, 4):
            if threads <= (os.cpu_count() or 1):
                rates[count, threads] = _rate_of(count, threads, arguments)
    alone = max(rate for (count, _), rate in rates.items() if count == min(arguments.processes))
    title = "several runs at once, SAC updates"
    return [
        (
            title,
            f"{count} processes, {threads} threads each",
            rate,
            "per second",
            f"{rate / alone:.2f} x the best of one process",
        )
        for (count, threads), rate in rates.items()
    ]


def _rate_of(count: int, threads: int, arguments: argparse.Namespace) -> float:
    words = [sys.executable, __file__, "--worker", "--threads", str(threads), "--seconds", str(arguments.seconds)]
    words += ["--gpu"] if arguments.gpu else []
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    workers = [
        subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    for worker in workers:
        if worker.stdout.readline().strip() != "ready":
            raise RuntimeError(f"a worker ended with exit code {worker.wait()}")
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    return sum(float(worker.communicate()[0]) for worker in workers)


def work(arguments: argparse.Namespace) -> None:
    """A worker of :func:`processes`: prints "ready", waits for a line, prints its updates per second."""
    part = speed_parts.sac_parts(UPDATES, arguments.device)["sb3_tom"]
    part()
    part()
    print("ready", flush=True)
    sys.stdin.readline()
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < arguments.seconds:
        part()
        calls += 1
    print(calls * UPDATES / (time.perf_counter() - start), flush=True)


SECTIONS = {
    "products": products,
    "sac": sac,
    "networks": networks,
    "ensemble": ensemble,
    "phase": phase,
    "run": run,
    "memory": memory,
    "processes": processes,
    "growth": growth,
    "backbones": speed_backbones.table,
    "tried": speed_backbones.tried,
    "weighters": speed_weighters.table,
}
ON_DEMAND = ("processes", "growth", "backbones", "tried", "weighters")
"""Sections that only run on request."""


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = [name for name in SECTIONS if name not in ON_DEMAND]
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=usual)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--rows", type=int, default=100_000, help="real rows of the large buffer")
    parser.add_argument("--phases", type=int, default=3, help="model phases, of a whole run (250 env steps each) or of growth")
    speed_growth.add_arguments(parser)
    parser.add_argument("--gpu", action="store_true", help="measure on CUDA")
    parser.add_argument("--sbx-python", help="interpreter that has sbx-rl, if this one has not")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4], help="of the section of that name")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement of processes")
    parser.add_argument("--out", type=Path, help="CSV file; its rows of other sections stay")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.gpu and not th.cuda.is_available():
        parser.error("--gpu needs a CUDA device that this PyTorch can use")
    arguments.device = "cuda" if arguments.gpu else "cpu"
    return arguments


def description(arguments: argparse.Namespace) -> tuple[str, str]:
    """The machine and the versions, one line each."""
    facts = machine()
    device = th.cuda.get_device_name() if arguments.gpu else f"oneDNN float32 {onednn_is_exact()}"
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    line = f"{facts['processor']}, {facts['cores']} cores, {arguments.threads} threads, load {load} at the start, {device}"
    versions = " ".join(f"{name} {version(name)}" for name in ("torch", "stable_baselines3", "numpy"))
    return line, f"{date.today().isoformat()}, Python {platform.python_version()} {versions}"


def main() -> None:
    """Print the table and, if asked, write it."""
    arguments = parse_arguments()
    th.set_num_threads(arguments.threads)
    if arguments.worker:
        work(arguments)
        return
    where, versions = description(arguments)
    print(f"{where}\n{versions}", flush=True)
    rows: list[Row] = []
    for name in arguments.sections:
        found = SECTIONS[name](arguments)
        rows += found
        for part, variant, value, unit, note in found:
            print(f"{part:58s} {variant:36s} {value:9.2f} {unit:16s} {note}", flush=True)
    if arguments.out:
        write([dict(zip(COLUMNS, (*row, where, versions), strict=True)) for row in rows], arguments.out)


def write(rows: list[dict[str, Any]], path: Path) -> None:
    """
    Write the table; rows of parts that were not measured are kept.

    :param rows: by the names of :data:`COLUMNS`
    :param path: CSV file
    """
    measured = {row["part"] for row in rows}
    others = [row for row in read_table(path) if row["part"] not in measured] if path.exists() else []
    write_table(path, COLUMNS, [*others, *rows])


if __name__ == "__main__":
    main()
