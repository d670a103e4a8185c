"""Reads a finished run from its folder, one of the zoo's or of a sweep. YAML tags in its files create no objects."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sb3_tom.checks.validation import check_choice
from sb3_tom.zoo.experiments import BEST
from sb3_tom.zoo.runs import zoo_algorithms

ATTEMPT = "attempt_"
"""Prefix of folders of attempts, before their number; in them runs of a sweep keep the zoo's first files."""


@dataclass(frozen=True)
class SavedRun:
    """
    The files of a run, and their content.

    :param algo: the zoo's name of the algorithm
    :param env: id of the environment
    :param env_name: the id as used in file names
    :param agent: zip of the agent
    :param params: folder of ``config.yml`` and ``args.yml``
    :param stats: folder of ``vecnormalize.pkl``
    :param hyperparams: the zoo's, not converted
    :param env_kwargs: arguments of the environment
    :param tables: evaluations and CSV files of the run and of its attempts, by name within its folder
    """

    algo: str
    env: str
    env_name: str
    agent: Path
    params: Path
    stats: Path
    hyperparams: dict[str, Any]
    env_kwargs: dict[str, Any]
    tables: dict[str, Path]


def read_saved_run(folder: Path, algo: str | None = None, env: str | None = None, is_best: bool = False) -> SavedRun:
    """
    Find the files of a run.

    :param folder: of the run
    :param algo: the zoo's name; None: that in ``args.yml``
    :param env: id of the environment; None: that in ``args.yml``
    :param is_best: use the agent with the best evaluation instead of the last one
    :raises ValueError: naming the argument, what came and what is allowed
    """
    from huggingface_sb3 import EnvironmentName

    found = [*sorted(folder.glob("*/config.yml")), *_of_attempts(folder)]
    if not found:
        allowed = "a folder such as logs/sac/Hopper-v5_1, or of a run of a sweep"
        raise ValueError(f"folder={str(folder)!r} is not allowed: there is no */config.yml in it; allowed: {allowed}")
    params = found[-1].parent
    arguments = _read_mapping(params / "args.yml")
    algo = check_choice("algo", _said("algo", algo, arguments, params), zoo_algorithms())
    env = _said("env", env, arguments, params)
    env_name = str(EnvironmentName(env))
    if params.name != env_name:
        raise ValueError(f"env={env!r} is not allowed: the run's folder has {params.name}")
    agent = folder / (BEST if is_best else f"{env_name}.zip")
    if not agent.is_file():
        allowed = "a run of rl_zoo3.train with evaluations, or its last agent" if is_best else "a run that has ended"
        raise ValueError(f"folder={str(folder)!r} is not allowed: it has no {agent.name}; allowed: {allowed}")
    hyperparams = _read_mapping(params / "config.yml")
    env_kwargs = arguments.get("env_kwargs")
    return SavedRun(
        algo=str(algo),
        env=env,
        env_name=env_name,
        agent=agent,
        params=params,
        stats=folder / env_name,
        hyperparams=hyperparams,
        env_kwargs=dict((hyperparams.get("env_kwargs") if env_kwargs is None else env_kwargs) or {}),
        tables={str(path.relative_to(folder)): path for place in _places(folder) for path in _tables(place)},
    )


def _places(folder: Path) -> list[Path]:
    """The folder of a run and, for a run of a sweep, those of all its attempts: each holds the log of its part."""
    return [folder, *(path.parents[1] for path in _of_attempts(folder))]


def _of_attempts(folder: Path) -> list[Path]:
    numbers = {path: attempt_number(path.parents[1]) for path in folder.glob(f"{ATTEMPT}*/*/config.yml")}
    return sorted((path for path, number in numbers.items() if number), key=numbers.__getitem__)


def attempt_number(folder: Path) -> int:
    """
    The number of the attempt of a run of a sweep that a folder is of; 0 if of none: a user may have put a copy beside it.

    :param folder: any
    """
    number = re.fullmatch(rf"{ATTEMPT}(\d+)", folder.name)
    return int(number[1]) if number else 0


def _tables(folder: Path) -> list[Path]:
    return [*sorted(folder.glob("*.csv")), *folder.glob("evaluations.npz")]


def _said(name: str, given: str | None, arguments: Mapping[str, Any], params: Path) -> str:
    value = arguments.get(name) if given is None else given
    if not isinstance(value, str):
        raise ValueError(f"{name} is missing: {params / 'args.yml'} has none; allowed: {name}=...")
    return value


def _read_mapping(path: Path) -> dict[str, Any]:
    """Read a file that the zoo has dumped, without executing its tags, as the zoo itself does."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        pass

    python = "tag:yaml.org,2002:python/"
    Loader.add_constructor(f"{python}tuple", lambda loader, node: tuple(loader.construct_sequence(node, deep=True)))
    Loader.add_constructor(f"{python}object/apply:collections.OrderedDict", _ordered)
    # Classes in a Python file of hyperparameters: the card needs their names only, and the zoo imports wrappers by name
    Loader.add_multi_constructor(f"{python}name:", lambda loader, suffix, node: suffix)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)
        return dict(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise ValueError(f"folder: {path} cannot be read: {text}; allowed: plain values in a mapping") from None


def _ordered(loader: Any, node: Any) -> dict[Any, Any]:
    pairs = loader.construct_sequence(node, deep=True)
    return {key: value for key, value in (pairs[0] if pairs else [])}
