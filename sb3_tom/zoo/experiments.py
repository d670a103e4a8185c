"""
Changes to the zoo's ``ExperimentManager`` for MBPO and its variants: one clear error for a bad hyperparameter, the env's
arguments for the evaluation env too, no silent change of the weighter by ``-i``, and pruning of diverged trials.

A wrapper gets the wrapped method, the manager, the algorithm's class, and the method's arguments.
"""

import math
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from sb3_tom.checkpoint import ResumeCallback
from sb3_tom.checkpoint.attributes import argument_names
from sb3_tom.checkpoint.reading import is_archive
from sb3_tom.contracts.resolve import class_of, resolve_plug
from sb3_tom.mbpo.axes import AXES, default_of
from sb3_tom.mbpo.mbpo import MBPO
from sb3_tom.zoo.checks import PLUG_KWARGS, HyperparameterError, check_hyperparams
from sb3_tom.zoo.samplers import BUDGET, FIXED, OTHER_PLUGS, SAMPLERS

BEST = "best_model.zip"
"""File that SB3's ``EvalCallback`` writes."""

NAMING = ("weighter", "policy_update", "objective")
"""Plugs that the zoo's name of an algorithm implies."""


def _place(manager: Any) -> str:
    """Source of the hyperparameters, for messages."""
    overridden = manager.custom_hyperparams
    return f"{manager.config}{f' with -params {sorted(overridden)}' if overridden else ''}, {manager.env_name.gym_id}"


def read_hyperparameters(original: Callable[..., Any], manager: Any, algorithm: type[MBPO]) -> Any:
    """Check hyperparameters before the zoo converts them, whose errors name no key."""
    from rl_zoo3 import exp_manager

    try:
        hyperparams, saved = original(manager)
    except (AttributeError, TypeError) as error:  # from a file without entries, or an entry without keys
        raise HyperparameterError(f"{_place(manager)}: {error}; allowed: a mapping of hyperparameters per env") from error
    custom = manager.custom_hyperparams or {}
    namespace = vars(exp_manager)
    check_hyperparams(hyperparams, algorithm, lambda key: _place(manager) if key in custom else _file(manager), namespace)
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
    Run a trial: store for the sampler its env steps and what ``-params`` fixes, name file and env in errors, prune it if the
    return is not finite.
    """
    import optuna

    trial.set_user_attr(BUDGET, manager.n_timesteps)
    store_fixed(trial, manager.custom_hyperparams or {}, manager._hyperparams, algorithm)
    _warn_of_replaced(manager, algorithm)
    try:
        value = original(manager, trial)
    except (ValueError, TypeError) as error:
        raise HyperparameterError(f"{_place(manager)}, trial {trial.number}: {error}") from error
    if not math.isfinite(value):
        raise optuna.TrialPruned(f"diverged: the mean return is {value}")
    return value


def store_fixed(trial: Any, fixed: Mapping[str, Any], of_file: Mapping[str, Any], algorithm: type) -> None:
    """
    Store in a trial what is fixed, for the samplers.

    :param trial: Optuna's
    :param fixed: hyperparameters that keep their values, by name
    :param of_file: all that the trials begin with, those of the YAML file included
    :param algorithm: class of the agent
    """
    trial.set_user_attr(FIXED, sorted(fixed))
    plugs = _other_plugs({**of_file, **fixed}, algorithm) if issubclass(algorithm, MBPO) else []
    trial.set_user_attr(OTHER_PLUGS, plugs)


def _other_plugs(fixed: Mapping[str, Any], algorithm: type[MBPO]) -> list[str]:
    """Arguments of the plugs that are fixed to a class which does not take what is sampled for the algorithm's own."""
    found = []
    for argument, axis in AXES.items():
        own, value = default_of(algorithm, argument), fixed.get(argument)
        if own is None or value is None:
            continue
        kind = class_of(argument, axis, value)
        takes = argument == "dynamics" and {"net_arch", "learning_rate"} <= argument_names(kind)
        if not takes and not issubclass(kind, class_of(argument, axis, own)):
            found.append(axis.kwargs_argument)
    return found


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
    may not fit its networks. ``--algo mbpo_tom -i FILE`` is refused if the file has the weighter, objective or policy update
    of another algorithm.
    """
    if is_archive(manager.trained_agent):
        return load_checkpoint(manager, algorithm, hyperparams, env)
    asked = manager.custom_hyperparams or {}
    own = {name: value for name, value in hyperparams.items() if name not in PLUG_KWARGS or name in asked}
    agent = original(manager, own, env)
    for name in NAMING:
        meant, held = default_of(algorithm, name), agent.plugs.by_part[name]
        if name not in hyperparams and type(held) is not type(resolve_plug(name, AXES[name], meant, None)):
            raise ValueError(
                f"--algo {manager.algo} means {name}={meant!r}, but {manager.trained_agent} was saved with "
                f"{type(held).__name__}; allowed: the --algo that it was trained with, or the file's {name} in -params"
            )
    return agent


def _warn_of_replaced(manager: Any, algorithm: type[MBPO]) -> None:
    """Warn of replaced arguments: a search space includes the plugs of the algorithm's name, or of its backbone's."""
    searched = [name for name in NAMING if default_of(algorithm, name) != AXES[name].default]
    if manager.algo not in SAMPLERS:
        searched = [name for name in searched if name == "policy_update"]
    warn_of_replaced(manager, [AXES[name].kwargs_argument for name in ("dynamics", *searched)])


def warn_of_replaced(manager: Any, sampled: Iterable[str]) -> None:
    """
    Warn that nested mappings of a trial replace those of the file and of ``-params`` as a whole, as in the zoo.

    :param manager: the zoo's
    :param sampled: names of the sampled arguments
    """
    fixed = {name: manager._hyperparams.get(name) for name in sorted(sampled)}
    given = {name: value for name, value in fixed.items() if value and isinstance(value, Mapping)}
    if given:
        warnings.warn(f"{_place(manager)}: trials do not have {given!r}: what they sample replaces it whole", stacklevel=2)


WRAPPERS: dict[str, Callable[..., Any]] = {
    "read_hyperparameters": read_hyperparameters,
    "setup_experiment": setup_experiment,
    "objective": objective,
    "create_callbacks": create_callbacks,
    "_load_pretrained_agent": load_pretrained_agent,
}
"""Wrappers by the name of the method of ``ExperimentManager``."""
