"""Runs on Ray, each in a new process on a machine with free CPUs. The only module that imports Ray, on use."""

import os
import socket
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sb3_tom.sweep.driver import Engine, say
from sb3_tom.sweep.files import SPEC
from sb3_tom.sweep.run import Outcome, run
from sb3_tom.sweep.spec import RunSpec

OBJECT_STORE_BYTES = 100_000_000
"""Size of a local Ray's object store, about the minimum: runs exchange files, not objects."""

CONNECT_SECONDS = 10.0
"""Seconds that the head of a cluster may take to answer."""

LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
"""Ray reads the first on import: with it a local Ray listens on 127.0.0.1 only."""


def run_there(spec: RunSpec, out: Path) -> Outcome:
    """
    Run a spec on a machine of the cluster.

    :param spec: of the run
    :param out: folder of the sweep, which all machines share
    """
    if not (out / SPEC).is_file():
        error = f"out={str(out)!r} is not there on {socket.gethostname()}; allowed: a folder that all machines share"
        return Outcome("failed", error)
    return run(spec, out / spec.name)


class RayEngine:
    """
    Starts runs on a Ray that this process is connected to. The driver retries, not Ray.

    :param cpus: CPUs of a run
    :param gpus: GPUs of a run, or a share of one
    :param num_threads: of numerical libraries
    :param there: called with run and folder on a machine; has to be importable there
    """

    def __init__(self, cpus: int, gpus: float, num_threads: int, there: Callable[[Any, Path], Outcome] = run_there) -> None:
        import ray

        threads = {name: str(num_threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        # A process per run, so that no run inherits another's memory
        options: dict[str, Any] = {"max_calls": 1, "max_retries": 0, "runtime_env": {"env_vars": threads}}
        self._needs = _needs(cpus, gpus)
        self._task = ray.remote(num_cpus=cpus, num_gpus=gpus, **options)(there)

    def room(self) -> int:
        """See :class:`~sb3_tom.sweep.driver.Engine`."""
        import ray

        has = ray.cluster_resources()
        return max(int(min(has.get(name, 0.0) / need for name, need in self._needs.items())), 1)

    def submit(self, run: Any, out: Path) -> Hashable:
        """See :class:`~sb3_tom.sweep.driver.Engine`."""
        attempt: Hashable = self._task.options(name=run.name).remote(run, out)
        return attempt

    def wait(self, attempts: Sequence[Hashable], seconds: float) -> dict[Hashable, Outcome]:
        """See :class:`~sb3_tom.sweep.driver.Engine`."""
        import ray

        ended, running = ray.wait(list(attempts), num_returns=1, timeout=seconds)
        if running:
            ended += ray.wait(running, num_returns=len(running), timeout=0)[0]
        return {attempt: _outcome(attempt) for attempt in ended}


def _outcome(attempt: Any) -> Outcome:
    """Outcome of an attempt; killed processes, lost machines and lack of memory are not final failures."""
    import ray

    try:
        outcome: Outcome = ray.get(attempt)
    except ray.exceptions.RayError as error:
        outcome = Outcome("failed", f"{type(error).__name__}: {' '.join(str(error).split())}"[:500], is_final=False)
    return outcome


def _check_reachable(address: str) -> None:
    """Check that a cluster answers: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if address == "auto":
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ValueError(f"address={address!r} is not allowed: {error}; allowed: 'auto', or host:port of a Ray") from None


def _needs(cpus: int, gpus: float) -> dict[str, float]:
    """What a run takes, by Ray's names."""
    return {name: need for name, need in {"CPU": cpus, "GPU": gpus}.items() if need}


def _check_room(is_local: bool, cpus: int, gpus: float) -> None:
    """Check that a machine can hold a run, which Ray would let wait forever. A cluster may get such a machine later."""
    import ray

    if is_local:  # started with the CPUs of the runs
        found = ray.cluster_resources().get("GPU", 0.0)
        if found < gpus:
            raise ValueError(f"gpus={gpus:g} is not allowed: Ray finds {found:g} on this machine; allowed: at most {found:g}")
        return
    needs = _needs(cpus, gpus)
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(machine.get(name, 0.0) >= need for name, need in needs.items()) for machine in machines):
        say(f"no machine of the cluster has cpus={cpus} and gpus={gpus:g}: runs wait until one joins that has")


@contextmanager
def connected(
    address: str | None,
    n_jobs: int | None,
    cpus: int = 1,
    gpus: float = 0.0,
    num_threads: int = 1,
    there: Callable[[Any, Path], Outcome] = run_there,
) -> Iterator[Engine]:
    """
    An engine on the Ray of a cluster, or on a local one that ends with this process.

    :param address: of a cluster ("auto", "host:port"); None: a local Ray
    :param n_jobs: runs at a time on a local Ray; None: as many as this process has CPUs for
    :param cpus: CPUs of a run
    :param gpus: GPUs of a run
    :param num_threads: of a run
    :param there: see :class:`RayEngine`
    :raises ValueError: if there is no such cluster, or if this machine has not the GPUs of a run
    :raises ModuleNotFoundError: if Ray is not installed
    """
    if address is not None:
        _check_reachable(address)
    os.environ.update({name: value for name, value in LOOPBACK.items() if address is None or "USAGE" in name})
    import ray

    settings: dict[str, Any] = {"address": address or "local", "log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        n_jobs = n_jobs or max(len(os.sched_getaffinity(0)) // cpus, 1)
        settings |= {"num_cpus": n_jobs * cpus, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    try:
        ray.init(**settings)
    except (ConnectionError, ValueError) as error:
        raise ValueError(f"address={address!r} is not allowed: {error}; allowed: 'auto', or host:port of a Ray") from error
    try:
        _check_room(address is None, cpus, gpus)
        yield RayEngine(cpus, gpus, num_threads, there)
    finally:
        ray.shutdown()
