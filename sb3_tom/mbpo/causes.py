"""What may lie behind a sign of bad health: numbers out of scale, and time limits that come back as terminations."""

from typing import NamedTuple

import numpy as np
import torch as th

from sb3_tom.contracts.types import Transitions
from sb3_tom.data.moments import moments_of
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from sb3_tom.data.units import PolicyUnits

LARGE = 1e5
"""
Beyond it a number is out of scale: float32 has hundredths left, and inputs and values of networks are meant to be about 1. The
observations of Gymnasium's MuJoCo tasks are below a tenth of it (a test looks).
"""

FEW_LIMITS = 3
"""Fewer ends after the same number of steps are a coincidence."""


class Largest(NamedTuple):
    """
    The entry of the observations that reaches furthest from 0, as the policy sees it.

    :param entry: its number
    :param size: its largest absolute value for the policy
    :param low: its least value in the env's own units
    :param high: its largest
    """

    entry: int
    size: float
    low: float
    high: float


def largest_entry(data: Transitions, units: PolicyUnits) -> Largest:
    """
    Find the entry; one pass over the rows that are new, one host read.

    :param data: N rows, at least 1
    :param units: from the env's observations to the policy's
    """
    moments = moments_of(data, "observations")
    ends = th.stack([moments.low, moments.high])
    size, entry = units.observations(ends).abs().amax(dim=0).max(dim=0)
    found = th.cat([entry.double().reshape(1), size.double().reshape(1), ends[:, entry].double()])
    number, *values = found.tolist()
    return Largest(int(number), *values)


def episode_lengths(buffer: WeightedReplayBuffer) -> np.ndarray:
    """
    How many steps the episode had that ends in a row.

    :param buffer: holds at least one row
    :return: int ``[N]``, in row order; 0 where no episode ends, or the buffer does not hold it whole
    """
    order = buffer.positions_oldest_first()
    lengths = np.zeros((buffer.size(), buffer.n_envs), dtype=np.int64)
    for env in range(buffer.n_envs):
        ends = np.flatnonzero(buffer.dones[order, env] > 0)
        spans = np.diff(ends, prepend=-1)
        spans[: int(buffer.full)] = 0  # where the first one began is not known
        lengths[order[ends], env] = spans
    return lengths.reshape(-1)


def time_limit(buffer: WeightedReplayBuffer, missed: np.ndarray) -> tuple[int, int] | None:
    """
    Whether terminations that nobody foresaw come of a time limit: most of them after equally many steps, and no episode is
    longer.

    :param buffer: holds at least one row
    :param missed: numbers of the rows that terminated and were not said to
    :return: how many, and after how many steps; None if it is none, and of tasks of one step
    """
    lengths = episode_lengths(buffer)
    longest = int(lengths.max())
    n_limits = int((lengths[missed] == longest).sum())
    if longest <= 1 or n_limits < FEW_LIMITS or 2 * n_limits < len(missed):
        return None
    return n_limits, longest
