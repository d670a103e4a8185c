"""A run of ``benchmarks/curves.py``, from its settings to its files."""

import fcntl
import json
import os
import platform
import shlex
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from checkout import ROOT
from curves_kinds import Method
from curves_methods import METHODS, TASKS, VARIANTS

PACKAGES = ("torch", "stable_baselines3", "gymnasium", "mujoco", "numpy")
ZOO_KEYS = ("policy", "n_timesteps", "env_kwargs", "normalize", "n_envs")
"""Entries of a YAML file that are not arguments of the agent."""


@dataclass(frozen=True)
class Job:
    """
    One run: all that its result depends on.

    :param overrides: arguments of the agent beyond its method's and task's
    """

    task: str
    method: str
    seed: int
    steps: int
    eval_freq: int
    overrides: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the run's files."""
        return f"{self.method}_seed{self.seed}"

    @property
    def compared(self) -> Method:
        """The method."""
        return (METHODS | VARIANTS)[self.method]

    def yaml_entry(self) -> dict[str, Any]:
        """The task's entry of the YAML file of the method."""
        entries = yaml.safe_load((ROOT / "hyperparams" / self.compared.yaml_file).read_text())
        return entries.get(self.env_id, entries["default"])

    @property
    def env_id(self) -> str:
        """Id of the task's environment."""
        return TASKS[self.task].env or self.task

    def env_kwargs(self) -> dict[str, Any]:
        """Arguments of the environment."""
        return self.yaml_entry().get("env_kwargs", {}) | TASKS[self.task].env_kwargs

    def agent_kwargs(self) -> dict[str, Any]:
        """Arguments of the agent besides policy, env and seed; without a model the package's own, but for the warm-up."""
        settings = {name: value for name, value in self.yaml_entry().items() if name not in ZOO_KEYS}
        settings |= TASKS[self.task].settings
        if not self.compared.is_model_based:
            return {"learning_starts": settings["learning_starts"]} | self.compared.changes | self.overrides
        return settings | self.compared.settings(TASKS[self.task]) | self.overrides


def make_env(job: Job) -> Callable[[], Any]:
    """A function that makes the job's environment."""
    import gymnasium as gym

    return lambda: gym.make(job.env_id, **job.env_kwargs())


def agent_class(method: Method) -> Any:
    """The class of a method's agents."""
    module, _, name = method.agent.partition(":")
    return getattr(import_module(module), name)


def make_agent(job: Job) -> Any:
    """The agent of a job."""
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    kwargs = {"device": "cpu"} | job.agent_kwargs()
    make = make_env(job)
    env = VecNormalize(DummyVecEnv([make]), norm_reward=False) if job.compared.normalize else make()
    return agent_class(job.compared)(job.compared.policy, env, seed=job.seed, **kwargs)


def make_callbacks(job: Job, folder: Path, model_error: bool) -> list[Any]:
    """Callbacks that write the run's tables; the learning curve comes first."""
    from curves_signs import SignsCallback

    from sb3_tom.callbacks.learning_curve import LearningCurveCallback
    from sb3_tom.callbacks.model_error import ModelErrorCallback
    from sb3_tom.callbacks.weight_by_age import WeightByAgeCallback

    labels: dict[str, Any] = {"task": job.task, "method": job.method}
    threshold, make = TASKS[job.task].reward_threshold, make_env(job)
    path = folder / f"{job.name}.csv"
    callbacks: list[Any] = [LearningCurveCallback(make, path, job.eval_freq, reward_threshold=threshold, verbose=1, **labels)]
    if job.compared.is_model_based:
        callbacks.append(SignsCallback(folder / f"{job.name}_signs.csv", job.eval_freq, **labels))
    if job.compared.weighter != "uniform":
        callbacks.append(WeightByAgeCallback(folder / f"{job.name}_weight_by_age.csv", **labels))
    if job.compared.is_model_based and model_error:
        callbacks.append(ModelErrorCallback(make, folder / f"{job.name}_model_error.csv", 1_000, **labels))
    return callbacks


def run_job(job: Job, out: Path, runs: Path, model_error: bool = False) -> None:
    """Train one agent and write its files. Called again, an MBPO resumes from its last checkpoint, others start again."""
    import torch as th
    from stable_baselines3.common.logger import configure

    from sb3_tom.checkpoint import ResumeCallback

    th.set_num_threads(1)
    if job.compared.agent.startswith("sbx:") and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))  # JAX would use all cores
        os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})
    folder, run_folder = out / job.task, runs / job.task / job.name
    run_folder.mkdir(parents=True, exist_ok=True)
    lock = (run_folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"{job.task} {job.name} is being run by another process") from None
    if is_finished(job, out):  # by another process in the meantime
        return
    check_kept(job, out, runs)
    is_new, start = not has_checkpoint(job, runs), time.process_time()
    if is_new:
        for path in (folder / f"{job.name}.csv", *folder.glob(f"{job.name}_*.csv")):
            path.unlink(missing_ok=True)  # from an interrupted run
    meta = describe(job, model_error)
    agent = make_agent(job)
    agent.set_logger(configure(str(run_folder), ["csv"]))
    callbacks = make_callbacks(job, folder, model_error)
    if job.compared.is_model_based:
        callbacks.append(ResumeCallback(run_folder / "checkpoints", job.eval_freq))
        if not is_new:
            agent.load_checkpoint(run_folder / "checkpoints")
            meta["continued"] = earlier_code(folder / f"{job.name}.json")
    write_json(folder / f"{job.name}.json", meta)
    agent.learn(job.steps, callback=callbacks)
    agent.save(run_folder / "agent")
    seconds = float(callbacks[0].table.rows[-1]["seconds"])
    meta |= {"finished": True, "seconds": seconds, "solved_step": callbacks[0].solved_step}
    meta["core_seconds"] = time.process_time() - start if is_new else None
    write_json(folder / f"{job.name}.json", meta)
    print(f"{job.task} {job.name}: done in {seconds:.0f} s", flush=True)


