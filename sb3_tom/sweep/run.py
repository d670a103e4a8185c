"""Makes one run in this process: from its spec and its folder to an :class:`Outcome`. Independent of the engine."""

import json
import math
import os
import platform
import socket
import traceback
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import torch as th
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import get_device

from sb3_tom.callbacks.tables import read_table
from sb3_tom.checkpoint import ResumeCallback, latest_checkpoint
from sb3_tom.checks.guards import DivergenceError
from sb3_tom.sweep.callbacks import StepsCallback, SweepCurveCallback
from sb3_tom.sweep.files import CHECKPOINTS, CURVE, LOCK, RESULT, only_one, read_result, replace_file, write_steps
from sb3_tom.sweep.spec import RunSpec
from sb3_tom.zoo.runs import ZooRun, import_packages
from sb3_tom.zoo.saved_run import ATTEMPT, attempt_number
from sb3_tom.zoo.versions import version_of

LOCK_SECONDS = 60.0
"""How long an attempt waits for the previous one: a lost machine may take a while to end its processes."""

EVAL_ENVS = 10
"""Maximum number of episodes of an evaluation that are played in parallel."""

PACKAGES = ("sb3_tom", "stable_baselines3", "sb3_contrib", "rl_zoo3", "torch", "gymnasium", "mujoco", "numpy")


@dataclass(frozen=True)
class Outcome:
    """
    Outcome of an attempt.

    :param state: "done" or "failed"
    :param error: one-line description of the error
    :param is_final: whether another attempt would fail alike: a bad argument, a run that diverged
    """

    state: str
    error: str = ""
    is_final: bool = True


def run(spec: RunSpec, folder: Path) -> Outcome:
    """
    Train, or resume: an agent of this package from its last checkpoint, any other from the start. A run that is done is not
    repeated, and two attempts never run at the same time.

    :param spec: of the run
    :param folder: of this run only
    :return: its outcome; only exceptions that end the process are raised
    """
    try:
        with only_one(folder / LOCK, LOCK_SECONDS, spec.name):
            if read_result(folder).get("state") == "done":
                return Outcome("done")
            return _attempt(spec, folder)
    except Exception as error:  # a folder that cannot be read or written
        return failed(error)


def _attempt(spec: RunSpec, folder: Path) -> Outcome:
    own = folder / f"{ATTEMPT}{max(map(attempt_number, folder.iterdir()), default=0) + 1}"
    replace_file(own / "started.json", json.dumps(_circumstances(spec, folder), indent=1) + "\n")
    with (own / "output.txt").open("w") as output, redirect_stdout(output), redirect_stderr(output):
        try:
            _train(spec, folder, own)
            outcome = Outcome("done")
        except Exception as error:
            outcome = failed(error)
            with suppress(OSError):
                traceback.print_exc()
    try:
        replace_file(folder / RESULT, json.dumps(asdict(outcome)) + "\n")
    except OSError as error:
        return failed(error)
    return outcome


def _train(spec: RunSpec, folder: Path, own: Path) -> None:
    import_packages(spec.gym_packages)
    th.set_num_threads(spec.num_threads)
    experiment = _experiment(spec, own)
    agent = experiment.agent
    _check_device(spec.device, agent.device)
    agent.set_logger(configure(str(own), ["csv"]))
    callbacks = [*experiment.manager.callbacks, _curve(spec, folder, experiment), StepsCallback(folder)]
    checkpoints = ResumeCallback(folder / CHECKPOINTS, spec.save_freq)
    if experiment.resume_with(checkpoints):
        callbacks.append(checkpoints)
    try:
        agent.learn(spec.n_timesteps, callback=callbacks)
    finally:
        write_steps(folder, agent.num_timesteps)
        if agent.env is not None:
            agent.env.close()
    experiment.save(folder)
    rows = read_table(folder / CURVE)
    if rows and not math.isfinite(float(rows[-1]["return_mean"])):
        raise DivergenceError(f"the return of the last evaluation is {rows[-1]['return_mean']}")


def _check_device(asked: str, found: th.device) -> None:
    """Stable-Baselines3 trains on the CPU, without a word, where there is no CUDA."""
    if asked != "auto" and th.device(asked).type != found.type:
        there = f"the agent would be on {found.type!r} on the machine {socket.gethostname()}"
        raise ValueError(f"device={asked!r} is not allowed: {there}; allowed: 'auto', or what all machines of the sweep have")


def _experiment(spec: RunSpec, own: Path) -> ZooRun:
    import yaml

    config = own / "hyperparams.yml"
    replace_file(config, yaml.safe_dump({spec.env: spec.hyperparams}))
    settings: dict[str, Any] = {"n_timesteps": spec.n_timesteps, "seed": spec.seed, "device": spec.device}
    env_kwargs = spec.hyperparams.get("env_kwargs")
    return ZooRun(spec.algo, spec.env, config=config, env_kwargs=env_kwargs, folder=own, **settings)


def _curve(spec: RunSpec, folder: Path, experiment: ZooRun) -> SweepCurveCallback:
    make_env: Any = partial(experiment.make_eval_env, min(spec.eval_episodes, EVAL_ENVS))
    settings: dict[str, Any] = {"task": spec.env, "method": spec.method, "n_eval_episodes": spec.eval_episodes}
    settings["deterministic"] = bool(experiment.manager.deterministic_eval)
    return SweepCurveCallback(make_env, folder / CURVE, spec.eval_freq, **settings)


def _circumstances(spec: RunSpec, folder: Path) -> dict[str, Any]:
    """Machine, versions and start of an attempt."""
    checkpoint = latest_checkpoint(folder / CHECKPOINTS)
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": socket.gethostname(),
        "process": os.getpid(),
        "device": str(get_device(spec.device)),
        "from": checkpoint.name if checkpoint else "the start",
        "spec": asdict(spec),
        "versions": {"python": platform.python_version()} | {name: version_of(name) for name in PACKAGES},
    }


def failed(error: Exception) -> Outcome:
    """
    The outcome of an attempt that raised an error. A ValueError (DivergenceError is one) would occur again; a full disk, lack
    of memory and a lost machine need not.

    :param error: the error
    """
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return Outcome("failed", text[:500], isinstance(error, ValueError | TypeError | ImportError))
