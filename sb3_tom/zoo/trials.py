"""
What the trials of a search train with: what its search space samples, but for what is fixed for all of them. And what
``--trial-id`` makes of a trial afterwards: the same.
"""

import inspect
import shlex
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from sb3_tom.contracts.resolve import class_of
from sb3_tom.mbpo.axes import AXES, default_of
from sb3_tom.mbpo.mbpo import MBPO
from sb3_tom.zoo.checks import HyperparameterError
from sb3_tom.zoo.samplers import BUDGET, FIXED, OTHER_PLUGS, SETTINGS, Sampler, of_trial


@lru_cache
def sampled_mappings(sampler: Sampler) -> dict[str, frozenset[str]]:
    """
    What a search space samples of nested arguments, by a trial that is not kept: ``{"dynamics_kwargs": {"net_arch", ...}}``.

    :param sampler: of an algorithm of this package
    """
    from optuna import create_study, logging
    from optuna.samplers import RandomSampler

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)  # no line about this study
    trial = create_study(sampler=RandomSampler(seed=0)).ask()
    logging.set_verbosity(verbosity)
    sampled = sampler(trial, 1, 1, {})
    return {name: frozenset(value) for name, value in sampled.items() if isinstance(value, Mapping)}


def store_fixed(trial: Any, fixed: Mapping[str, Any], of_file: Mapping[str, Any], algorithm: type, sampler: Sampler) -> None:
    """
    Store in a trial what is fixed, for the samplers.

    :param trial: Optuna's
    :param fixed: hyperparameters that keep their values, by name
    :param of_file: all that the trials begin with, those of the YAML file included
    :param algorithm: class of the agent
    :param sampler: its search space
    """
    trial.set_user_attr(FIXED, sorted(fixed))
    others = _other_plugs({**of_file, **fixed}, algorithm, sampler) if issubclass(algorithm, MBPO) else []
    trial.set_user_attr(OTHER_PLUGS, others)


def _other_plugs(fixed: Mapping[str, Any], algorithm: type[MBPO], sampler: Sampler) -> list[str]:
    """Arguments of the plugs that are fixed to a class which does not take what is sampled for the algorithm's own."""
    found = []
    for argument, axis in AXES.items():
        names = sampled_mappings(sampler).get(axis.kwargs_argument)
        own, value = default_of(algorithm, argument), fixed.get(argument)
        if names is None or own is None or value is None:
            continue
        if not _takes(class_of(argument, axis, value), class_of(argument, axis, own), names):
            found.append(axis.kwargs_argument)
    return found


def _takes(kind: type, own: type, names: Collection[str]) -> bool:
    """Whether a class has arguments of these names; what a subclass passes on by ``**`` are those of its base."""
    parameters = inspect.signature(kind).parameters.values()
    named = {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}
    return set(names) <= named or (issubclass(kind, own) and len(named) < len(parameters))


def warn_of_replaced(place: str, of_file: Mapping[str, Any], sampled: Collection[str]) -> None:
    """
    Warn that nested mappings of a trial replace those of the file and of ``-params`` as a whole, as in the zoo.

    :param place: where the hyperparameters come from
    :param of_file: all that the trials begin with
    :param sampled: names of the arguments that a trial samples
    """
    fixed = {name: of_file.get(name) for name in sorted(sampled)}
    given = {name: value for name, value in fixed.items() if value and isinstance(value, Mapping)}
    if given:
        warnings.warn(f"{place}: trials do not have {given!r}: what they sample replaces it whole", stacklevel=3)


def check_budget(n_timesteps: int, hyperparams: Mapping[str, Any], algorithm: type) -> None:
    """
    Refuse runs that would end before they train.

    :param n_timesteps: of a trial
    :param hyperparams: all that the trials begin with
    :param algorithm: class of the agent
    :raises ValueError: naming both numbers, and what is allowed
    """
    parameter = inspect.signature(algorithm).parameters.get("learning_starts")
    starts = hyperparams.get("learning_starts", parameter.default if parameter else 0)
    if n_timesteps <= starts:
        raise ValueError(
            f"n_timesteps={n_timesteps} is not allowed: with learning_starts={starts} no run would train; "
            f"allowed: more than {starts}, or a smaller one by -params learning_starts:N"
        )


