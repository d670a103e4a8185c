"""Checkpoints that somebody has made by hand, and what is seen of a process that reads one."""

import copy
import json
import os
import re
import sys
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvWrapper

from sb3_tom import MBPO
from sb3_tom.callbacks.learning_curve import LearningCurveCallback
from sb3_tom.checkpoint import ResumeCallback, archive
from tests.mbpo.small import small_agent

STEPS = 62

Place = tuple[Any, ...]
"""Keys and numbers on the way to a value of the tree."""

REMOVED = object()

WATCHED = ("import", "open", "exec", "os.", "subprocess.", "shutil.", "socket.", "pickle.", "ctypes.", "marshal.", "tempfile.")
"""Beginnings of the names of Python's audit events."""

_seen: set[tuple[str, str]] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is not None and event.startswith(WATCHED):
        _seen.add((event, str(arguments[0])[:200] if arguments else ""))


sys.addaudithook(_audit)  # Python knows no way to take one away


@contextmanager
def watched() -> Iterator[set[tuple[str, str]]]:
    """All that this thread and others import, open, start, rename or remove meanwhile."""
    global _seen
    _seen = events = set()
    try:
        yield events
    finally:
        _seen = None


def nodes_of(tree: Any) -> Iterator[Any]:
    """All values of a tree."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()


class Raw:
    """
    The content of a checkpoint, to be changed and written anew with a right checksum.

    :param path: of a good one
    """

    def __init__(self, path: Path) -> None:
        with zipfile.ZipFile(path) as whole:
            self.tree: Any = json.loads(whole.read("state.json"))
        self.arrays = {name: value for name, value in np.load(path).items() if isinstance(value, np.ndarray)}

    def copy(self) -> "Raw":
        """Its arrays are shared: replace them."""
        other = copy.copy(self)
        other.tree, other.arrays = copy.deepcopy(self.tree), dict(self.arrays)
        return other

    def tidy(self) -> "Raw":
        """One place in the tree for each array, and an array for each place: all else is noticed before it is looked at."""
        unused, used = dict(self.arrays), {}
        for node in nodes_of(self.tree):
            if isinstance(node, dict) and node.get("!") in ("array", "tensor") and str(node.get("name")) in self.arrays:
                name = str(node["name"])
                if unused.pop(name, None) is None:
                    node["name"] = f"{name}-{len(used)}"
                used[node["name"]] = self.arrays[name]
        self.arrays = used
        return self

    def write(self, path: Path, tree: str | None = None) -> None:
        """As ``write_archive`` does, whatever is in it."""
        with path.open("wb") as file:
            digest = archive._write_members(file, self.arrays, json.dumps(self.tree) if tree is None else tree)
            file.seek(-len(digest), os.SEEK_END)
            file.write(digest.encode())


def edited(raw: Raw, place: Place, value: Any) -> Raw:
    """A copy in which one node of the tree is another value, or is not there."""
    other, value = raw.copy(), value if value is REMOVED else copy.deepcopy(value)
    *way, last = place
    node = other.tree
    for key in way:
        node = node[key]
    if value is REMOVED:
        del node[last]
    elif isinstance(node, dict) or last < len(node):
        node[last] = value
    else:
        node.append(value)
    return other


class Remembering(BaseCallback):
    """Has attributes of several kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.word, self.rewards = 0, "none", np.zeros(3)

    def _on_step(self) -> bool:
        self.seen += 1
        self.word = "some"
        return True


def make_env(name: str) -> Any:
    return VecNormalize(make_vec_env(name, 1))


def callbacks(folder: Path, name: str) -> list[BaseCallback]:
    evaluation = EvalCallback(make_vec_env(name, 1), eval_freq=1000, verbose=0)
    return [Remembering(), evaluation, LearningCurveCallback(name, folder / "curve.csv", 1000)]


def good_checkpoint(folder: Path, name: str = "Pendulum-v1") -> Path:
    """Within a run that has trained, with statistics, an evaluation env and an imagined ring."""
    settings: dict[str, Any] = {"policy_kwargs": {"net_arch": [4]}, "update_to_data_ratio": 0.2, "batch_size": 8}
    agent = small_agent(make_env(name), dynamics="linear", weighter="pmac", **settings)
    agent.learn(STEPS, callback=[*callbacks(folder, name), ResumeCallback(folder, STEPS - 2, keep=9)])
    return folder / f"checkpoint_{STEPS - 2}_steps.zip"


def objects_of(agent: MBPO, others: list[BaseCallback]) -> dict[str, Any]:
    """What a checkpoint is restored into."""
    found: dict[str, Any] = {"agent": agent, "replay_buffer": agent.replay_buffer, "logger": agent._logger}
    found |= {name: getattr(agent, name) for name in ("imagined", "health", "update_counter", "checkpointer", "policy")}
    found |= {type(one).__name__: one for one in others}
    for index, venv in enumerate((agent.env, others[1].eval_env)):  # type: ignore[attr-defined]
        while isinstance(venv, VecEnvWrapper):
            found[f"{index} {type(venv).__name__}"] = venv
            venv = venv.venv
        assert isinstance(venv, DummyVecEnv)
        env = found[f"{index} venv"] = venv
        env = venv.envs[0]
        while env is not env.unwrapped:
            found[f"{index} {type(env).__name__}"] = env
            env = env.env
        found[f"{index} env"] = env
    return found


def methods_and_kinds(agent: MBPO, others: list[BaseCallback]) -> tuple[set[str], dict[str, type]]:
    """Attributes of instances that hide something callable of their class; and the types of the agent's own attributes."""
    hidden = {
        f"{place}.{name}"
        for place, owner in objects_of(agent, others).items()
        for name in vars(owner)
        if callable(getattr(type(owner), name, None)) or name.startswith("__")
    }
    return hidden, {name: type(value) for name, value in vars(agent).items()}


def resume_and_learn(path: Path, name: str, folder: Path) -> tuple[MBPO, list[BaseCallback]]:
    """What a user does with a file."""
    env, others = make_env(name), callbacks(folder, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        agent = MBPO.resume(path, env)
        assert agent.env is env
        agent.learn(STEPS, callback=others)
    return agent, others


class Good(NamedTuple):
    """A good checkpoint, and what is seen of a process that goes on from it."""

    folder: Path
    raw: Raw
    events: set[tuple[str, str]]
    hidden: set[str]
    kinds: dict[str, type]


def nameless(events: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """SB3's logger makes a folder named after the time."""
    return {(event, re.sub(r"SB3-[\d-]+", "SB3", name)) for event, name in events}


def made_good(folder: Path, name: str) -> Good:
    raw = Raw(good_checkpoint(folder, name))
    path = folder / "crafted.zip"
    raw.write(path)
    resume_and_learn(path, name, folder)  # what is imported late is now there
    with watched() as events:
        agent, others = resume_and_learn(path, name, folder)
    return Good(folder, raw, nameless(events), *methods_and_kinds(agent, others))
