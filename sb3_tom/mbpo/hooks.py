"""The methods that SB3 calls; each delegates to a part of the agent."""

import io
import os
import pathlib
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import torch as th
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, RolloutReturn
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.sac.sac import SAC

from sb3_tom import old_names
from sb3_tom.checkpoint.checkpointer import Checkpointer, resume_agent
from sb3_tom.checks.guards import check_rows
from sb3_tom.checks.validation import check_integer
from sb3_tom.compute.streams import own_generator
from sb3_tom.contracts.policy_update import PolicyParts, PolicyUpdate
from sb3_tom.contracts.termination import Termination
from sb3_tom.data.adoption import adopt, buffer_of_file
from sb3_tom.data.imagined import ImaginedBuffer
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from sb3_tom.envs.copied import with_copied_observations
from sb3_tom.envs.vec_normalize import check_vec_normalize, keep_raw_terminals
from sb3_tom.mbpo.arguments import check_arguments, check_envs_of_learn
from sb3_tom.mbpo.guard import Guard, check_transitions
from sb3_tom.mbpo.health import Health
from sb3_tom.mbpo.loading import explained_load_errors, refuse_other_files
from sb3_tom.mbpo.plugs import Plugs, Specs, arguments_of, copied_specs, merge_specs, requested_in
from sb3_tom.mbpo.remaining_time import RemainingTime
from sb3_tom.mbpo.sac_arguments import check_optimizers, explained_setup_errors
from sb3_tom.mbpo.update_counter import PACES, UpdateCounter, optimizer_steps
from sb3_tom.mbpo.warm_start import warm_start
from sb3_tom.terminations.reading import current_rule

SelfHooks = TypeVar("SelfHooks", bound="SACHooks")

PARTS = ("plugs", "guard", "checkpointer", "health", "remaining_time", "imagined", "generator")
"""Attributes that zips do not hold: they are made anew, or belong to a run and are in checkpoints."""


