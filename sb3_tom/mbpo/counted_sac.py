"""SAC that counts: gradient steps that are due for real transitions, those that were made, and the time that is left."""

from typing import Any, TypeVar

from stable_baselines3.common.type_aliases import RolloutReturn

from sb3_tom.common.diagnostics import RemainingTime
from sb3_tom.mbpo.guarded_sac import GuardedSAC

SelfCountedSAC = TypeVar("SelfCountedSAC", bound="CountedSAC")


class CountedSAC(GuardedSAC):
    """
    The update-to-data ratio: gradient steps of the policy per real *transition*, whatever the number of envs and the length
    of a collection. The one that is logged is counted, not read from the configuration, also where ``gradient_steps`` is
    given.
    """

    update_to_data_ratio: float

    _collected = 0  # transitions of the last collection
    _trained_transitions = 0  # since training began
    _earlier_updates = 0  # of the critics before that: those of a SAC agent, or offline ones
    _owed_updates = 0.0

    def _setup_model(self) -> None:
        super()._setup_model()
        self._remaining_time = RemainingTime()

    def learn(self: SelfCountedSAC, *args: Any, **kwargs: Any) -> SelfCountedSAC:
        """As SB3's."""
        with self._remaining_time.running():
            return super().learn(*args, **kwargs)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        result = super()._setup_learn(*args, **kwargs)
        if self.num_timesteps == 0:
            self._remaining_time.restart()
        return result

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> RolloutReturn:
        """As SB3's."""
        result: RolloutReturn = super().collect_rollouts(*args, **kwargs)
        self._collected = result.episode_timesteps
        return result

    def _take_due_updates(self, gradient_steps: int) -> int:
        """
        How many gradient steps to make now.

        :param gradient_steps: what SB3 asks ``train`` for; with ``self.gradient_steps=-1`` the transitions just collected
        :return: gradient steps to make now; with ``self.gradient_steps=-1`` by the true ratio, fractions carried on
        """
        if self._trained_transitions == 0:
            self._earlier_updates = self._updates_made()
        if self.gradient_steps >= 0:
            self._trained_transitions += self._collected
            return gradient_steps
        self._trained_transitions += gradient_steps
        self._owed_updates += self.update_to_data_ratio * gradient_steps
        due = int(self._owed_updates + 1e-9)
        self._owed_updates -= due
        return due

    def dump_logs(self) -> None:
        """SB3's log, with the ratio that was really reached and the time that is left."""
        if self._trained_transitions:
            made = self._updates_made() - self._earlier_updates
            self.logger.record("train/update_to_data_ratio", made / self._trained_transitions)
            eta = self._remaining_time(self.num_timesteps, self._total_timesteps)
            self.logger.record("time/eta", eta, exclude="tensorboard")
        super().dump_logs()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_remaining_time"]
