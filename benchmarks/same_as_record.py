"""The record of a case of ``same_as.py``: everything by which runs may differ, as arrays by name."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.logger import KVWriter, Logger

TIMES = {"seconds", "fps", "eta", "time_elapsed"}
"""Last parts of the names of values that depend on the clock."""
COUNTERS = {"episodes", "total_timesteps"}
"""Names that SB3 logs under ``time`` though they do not depend on the clock."""
N_FIXED = 16


def is_time(name: str) -> bool:
    """
    Whether a value depends on the clock, so that it differs between any two runs.

    :param name: its parts are separated by "/"
    """
    *groups, last = name.split("/")
    return last in TIMES or (groups[-1:] == ["time"] and last not in COUNTERS)


class Record(KVWriter):
    """
    Names and arrays, in the order in which they were recorded: the first that differs is near the cause. As a writer of SB3's
    logger it records every dump.
    """

    def __init__(self) -> None:
        self.values: dict[str, np.ndarray] = {}
        self._n_dumps = 0

    def note(self, name: str, value: Any) -> None:
        """
        Record a value, or all values of nested mappings and sequences, each under a name of its own; times are left out.

        :param name: of the value; nested ones have "/" and their key or number after it
        :param value: a tensor, an array, a number, a text or None, or mappings and sequences of these
        :raises ValueError: if the name is taken
        :raises TypeError: naming a value of another kind
        """
        if isinstance(value, Mapping | list | tuple):
            entries = value.items() if isinstance(value, Mapping) else enumerate(value)
            for key, entry in entries:
                self.note(f"{name}/{key}", entry)
        elif not is_time(name):
            if name in self.values:
                raise ValueError(f"{name} was noted before")
            self.values[name] = _as_array(name, value)

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """One dump of SB3's logger; see :class:`KVWriter`."""
        self.note(f"log/{self._n_dumps:03d}", {**key_values, "step": step})
        self._n_dumps += 1

    def close(self) -> None:
        """Does nothing; see :class:`KVWriter`."""

    def watch(self, agent: BaseAlgorithm) -> None:
        """
        Record whatever an agent logs from now on.

        :param agent: gets a logger that writes to nothing else
        """
        agent.set_logger(Logger(None, [self]))

    def note_agent(self, agent: SAC, name: str = "agent") -> None:
        """
        Record the state of an agent: an MBPO, or the SAC agent that one starts from.

        :param agent: predicts, which draws from torch's global generator after its state was recorded
        :param name: of the agent, if a case has several
        """
        self.note(f"{name}/rest_of_log", dict(agent.logger.name_to_value))
        self.note(f"{name}/num_timesteps", agent.num_timesteps)
        self.note(f"{name}/n_updates", agent._n_updates)
        self.note(f"{name}/random", _random_streams())
        self.note(f"{name}/log_ent_coef", agent.log_ent_coef)  # SB3 keeps it beside its networks
        self.note(f"{name}/ent_coef_tensor", getattr(agent, "ent_coef_tensor", None))
        self.note(f"{name}/parameters", agent.get_parameters())
        if agent.replay_buffer is not None:
            self.note(f"{name}/replay_buffer", _buffer(agent.replay_buffer))
        if hasattr(agent, "imagined"):
            self._note_model_based(agent, name)
        self.note(f"{name}/vec_normalize", _statistics(agent))
        for deterministic in (True, False):
            actions, _ = agent.predict(_fixed_observations(agent), deterministic=deterministic)
            self.note(f"{name}/{'predict' if deterministic else 'sample'}", actions)

    def _note_model_based(self, agent: Any, name: str) -> None:
        """Parts that SAC does not have."""
        self.note(f"{name}/policy_version", agent.policy_version)
        self.note(f"{name}/generator", agent.generator.get_state())
        self.note(f"{name}/start_observations", agent.replay_buffer.start_observations())
        self.note(f"{name}/imagined", {"size": agent.imagined.size, **agent.imagined.state_dict()})
        for plug in ("weighter", "dynamics", "objective", "termination"):
            self.note(f"{name}/kinds/{plug}", type(getattr(agent, plug)).__name__)

    def save(self, path: Path) -> None:
        """
        Write the values; equal values give equal bytes.

        :param path: .npz file, complete as soon as it is there
        """
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, **self.values)  # type: ignore[arg-type]  # no value is called allow_pickle
        partial.replace(path)


def load_values(path: Path) -> dict[str, np.ndarray]:
    """
    The values that :meth:`Record.save` has written.

    :param path: the file
    """
    with np.load(path) as archive:
        return dict(archive)


def _as_array(name: str, value: Any) -> np.ndarray:
    """A copy, since agents change their tensors."""
    if isinstance(value, th.Tensor):
        return value.detach().cpu().numpy().copy()
    array = np.array("None" if value is None else value)
    if array.dtype.kind not in "biufUS":
        raise TypeError(f"{name} is a {type(value).__qualname__}, which cannot be compared")
    return array


def _random_streams() -> dict[str, Any]:
    """The global random states, which show a missing draw even if its number was not used."""
    _, keys, position, *_ = np.random.get_state(legacy=True)
    return {"python": np.array(random.getstate()[1]), "numpy": [keys, position], "torch": th.get_rng_state()}


def _buffer(buffer: ReplayBuffer) -> dict[str, Any]:
    """Filled rows of every public array that has one row per position, and public numbers."""
    shape = buffer.buffer_size, buffer.n_envs
    public = {name: value for name, value in vars(buffer).items() if not name.startswith("_")}
    values: dict[str, Any] = {name: value for name, value in public.items() if isinstance(value, bool | int | float)}
    for name, value in public.items():
        if isinstance(value, np.ndarray) and value.shape[:2] == shape:
            values[name] = value[: buffer.size()]
    return values


def _statistics(agent: BaseAlgorithm) -> dict[str, Any]:
    """Running means and variances of ``VecNormalize``, if there is one."""
    normalize = agent.get_vec_normalize_env()
    if normalize is None:
        return {}
    both: dict[str, Any] = {"observations": normalize.obs_rms, "returns": normalize.ret_rms}
    return {name: {"mean": rms.mean, "var": rms.var, "count": rms.count} for name, rms in both.items()}


def _fixed_observations(agent: BaseAlgorithm) -> np.ndarray:
    """``[N_FIXED, O]``, the same for all agents of an env."""
    space = agent.observation_space
    return np.random.default_rng(0).normal(size=(N_FIXED, *(space.shape or ()))).astype(space.dtype)
