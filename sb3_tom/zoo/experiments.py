"""
Changes to the zoo's ``ExperimentManager`` for MBPO and its variants: one clear error for a bad hyperparameter, the env's
arguments for the evaluation env too, no silent change of the weighter by ``-i``, and pruning of diverged trials.

A wrapper gets the wrapped method, the manager, the algorithm's class, and the method's arguments.
"""

import math
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sb3_tom.checkpoint import ResumeCallback
from sb3_tom.checkpoint.reading import is_archive
from sb3_tom.checks.guards import DivergenceError
from sb3_tom.contracts.resolve import resolve_plug
from sb3_tom.mbpo.axes import AXES, default_of
from sb3_tom.mbpo.mbpo import MBPO
from sb3_tom.zoo.checks import PLUG_KWARGS, HyperparameterError, check_hyperparams
from sb3_tom.zoo.trials import hyperparameters_optimization, load_trial, prepared

BEST = "best_model.zip"
"""File that SB3's ``EvalCallback`` writes."""

NAMING = ("weighter", "policy_update", "objective")
"""Plugs that the zoo's name of an algorithm implies."""

HELD = "_sb3_tom_held"
"""Attribute of a manager: arguments of plugs that the agent of ``-i`` has in place of the file's."""


def _place(manager: Any) -> str:
    """Source of the hyperparameters, for messages."""
    overridden = manager.custom_hyperparams
    return f"{manager.config}{f' with -params {sorted(overridden)}' if overridden else ''}, {manager.env_name.gym_id}"


def read_hyperparameters(original: Callable[..., Any], manager: Any, algorithm: type[MBPO]) -> Any:
    """Check hyperparameters before the zoo converts them, whose errors name no key."""
    try:
        hyperparams, saved = original(manager)
    except (AttributeError, TypeError) as error:  # from a file without entries, or an entry without keys
        raise HyperparameterError(f"{_place(manager)}: {error}; allowed: a mapping of hyperparameters per env") from error
    custom = manager.custom_hyperparams or {}
    check_hyperparams(hyperparams, algorithm, lambda key: _place(manager) if key in custom else _file(manager))
    _spread_env_kwargs(manager, hyperparams.get("env_kwargs"))
    return hyperparams, saved


def _spread_env_kwargs(manager: Any, env_kwargs: Any) -> None:
    """
    Use the env_kwargs of a YAML file for the evaluation env and for ``record_video`` too, which reads them from the saved
    arguments of the command line: the zoo passes them to the training env only, so that observations could differ.
    """
    if env_kwargs is None:
        return
    if manager._eval_env_kwargs_args is None:
        manager.eval_env_kwargs = env_kwargs
    if getattr(manager.args, "env_kwargs", None) is None:
        manager.args.env_kwargs = dict(env_kwargs)


def _file(manager: Any) -> str:
    return f"{manager.config}, {manager.env_name.gym_id}"


def setup_experiment(original: Callable[..., Any], manager: Any, algorithm: type[MBPO]) -> Any:
    """Prepend file and env to the error of a constructor."""
    try:
        return original(manager)
    except HyperparameterError:
        raise
    except (ValueError, TypeError, KeyError, NameError, SyntaxError) as error:
        raise HyperparameterError(f"{_place(manager)}: {error}") from error


def objective(original: Callable[..., Any], manager: Any, algorithm: type[MBPO], trial: Any) -> Any:
    """
    Run a trial: store for the sampler its env steps and what ``-params`` fixes, name file and env in errors, prune it if it
    diverges. Any other error, which the zoo takes for a divergence too, would end all trials, so it ends the search.
    """
    import optuna
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_SAMPLER

    try:
        prepared(trial, manager, algorithm, HYPERPARAMS_SAMPLER[manager.algo], _place(manager))
        value = original(manager, trial)
    except (ValueError, TypeError) as error:
        raise HyperparameterError(f"{_place(manager)}, trial {trial.number}: {error}") from error
    except optuna.TrialPruned as pruned:
        cause = pruned.__cause__  # None if the pruner has done it
        if cause is None or isinstance(cause, DivergenceError):
            raise
        raise HyperparameterError(f"{_place(manager)}, trial {trial.number}: {cause}") from cause
    if not math.isfinite(value):
        raise optuna.TrialPruned(f"diverged: the mean return is {value}")
    return value


