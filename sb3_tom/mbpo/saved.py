"""What a user saves, loads and resumes: zips, checkpoints, replay buffers, parameters."""

import copy
import io
import os
import pathlib
from collections.abc import Mapping
from typing import Any, TypeVar

from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.sac.sac import SAC

from sb3_tom.checkpoint.checkpointer import Checkpointer, resume_agent
from sb3_tom.contracts.policy_update import PolicyParts, PolicyUpdate
from sb3_tom.data.adoption import adopt, buffer_of_file
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from sb3_tom.mbpo.guard import Guard
from sb3_tom.mbpo.loading import explained_load_errors, refuse_other_files
from sb3_tom.mbpo.plugs import Plugs, requested_in
from sb3_tom.mbpo.update_counter import UpdateCounter, optimizer_steps
from sb3_tom.mbpo.warm_start import warm_start

SelfSaved = TypeVar("SelfSaved", bound="SavedSAC")

PARTS = ("plugs", "guard", "checkpointer", "health", "remaining_time", "imagined", "generator")
"""Attributes that zips do not hold: they are made anew, or belong to a run and are in checkpoints."""


class SavedSAC(SAC):
    """The verbs of an agent that read and write files; :class:`~sb3_tom.mbpo.hooks.SACHooks` makes the parts."""

    replay_buffer: WeightedReplayBuffer
    checkpointer: Checkpointer
    guard: Guard
    plugs: Plugs
    policy_update: PolicyUpdate
    policy_version: int
    update_counter: UpdateCounter

    @property
    def last_checkpoint(self) -> str | None:
        """File that the run can be resumed from, None if there is none; for messages only."""
        return self.checkpointer.last

    def save_checkpoint(self, path: str | os.PathLike[str], durable: bool = True) -> None:
        """
        Save the complete state of the run to one file, atomically. Before or after ``learn``; within it use
        :class:`sb3_tom.checkpoint.ResumeCallback`, which saves between two collections of transitions.

        :param path: the file; its folder is created
        :param durable: wait until it is on the disk; without it a machine that stops may lose this file, but not an older one
        :raises ValueError: within a step, or if the agent has no env or an attribute that cannot be saved
        """
        if not self.checkpointer.is_in_learn:
            self.forget_place()
        self.checkpointer.save(self, path, durable)

    def forget_place(self) -> None:
        """Outside ``learn``: begin new episodes in the next call, if the envs are not where the last one has left them."""
        if not self.checkpointer.is_resuming and self.guard.moves.are_others(self.env):
            self._last_obs = None

    def load_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """
        Load the run of a checkpoint. The agent must have been constructed with the run's arguments. If the run was saved
        within ``learn``, the next ``learn`` continues that call: give it the same arguments, and it ends where the first would
        have.

        :param path: the file, or the folder of a :class:`ResumeCallback`, whose newest usable file is loaded
        :raises ValueError: naming the file and what is wrong with it, or the arguments that differ
        """
        self.checkpointer.load(self, path)
        self.policy_update.start_from(PolicyParts.of(self))

    @classmethod
    def from_sac(
        cls: type[SelfSaved], sac: SAC | str | pathlib.Path | io.BufferedIOBase, env: GymEnv | str, **arguments: Any
    ) -> SelfSaved:
        """
        Start from a trained SAC agent: its networks, optimisers and temperature, ``ent_coef`` and the arguments in
        :data:`sb3_tom.mbpo.warm_start.KEPT`, and, if the agent itself is given, its transitions: then ``learning_starts`` is
        0, and the policy acts and trains from the first step. Otherwise the first ``learning_starts`` steps are random, as in
        a new agent; load a saved buffer with :meth:`load_replay_buffer`.

        :param sac: SAC agent, or its zip file (loading one executes code that is in it, as SB3's ``SAC.load`` does)
        :param env: env of the new agent, with the same spaces and, for the transitions, the same number of envs
        :param arguments: of the constructor; override the SAC agent's
        :raises ValueError: naming what does not fit
        """
        return warm_start(cls, sac, env, **arguments)

    @classmethod
    def resume(cls: type[SelfSaved], path: str | os.PathLike[str], env: GymEnv | str, **arguments: Any) -> SelfSaved:
        """
        Make the agent of a checkpoint and load its run; see :meth:`load_checkpoint`.

        :param path: the file, or the folder of a :class:`ResumeCallback`
        :param env: made like the run's
        :param arguments: those of the constructor that are not plain values (functions, classes, instances, import paths and
            paths of files), as before; ``tensorboard_log``; and any that are to change
        :raises ValueError: naming the file and what is wrong with it, or the arguments that are missing
        """
        agent = resume_agent(cls, path, env, arguments)
        agent.policy_update.start_from(PolicyParts.of(agent))
        return agent

    def set_parameters(self, load_path_or_dict: Any, *args: Any, **kwargs: Any) -> None:
        """
        As in SB3, but optimisers copy the tensors of a dictionary, which another agent may go on training. Plugs without a
        state may be missing, since older files do not have all of them.
        """
        if isinstance(load_path_or_dict, Mapping):
            given = copy.deepcopy(dict(load_path_or_dict))
            load_path_or_dict = {**{name: {} for name in self.plugs.without_state()}, **given}
        before = optimizer_steps(self.critic.optimizer)
        super().set_parameters(load_path_or_dict, *args, **kwargs)
        if before:  # steps that are another agent's are none of this one's ratio
            self.update_counter.earlier_updates += optimizer_steps(self.critic.optimizer) - before
        self.guard.forget()
        self.policy_update.forget()

    @classmethod
    def load(
        cls: type[SelfSaved],
        path: str | pathlib.Path | io.BufferedIOBase,
        env: GymEnv | str | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> SelfSaved:
        """
        As SB3's ``load``; the env may be an id, as in the constructor. Plugs come from the file; ``weighter``, ``dynamics``,
        ... must name the saved class, ``..._kwargs`` may change its arguments.

        :param path: zip file
        :param env: env to continue with, or its id; None: for predictions only
        :param args: as in SB3's ``load``
        :param kwargs: attributes to change
        :raises ValueError: if another class of a plug is requested, naming both; also by the name of this class (``MBPOTOM``),
            if another class saved the file
        """
        refuse_other_files(path, cls)
        requested = requested_in(kwargs)
        made = None if env is None else maybe_make_env(env, kwargs.get("verbose", 0))
        with explained_load_errors(requested, cls):
            agent = super().load(path, made, *args, **kwargs, _requested_plugs=requested)
        agent.policy_update.start_from(PolicyParts.of(agent))
        return agent

    def load_replay_buffer(self, path: str | pathlib.Path | io.BufferedIOBase, truncate_last_traj: bool = True) -> None:
        """
        As in SB3; a plain SB3 buffer, for example of a SAC run, is converted.

        :param path: pickle file
        :param truncate_last_traj: no effect (HER only)
        :raises ValueError: if it holds no replay buffer, or one whose spaces or number of envs are not the agent's
        """
        self.adopt_replay_buffer(buffer_of_file(path, self.verbose))

    def adopt_replay_buffer(self, loaded: ReplayBuffer) -> None:
        """
        Use another run's rows. Versions continue from its newest, so that no row is newer than the current policy.

        :param loaded: SB3's buffer or a :class:`WeightedReplayBuffer`
        :raises ValueError: see :func:`sb3_tom.data.adoption.adopt`
        """
        buffer = adopt(loaded, self.replay_buffer, self.replay_buffer_kwargs)
        newest = int(buffer.policy_versions.max(initial=0))
        own = newest + (newest > self.policy_version)  # another run's newest rows are a block of their own
        self.policy_version = buffer.policy_version = max(self.policy_version, own, buffer.policy_version)
        self.replay_buffer = buffer
        if buffer.buffer_size != max(self.buffer_size // buffer.n_envs, 1):  # else it is what was asked for, up to rounding
            self.buffer_size = buffer.capacity

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), *PARTS, *self.plugs.by_part]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts, variables = super()._get_torch_save_params()
        return [*state_dicts, *self.plugs.state_names()], variables
