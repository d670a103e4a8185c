"""Calls a weighter, and checks its attributes and its results."""

from typing import Any

import numpy as np
import torch as th

from sb3_tom.checks.validation import check_bool, check_integer, check_number
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.plug import figures_of, only_reads
from sb3_tom.contracts.types import Transitions
from sb3_tom.contracts.weighter import Weighter
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from sb3_tom.data.weights import usable_weights


def check_weighter(weighter: Weighter) -> None:
    """
    Check the attributes of a weighter, which a user's class may set to anything.

    :param weighter: its attributes are read
    :raises ValueError: naming the attribute, what came and what is allowed
    """
    name = type(weighter).__name__
    check_integer(f"{name}.recent_size", weighter.recent_size, 1)
    check_bool(f"{name}.needs_recent", weighter.needs_recent)
    check_bool(f"{name}.weighs_starts", weighter.weighs_starts)
    if weighter.max_weight is not None:
        check_number(f"{name}.max_weight", weighter.max_weight, 1.0)
    check_number(f"{name}.uniform_mix", weighter.uniform_mix, 0.0, 1.0)
    check_number(f"{name}.ess_floor", weighter.ess_floor, 0.0, 1.0)


def check_room(weighter: Weighter, buffer: WeightedReplayBuffer) -> None:
    """
    Refuse a buffer that is too small for the ``recent_size`` rows that a weighter waits for.

    :param weighter: its attributes are read
    :param buffer: its capacity is read
    :raises ValueError: naming the arguments, what came and what is allowed
    """
    size, room = weighter.recent_size, buffer.capacity
    if weighter.needs_recent and size > room:
        name, enough = type(weighter).__name__, -(-size // buffer.n_envs) * buffer.n_envs
        envs = f" (a multiple of the {buffer.n_envs} envs)" if buffer.n_envs > 1 else ""
        raise ValueError(
            f"recent_size={size} is not allowed with buffer_size={room}{envs}: {name} waits for so many rows, and there is "
            f"no room for them; allowed: a recent_size of at most {room}, or a buffer_size of at least {enough}"
        )


def weigh(
    weighter: Weighter, buffer: WeightedReplayBuffer, recent: Transitions | None, context: Context
) -> tuple[th.Tensor, dict[str, float]]:
    """
    Fit a weighter and weigh the rows of a buffer.

    :param weighter: its attributes are checked
    :param buffer: read-only; holds N rows
    :param recent: on-policy sample of any size; None: the newest ``recent_size`` rows, or weights of 1 if there are fewer and
        the weighter needs them
    :param context: view of the agent
    :return: usable weights ``[N]`` and the figures of the fit
    :raises ValueError: naming what came, or what the weighter returned, and what is allowed
    """
    check_weighter(weighter)
    data = buffer.transitions()
    if recent is None:
        check_room(weighter, buffer)
        if weighter.needs_recent and data.size < weighter.recent_size:
            return th.ones(data.size, device=data.device), {}
        recent = data.rows(buffer.newest_rows(weighter.recent_size))
    _check_recent(recent, data)
    starts = buffer.start_observations()
    with only_reads(weighter, {**data._asdict(), "start_observations": starts}):
        figures = figures_of(weighter, weighter.fit(data, recent, starts, context))
        raw = _as_tensor(weighter.weights(data, context), type(weighter).__name__)
    return usable_weights(raw.to(data.device), weighter, data.size), figures


def _check_recent(recent: Any, data: Transitions) -> None:
    if not isinstance(recent, Transitions):
        raise ValueError(f"recent=a {type(recent).__name__} is not allowed; allowed: Transitions of at least 1 row, or None")
    if recent.size == 0:
        raise ValueError("recent=Transitions of 0 rows is not allowed; allowed: at least 1 row, or None")
    for name, value, own in zip(Transitions._fields, recent, data, strict=True):
        allowed = (recent.size, *own.shape[1:])
        if (tuple(value.shape), value.dtype, value.device) != (allowed, own.dtype, own.device):
            came = f"{[*value.shape]} {value.dtype} on {value.device}"
            raise ValueError(
                f"recent.{name} of {came} is not allowed; allowed: {[*allowed]} {own.dtype} on {own.device}, as in the buffer"
            )


def _as_tensor(weights: Any, name: str) -> th.Tensor:
    if isinstance(weights, th.Tensor) and not weights.is_complex():
        return weights
    if isinstance(weights, np.ndarray) and weights.dtype.kind in "fiub":
        return th.from_numpy(np.array(weights, dtype=np.float64, order="C"))
    dtype = f" of {weights.dtype}" if isinstance(weights, th.Tensor | np.ndarray) else ""
    raise ValueError(
        f"{name}.weights returned a {type(weights).__name__}{dtype}; allowed: a tensor or a numpy array [N] of real numbers"
    )
