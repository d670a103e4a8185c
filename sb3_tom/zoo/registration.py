"""
Registers the algorithms with the RL Zoo (``rl_zoo3``): their classes, samplers and converters for Optuna, and YAML files. The
zoo has no interface for extensions, so entries are added to its dictionaries and the methods of its ``ExperimentManager`` are
wrapped; for other algorithms the wrappers do nothing.
"""

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from inspect import Signature, signature
from pathlib import Path
from types import ModuleType
from typing import Any

from sb3_tom.mbpo.mbpo import MBPO
from sb3_tom.mbpo.variants import DHMBPO, DHMBPOPMAC, DHMBPOTOM, MBPOPMAC, MBPOTOM, NAMED_AFTER_PLUGS
from sb3_tom.zoo import experiments
from sb3_tom.zoo.converters import convert_params
from sb3_tom.zoo.samplers import SAMPLERS

ALGORITHMS: dict[str, type[MBPO]] = {
    "mbpo": MBPO,
    "mbpo_pmac": MBPOPMAC,
    "mbpo_tom": MBPOTOM,
    "dhmbpo": DHMBPO,
    "dhmbpo_pmac": DHMBPOPMAC,
    "dhmbpo_tom": DHMBPOTOM,
}
"""The classes with YAML files and search spaces of their own, by the names for the zoo's ``--algo``."""

REGISTERED: dict[str, type[MBPO]] = {**NAMED_AFTER_PLUGS, **ALGORITHMS}
"""All classes. Those named after a plug have the files and search spaces of their backbones."""

WRAPPED = "_sb3_tom_wrapped"
"""Attribute of an ``ExperimentManager`` that is wrapped already."""


def hyperparams_folder() -> Path:
    """Folder of the YAML files: inside the installed package, or beside it in a checkout (the zoo's own rule)."""
    package = Path(__file__).parents[1]
    inside = package / "hyperparams"
    return inside if inside.is_dir() else package.parent / "hyperparams"


def config_of(name: str) -> Path:
    """
    The YAML file of an algorithm.

    :param name: the zoo's
    """
    return hyperparams_folder() / f"{name if name in ALGORITHMS else backbone_of(name)}.yml"


def backbone_of(name: str) -> str:
    """
    The algorithm with uniform weights and the likelihood on the same backbone.

    :param name: the zoo's
    """
    return name.partition("_")[0]


def register(module: ModuleType) -> None:
    """
    Add the missing entries to one of the zoo's modules; existing ones are kept. Idempotent.

    :param module: ``rl_zoo3.utils``, ``rl_zoo3.hyperparams_opt`` or ``rl_zoo3.exp_manager``, imported
    :raises KeyError: for another module
    """
    _REGISTRATIONS[module.__name__](module)


def register_all() -> None:
    """
    Import those modules and :func:`register` them.

    :raises ModuleNotFoundError: if the zoo is not installed
    """
    for name in MODULES:
        register(import_module(name))


def _register_algorithms(utils: ModuleType) -> None:
    for name, algorithm in REGISTERED.items():
        utils.ALGOS.setdefault(name, algorithm)


def _register_search_spaces(hyperparams_opt: ModuleType) -> None:
    for name in REGISTERED:
        sampler = SAMPLERS[name if name in SAMPLERS else backbone_of(name)]
        hyperparams_opt.HYPERPARAMS_SAMPLER.setdefault(name, sampler)
        hyperparams_opt.HYPERPARAMS_CONVERTER.setdefault(name, convert_params)


def _register_experiments(exp_manager: ModuleType) -> None:
    manager_class, algorithms = exp_manager.ExperimentManager, exp_manager.ALGOS
    if WRAPPED in vars(manager_class):
        return
    setattr(manager_class, WRAPPED, True)
    manager_class.__init__ = _with_default_config(manager_class.__init__, algorithms)
    for name, wrapper in experiments.WRAPPERS.items():
        setattr(manager_class, name, _for_our_algorithms(getattr(manager_class, name), wrapper, algorithms))


def _with_default_config(original: Callable[..., None], algorithms: dict[str, Any]) -> Callable[..., None]:
    """Use this package's YAML files if there is no ``-conf``: the zoo looks in its own folder only."""
    parameters: Signature = signature(original)

    @wraps(original)
    def initialize(*args: Any, **kwargs: Any) -> None:
        bound = parameters.bind(*args, **kwargs)
        name = bound.arguments.get("algo")
        ours = name in REGISTERED and algorithms.get(name) is REGISTERED[name]
        if ours and not bound.arguments.get("config"):
            bound.arguments["config"] = str(config_of(str(name)))
        original(*bound.args, **bound.kwargs)

    return initialize


def _for_our_algorithms(original: Callable[..., Any], wrapper: Callable[..., Any], algorithms: dict[str, Any]) -> Any:
    """``wrapper(original, manager, ...)`` for MBPO and its subclasses, ``original`` for all others."""

    @wraps(original)
    def method(manager: Any, *args: Any, **kwargs: Any) -> Any:
        algorithm = algorithms.get(manager.algo)
        if isinstance(algorithm, type) and issubclass(algorithm, MBPO):
            return wrapper(original, manager, algorithm, *args, **kwargs)
        return original(manager, *args, **kwargs)

    return method


_REGISTRATIONS: dict[str, Callable[[ModuleType], None]] = {
    "rl_zoo3.utils": _register_algorithms,
    "rl_zoo3.hyperparams_opt": _register_search_spaces,
    "rl_zoo3.exp_manager": _register_experiments,
}

MODULES = tuple(_REGISTRATIONS)
"""Modules of the zoo, in the order in which they are imported."""