class SACHooks(SAC):
    """
    SB3's interface of an algorithm, delegated to the plugs, the guard, the counter of updates and the checkpointer.

    :ivar plugs: made of ``_plug_specs``, which is saved in the zip; their state is saved like SAC's own networks
    """

    replay_buffer: WeightedReplayBuffer
    imagined: ImaginedBuffer
    generator: th.Generator
    checkpointer: Checkpointer
    update_counter: UpdateCounter
    termination: Termination
    policy_update: PolicyUpdate
    termination_rule: dict[str, Any] | None = None
    reward_fn: Any
    policy_version: int
    _plug_specs: Specs
    _env_steps: int  # in all calls of ``learn``, also if one resets num_timesteps
    _since_phase: int
    _since_rollouts: int

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
        self.checkpointer.save(self, path, durable)

    def load_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """
        Load the run of a checkpoint. The agent must have been constructed with the run's arguments. If the run was saved
        within ``learn``, the next ``learn`` continues that call: give it the same arguments, and it ends where the first would
        have.

        :param path: the file, or the folder of a :class:`ResumeCallback`, whose newest usable file is loaded
        :raises ValueError: naming the file and what is wrong with it, or the arguments that differ
        """
        self.checkpointer.load(self, path)

    @classmethod
    def from_sac(
        cls: type[SelfHooks], sac: SAC | str | pathlib.Path | io.BufferedIOBase, env: GymEnv | str, **arguments: Any
    ) -> SelfHooks:
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
    def resume(cls: type[SelfHooks], path: str | os.PathLike[str], env: GymEnv | str, **arguments: Any) -> SelfHooks:
        """
        Make the agent of a checkpoint and load its run; see :meth:`load_checkpoint`.

        :param path: the file, or the folder of a :class:`ResumeCallback`
        :param env: made like the run's
        :param arguments: those of the constructor that are not plain values (functions, classes, instances, import paths and
            paths of files), as before; ``tensorboard_log``; and any that are to change
        :raises ValueError: naming the file and what is wrong with it, or the arguments that are missing
        """
        return resume_agent(cls, path, env, arguments)

    def set_random_seed(self, seed: int | None = None) -> None:
        """As in SB3; also seeds the generator of fits, draws and rollouts."""
        super().set_random_seed(seed)
        self.generator = own_generator(seed, self.device)

    @property
    def _sizes(self) -> tuple[int, int]:  # of an observation and of an action
        return self.observation_space.shape[0], self.action_space.shape[0]  # type: ignore[index]

    def _setup_model(self) -> None:
        old_names.upgrade_attributes(vars(self))
        specs = merge_specs(self._plug_specs, self.__dict__.pop("_requested_plugs", {}), type(self))
        self.plugs, self._plug_specs = Plugs(specs), copied_specs(specs)
        self.plugs.fill_defaults(self)
        check_arguments(self)
        keep_raw_terminals(self.env)
        if self.replay_buffer_class is None:
            self.replay_buffer_class = WeightedReplayBuffer
        with explained_setup_errors(self.policy_kwargs, self.replay_buffer_kwargs):
            super()._setup_model()
        check_optimizers(self)
        self.guard, self.health, self.remaining_time = Guard(), Health(), RemainingTime()
        self._logger = Logger(None, [])  # offline verbs work before the first ``learn``, which makes another
        self.replay_buffer.policy_version = self.policy_version
        vars(self).update(self.plugs.by_part)
        self.plugs.check(self.replay_buffer, self.gamma, self.reward_fn, PolicyParts.of(self))
        self.termination_rule = self.plugs.build(*self._sizes, self.device, self.env, self.termination_rule, self.verbose)
        self.imagined = ImaginedBuffer(0, *self._sizes, self.device, self.plugs.by_part["confidence"] is not None)

    def plug_arguments(self) -> dict[str, Any]:
        """The constructor's arguments that choose plugs, as given."""
        return arguments_of(self._plug_specs)

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        return SAC._wrap_env(with_copied_observations(env), verbose, monitor_wrapper)

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """As in SB3. The termination rule is read again: it has the new env's thresholds, which older rows may contradict."""
        env = self._wrap_env(env, self.verbose)
        check_vec_normalize(env)  # before the old one is replaced
        super().set_env(env, force_reset)
        self.guard.forget_ends()
        keep_raw_terminals(self.env)
        rule = current_rule(self.env, self.termination_rule, self.verbose) if self.termination.wants_rule else None
        if rule != self.termination_rule:
            self.termination_rule = rule
            self.termination.set_rule(rule)
            self.replay_buffer.begin_rule()
            self.imagined.clear()

    def set_parameters(self, load_path_or_dict: Any, *args: Any, **kwargs: Any) -> None:
        """As in SB3. Plugs without a state may be missing, since older files do not have all of them."""
        if isinstance(load_path_or_dict, Mapping):
            load_path_or_dict = {**{name: {} for name in self.plugs.without_state()}, **load_path_or_dict}
        super().set_parameters(load_path_or_dict, *args, **kwargs)
        self.guard.forget()
        self.policy_update.forget()

    def learn(
        self: SelfHooks,
        total_timesteps: float,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "MBPO",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfHooks:
        """As in SB3; accepts ``3e5`` too. The first call after :meth:`load_checkpoint` continues the interrupted one."""
        asked = check_integer("total_timesteps", total_timesteps, 0)
        running = self.checkpointer.learning(self, asked, reset_num_timesteps)
        with self.remaining_time.running(), running as (steps, reset):
            return super().learn(steps, callback, log_interval, tb_log_name, reset, progress_bar)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        with self.guard.collection(self):
            result = super()._setup_learn(*args, **kwargs)
            check_envs_of_learn(self.env, result[1])
            self._last_obs = np.array(self._last_obs)  # vectorised envs may reuse the array
            check_rows("the first observation", self._last_obs)
        self.remaining_time.begin(self.num_timesteps)
        return result

    def collect_rollouts(self, env: VecEnv, callback: BaseCallback, *args: Any, **kwargs: Any) -> RolloutReturn:
        """As in SB3. Before it the state is consistent: a loaded run is restored, and callbacks may save."""
        with self.guard.collection(self):
            self.checkpointer.before_collection(self, callback)
            result = super().collect_rollouts(env, callback, *args, **kwargs)
            self.checkpointer.after_collection(callback, result.continue_training)
        self.update_counter.collected = result.episode_timesteps
        return result

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: np.ndarray | dict[str, np.ndarray],
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        check_transitions(buffer_action, reward, new_obs, dones, infos)
        self.guard.check_ends(self, new_obs, dones, infos)
        super()._store_transition(replay_buffer, buffer_action, np.array(new_obs), reward, dones, infos)

    def _on_step(self) -> None:
        for name in ("_env_steps", *PACES):
            setattr(self, name, getattr(self, name) + self.n_envs)

    def _updates_made(self) -> int:  # SGD keeps no count
        return optimizer_steps(self.critic.optimizer) or self._n_updates

    def dump_logs(self) -> None:
        """SB3's log, with the actual update-to-data ratio and the remaining time."""
        reached = self.update_counter.reached(self._updates_made())
        if reached is not None:
            self.logger.record("train/update_to_data_ratio", reached)
            eta = self.remaining_time(self.num_timesteps, self._total_timesteps)
            self.logger.record("time/eta", eta, exclude="tensorboard")
        super().dump_logs()

    @classmethod
    def load(
        cls: type[SelfHooks],
        path: str | pathlib.Path | io.BufferedIOBase,
        env: GymEnv | str | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> SelfHooks:
        """
        As SB3's ``load``; the env may be an id, as in the constructor. Plugs come from the file; ``weighter``, ``dynamics``,
        ... must name the saved class, ``..._kwargs`` may change its arguments.

        :param path: zip file
        :param env: env to continue with, or its id; None: for predictions only
        :param args: as in SB3's ``load``
        :param kwargs: attributes to change
        :raises ValueError: if another class of a plug is requested, naming both
        """
        refuse_other_files(path, cls)
        requested = requested_in(kwargs, cls)
        made = None if env is None else maybe_make_env(env, kwargs.get("verbose", 0))
        with explained_load_errors(requested, cls):
            return super().load(path, made, *args, **kwargs, _requested_plugs=requested)

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
        self.replay_buffer, self.buffer_size = buffer, buffer.capacity

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), *PARTS, *self.plugs.by_part]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts, variables = super()._get_torch_save_params()
        return [*state_dicts, *self.plugs.state_names()], variables
