"""
Checks that an episode's last observation is not the next one's first: model and termination learn episode ends from it.
"""

import warnings
from typing import Any

import numpy as np

RAW_TERMINAL = "raw_terminal_observation"
"""Key of ``infos`` for the raw terminal observation, which ``VecNormalize`` overwrites."""

ENDS = 3
"""Number of ends that have to fail the check in a row: one may be equal to the next start by chance."""

_CAUSE = (
    "the last observation of an episode is missing: the env hands the first one of the next episode on in its place. So do "
    "envs that write their observations into one array (wrap each in sb3_tom.envs.CopiedObservations before they are "
    "vectorised), and vectorised envs or wrappers that reset by themselves without infos[i]['terminal_observation']"
)

_ALIKE = (
    "the last observation of an episode is equal to the first one of the next. So it should be if the env ends its episodes "
    "where all of them start, which they do alike; if it does not, "
)


class EpisodeEnds:
    """
    Checks the first episode ends of a run. While all episodes start alike, ends that are equal to the next start are only a
    warning: the env may end where it starts.
    """

    def __init__(self) -> None:
        self._is_passed = self._starts_differ = False
        self._seen = 0
        self._starts: dict[int, np.ndarray] = {}  # of each env

    def check(self, observations: np.ndarray, next_observations: np.ndarray, dones: np.ndarray, infos: Any) -> None:
        """
        Check the transitions of one step of all envs, before they are stored.

        :param observations: ``[n_envs, O]`` before the step
        :param next_observations: ``[n_envs, O]`` after it; of the new episode where one has ended
        :param dones: ``[n_envs]``, whether an episode has ended
        :param infos: of each env
        :raises ValueError: at an end without a terminal observation, or if the first three or more are equal to the next
            start, and these starts differ
        """
        for index in np.flatnonzero(dones):
            terminal = infos[index].get(RAW_TERMINAL, infos[index].get("terminal_observation"))
            if terminal is None:
                raise ValueError(f"env {index}: {_CAUSE}")
            self._look(int(index), observations[index], np.asarray(terminal), next_observations[index])

    def _look(self, env: int, before: np.ndarray, terminal: np.ndarray, after: np.ndarray) -> None:
        if self._is_passed:
            return
        if not is_next_start(before, terminal, after):
            self._is_passed = True  # no further ends are checked
            return
        self._seen += 1
        self._starts_differ |= not np.array_equal(self._starts.setdefault(env, after.copy()), after)
        if self._seen >= ENDS and self._starts_differ:
            raise ValueError(f"at {self._seen} ends in a row {_CAUSE}")
        if self._seen == ENDS:
            warnings.warn(f"at {ENDS} ends in a row {_ALIKE}{_CAUSE}", stacklevel=3)


def is_next_start(before: np.ndarray, terminal: np.ndarray, after: np.ndarray) -> bool:
    """
    Whether a terminal observation equals the next episode's first one, though the last step changed the observation.

    :param before: ``[O]``, the observation before the last step
    :param terminal: ``[O]``, the reported last observation
    :param after: ``[O]``, the first one of the next episode
    """
    return bool(np.array_equal(terminal, after) and not np.array_equal(before, after))


def check_stored_ends(observations: np.ndarray, next_observations: np.ndarray, dones: np.ndarray) -> None:
    """
    The same check of stored rows.

    :param observations: ``[N, n_envs, O]``, in the order of collection
    :param next_observations: ``[N, n_envs, O]``
    :param dones: ``[N, n_envs]``
    :raises ValueError: if there are :data:`ENDS` or more ends, all are equal to the next start, and these starts differ
    """
    ends = np.argwhere(dones[:-1] > 0)
    if len(ends) < ENDS or not all(
        is_next_start(observations[row, env], next_observations[row, env], observations[row + 1, env]) for row, env in ends
    ):
        return
    firsts: dict[int, np.ndarray] = {}
    starts = [(int(env), observations[row + 1, env]) for row, env in ends]
    if any(not np.array_equal(firsts.setdefault(env, start), start) for env, start in starts):
        raise ValueError(f"the replay buffer is not allowed: at all of its {len(ends)} ends {_CAUSE}; allowed: other rows")
    warnings.warn(f"in the replay buffer, at all of its {len(ends)} ends {_ALIKE}{_CAUSE}", stacklevel=2)
