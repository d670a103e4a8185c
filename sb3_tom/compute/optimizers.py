"""Learning rates, weight decays and step counters of PyTorch optimisers, also of those whose steps are CUDA graphs."""

from collections.abc import Sequence

import torch as th


def rate_on_device(rate: float, device: th.device) -> th.Tensor:
    """
    A learning rate that recorded steps can follow.

    :param rate: learning rate of a recorded optimiser
    :param device: of its parameters
    :return: the same as a float32 scalar that the optimiser's kernel reads at each replay
    """
    return th.full((), float(rate), dtype=th.float32, device=device)


def counters_to_device(optimizer: th.optim.Optimizer) -> None:
    """
    An Adam that was not fused counts its steps on the CPU, and its state keeps the counters there when it becomes so.

    :param optimizer: its counters go to where their parameters are, which is where a fused step reads them
    """
    for parameter, state in optimizer.state.items():
        if isinstance(state.get("step"), th.Tensor):
            state["step"] = state["step"].to(parameter.device, th.float32)


def set_options(
    optimizer: th.optim.Optimizer,
    learning_rate: float,
    weight_decays: Sequence[float],
    factors: Sequence[float] | None = None,
) -> None:
    """
    Set learning rates and weight decays: a loaded optimiser brings those of its own run along, but the user's hold.

    :param optimizer: changed, before its steps are recorded
    :param learning_rate: the learning rate
    :param weight_decays: of each of its groups
    :param factors: of the learning rate, for each of its groups; None: 1
    """
    set_learning_rate(optimizer, learning_rate, factors or [1.0] * len(optimizer.param_groups))
    for group, weight_decay in zip(optimizer.param_groups, weight_decays, strict=True):
        group["weight_decay"] = weight_decay


def set_learning_rate(optimizer: th.optim.Optimizer, rate: float, factors: Sequence[float] = (1.0,)) -> None:
    """
    Change the learning rate of an optimiser.

    :param optimizer: changed, also while its steps are recorded
    :param rate: the learning rate
    :param factors: of each of its groups
    """
    for group, factor in zip(optimizer.param_groups, factors, strict=True):
        if isinstance(group["lr"], th.Tensor):
            group["lr"].fill_(rate * factor)
        else:
            group["lr"] = rate * factor
