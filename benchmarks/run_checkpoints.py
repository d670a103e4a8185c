"""Checkpoints of the runs of ``benchmarks/curves.py``: their runs and their agents."""

from pathlib import Path
from typing import Any

import checkout  # noqa: F401
from curves_jobs import Job, agent_class, make_env
from curves_methods import METHODS, TASKS, VARIANTS

from sb3_tom import MBPO


def describe(path: Path) -> tuple[str, str, str]:
    """Task, run and env step of a checkpoint, from its path."""
    places = [index for index, part in enumerate(path.parts) if part in TASKS]
    if not places or not path.stem.startswith("checkpoint_"):
        raise SystemExit(f"{path} is not allowed; allowed: <task>/<run>/.../checkpoint_<step>_steps.zip")
    return path.parts[places[-1]], path.parts[places[-1] + 1], path.stem.split("_")[1]


def method_of(path: Path) -> str:
    """Method of a checkpoint's run, from its path."""
    _, run, _ = describe(path)
    method = run.rpartition("_seed")[0]
    if method not in METHODS | VARIANTS:
        raise SystemExit(f"{path} is not allowed: no method is called {method!r}; allowed: <task>/<method>_seed<number>/...")
    return method


def job_of(path: Path) -> Job:
    """The settings of a checkpoint's run."""
    return Job(describe(path)[0], method_of(path), 0, 0, 0, {})


def same_backbone(path: Path, weighter: str, changes: dict[str, Any]) -> Job:
    """
    Settings of a checkpoint's run, but with another weighter.

    :param path: below ``<task>/<run>/``
    :param weighter: name of a weighter of ``curves_methods.py``
    :param changes: arguments of the agent that are not the method's
    """
    job = job_of(path)
    own = {name: value for name, value in job.compared.changes.items() if not name.startswith("weighter")}
    return Job(job.task, f"{job.compared.family}_{weighter}", 0, 0, 0, own | changes)


def resumed(path: Path) -> tuple[MBPO, Any]:
    """
    The agent of a checkpoint, and an env of its task.

    :param path: below ``<task>/<run>/``
    """
    job = job_of(path)
    env = make_env(job)()
    agent: MBPO = agent_class(job.compared).resume(path, env, device="cpu")
    return agent, env


def successor(driver: MBPO, env: Any, job: Job) -> MBPO:
    """
    A new agent that begins with another one's policy, critics and rows.

    :param driver: the other one
    :param env: of the task
    :param job: its method and its seed are the new agent's
    """
    agent: MBPO = agent_class(job.compared).from_sac(driver, env, seed=job.seed, device="cpu", **job.agent_kwargs())
    return agent
