"""Adam's step without the overhead of PyTorch's optimisers, a third of its time on networks of this size."""

from collections.abc import Sequence
from typing import Any

import torch as th
from torch.optim.adam import adam

from sb3_tom.checks.untouched import optimizer_is_untouched
from sb3_tom.compute.cuda_graphs import uses_cuda_graphs
from sb3_tom.compute.optimizers import rate_on_device


class DirectAdam:
    """
    Steps an Adam optimiser by PyTorch's functional ``adam``, on the optimiser's own moments and counters: the optimiser itself
    may be saved, read or stepped at any time, and gives the same numbers.

    :param optimizer: must satisfy :func:`is_direct`
    :param are_bound: whether gradients are always written into the ``grad`` tensors that the parameters have now, also when a
        parameter's ``grad`` is another one later; False: each step reads the parameters' ``grad``
    """

    def __init__(self, optimizer: th.optim.Optimizer, are_bound: bool) -> None:
        (group,) = optimizer.param_groups
        self.optimizer = optimizer
        self._bound = self._gradients() if are_bound else None
        states = [optimizer.state[parameter] for parameter in group["params"]]
        self._arguments: dict[str, Any] = {
            name: group[name] for name in ("lr", "weight_decay", "eps", "amsgrad", "maximize", "fused")
        }
        self._arguments["beta1"], self._arguments["beta2"] = group["betas"]
        self._arguments |= {
            "params": [parameter.detach() for parameter in group["params"]],
            "exp_avgs": [state["exp_avg"] for state in states],
            "exp_avg_sqs": [state["exp_avg_sq"] for state in states],
            "max_exp_avg_sqs": [],
            "state_steps": [state["step"] for state in states],
        }
        device = group["params"][0].device
        if uses_cuda_graphs(device):
            self._arguments |= {"lr": rate_on_device(group["lr"], device), "capturable": True}

    @property
    def tensors(self) -> list[th.Tensor]:
        """All tensors that a step reads and writes, except gradients."""
        lists = [values for values in self._arguments.values() if isinstance(values, list)]
        return [tensor for values in lists for tensor in values]

    @property
    def constants(self) -> tuple[object, ...]:
        """All other settings of a step, except the learning rate."""
        numbers = (value for name, value in self._arguments.items() if name != "lr" and not isinstance(value, list))
        return tuple(numbers)

    def refresh_learning_rate(self) -> None:
        """Copy the optimiser's learning rate."""
        rate = self._arguments["lr"]
        if isinstance(rate, th.Tensor):
            rate.fill_(float(self._group["lr"]))
        else:
            self._arguments["lr"] = self._group["lr"]

    def step(self) -> None:
        """Make one step; by the optimiser itself if a parameter has no gradient, which it leaves out."""
        gradients = self._gradients() if self._bound is None else self._bound
        if any(gradient is None for gradient in gradients):
            self.optimizer.step()
        else:
            adam(**self._arguments, grads=gradients)

    @property
    def _group(self) -> dict[str, Any]:
        """Read anew each time: loading a state into the optimiser replaces it."""
        return self.optimizer.param_groups[0]

    def _gradients(self) -> list[th.Tensor]:
        return [parameter.grad for parameter in self._group["params"]]


def is_direct(optimizer: th.optim.Optimizer) -> bool:
    """
    Whether :class:`DirectAdam` is equivalent to the optimiser's own step.

    :param optimizer: any; False if it has not stepped before
    """
    if type(optimizer) is not th.optim.Adam or len(optimizer.param_groups) != 1 or not optimizer_is_untouched(optimizer):
        return False
    (group,) = optimizer.param_groups
    special = group["amsgrad"] or group["capturable"] or group["differentiable"] or group.get("decoupled_weight_decay")
    parameters = group["params"]
    started = all(parameter in optimizer.state and parameter.grad is not None for parameter in parameters)
    trained = all(parameter.requires_grad for parameter in parameters)  # a frozen one may have a gradient from before
    return bool(group.get("fused")) and started and trained and not special


class Steppers:
    """
    Steps optimisers by the fastest equivalents of their own steps: once an optimiser can be stepped directly, it is.

    :param optimizers: any
    :param are_bound: see :class:`DirectAdam`
    """

    def __init__(self, optimizers: Sequence[th.optim.Optimizer], are_bound: bool = False) -> None:
        self._optimizers, self._are_bound = optimizers, are_bound
        self._direct: dict[th.optim.Optimizer, DirectAdam] = {}
        for optimizer in optimizers:
            self._fastest(optimizer)

    @property
    def all_direct(self) -> bool:
        """Whether all can be stepped directly by now."""
        return all(isinstance(self._fastest(optimizer), DirectAdam) for optimizer in self._optimizers)

    def __call__(self, optimizer: th.optim.Optimizer) -> None:
        """
        Make a step.

        :param optimizer: one of those given
        """
        self._fastest(optimizer).step()

    def _fastest(self, optimizer: th.optim.Optimizer) -> DirectAdam | th.optim.Optimizer:
        if optimizer not in self._direct and is_direct(optimizer):
            self._direct[optimizer] = DirectAdam(optimizer, self._are_bound)
        return self._direct.get(optimizer, optimizer)

    def signature(self) -> tuple[object, ...]:
        """Equal for two that make the same steps on the same tensors, whatever the learning rates."""
        steps = [self._direct[optimizer] for optimizer in self._optimizers if optimizer in self._direct]
        constants = (constant for direct in steps for constant in direct.constants)
        # Another optimiser, also one with the same tensors, has a learning rate of its own
        owners = (id(direct.optimizer) for direct in steps)
        return *owners, *constants, *(tensor.data_ptr() for direct in steps for tensor in direct.tensors)

    def refresh_learning_rates(self) -> None:
        """Copy the optimisers' learning rates."""
        for direct in self._direct.values():
            direct.refresh_learning_rate()
