"""Sets learning rates, weight decays and step counters of PyTorch optimisers, also of those with steps in CUDA graphs."""

from collections.abc import Sequence

import torch as th


def rate_on_device(rate: float, device: th.device) -> th.Tensor:
    """
    A learning rate that can change between replays.

    :param rate: learning rate of a recorded optimiser
    :param device: of its parameters
    :return: float32 scalar that the optimiser's kernel reads at each replay
    """
    return th.full((), float(rate), dtype=th.float32, device=device)


def counters_to_device(optimizer: th.optim.Optimizer) -> None:
    """
    Move the step counters of an Adam to its parameters' device, where a fused step reads them. An Adam that was not fused
    keeps them on the CPU.

    :param optimizer: changed
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
    Set learning rates and weight decays: the user's replace those of a loaded file.

    :param optimizer: changed, before its steps are recorded
    :param learning_rate: the learning rate
    :param weight_decays: of each group
    :param factors: of the learning rate, for each group; None: 1
    """
    set_learning_rate(optimizer, learning_rate, factors or [1.0] * len(optimizer.param_groups))
    for group, weight_decay in zip(optimizer.param_groups, weight_decays, strict=True):
        group["weight_decay"] = weight_decay


def set_learning_rate(optimizer: th.optim.Optimizer, rate: float, factors: Sequence[float] = (1.0,)) -> None:
    """
    Change the learning rate of an optimiser.

    :param optimizer: changed, also while its steps are recorded
    :param rate: the learning rate
    :param factors: of the rate, for each group
    """
    for group, factor in zip(optimizer.param_groups, factors, strict=True):
        if isinstance(group["lr"], th.Tensor):
            group["lr"].fill_(rate * factor)
        else:
            group["lr"] = rate * factor
