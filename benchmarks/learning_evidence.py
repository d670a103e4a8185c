"""
Learning curves of SAC and of MBPO with uniform, PMAC and TOM weights: the runs behind ``docs/results``.

    python benchmarks/learning_evidence.py run --jobs 2
    python benchmarks/learning_evidence.py job --task Hopper-v5 --method mbpo_tom --seed 0
    python benchmarks/learning_evidence.py summary

``run`` starts one process (with one torch thread) per task, method and seed. A job writes its learning curve, its weights
by age and a JSON file (command, settings, versions, machine, seconds) as it goes. ``run`` may be stopped and started again
at any time: it skips finished jobs and repeats unfinished ones from their first step. SB3's log of every job and its agent
are left under ``runs/evidence``.
"""

import argparse
import fcntl
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import import_module
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # The code that runs is the checkout's, whose commit is recorded, whatever is installed.
METHODS = ("sac", "mbpo", "mbpo_pmac", "mbpo_tom")
PACKAGES = ("torch", "stable_baselines3", "gymnasium", "mujoco", "numpy")


@dataclass(frozen=True)
class Task:
    """
    A task and MBPO's settings for it (MBPO, arXiv:1906.08253, App. C, and its released configurations).

    :param steps: env steps of a run
    :param eval_freq: env steps between evaluations
    :param learning_starts: uniformly random env steps at the beginning, of SAC too
    :param reward_threshold: a run ends as soon as an evaluation reaches it
    :param mbpo: further arguments of MBPO; SAC keeps SB3's defaults
    """

    steps: int
    eval_freq: int
    learning_starts: int
    reward_threshold: float | None
    mbpo: dict[str, Any]


PENDULUM = {"update_to_data_ratio": 10.0, "target_entropy": -0.05}
HOPPER = {"update_to_data_ratio": 20.0, "target_entropy": -1.0, "rollout_schedule": [20_000, 150_000, 1, 15]}
TASKS = {
    "InvertedPendulum-v5": Task(6_000, 250, 500, 950.0, PENDULUM),
    "Hopper-v5": Task(10_000, 1_000, 1_000, None, HOPPER),
}


@dataclass(frozen=True)
class Job:
    """One run: what decides its result."""

    task: str
    method: str
    seed: int
    steps: int
    eval_freq: int
    overrides: dict[str, Any]  # arguments of MBPO beyond the task's

    @property
    def name(self) -> str:
        """Name of the run's files."""
        return f"{self.method}_seed{self.seed}"

    def agent_kwargs(self) -> dict[str, Any]:
        """Arguments of the agent besides policy, env and seed."""
        task = TASKS[self.task]
        shared: dict[str, Any] = {"learning_starts": task.learning_starts}
        if self.method == "sac":
            return shared | self.overrides
        return shared | task.mbpo | {"weighter": self.method.removeprefix("mbpo").lstrip("_") or "uniform"} | self.overrides


def make_agent(job: Job) -> Any:
    """The agent of a job."""
    module, name = ("stable_baselines3", "SAC") if job.method == "sac" else ("sb3_tom", "MBPO")
    return getattr(import_module(module), name)("MlpPolicy", job.task, seed=job.seed, device="cpu", **job.agent_kwargs())


def run_job(job: Job, out: Path, runs: Path) -> None:
    """Train one agent and leave its files."""
    import torch as th
    from stable_baselines3.common.logger import configure

    from sb3_tom.common.callbacks import LearningCurveCallback, WeightByAgeCallback

    th.set_num_threads(1)
    folder, run_folder = out / job.task, runs / job.task / job.name
    run_folder.mkdir(parents=True, exist_ok=True)
    lock = (run_folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"{job.task} {job.name} is being run by another process") from None
    meta = describe(job)
    write_json(folder / f"{job.name}.json", meta)
    agent = make_agent(job)
    agent.set_logger(configure(str(run_folder), ["csv"]))
    threshold = TASKS[job.task].reward_threshold
    labels: dict[str, Any] = {"task": job.task, "method": job.method}
    curve = LearningCurveCallback(
        job.task, folder / f"{job.name}.csv", job.eval_freq, reward_threshold=threshold, verbose=1, **labels
    )
    callbacks: list[Any] = [curve]
    if job.method in ("mbpo_pmac", "mbpo_tom"):
        callbacks.append(WeightByAgeCallback(folder / f"{job.name}_weight_by_age.csv", **labels))
    start = time.monotonic()
    agent.learn(job.steps, callback=callbacks)
    agent.save(run_folder / "agent")
    meta |= {"finished": True, "seconds": round(time.monotonic() - start, 1), "solved_step": curve.solved_step}
    write_json(folder / f"{job.name}.json", meta)
    print(f"{job.task} {job.name}: done in {meta['seconds']:.0f} s", flush=True)


def describe(job: Job) -> dict[str, Any]:
    """Everything that is needed to repeat a job."""
    versions = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    versions["sb3_tom"] = (ROOT / "sb3_tom" / "version.txt").read_text().strip()
    return {
        **asdict(job),
        "agent_kwargs": job.agent_kwargs(),
        "reward_threshold": TASKS[job.task].reward_threshold,
        "command": job_command(job),
        "versions": versions,
        "git_commit": git_commit(),
        "machine": machine(),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "finished": False,
    }


