"""Memory of all rows of a run, estimated when an agent is made."""

import warnings
from typing import Any, NamedTuple

import torch as th

from sb3_tom.compute.memory import total_memory
from sb3_tom.data.imagined import ImaginedBuffer
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from sb3_tom.imagination.schedules import Window, rollout_schedule

SHARE = 0.25
"""Share of a machine's or device's memory above which there is a warning; several runs may share it."""

UNKNOWN = 16 * 10**9
"""Assumed memory in bytes if it is unknown."""


class Rows(NamedTuple):
    """
    Bytes of the rows of a run when its buffers are full and its rollouts at full length.

    :param imagined: imagined transitions, on the agent's device
    :param replay: replay buffer, on the host
    :param resident: its copy on another device than the CPU
    """

    imagined: int
    replay: int
    resident: int


def memory_of_rows(agent: Any) -> Rows:
    """
    Memory by the agent's arguments; an upper bound for imagined rows if ``rollout_freq`` and ``model_train_freq`` coincide.

    :param agent: an MBPO whose arguments are checked
    """
    sizes: tuple[int, int] = agent._sizes
    schedule = rollout_schedule(agent.rollout_schedule)
    window = Window.of_epochs(agent.model_retain_epochs, agent.model_train_freq, agent.rollout_freq)
    imagined = window.most * agent.rollout_batch_size * int(max(schedule.start, schedule.end))
    if agent.imagined_capacity is not None:
        imagined = min(imagined, agent.imagined_capacity)
    # Rounded as in SB3: there is no buffer yet
    real = max(agent.buffer_size // agent.n_envs, 1) * agent.n_envs
    on_host, on_device = WeightedReplayBuffer.row_bytes(*sizes)
    return Rows(
        imagined * ImaginedBuffer.row_bytes(*sizes, "confidence" in agent.plugs.made),
        real * on_host,
        0 if agent.device.type == "cpu" else real * on_device,
    )


def warn_of_memory(agent: Any) -> None:
    """
    Warn if the rows will take more than :data:`SHARE` of the memory.

    :param agent: an MBPO whose arguments are checked
    """
    rows = memory_of_rows(agent)
    elsewhere = agent.device.type != "cpu"
    here = rows.replay + (0 if elsewhere else rows.imagined)
    needs = [(here, th.device("cpu"), "this machine")]
    if elsewhere:
        needs.append((rows.imagined + rows.resident, agent.device, f"{agent.device}"))
    for needed, device, name in needs:
        there = total_memory(device) or UNKNOWN
        if needed > SHARE * there:
            warnings.warn(_text(agent, rows, f"{_gb(needed)} of the {_gb(there)} GB of {name}"), stacklevel=2)
            return


def _text(agent: Any, rows: Rows, needed: str) -> str:
    return (
        f"transitions of {agent.observation_space.shape[0]} observed numbers will take {needed}: imagined ones "
        f"{_gb(rows.imagined)} GB once rollouts are at their longest (rollout_batch_size={agent.rollout_batch_size}, "
        f"imagined_capacity={agent.imagined_capacity}), real ones {_gb(rows.replay + rows.resident)} GB once the replay "
        f"buffer is full (buffer_size={agent.buffer_size}); use a smaller rollout_batch_size, an imagined_capacity, a smaller "
        "buffer_size, or an observation of fewer numbers"
    )


def _gb(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.2g}"
