"""Errors of ``load`` that name the right call or argument."""

import io
import pathlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sb3_tom.checkpoint.reading import is_archive
from sb3_tom.mbpo.warm_start import refuse_sac_zip


def refuse_other_files(path: str | pathlib.Path | io.BufferedIOBase, cls: type) -> None:
    """
    Refuse checkpoints and files of plain SAC.

    :param path: argument of ``load``
    :param cls: class of the agent
    :raises ValueError: naming the call for such a file
    """
    if isinstance(path, str | pathlib.Path) and is_archive(path):
        raise ValueError(
            f"path={str(path)!r} is not allowed: the file is a checkpoint of a run; allowed: {cls.__name__}.resume(path, env)"
        )
    refuse_sac_zip(path)


@contextmanager
def explained_load_errors(requested: Mapping[str, Any], cls: type) -> Iterator[None]:
    """
    Name the argument whose networks do not fit the file's.

    :param requested: arguments of plugs given to ``load``
    :param cls: class of the agent
    :raises ValueError: naming the argument, what came and what is allowed
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ValueError(
            f"the file needs the module {error.name!r}, which is missing here, for example for a plug, a reward_fn or a "
            "schedule; allowed: where it can be imported, or custom_objects={'reward_fn': None} (SB3's argument) for what is "
            "not needed. For predictions alone save the policy: agent.policy.save(path), and type(agent.policy).load(path)"
        ) from error
    except (RuntimeError, KeyError) as error:
        given = {name: value for name, value in requested.items() if name.endswith("_kwargs")}
        if "bounds.log_var" in str(error):
            raise ValueError(
                f"the file's model has another kind of noise; allowed: {cls.__name__}.load(path, dynamics_kwargs=...) with "
                "'homoscedastic' as it was (first smooth ensembles: True, with 'beta_nll' 0.0 and 'weight_decay' 1e-3)"
            ) from error
        of_optimizers = error.args == ("policy.optimizer",)  # SB3 takes those with other parameters for an old DQN's
        of_networks = "state_dict" in str(error)
        if not (of_optimizers and given) and not (of_networks and (given or "termination_fn" in requested)):
            raise
        if given:
            raise ValueError(
                f"{given!r} is not allowed: the networks of the file are others; allowed: arguments that leave their sizes"
            ) from error
        raise ValueError(
            f"termination_fn={requested['termination_fn']!r} is not allowed: the file's is of another kind; "
            f"allowed: one of the same kind, or {cls.__name__}.from_sac(agent, env, termination_fn=...)"
        ) from error