def job_command(job: Job) -> str:
    """The command that repeats a job, from the repository's root."""
    words = ["python", "benchmarks/learning_evidence.py", "job", "--task", job.task, "--method", job.method]
    words += ["--seed", str(job.seed), "--steps", str(job.steps), "--eval-freq", str(job.eval_freq)]
    return shlex.join([*words, "--kwargs", json.dumps(job.overrides)] if job.overrides else words)


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
    """Replace a JSON file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(path)


def is_finished(job: Job, out: Path) -> bool:
    """Whether the job's results are there; other settings under the same name are an error, not a result."""
    path = out / job.task / f"{job.name}.json"
    meta = json.loads(path.read_text()) if path.exists() else {"finished": False}
    if not meta["finished"]:
        return False
    different = {name: meta.get(name) for name, value in asdict(job).items() if meta.get(name) != value}
    if different:
        raise SystemExit(f"{path} holds a finished run with other settings {different}: remove it, or choose another --out")
    return True


def run_all(jobs: list[Job], out: Path, runs: Path, parallel: int) -> int:
    """Run what is not finished, ``parallel`` processes at a time; return the number of failed jobs."""
    waiting = [job for job in jobs if not is_finished(job, out)]
    print(f"{len(jobs)} jobs, {len(jobs) - len(waiting)} of them finished before")
    running: dict[subprocess.Popen[bytes], Job] = {}
    failed = 0
    while waiting or running:
        while waiting and len(running) < parallel:
            job = waiting.pop(0)
            running[start_job(job, out, runs)] = job
        time.sleep(1.0)
        for process in [process for process in running if process.poll() is not None]:
            job = running.pop(process)
            failed += process.returncode != 0
            state = "done" if process.returncode == 0 else f"FAILED with exit code {process.returncode}"
            print(f"{job.task} {job.name} {state}; {len(waiting)} waiting, {len(running)} running", flush=True)
    return failed


def start_job(job: Job, out: Path, runs: Path) -> "subprocess.Popen[bytes]":
    """Start a job in a process of its own; what it prints goes to its folder under ``runs``."""
    folder = runs / job.task / job.name
    folder.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, *shlex.split(job_command(job))[1:], "--out", str(out.resolve()), "--runs", str(runs.resolve())]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with (folder / "output.txt").open("wb") as output:
        print(f"{job.task} {job.name} started; output in {output.name}", flush=True)
        return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=output, stderr=output)


def summarise(out: Path) -> None:
    """Print one line per run and draw one picture per task from whatever is there, unfinished runs marked."""
    from sb3_tom.common.evaluation import read_table
    from sb3_tom.plots import plot_learning_curves

    header = f"{'task':<21}{'method':<11}{'seed':>4}{'last step':>11}{'last mean':>11}"
    print(f"{header}{'mean 2k-10k':>13}{'first >= 950':>14}{'seconds':>9}")
    for task in TASKS:
        metas = {path: json.loads(path.read_text()) for path in (out / task).glob("*_seed*.json")}
        curves = []
        for path in sorted(metas, key=lambda path: (METHODS.index(metas[path]["method"]), metas[path]["seed"])):
            curve = path.with_suffix(".csv")
            rows = read_table(curve) if curve.exists() else []
            if rows:
                print(summary_line(rows, metas[path]["finished"]))
                curves.append(curve)
        if curves:
            plot_learning_curves(curves, out / task / "learning_curves.png")


def summary_line(rows: list[dict[str, str]], finished: bool) -> str:
    """Figures of one learning curve: the mean of Hopper's evaluations from 2k to 10k, the step that solved the pendulum."""
    last = rows[-1]
    points = [(int(row["env_step"]), float(row["return_mean"])) for row in rows]
    threshold = TASKS[last["task"]].reward_threshold
    window = [value for step, value in points if 2_000 <= step <= 10_000]
    complete = threshold is None and points[-1][0] >= 10_000
    mean = f"{sum(window) / len(window):.1f}" if complete else "-"
    solved = next((str(step) for step, value in points if threshold is not None and value >= threshold), "-")
    columns = f"{last['task']:<21}{last['method']:<11}{last['seed']:>4}{points[-1][0]:>11}{points[-1][1]:>11.1f}"
    return f"{columns}{mean:>13}{solved:>14}{float(last['seconds']):>9.0f}{'' if finished else '  (unfinished)'}"


def make_jobs(arguments: argparse.Namespace) -> list[Job]:
    """Jobs of the command line, all methods of a seed before the next seed."""
    jobs = []
    for seed, task, method in product(arguments.seed, arguments.task, arguments.method):
        steps, eval_freq = arguments.steps or TASKS[task].steps, arguments.eval_freq or TASKS[task].eval_freq
        jobs.append(Job(task, method, seed, steps, eval_freq, arguments.kwargs if method != "sac" else {}))
    return jobs


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "job", "summary"):
        command = commands.add_parser(name)
        command.add_argument("--out", type=Path, default=ROOT / "docs" / "results", help="folder of the results")
        if name == "summary":
            continue
        several: dict[str, Any] = {"nargs": "+"} if name == "run" else {"nargs": 1, "required": True}
        command.add_argument("--task", choices=tuple(TASKS), default=list(TASKS), **several)
        command.add_argument("--method", choices=METHODS, default=list(METHODS), **several)
        command.add_argument("--seed", type=int, default=[0, 1, 2], **several)
        command.add_argument("--steps", type=int, help="env steps; default: the task's")
        command.add_argument("--eval-freq", type=int, help="env steps between evaluations; default: the task's")
        command.add_argument("--kwargs", type=json.loads, default={}, help="further arguments of MBPO, as JSON")
        command.add_argument("--runs", type=Path, default=ROOT / "runs" / "evidence", help="folder of logs and agents")
    commands.choices["run"].add_argument("--jobs", type=int, default=2, help="processes at a time")
    return parser.parse_args()


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    arguments = parse_arguments()
    if arguments.command == "summary":
        summarise(arguments.out)
        return 0
    jobs = make_jobs(arguments)
    if arguments.command == "run":
        return min(run_all(jobs, arguments.out, arguments.runs, arguments.jobs), 1)
    run_job(jobs[0], arguments.out, arguments.runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
