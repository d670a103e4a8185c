"""The methods that SB3 calls; each delegates to a part of the agent."""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, RolloutReturn
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.sac.sac import SAC

from sb3_tom import old_names
from sb3_tom.checks.guards import check_losses, check_rows
from sb3_tom.checks.validation import check_integer
from sb3_tom.compute.streams import own_generator
from sb3_tom.contracts.policy_update import PolicyParts
from sb3_tom.contracts.termination import Termination
from sb3_tom.data.imagined import ImaginedBuffer
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from sb3_tom.envs.copied import with_copied_observations
from sb3_tom.envs.vec_normalize import check_vec_normalize, keep_raw_terminals
from sb3_tom.mbpo.arguments import check_arguments, check_envs_of_learn
from sb3_tom.mbpo.axes import AXES
from sb3_tom.mbpo.guard import Guard, check_transitions
from sb3_tom.mbpo.health import Health
from sb3_tom.mbpo.plugs import Plugs, Specs, copied_specs, implied_by, merge_specs
from sb3_tom.mbpo.remaining_time import RemainingTime
from sb3_tom.mbpo.sac_arguments import check_optimizers, explained_setup_errors
from sb3_tom.mbpo.saved import SavedSAC
from sb3_tom.mbpo.situation import Situation
from sb3_tom.mbpo.update_counter import PACES, UpdateCounter, optimizer_steps
from sb3_tom.terminations.reading import current_rule

SelfHooks = TypeVar("SelfHooks", bound="SACHooks")


class SACHooks(SavedSAC):
    """
    SB3's interface of an algorithm, delegated to the plugs, the guard, the counter of updates and the checkpointer.

    :ivar plugs: made of ``_plug_specs``, which is saved in the zip; their state is saved like SAC's own networks
    """

    imagined: ImaginedBuffer
    generator: th.Generator
    update_counter: UpdateCounter
    termination: Termination
    termination_rule: dict[str, Any] | None = None
    reward_fn: Any
    _plug_specs: Specs
    _saved_by: str | None = None  # class of the agent that a file was saved by; older files do not say
    _env_steps: int  # in all calls of ``learn``, also if one resets num_timesteps
    _since_phase: int
    _since_rollouts: int

    def set_random_seed(self, seed: int | None = None) -> None:
        """As in SB3; also seeds the generator of fits, draws and rollouts."""
        super().set_random_seed(seed)
        self.generator = own_generator(seed, self.device)

    @property
    def _sizes(self) -> tuple[int, int]:  # of an observation and of an action
        return self.observation_space.shape[0], self.action_space.shape[0]  # type: ignore[index]

    def _setup_model(self) -> None:
        old_names.upgrade_attributes(vars(self))
        requested = self.__dict__.pop("_requested_plugs", None)
        if requested is not None and self._saved_by != type(self).__name__:
            requested = implied_by(type(self)) | requested
        specs = merge_specs(self._plug_specs, requested or {}, type(self))
        self._saved_by = type(self).__name__
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
        parts = PolicyParts.of(self)
        self.plugs.check(self.replay_buffer, self.gamma, self.reward_fn, parts)
        self.policy_update.start_from(parts)
        if requested is None:
            self.plugs.check_gradients()
        self.termination_rule = self.plugs.build(*self._sizes, self.device, self.env, self.termination_rule, self.verbose)
        self.imagined = ImaginedBuffer(0, *self._sizes, self.device, self.plugs.by_part["confidence"] is not None)

    def plug_arguments(self) -> dict[str, Any]:
        """The constructor's arguments that choose plugs, as given."""
        values = {argument: value for argument, (value, _) in self._plug_specs.items()}
        return values | {AXES[argument].kwargs_argument: kwargs for argument, (_, kwargs) in self._plug_specs.items()}

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

    def learn(
        self: SelfHooks,
        total_timesteps: float,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfHooks:
        """
        As in SB3; accepts ``3e5`` too. The first call after :meth:`load_checkpoint` continues the interrupted one. If the envs
        were stepped or reset since the last call, such as by an evaluation, they begin new episodes. TensorBoard's folder has
        the name of the agent's class, unless ``tb_log_name`` is given.
        """
        asked = check_integer("total_timesteps", total_timesteps, 0)
        self.forget_place()
        name = type(self).__name__ if tb_log_name is None else tb_log_name
        running = self.checkpointer.learning(self, asked, reset_num_timesteps, name)
        with self.remaining_time.running(), running as (steps, reset):
            return super().learn(steps, callback, log_interval, name, reset, progress_bar)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        with self.guard.collection(self):
            steps, callback = super()._setup_learn(*args, **kwargs)
            check_envs_of_learn(self.env, callback)
            callback = self.checkpointer.begin(self, callback, lambda: self.guard.moves.note(self.env))
            self._last_obs = np.array(self._last_obs)  # vectorised envs may reuse the array
            check_rows("the first observation", self._last_obs)
        self.guard.moves.note(self.env)
        self.remaining_time.begin(self.num_timesteps)
        return steps, callback

    def collect_rollouts(self, env: VecEnv, callback: BaseCallback, *args: Any, **kwargs: Any) -> RolloutReturn:
        """As in SB3. Before it the state is consistent: a loaded run is restored, and callbacks may save."""
        with self.guard.collection(self):
            is_resuming, is_whole = self.checkpointer.is_resuming, False
            self.checkpointer.before_collection(self)
            if is_resuming:
                self.guard.moves.note(env)
            try:
                result = super().collect_rollouts(env, callback, *args, **kwargs)
                is_whole = result.continue_training
            finally:
                if not is_whole:
                    # SB3 may have made a step that it does not store: the next transition would begin before that step
                    self._last_obs = None
            self.checkpointer.after_collection(is_whole)
        self.update_counter.collected = result.episode_timesteps
        return result

    def _sample_action(self, *args: Any, **kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
        self.guard.check_moves(self)
        return super()._sample_action(*args, **kwargs)

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
        self.guard.moves.stepped(self.env)
        for name in ("_env_steps", *PACES):  # not in _on_step, which subclasses override without calling it
            setattr(self, name, getattr(self, name) + self.n_envs)

    def _updates_made(self) -> int:  # SGD keeps no count
        return optimizer_steps(self.critic.optimizer) or self._n_updates

    def _record(self, group: str, figures: Mapping[str, float]) -> None:
        """Check losses and errors, log them, and evaluate and log health."""
        check_losses(figures, f"{group}/{{}}".format)
        self._log(group, figures)
        self._log("health", self.health.judge(group, figures, Situation.of(self)))

    def _log(self, group: str, figures: Mapping[str, float], exclude: str | tuple[str, ...] | None = None) -> None:
        for name, value in figures.items():
            self.logger.record(f"{group}/{name}", value, exclude)

    def dump_logs(self) -> None:
        """SB3's log, with the actual update-to-data ratio and the remaining time."""
        reached = self.update_counter.reached(self._updates_made())
        if reached is not None:
            self.logger.record("train/update_to_data_ratio", reached)
            eta = self.remaining_time(self.num_timesteps, self._total_timesteps)
            self.logger.record("time/eta", eta, exclude="tensorboard")
        super().dump_logs()
