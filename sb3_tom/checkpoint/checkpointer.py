"""Saves and resumes the runs of an agent; see docs/resume.md."""

import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv

from sb3_tom.checkpoint.agent_state import check_agent, restore_agent
from sb3_tom.checkpoint.archive import write_archive
from sb3_tom.checkpoint.arguments import SEED, arguments_of_file, different_arguments
from sb3_tom.checkpoint.callback_state import RestoresAtEnd, walk
from sb3_tom.checkpoint.codec import State
from sb3_tom.checkpoint.files import held, open_checkpoint
from sb3_tom.checkpoint.fits import explained
from sb3_tom.checkpoint.log_state import continued_log, log_name_of
from sb3_tom.checkpoint.reading import Archive
from sb3_tom.checkpoint.replay_state import check_room
from sb3_tom.checkpoint.run_state import moment_of, outline_of_run, remaining_steps, restore_moment, run_state
from sb3_tom.checks.validation import check_seed

A = TypeVar("A", bound=OffPolicyAlgorithm)
F = TypeVar("F", bound=Callable[..., Any])

RUN = "run"
"""Key of a run's name in its checkpoints; older ones have none."""

_RUN_NAME = re.compile(r"[0-9a-f]{32}")
_TWICE = re.compile(r"(?:.*got multiple values for (?:keyword )?argument )?'(\w+)'")
"""What Python says of an argument that is given twice; of a call of ``super().__init__`` only its name, as a KeyError."""

_HELD: "WeakKeyDictionary[Checkpointer, ExitStack]" = WeakKeyDictionary()
"""Folders that a run holds within ``learn``; not attributes, since an agent may be copied there."""


