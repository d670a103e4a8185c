"""
Makes a folder for the Hugging Face hub, in the format of ``rl_zoo3.push_to_hub`` and ``rl_zoo3.load_from_hub``: the saved
agent, its hyperparameters, and a model card whose figures are measured here. Nothing is sent.
"""

import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv

from sb3_tom.callbacks.evaluation import Evaluation, preserved_random_state
from sb3_tom.checks.validation import check_integer, check_seed
from sb3_tom.zoo.model_card import model_card
from sb3_tom.zoo.runs import zoo_algorithms
from sb3_tom.zoo.saved_run import SavedRun


@dataclass(frozen=True)
class Measurement:
    """
    Results of a saved agent.

    :param agent: the loaded agent
    :param evaluation: its episodes
    :param seed: of the env and of sampled actions
    :param deterministic: whether mean actions were used
    """

    agent: BaseAlgorithm
    evaluation: Evaluation
    seed: int
    deterministic: bool

    @property
    def summary(self) -> str:
        """One-line summary."""
        returns = self.evaluation.returns
        return f"mean reward {returns.mean():.2f} +/- {returns.std():.2f} in {len(returns)} episodes"

    @property
    def results(self) -> dict[str, Any]:
        """Content of ``results.json``; first the names of ``huggingface_sb3``."""
        returns, lengths = self.evaluation.returns, self.evaluation.lengths
        return {
            "mean_reward": float(returns.mean()),
            "std_reward": float(returns.std()),
            "is_deterministic": self.deterministic,
            "n_eval_episodes": len(returns),
            "eval_datetime": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "seed": self.seed,
            "episode_rewards": returns.tolist(),
            "episode_lengths": lengths.tolist(),
        }


def measure(
    run: SavedRun, n_eval_episodes: int = 10, seed: int = 0, deterministic: bool = True, device: str = "cpu"
) -> Measurement:
    """
    Play whole episodes with the saved agent on a new env with the run's wrappers and the saved statistics of its
    ``VecNormalize``. Returns are not normalised. The same call gives the same figures.

    :param run: with an agent
    :param n_eval_episodes: number of episodes
    :param seed: of the env
    :param deterministic: use mean actions
    :param device: for PyTorch
    :raises ValueError: naming the argument or the file, what came and what is allowed
    """
    check_integer("n_eval_episodes", n_eval_episodes, 1)
    check_seed(seed)
    with preserved_random_state(), redirect_stdout(io.StringIO()):
        env = _make_env(run, seed)
        try:
            agent = _load(run, env, device)
            set_random_seed(seed)
            env.seed(seed)  # loading has given it the seed of the training env
            returns, lengths = evaluate_policy(agent, env, n_eval_episodes, deterministic, return_episode_rewards=True)
        finally:
            env.close()
    if not np.isfinite(returns).all():
        raise ValueError(f"folder: the agent {run.agent} has the returns {returns}; allowed: finite ones")
    return Measurement(agent, Evaluation(np.array(returns), np.array(lengths)), seed, deterministic)


def _make_env(run: SavedRun, seed: int) -> VecEnv:
    from rl_zoo3.utils import create_test_env

    hyperparams = deepcopy(run.hyperparams)
    hyperparams |= {"normalize": bool(hyperparams.get("normalize")), "normalize_kwargs": {}}
    settings: dict[str, Any] = {"n_envs": 1, "stats_path": str(run.stats), "seed": seed, "should_render": False}
    try:
        env: VecEnv = create_test_env(run.env, hyperparams=hyperparams, env_kwargs=run.env_kwargs, **settings)
    except Exception as error:  # from a user's env or wrapper, or missing statistics
        raise ValueError(f"env={run.env!r} cannot be made as in {run.params / 'config.yml'}: {error!r}") from error
    return env


def _load(run: SavedRun, env: VecEnv, device: str) -> BaseAlgorithm:
    try:
        return zoo_algorithms()[run.algo].load(run.agent, env=env, device=device)
    except Exception as error:  # unpickling may raise anything
        raise ValueError(f"algo={run.algo!r}: {run.agent} cannot be loaded for {run.env}: {error!r}") from error


def write_upload(run: SavedRun, measured: Measurement, out: Path) -> None:
    """
    Write the folder, completely or not at all.

    :param run: the run
    :param measured: from :func:`measure`
    :param out: a folder that does not exist yet, or an empty one
    :raises ValueError: if it is something else
    :raises OSError: if it cannot be written
    """
    import yaml

    name, results = f"{run.algo}-{run.env_name}", measured.results
    with _new_folder(out) as partial:
        shutil.copyfile(run.agent, partial / f"{name}.zip")
        with zipfile.ZipFile(run.agent) as archive:
            archive.extractall(partial / name)  # the hub shows the hyperparameters in it
        for file in ("config.yml", "args.yml"):
            shutil.copyfile(run.params / file, partial / file)
        if run.hyperparams.get("normalize"):
            shutil.copyfile(run.stats / "vecnormalize.pkl", partial / "vec_normalize.pkl")
        with zipfile.ZipFile(partial / "train_eval_metrics.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for file, path in run.tables.items():
                archive.write(path, file)
        (partial / "env_kwargs.yml").write_text(yaml.safe_dump(run.env_kwargs), encoding="utf-8")
        (partial / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        (partial / "README.md").write_text(model_card(run, measured.agent, results), encoding="utf-8")


def check_output_folder(out: Path) -> None:
    """
    Refuse to overwrite anything.

    :param out: folder
    :raises ValueError: if it exists and is not an empty folder
    """
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise ValueError(f"out={str(out)!r} is not allowed: it is there already; allowed: a new folder, or an empty one")


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside ``out``, which is renamed to it if the block succeeds."""
    check_output_folder(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}_", dir=out.parent))
    try:
        partial.chmod(0o755)
        yield partial
        partial.replace(out)  # fails if it is not empty by now
    finally:
        shutil.rmtree(partial, ignore_errors=True)
