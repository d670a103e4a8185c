"""Turns a user's arguments into one :class:`RunSpec` per run. Errors are found here, before any run."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import torch as th

from sb3_tom.checks.validation import check_integer, check_seed, close_names
from sb3_tom.zoo.runs import check_env, import_packages, zoo_hyperparams

DEFAULTS: dict[str, Any] = {
    "env": None,
    "algo": None,
    "seed": [0],
    "params": {},
    "grid": {},
    "n_timesteps": None,
    "eval_freq": None,
    "eval_episodes": 10,
    "save_freq": None,
    "device": "cpu",
    "num_threads": 1,
    "gym_packages": [],
}
"""Arguments that determine the results, by their name in YAML files and on the command line."""

EVALUATIONS = 20
"""Number of evaluations of a run without ``eval_freq``."""

LONGEST = 150
"""Maximum number of bytes of a folder's name; file systems allow 255."""

NO_FOLDERS = ("", ".", "..")
"""Names that are of no folder, or of one that is there already."""

ALGORITHM_KEYS = ("algo", "config", "params")
"""Settings of one labelled algorithm."""


@dataclass(frozen=True)
class RunSpec:
    """
    One run: all that its result depends on, JSON-able.

    :param env: id of the environment
    :param algo: the zoo's name of the algorithm
    :param method: its name in tables: the algorithm, and what distinguishes it from others of the same sweep
    :param seed: of the agent
    :param n_timesteps: env steps
    :param eval_freq: env steps between evaluations
    :param eval_episodes: episodes of an evaluation
    :param save_freq: env steps between checkpoints
    :param hyperparams: all of the zoo's, not yet converted
    :param device: for PyTorch
    :param num_threads: of PyTorch
    :param gym_packages: modules that register environments
    """

    env: str
    algo: str
    method: str
    seed: int
    n_timesteps: int
    eval_freq: int
    eval_episodes: int
    save_freq: int
    hyperparams: dict[str, Any]
    device: str
    num_threads: int
    gym_packages: list[str]

    @property
    def name(self) -> str:
        """Name of the run and of its folder within the sweep's."""
        return f"{_as_folder(self.env)}/{_as_folder(self.method)}/seed_{self.seed}"


@dataclass(frozen=True)
class _Method:
    """An algorithm with its settings; ``params`` with one point of the grid."""

    label: str
    algo: str
    config: str | None
    params: dict[str, Any]


def make_runs(words: Mapping[str, Any]) -> list[RunSpec]:
    """
    All runs of a sweep: all environments and methods with the first seed, then with the next.

    :param words: arguments by the names of :data:`DEFAULTS`, which apply to missing ones
    :raises ValueError: naming the argument, what came and what is allowed
    """
    unknown = sorted(set(words) - set(DEFAULTS))
    if unknown:
        raise ValueError(f"{unknown[0]}={words[unknown[0]]!r} is not allowed; allowed: {close_names(unknown[0], DEFAULTS)}")
    settings = {**DEFAULTS, **words}
    settings["gym_packages"] = _listed("gym_packages", settings["gym_packages"], str, least=0)
    import_packages(settings["gym_packages"])
    envs = [check_env(env) for env in _listed("env", settings["env"], str)]
    seeds = [check_seed(seed) for seed in _listed("seed", settings["seed"], int)]
    methods = _methods(settings)
    hyperparams = {(env, method.label): _hyperparams(env, method) for env, method in product(envs, methods)}
    runs = [
        _run(settings, env, method, seed, hyperparams[env, method.label])
        for seed, env, method in product(seeds, envs, methods)
    ]
    _check_names(runs)
    return runs


def as_json(runs: list[RunSpec]) -> dict[str, Any]:
    """
    Runs by name, JSON-able.

    :param runs: of one sweep
    """
    return {run.name: asdict(run) for run in runs}