class Checkpointer:
    """
    Belongs to one agent (its attribute ``checkpointer``), which is passed to each call and not stored. The agent wraps its
    ``learn`` in :meth:`learning`, which :meth:`begin` joins once the callbacks are made, each collection in
    :meth:`before_collection` and :meth:`after_collection`, and ``train`` in :func:`unsaved`.

    :ivar last: file that the run can be resumed from, or None; for messages only
    :ivar is_in_learn: whether the agent is in ``learn``
    :ivar is_between_rollouts: whether it is in ``learn``, between two collections, with a consistent state
    """

    def __init__(self) -> None:
        self.last: str | None = None
        self._run = uuid.uuid4().hex  # all checkpoints of a run have it, and no other run's
        self._files: set[Path] = set()  # that the run was saved to or loaded from
        self._resumption: dict[str, Any] | None = None  # state of moment_of that is yet to be restored
        self._callback: BaseCallback | None = None  # learn's
        self.is_in_learn = self.is_between_rollouts = False

    def __getstate__(self) -> dict[str, Any]:
        """A copy that is made within ``learn`` has no part in it; and callbacks cannot be copied."""
        return {**vars(self), "_callback": None, "is_in_learn": False, "is_between_rollouts": False}

    @property
    def is_resuming(self) -> bool:
        """Whether the next collection of transitions is the first after :meth:`load`."""
        return self._resumption is not None

    def knows(self, path: str | os.PathLike[str]) -> bool:
        """
        Whether a file belongs to this run: the run was saved to it or loaded from it, or to and from another copy of it.

        :param path: of a checkpoint, which may be damaged
        """
        if Path(path).resolve() in self._files:
            return True
        try:
            with open_checkpoint(path) as archive:
                return bool(archive.outline().get(RUN) == self._run)
        except ValueError:
            return False

    def hold(self, folder: Path) -> None:
        """
        Keep other processes from training with a folder until ``learn`` ends.

        :param folder: of the run
        :raises ValueError: if another process holds it
        """
        _HELD[self].enter_context(held(folder))

    def save(self, agent: OffPolicyAlgorithm, path: str | os.PathLike[str], durable: bool) -> None:
        """
        Save the complete state of a run to one file, atomically.

        :param agent: between two collections of transitions
        :param path: the file; its folder is created
        :param durable: wait until it is on the disk
        :raises ValueError: within a step, or if the agent has no env or an attribute that cannot be saved
        """
        if self.is_in_learn and not self.is_between_rollouts:
            raise ValueError("save_checkpoint is not allowed in the middle of a step; allowed: ResumeCallback in learn")
        if agent.env is None:
            raise ValueError("save_checkpoint needs an env: its state is a part of the run's; allowed: after set_env")
        state = {RUN: self._run, **run_state(agent, self._callback if self.is_between_rollouts else None)}
        if self._resumption is not None:  # loaded, but not continued yet
            state["agent"]["attributes"] |= self._resumption["attributes"]
            state |= {name: value for name, value in self._resumption.items() if name != "attributes"}
        write_archive(path, state, durable)
        self._remember(path)

    def load(self, agent: OffPolicyAlgorithm, path: str | os.PathLike[str]) -> None:
        """
        Load the run of a checkpoint.

        :param agent: constructed with the run's arguments
        :param path: the file, or the folder of a :class:`ResumeCallback`
        :raises ValueError: naming the file and what is wrong with it, or the arguments that differ
        """
        with open_checkpoint(path) as archive:
            state = outline_of_run(archive)
            with explained(archive.path):
                different = different_arguments(state["arguments"], state["other_arguments"], agent)
            if different:
                raise ValueError(f"{archive.path} is of an agent with other arguments: {', '.join(different)}")
            self.take_over(agent, archive)

    def take_over(self, agent: OffPolicyAlgorithm, archive: Archive) -> None:
        """
        Restore a run into an agent. It is checked before its numbers are read and before the agent changes.

        :param agent: constructed with the run's arguments
        :param archive: the open checkpoint
        :raises ValueError: naming the file and what does not fit
        """
        with explained(archive.path):
            check_agent(agent, outline_of_run(archive)["agent"])
            check_room(archive.inflated, agent.replay_buffer)  # type: ignore[arg-type]
        state = archive.load()
        with explained(archive.path):
            restore_agent(agent, state["agent"])
            seed = state["arguments"].get(SEED, agent.seed)
            agent.seed = None if seed is None else check_seed(seed)
            self._resumption = moment_of(state)
        name = state.get(RUN)
        self._run = name if isinstance(name, str) and _RUN_NAME.fullmatch(name) else uuid.uuid4().hex
        self._remember(archive.path)

    def _remember(self, path: str | os.PathLike[str]) -> None:
        self.last = os.fspath(path)
        self._files.add(Path(path).resolve())

    @contextmanager
    def learning(
        self, agent: OffPolicyAlgorithm, total_timesteps: int, reset_num_timesteps: bool, log_name: str
    ) -> Iterator[tuple[int, bool]]:
        """
        Wraps SB3's ``learn``; the first call after :meth:`load` continues the one that was interrupted.

        :param agent: the agent that learns
        :param total_timesteps: argument of the user
        :param reset_num_timesteps: argument of the user
        :param log_name: argument of the user, the name of a TensorBoard folder without its number; a run that was saved
            within ``learn`` keeps its own
        :return: the first two as arguments of SB3's ``learn``
        :raises ValueError: if a resumed run has done more env steps than ``total_timesteps``
        """
        goes_on = self._resumption is not None and self._resumption["in_learn"]
        if goes_on:
            total_timesteps, reset_num_timesteps = remaining_steps(agent, total_timesteps), False
        log: State = {} if self._resumption is None or reset_num_timesteps else self._resumption["log"]
        if not goes_on and log_name_of(log) != log_name:
            log = {}
        if not goes_on:
            self._restore_moment(agent, None)
        _HELD[self] = folders = ExitStack()
        self.is_in_learn, at_entry = True, (agent._num_timesteps_at_start, agent._total_timesteps)
        try:
            with continued_log(agent, log):
                yield total_timesteps, reset_num_timesteps
        finally:
            self.is_in_learn, self.is_between_rollouts, self._callback = False, False, None
            folders.close()
            if self._resumption is not None:  # it failed before the run was restored, and can be called again
                agent._num_timesteps_at_start, agent._total_timesteps = at_entry

    def begin(
        self, agent: OffPolicyAlgorithm, callback: BaseCallback, restored: Callable[[], None] = lambda: None
    ) -> BaseCallback:
        """
        Called once in each ``learn``, before it collects.

        :param agent: the agent that learns
        :param callback: made by ``learn`` from the user's callbacks
        :param restored: called after that
        :return: to be used in its place: if the run has no steps left, it is restored before its callbacks end
        """
        self._callback = callback

        def restore() -> None:
            if self.is_resuming:
                self._restore_moment(agent, callback)
                restored()

        return RestoresAtEnd(callback, restore)

    def _restore_moment(self, agent: OffPolicyAlgorithm, callback: BaseCallback | None) -> None:
        """Restore what :meth:`load` has left to be restored, if there is anything."""
        if self._resumption is not None:
            with explained(self.last):
                restore_moment(agent, self._resumption, callback)
            self._resumption = None

    def before_collection(self, agent: OffPolicyAlgorithm) -> None:
        """
        Called before each collection, when the state is consistent: restores a loaded run, and lets callbacks save.

        :param agent: that is about to collect transitions
        """
        self._restore_moment(agent, self._callback)
        self.is_between_rollouts = True
        assert self._callback is not None  # of begin
        for one in walk(self._callback):
            if hasattr(one, "between_rollouts"):
                one.between_rollouts()
        self.is_between_rollouts = False

    def after_collection(self, is_whole: bool) -> None:
        """
        Called after each collection, from which on the state is consistent until ``train`` begins (:func:`unsaved`).

        :param is_whole: False if a callback has cancelled the collection
        """
        self.is_between_rollouts = is_whole


