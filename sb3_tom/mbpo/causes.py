"""Causes of bad health: numbers out of scale, and time limits that are reported as terminations."""

import numpy as np
import torch as th

from sb3_tom.contracts.types import Transitions
from sb3_tom.data.moments import moments_of
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from sb3_tom.data.units import PolicyUnits

LARGE = 1e5
"""
Larger numbers are out of scale: float32 resolves only hundredths there, and networks need inputs and values of about 1. The
observations of Gymnasium's MuJoCo tasks are below a tenth of it (a test checks).
"""

FEW_LIMITS = 3
"""Fewer ends after the same number of steps count as coincidence."""


def largest_entry(data: Transitions, units: PolicyUnits) -> tuple[int, float, float, float]:
    """
    The entry of the observations with the largest absolute value in the units of the policy; one pass over new rows, one host
    read.

    :param data: N rows, at least 1
    :param units: convert the env's observations to the policy's
    :return: its index, that value, and its minimum and maximum in the env's own units
    """
    moments = moments_of(data, "observations")
    ends = th.stack([moments.low, moments.high])
    size, entry = units.observations(ends).abs().amax(dim=0).max(dim=0)
    found = th.cat([entry.double().reshape(1), size.double().reshape(1), ends[:, entry].double()])
    number, largest, low, high = found.tolist()
    return int(number), largest, low, high


def episode_lengths(buffer: WeightedReplayBuffer) -> np.ndarray:
    """
    Length of the episode that ends in each row.

    :param buffer: holds at least one row
    :return: int ``[N]``, in row order; 0 where no episode ends, or the buffer does not hold all of it
    """
    order = buffer.positions_oldest_first()
    lengths = np.zeros((buffer.size(), buffer.n_envs), dtype=np.int64)
    for env in range(buffer.n_envs):
        ends = np.flatnonzero(buffer.dones[order, env] > 0)
        spans = np.diff(ends, prepend=-1)
        spans[: int(buffer.full)] = 0  # the beginning of the first one is unknown
        lengths[order[ends], env] = spans
    return lengths.reshape(-1)


def time_limit(buffer: WeightedReplayBuffer, missed: np.ndarray) -> tuple[int, int] | None:
    """
    Whether missed terminations come from a time limit: most of them after the same number of steps, and no episode is longer.

    :param buffer: holds at least one row
    :param missed: numbers of the rows that terminated though they were not predicted to
    :return: their number, and the number of steps; None if there is no such limit, and for tasks of one step
    """
    lengths = episode_lengths(buffer)
    longest = int(lengths.max())
    n_limits = int((lengths[missed] == longest).sum())
    if longest <= 1 or n_limits < FEW_LIMITS or 2 * n_limits < len(missed):
        return None
    return n_limits, longest
