"""Experiments of the zoo that are small enough to run within a test."""

import argparse
from pathlib import Path
from typing import Any

from tests.mbpo.small import SMALL_MODELS

SMALL: dict[str, Any] = {
    "learning_starts": 20,
    "buffer_size": 4000,  # what a search may ask for as recent_size
    "batch_size": 16,
    "policy_kwargs": {"net_arch": [8]},
    "rollout_batch_size": 20,
    "model_train_freq": 20,
    "update_to_data_ratio": 1,
    "dynamics_kwargs": SMALL_MODELS["ensemble"],
}


def experiment(folder: Path, algo: str = "mbpo_tom", env: str = "Pendulum-v1", **kwargs: Any) -> Any:
    """
    What ``python -m rl_zoo3.train`` makes of its arguments.

    :param folder: for the zoo's logs
    :param algo: the zoo's name
    :param env: id
    :param kwargs: of the zoo's ExperimentManager
    """
    from rl_zoo3.exp_manager import ExperimentManager

    settings = {"n_timesteps": 60, "eval_freq": -1, "log_interval": -1, "verbose": 0, "device": "cpu", "env_kwargs": None}
    settings |= {"hyperparams": dict(SMALL), "args": argparse.Namespace()}
    return ExperimentManager(algo=algo, env_id=env, log_folder=str(folder), **{**settings, **kwargs})


def train(folder: Path, **kwargs: Any) -> tuple[Any, Any]:
    """The manager and the agent of an experiment that has been run and saved; arguments as of :func:`experiment`."""
    manager = experiment(folder, **kwargs)
    agent, _ = manager.setup_experiment()
    manager.learn(agent)
    manager.save_trained_model(agent)
    return manager, agent
