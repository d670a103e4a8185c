"""A run of any of the zoo's algorithms: its resolved hyperparameters, and the agent made of them."""

import argparse
import io
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv

from sb3_tom.checkpoint import ResumeCallback, latest_checkpoint
from sb3_tom.checks.validation import check_choice, close_names, plain
from sb3_tom.mbpo.mbpo import MBPO
from sb3_tom.zoo.checks import check_hyperparams
from sb3_tom.zoo.registration import register_all


def zoo_algorithms() -> dict[str, type[BaseAlgorithm]]:
    """
    All algorithms of the zoo, those of this package included, by the name for ``--algo``.

    :raises ModuleNotFoundError: if the zoo is not installed
    """
    from rl_zoo3.utils import ALGOS

    register_all()
    algorithms: dict[str, type[BaseAlgorithm]] = ALGOS
    return algorithms


def check_env(env: str) -> str:
    """
    Check that an environment is registered.

    :param env: id
    :return: the id
    :raises ValueError: naming it, and one of similar spelling
    """
    try:
        gym.spec(env)
    except gym.error.Error as error:
        raise ValueError(f"env={env!r} is not allowed: {error}; allowed: {close_names(env, gym.registry)}") from None
    return env


def import_packages(packages: Iterable[str]) -> None:
    """
    Let modules register their environments.

    :param packages: names of modules
    :raises ValueError: naming the module that cannot be imported
    """
    for package in packages:
        try:
            import_module(package)
        except (ImportError, TypeError, ValueError) as error:
            allowed = "allowed: names of modules that register environments"
            raise ValueError(f"gym_packages={package!r} cannot be imported: {error}; {allowed}") from error


def zoo_hyperparams(algo: str, env: str, config: str | None, params: Mapping[str, Any]) -> dict[str, Any]:
    """
    The zoo's hyperparameters for training, not yet converted: its file's entry for the env, or ``default``.

    :param algo: the zoo's name of the algorithm
    :param env: id of a registered environment
    :param config: a YAML file that replaces the zoo's own (or this package's, for its algorithms)
    :param params: override the file's values, like ``-params``
    :return: plain values
    :raises ValueError: naming what came and what is allowed
    """
    from yaml import YAMLError

    algorithm = zoo_algorithms()[check_choice("algo", algo, zoo_algorithms())]
    check_env(env)
    manager = make_manager(algo, env, config=config, hyperparams=dict(params))
    try:
        with redirect_stdout(io.StringIO()):
            hyperparams, _ = manager.read_hyperparameters()
    except (AttributeError, TypeError, ImportError, OSError, YAMLError) as error:
        raise ValueError(
            f"config={manager.config!r} cannot be read: {error}; allowed: a YAML file with hyperparameters per env"
        ) from error
    check_hyperparams(hyperparams, algorithm, lambda key: f"{manager.config}, {env}")
    return {name: plain(value) for name, value in sorted(hyperparams.items())}


def make_manager(algo: str, env: str, **kwargs: Any) -> Any:
    """
    The zoo's ``ExperimentManager``, with evaluation and saving turned off.

    :param algo: the zoo's name of the algorithm
    :param env: id of a registered environment
    :param kwargs: its other arguments
    """
    from rl_zoo3.exp_manager import ExperimentManager

    arguments = argparse.Namespace(algo=algo, env=env, env_kwargs=None)
    settings = {"log_folder": "", "eval_freq": -1, "save_freq": -1, "log_interval": -1, "verbose": 0}
    return ExperimentManager(arguments, algo, env, **{**settings, **kwargs})


class ZooRun:
    """
    The zoo's experiment (env, wrappers, agent) in a given folder.

    :param algo: the zoo's name of the algorithm
    :param env: id of a registered environment
    :param config: a YAML file whose only entry is that of the env, see :func:`zoo_hyperparams`
    :param n_timesteps: env steps
    :param seed: of the agent and its envs
    :param device: for PyTorch
    :param env_kwargs: arguments of the env; the zoo would give them to the training env only
    :param folder: for ``config.yml``, ``args.yml`` and the monitor's file
    """

    def __init__(
        self, algo: str, env: str, *, config: Path, n_timesteps: int, seed: int, device: str, env_kwargs: Any, folder: Path
    ) -> None:
        zoo_algorithms()
        set_random_seed(seed)
        settings = {"config": str(config), "n_timesteps": n_timesteps, "seed": seed, "device": device}
        self.manager = make_manager(algo, env, **settings, eval_env_kwargs=env_kwargs)
        self.manager.save_path = str(folder)
        self.manager.params_path = str(folder / self.manager.env_name)
        self.agent: BaseAlgorithm = self.manager.setup_experiment()[0]

    def resume_with(self, callback: ResumeCallback) -> bool:
        """
        Resume an agent of this package from its last checkpoint, if there is one.

        :param callback: writes the checkpoints
        :return: whether the agent supports checkpoints; others start again
        """
        if not isinstance(self.agent, MBPO):
            return False
        if latest_checkpoint(callback.folder):
            self.agent.load_checkpoint(callback.folder)
        return True

    def make_eval_env(self, n_envs: int) -> VecEnv:
        """
        Envs with the wrappers of the training env.

        :param n_envs: number of envs
        """
        env: VecEnv = self.manager.create_envs(n_envs, eval_env=True)
        return env

    def save(self, folder: Path) -> None:
        """
        Save the agent's zip, and the statistics of ``VecNormalize`` where the zoo saves them.

        :param folder: the folder
        """
        self.manager.save_path = str(folder)
        self.manager.params_path = str(folder / self.manager.env_name)
        if self.manager.normalize:
            Path(self.manager.params_path).mkdir(exist_ok=True)
        self.manager.save_trained_model(self.agent)
