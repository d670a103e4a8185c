"""SAC whose runs can be saved whole and resumed."""

import os
from typing import Any, TypeVar

from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, RolloutReturn, TrainFreq
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.sac.sac import SAC

from sb3_tom.checkpoint.agent_state import restore_agent
from sb3_tom.checkpoint.archive import write_archive
from sb3_tom.checkpoint.arguments import SEED, different_arguments
from sb3_tom.checkpoint.callback_state import walk
from sb3_tom.checkpoint.files import read_checkpoint
from sb3_tom.checkpoint.run_state import moment_of, restore_moment, run_state

SelfResumable = TypeVar("SelfResumable", bound="ResumableSAC")


class ResumableSAC(SAC):
    """
    Adds :meth:`save_checkpoint`, :meth:`load_checkpoint` and :meth:`resume` to SAC; see docs/resume.md.

    :cvar last_checkpoint: file that the run can be resumed from, None if there is none; for messages only
    """

    last_checkpoint: str | None = None

    _resumption: dict[str, Any] | None = None  # state whose moment is yet to be restored
    _callback: BaseCallback | None = None  # what learn made of the user's, while nothing is half done
    _in_learn = False

    @property
    def is_between_rollouts(self) -> bool:
        """Whether the agent is inside of ``learn`` and nothing is half done."""
        return self._callback is not None

    @property
    def is_resuming(self) -> bool:
        """Whether the next collection of transitions is the first after :meth:`load_checkpoint`."""
        return self._resumption is not None

    def save_checkpoint(self, path: str | os.PathLike[str], durable: bool = True) -> None:
        """
        Save the complete state of the run to one file, atomically. Before or after ``learn``; within it use
        :class:`sb3_tom.checkpoint.ResumeCallback`, which waits for a moment at which nothing is half done.

        :param path: the file; its folder is created
        :param durable: wait until it is on the disk; without it a machine that stops may lose this file, but not an older one
        :raises ValueError: in the middle of a step, or if the agent has no env or an attribute that no file can hold
        """
        if self._in_learn and not self.is_between_rollouts:
            raise ValueError("save_checkpoint is not allowed in the middle of a step; allowed: ResumeCallback in learn")
        if self.env is None:
            raise ValueError("save_checkpoint needs an env: its state is a part of the run's; allowed: after set_env")
        state = run_state(self, self._callback)
        if self._resumption is not None:  # loaded, but not gone on yet
            state["agent"]["attributes"] |= self._resumption["attributes"]
            state |= {name: value for name, value in self._resumption.items() if name != "attributes"}
        write_archive(path, state, durable)
        self.last_checkpoint = os.fspath(path)

    def load_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """
        Take over the run that a checkpoint holds. The agent must have been constructed as the run's was. If the run was saved
        within ``learn``, the next ``learn`` repeats that call: give it the same arguments, and it ends where the first would
        have.

        :param path: the file, or the folder of a :class:`ResumeCallback`, of which the newest usable file is taken
        :raises ValueError: naming the file and what is wrong with it, or the arguments that differ
        """
        file, state = read_checkpoint(path)
        different = different_arguments(state["arguments"], self)
        if different:
            raise ValueError(f"{file} is of an agent with other arguments: {', '.join(different)}")
        self._take_over(state, file)

    def _take_over(self, state: dict[str, Any], file: str) -> None:
        self.last_checkpoint = file
        restore_agent(self, state["agent"])
        self.seed = state["arguments"].get(SEED, self.seed)
        self._resumption = moment_of(state)

    @classmethod
    def resume(cls: type[SelfResumable], path: str | os.PathLike[str], env: GymEnv | str, **arguments: Any) -> SelfResumable:
        """
        Make the agent of a checkpoint and take over its run; see :meth:`load_checkpoint`.

        :param path: the file, or the folder of a :class:`ResumeCallback`
        :param env: the env, made as the run's was
        :param arguments: those of the constructor that are not plain values (functions, classes, instances, import paths), as
            they were; and any that shall be others from now on
        :raises ValueError: naming the file and what is wrong with it, or the arguments that are missing
        """
        file, state = read_checkpoint(path)
        missing = [name for name in state["other_arguments"] if name not in arguments]
        if missing:
            raise ValueError(
                f"resume needs {', '.join(missing)}: a checkpoint holds no code; allowed: what the run was constructed with"
            )
        agent = cls(**{"env": env, **state["arguments"], **arguments})
        agent._take_over(state, file)
        return agent

    def learn(
        self: SelfResumable,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "SAC",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfResumable:
        """As SB3's; the first call after :meth:`load_checkpoint` repeats the one that was interrupted."""
        state = self._resumption
        if state is not None and state["in_learn"]:
            total_timesteps, reset_num_timesteps = self._remaining_steps(total_timesteps), False
        elif state is not None:
            restore_moment(self, state, None)
            self._resumption = None
        self._in_learn = True
        try:
            super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)
            if self._resumption is not None:  # nothing was left to do
                restore_moment(self, self._resumption, None)
            return self
        finally:
            self._in_learn, self._callback, self._resumption = False, None, None

    def _remaining_steps(self, total_timesteps: int) -> int:
        """Env steps that are left of the interrupted call of ``learn``."""
        assert self._num_timesteps_at_start is not None
        done, asked = self.num_timesteps - self._num_timesteps_at_start, self._total_timesteps - self._num_timesteps_at_start
        if total_timesteps < min(done, asked):
            raise ValueError(
                f"total_timesteps={total_timesteps} is not allowed: the resumed run has done {done} of this call's env steps; "
                f"allowed: the number that it was begun with, {asked}, or a greater one"
            )
        return max(total_timesteps - done, 0)

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        train_freq: TrainFreq,
        replay_buffer: ReplayBuffer,
        action_noise: ActionNoise | None = None,
        learning_starts: int = 0,
        log_interval: int | None = None,
    ) -> RolloutReturn:
        """As SB3's. Before it nothing is half done: the moment to restore a run, or to save it."""
        if self._resumption is not None:
            restore_moment(self, self._resumption, callback)
            self._resumption = None
        self._callback = callback
        for one in walk(callback):
            if hasattr(one, "between_rollouts"):
                one.between_rollouts()
        self._callback = None
        result = super().collect_rollouts(
            env, callback, train_freq, replay_buffer, action_noise, learning_starts, log_interval
        )
        self._callback = callback if result.continue_training else None
        return result

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_resumption", "_callback", "_in_learn", "last_checkpoint"]