def _run(settings: Mapping[str, Any], env: str, method: _Method, seed: int, hyperparams: dict[str, Any]) -> RunSpec:
    given = settings["n_timesteps"]
    n_timesteps = check_integer("n_timesteps", hyperparams["n_timesteps"] if given is None else given, 1)
    eval_freq = _frequency("eval_freq", settings, max(n_timesteps // EVALUATIONS, 1), n_timesteps)
    return RunSpec(
        env=env,
        algo=method.algo,
        method=method.label,
        seed=seed,
        n_timesteps=n_timesteps,
        eval_freq=eval_freq,
        eval_episodes=check_integer("eval_episodes", settings["eval_episodes"], 1),
        save_freq=_frequency("save_freq", settings, eval_freq, n_timesteps),
        hyperparams=hyperparams,
        device=_device(settings["device"]),
        num_threads=check_integer("num_threads", settings["num_threads"], 1),
        gym_packages=settings["gym_packages"],
    )


def _frequency(name: str, settings: Mapping[str, Any], default: int, n_timesteps: int) -> int:
    value = settings[name]
    return default if value is None else check_integer(name, value, 1, n_timesteps)


def _device(value: Any) -> str:
    """A device that PyTorch knows, not necessarily one of this machine: runs may be made on others."""
    try:
        if not isinstance(value, str):
            raise TypeError(f"not {type(value).__name__}")
        if value != "auto":
            th.device(value)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device={value!r} is not allowed; allowed: 'auto', 'cpu', 'cuda', 'cuda:0', ...") from error
    return value


def _hyperparams(env: str, method: _Method) -> dict[str, Any]:
    try:
        hyperparams = zoo_hyperparams(method.algo, env, method.config, method.params)
        hyperparams = json.loads(json.dumps(hyperparams))
    except TypeError as error:
        raise ValueError(f"params of algo={method.label!r}: {error}; allowed: plain values of YAML") from None
    except ValueError as error:
        raise ValueError(f"algo={method.label!r}: {error}") from error
    return hyperparams


def _methods(settings: dict[str, Any]) -> list[_Method]:
    algo, common = settings["algo"], _mapping("params", settings["params"])
    if not isinstance(algo, Mapping):
        algo = dict.fromkeys(_listed("algo", algo, str))
    if not algo:
        raise ValueError(
            f"algo={algo!r} is not allowed; allowed: names of the zoo, or a mapping of labels to {ALGORITHM_KEYS}"
        )
    points = list(_grid(settings["grid"]))
    methods = []
    for label, own in algo.items():
        own = _mapping(f"algo.{label}", own or {})
        unknown = sorted(set(own) - set(ALGORITHM_KEYS))
        if unknown:
            raise ValueError(f"algo.{label}.{unknown[0]}={own[unknown[0]]!r} is not allowed; allowed: {list(ALGORITHM_KEYS)}")
        params = {**common, **_mapping(f"algo.{label}.params", own.get("params", {}))}
        for suffix, point in points:
            methods.append(_Method(f"{label}{suffix}", own.get("algo", label), own.get("config"), {**params, **point}))
    return methods


def _grid(grid: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each point of the grid, and its suffix for a method's name."""
    axes = []
    for name, values in _mapping("grid", grid).items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"grid.{name}={values!r} is not allowed; allowed: a list of the values to try")
        axes.append([(f",{name}={_shown(value)}", name, value) for value in values])
    for point in product(*axes):
        yield "".join(text for text, _, _ in point), {name: value for _, name, value in point}


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), default=str)


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{name}={value!r} is not allowed; allowed: a mapping of names to values")
    return dict(value)


def _listed(name: str, value: Any, kind: type, least: int = 1) -> list[Any]:
    """One value or a list of different ones."""
    values = value if isinstance(value, list | tuple) else [value]
    good = all(isinstance(one, kind) and not isinstance(one, bool) for one in values)
    if not good or len(values) < least or len(set(values)) < len(values):
        what = {str: "names", int: "integers"}[kind]
        raise ValueError(f"{name}={value!r} is not allowed; allowed: {what}, at least {least}, each once")
    return list(values)


def _as_folder(name: str) -> str:
    """A valid name for a single folder; values of a grid may contain any character, and may be long."""
    folder = "".join(letter if letter.isalnum() or letter in "._-=,+" else "_" for letter in name)
    if len(folder.encode()) <= LONGEST:
        return folder
    digits = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()[:8]  # tells apart names that begin alike
    return f"{folder.encode()[: LONGEST - len(digits) - 1].decode(errors='ignore')}-{digits}"


def _check_names(runs: list[RunSpec]) -> None:
    names: dict[str, RunSpec] = {}
    for run in runs:
        for what, name in (("env", run.env), ("algo", run.method)):
            if _as_folder(name) in NO_FOLDERS:
                allowed = f"allowed: any but {NO_FOLDERS}"
                raise ValueError(f"{what}={name!r} is not allowed: no folder of a run has this name; {allowed}")
        other = names.setdefault(run.name, run)
        if other is not run:
            both = f"algo={run.method!r} and {other.method!r} of {run.env} and {other.env}"
            raise ValueError(f"{both} would share the folder {run.name}; allowed: names that differ in letters and digits")