def describe(job: Job, model_error: bool) -> dict[str, Any]:
    """Everything that is needed to repeat a job."""
    versions = {"python": platform.python_version()} | {name: version(name) for name in packages_of(job.compared)}
    versions["sb3_tom"] = (ROOT / "sb3_tom" / "version.txt").read_text().strip()
    return {
        **asdict(job),
        "policy": job.compared.policy,
        "agent_kwargs": job.agent_kwargs(),
        "env_kwargs": job.env_kwargs(),
        "reward_threshold": TASKS[job.task].reward_threshold,
        "command": shlex.join(job_command(job, model_error)),
        "versions": versions,
        "git_commit": git_commit(),
        "machine": machine(),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "finished": False,
    }


def earlier_code(path: Path) -> list[dict[str, Any]]:
    """Code and start of the parts of a run that go before this one, from its JSON file."""
    meta = json.loads(path.read_text())
    return [*meta.get("continued", []), {name: meta[name] for name in ("git_commit", "versions", "started", "steps")}]


def packages_of(method: Method) -> tuple[str, ...]:
    """Packages whose versions influence the results."""
    return (*PACKAGES, "sbx-rl", "jax") if method.agent.startswith("sbx:") else (*PACKAGES, "sb3_contrib")


def job_command(job: Job, model_error: bool) -> list[str]:
    """The command that repeats a job, from the repository's root."""
    words = ["python", "benchmarks/curves.py", "job", "--task", job.task, "--method", job.method, "--seed", str(job.seed)]
    words += ["--steps", str(job.steps), "--eval-freq", str(job.eval_freq)]
    words += ["--model-error"] if model_error else []
    return [*words, "--kwargs", json.dumps(job.overrides)] if job.overrides else words


def git_commit() -> str:
    """Commit of the code, marked if the package differs from it; "unknown" outside of a checkout."""
    try:
        commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True, stderr=subprocess.DEVNULL).strip()
        changes = subprocess.check_output(["git", "status", "--porcelain", "--", "sb3_tom"], cwd=ROOT, text=True).strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit} with uncommitted changes" if changes else commit


def machine() -> dict[str, Any]:
    """Processor and number of cores."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = models[0] if models else platform.processor()
    return {"system": platform.system(), "processor": processor, "cores": os.cpu_count(), "device": "cpu", "torch_threads": 1}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file atomically; classes are written by name."""
    from sb3_tom.sweep.files import replace_file

    replace_file(path, json.dumps(content, indent=2, default=lambda kind: kind.__qualname__) + "\n")


def is_finished(job: Job, out: Path) -> bool:
    """
    Whether the results exist: at least as many steps of the same run, or a run that reached its threshold. Other settings
    under the same name are an error.
    """
    path = out / job.task / f"{job.name}.json"
    meta = json.loads(path.read_text()) if path.exists() else {"finished": False}
    if not meta["finished"]:
        return False
    if meta["overrides"] != job.overrides:
        raise SystemExit(f"{path} was run with --kwargs '{json.dumps(meta['overrides'])}': choose another --out and --runs")
    return meta["solved_step"] is not None or meta["steps"] >= job.steps


def has_checkpoint(job: Job, runs: Path) -> bool:
    """Whether the job can be resumed."""
    from sb3_tom.checkpoint import latest_checkpoint

    return latest_checkpoint(runs / job.task / job.name / "checkpoints") is not None


def check_kept(job: Job, out: Path, runs: Path) -> None:
    """
    Refuse to repeat a finished run: without its checkpoint a longer run would replace its results. Nor does a run go on
    without the results that it has so far.
    """
    path = out / job.task / f"{job.name}.json"
    if not path.exists() and has_checkpoint(job, runs):
        raise SystemExit(
            f"{runs} has a checkpoint of {job.task} {job.name}, whose results are not in {out}: choose another --runs"
        )
    finished = path.exists() and json.loads(path.read_text())["finished"]
    if finished and not has_checkpoint(job, runs):
        raise SystemExit(
            f"{path} is finished, and {runs} has no checkpoint to go on from: move its files away, or choose another --out"
        )
