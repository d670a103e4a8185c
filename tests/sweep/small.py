"""Sweeps that are small enough to run within a test, an engine without Ray, and what two sweeps have in common."""

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

from sb3_tom.callbacks.tables import read_table
from sb3_tom.sweep.run import Outcome, run
from sb3_tom.sweep.spec import RunSpec, make_runs

ENV = "InvertedPendulum-v5"
FAULT = "tests.sweep.faults.FaultCallback"

COMMON: dict[str, Any] = {"learning_starts": 50, "batch_size": 16, "buffer_size": 1000, "policy_kwargs": {"net_arch": [8]}}
MODEL = {"n_members": 2, "n_elites": 1, "net_arch": [8], "max_epochs": 1, "first_max_epochs": 1, "steps_per_epoch": 3}
SAC = {**COMMON, "train_freq": 1, "gradient_steps": 1}
MBPO = {**COMMON, "rollout_batch_size": 20, "model_train_freq": 50, "update_to_data_ratio": 1, "dynamics_kwargs": MODEL}


def small_words(fault: Path | None = None, pause: float = 0.0, **words: Any) -> dict[str, Any]:
    """
    What a YAML file would say: SAC and MBPO on two seeds.

    :param fault: file in which a run finds what it shall suffer (``faults.py``), ``_sac`` or ``_mbpo`` behind its name
    :param pause: seconds that a step of a run with such a file takes longer
    :param words: in place of these
    """
    algo = {name: {"params": dict(params)} for name, params in {"sac": SAC, "mbpo": MBPO}.items()}
    for name, own in algo.items() if fault else ():
        own["params"]["callback"] = [{FAULT: {"file": f"{fault}_{name}", "pause": pause}}]
    small = {"env": ENV, "algo": algo, "seed": [0, 1], "n_timesteps": 300, "eval_freq": 100, "eval_episodes": 2}
    return {**small, **words}


def small_run(algo: str = "mbpo", fault: Path | None = None, **words: Any) -> RunSpec:
    """One run of :func:`small_words`."""
    words = small_words(fault, **{"seed": 0, **words})
    words["algo"] = {algo: words["algo"][algo]}
    (spec,) = make_runs(words)
    return spec


class InThisProcess:
    """
    An engine that trains when it is waited for, one run at a time.

    :param start: in place of :func:`sb3_tom.sweep.run.run`
    :param room: runs at a time
    """

    def __init__(self, start: Callable[[RunSpec, Path], Outcome] = run, room: int = 2) -> None:
        self.start, self._room = start, room
        self.submitted: list[tuple[RunSpec, Path]] = []

    def room(self) -> int:
        return self._room

    def submit(self, run: RunSpec, out: Path) -> Hashable:
        self.submitted.append((run, out / run.name))
        return len(self.submitted) - 1

    def wait(self, attempts: Sequence[Hashable], seconds: float) -> dict[Hashable, Outcome]:
        assert attempts and len(attempts) <= self._room
        return {attempts[0]: self.start(*self.submitted[attempts[0]])}

    @property
    def names(self) -> list[str]:
        return [run.name for run, _ in self.submitted]


def without_seconds(path: Path) -> list[dict[str, str]]:
    """Rows of a table but for what no two runs share."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in read_table(path)]


def results(out: Path) -> dict[str, Any]:
    """Everything of a sweep that must not depend on what happened to it: its table, and all learning curves."""
    curves = {str(path.relative_to(out)): without_seconds(path) for path in sorted(out.rglob("learning_curve.csv"))}
    return {"table": without_seconds(out / "table.csv"), **curves}


def attempts(folder: Path) -> int:
    """How often a run was begun."""
    return len(list(folder.glob("attempt_*")))