def unsaved(method: F) -> F:
    """
    Decorates a method of an agent within which, and after whose failure, it cannot be saved while it learns: a signal handler
    or another thread may try to.

    :param method: of an agent with a ``checkpointer``
    """

    @wraps(method)
    def call(agent: Any, *args: Any, **kwargs: Any) -> Any:
        checkpointer: Checkpointer = agent.checkpointer
        before, checkpointer.is_between_rollouts = checkpointer.is_between_rollouts, False
        returned = method(agent, *args, **kwargs)
        checkpointer.is_between_rollouts = before
        return returned

    return call  # type: ignore[return-value]


def _made(cls: type[A], saved: dict[str, Any], given: dict[str, Any]) -> A:
    """Make an agent. An argument that its class sets for itself is that: it is compared with the run's later."""
    try:
        return cls(**{**saved, **given})
    except (TypeError, KeyError) as error:
        twice = _TWICE.fullmatch(str(error))
        if twice is None or twice[1] not in saved:
            raise
        return _made(cls, {name: value for name, value in saved.items() if name != twice[1]}, given)


def resume_agent(cls: type[A], path: str | os.PathLike[str], env: GymEnv | str, arguments: dict[str, Any]) -> A:
    """
    Make an agent of a checkpoint and restore its run.

    :param cls: class of the agent, whose attribute ``checkpointer`` is a :class:`Checkpointer`
    :param path: the file, or the folder of a :class:`ResumeCallback`
    :param env: made like the env of the run
    :param arguments: arguments of the constructor that replace those of the run, or that the file cannot hold
    :raises ValueError: naming the file and what is wrong with it, or the arguments that are missing
    """
    with open_checkpoint(path) as archive:
        state = outline_of_run(archive)
        with explained(archive.path):
            own = arguments_of_file(cls, state["arguments"], arguments, state["other_arguments"], archive.elements)
            agent: Any = _made(cls, own, {**arguments, "env": env})
        agent.checkpointer.take_over(agent, archive)
    return agent