def create_callbacks(original: Callable[..., Any], manager: Any, algorithm: type[MBPO]) -> Any:
    """With ``--save-freq`` also write checkpoints, besides the zoo's zips: ``-i .../checkpoint_N_steps.zip`` resumes."""
    original(manager)
    if manager.save_freq > 0 and not manager.optimize_hyperparameters:
        env_steps = manager.save_freq * manager.n_envs  # the zoo has divided it by n_envs
        manager.callbacks.append(ResumeCallback(manager.save_path, env_steps, verbose=manager.verbose))


def load_checkpoint(manager: Any, algorithm: type[MBPO], hyperparams: Mapping[str, Any], env: Any) -> MBPO:
    """
    Make an agent with the zoo's hyperparameters and resume the run of a checkpoint. The best model is copied to the new
    folder: the restored callbacks save another one only if it exceeds the best mean return. With an older checkpoint it may
    be of a later step; the continued run then replaces it when it gets there.
    """
    agent = algorithm(
        env=env,
        tensorboard_log=manager.tensorboard_log,
        seed=manager.seed,
        verbose=manager.verbose,
        device=manager.device,
        **hyperparams,
    )
    agent.load_checkpoint(manager.trained_agent)
    best, saved = Path(manager.trained_agent).with_name(BEST), Path(manager.save_path) / BEST
    if best.is_file() and not saved.exists():
        saved.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(best, saved)
    return agent


def load_pretrained_agent(
    original: Callable[..., Any],
    manager: Any,
    algorithm: type[MBPO],
    hyperparams: Mapping[str, Any],
    env: Any,
) -> Any:
    """
    Resume a checkpoint, or load a zip. Plugs and their arguments come from the zip, like the policy: those of the YAML file
    may not fit its networks; a warning says where they differ, and ``config.yml`` has the zip's. ``--algo mbpo_tom -i FILE``
    is refused if the file has the weighter, objective or policy update of another algorithm.
    """
    if is_archive(manager.trained_agent):
        return load_checkpoint(manager, algorithm, hyperparams, env)
    asked = manager.custom_hyperparams or {}
    own = {name: value for name, value in hyperparams.items() if name not in PLUG_KWARGS or name in asked}
    agent = original(manager, own, env)
    held = agent.plug_arguments()
    others = [name for name in held if name in hyperparams and name not in own]
    differ = {name: held[name] for name in others if held[name] != hyperparams[name]}
    setattr(manager, HELD, differ)
    if differ:
        warnings.warn(f"{_place(manager)}: not used are {sorted(differ)}, but those of {manager.trained_agent}", stacklevel=2)
    for name in NAMING:
        meant, held = default_of(algorithm, name), agent.plugs.by_part[name]
        if name not in hyperparams and type(held) is not type(resolve_plug(name, AXES[name], meant, None)):
            raise ValueError(
                f"--algo {manager.algo} means {name}={meant!r}, but {manager.trained_agent} was saved with "
                f"{type(held).__name__}; allowed: the --algo that it was trained with, or the file's {name} in -params"
            )
    return agent


def save_config(original: Callable[..., Any], manager: Any, algorithm: type[MBPO], saved: dict[str, Any]) -> Any:
    """What an agent that was loaded by ``-i`` has in place of the file's belongs into ``config.yml``."""
    saved.update(getattr(manager, HELD, {}))
    return original(manager, saved)


WRAPPERS: dict[str, Callable[..., Any]] = {
    "read_hyperparameters": read_hyperparameters,
    "setup_experiment": setup_experiment,
    "objective": objective,
    "create_callbacks": create_callbacks,
    "_load_pretrained_agent": load_pretrained_agent,
    "_save_config": save_config,
    "hyperparameters_optimization": hyperparameters_optimization,
    "load_trial": load_trial,
}
"""Wrappers by the name of the method of ``ExperimentManager``."""