def hyperparameters_optimization(original: Callable[..., Any], manager: Any, algorithm: type[MBPO]) -> Any:
    """
    Refuse trials that would not train, and a study of ``sb3_tom.tune``, before the zoo writes into it: the values of its
    trials are other figures.
    """
    check_budget(manager.n_timesteps, manager._hyperparams, algorithm)
    attributes: Mapping[str, Any] = {}
    if manager.storage and manager.study_name:
        with suppress(KeyError):  # there is no such study yet
            attributes = _study(manager.storage, manager.study_name).user_attrs
    if SETTINGS in attributes:
        raise HyperparameterError(
            f"study_name={manager.study_name!r} is not allowed: python -m sb3_tom.tune has made it, whose values are means "
            "over seeds; allowed: another name"
        )
    return original(manager)


def _study(storage: str, study_name: str) -> Any:
    from optuna import load_study

    from sb3_tom.zoo.storages import open_storage

    return load_study(storage=open_storage(storage), study_name=study_name)


def load_trial(
    original: Callable[..., Any],
    manager: Any,
    algorithm: type[MBPO],
    storage: str,
    study_name: str,
    trial_id: int | None = None,
    convert: bool = True,
) -> dict[str, Any]:
    """
    The arguments of a trial as it was trained with them. Of ``-params`` those are dropped that the trial had replaced in the
    search, where they stood too.
    """
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER

    if not convert or trial_id is None:
        return dict(original(manager, storage, study_name, trial_id, convert))
    trials = _study(storage, study_name).trials
    if not 0 <= trial_id < len(trials):
        raise HyperparameterError(f"trial_id={trial_id} is not allowed; allowed: 0 to {len(trials) - 1}, of {study_name!r}")
    attributes = trials[trial_id].user_attrs
    try:
        loaded = of_trial(HYPERPARAMS_CONVERTER[manager.algo](trials[trial_id].params), attributes)
    except KeyError as error:
        raise HyperparameterError(
            f"trial_id={trial_id} is not allowed: the trial has no {error}; allowed: a trial of a search for {manager.algo}"
        ) from error
    fixed, given = attributes.get(FIXED, ()), manager.custom_hyperparams or {}
    manager.custom_hyperparams = {name: value for name, value in given.items() if not (name in loaded and name in fixed)}
    if forgotten := sorted(set(fixed) - set(given)):
        warnings.warn(f"trial {trial_id} had {forgotten} by -params: give them again", stacklevel=2)
    return loaded


def training_command(
    settings: Mapping[str, Any], sampled: Mapping[str, Any], number: int, study: Sequence[str], others: Sequence[str]
) -> str:
    """
    The zoo's command line that trains an agent as a trial of ``sb3_tom.tune`` did. The zoo ignores ``--trial-id 0``: what that
    trial sampled is in ``-params``.

    :param settings: of the search
    :param sampled: arguments of the trial's agents that it sampled
    :param number: of the trial
    :param study: words that name storage and study
    :param others: further words
    """
    from rl_zoo3.utils import ALGOS

    from sb3_tom.zoo.storages import PROXY

    is_own = issubclass(ALGOS[settings["algo"]], MBPO)
    is_proxy = any(word.startswith(f"{PROXY}://") for word in study)
    if not is_own and (number == 0 or is_proxy):  # an argument of another algorithm may be more than plain values
        return f"by -params, since the RL Zoo {'reads no proxy' if is_proxy else 'ignores --trial-id 0'}"
    fixed = {name: settings["hyperparams"][name] for name in settings.get(FIXED, ())}
    if number == 0:
        params = {**fixed, **sampled}
    else:
        others = [*study, "--trial-id", str(number), *others]
        params = {name: value for name, value in fixed.items() if is_own or name not in sampled}  # load_trial drops the others
    if params:
        others = [*others, "-params", *(f"{name}:{value!r}" for name, value in params.items())]
    words = ["python", "-m", "rl_zoo3.train", "--algo", settings["algo"], "--env", settings["env"]]
    return shlex.join([*words, "-n", str(settings["n_timesteps"]), *others])


def prepared(trial: Any, manager: Any, algorithm: type[MBPO], sampler: Sampler, place: str) -> None:
    """
    Store in a trial of the zoo's own search what its sampler has to know, and warn of what it leaves out.

    :param trial: Optuna's
    :param manager: the zoo's
    :param algorithm: class of the agent
    :param sampler: its search space
    :param place: where the hyperparameters come from
    """
    trial.set_user_attr(BUDGET, manager.n_timesteps)
    store_fixed(trial, manager.custom_hyperparams or {}, manager._hyperparams, algorithm, sampler)
    sampled = set(sampled_mappings(sampler)) - set(trial.user_attrs[OTHER_PLUGS])
    warn_of_replaced(place, manager._hyperparams, sampled)
