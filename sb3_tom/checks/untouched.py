"""
Whether a user has hung something into forward, backward or step. Updates that are written by hand call none of it, and give
way to the general ones, which call all of it.

What PyTorch offers is looked for here: hooks of a module, an optimiser or a tensor, and global ones; attributes of an object
in the place of its class's methods, and methods put into a class; subclasses and parametrisations, whose code is elsewhere;
modes of the interpreter that see every operation.
"""

import os
from collections.abc import Iterable
from functools import cache
from typing import Any

import stable_baselines3
import torch as th
from torch import nn
from torch.nn.modules import module as module_registry
from torch.optim import optimizer as optimizer_registry

MODULE_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
OPTIMIZER_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
TENSOR_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
GLOBAL_OPTIMIZER_HOOKS = ("_global_optimizer_pre_hooks", "_global_optimizer_post_hooks")

KNOWN = tuple(os.path.dirname(os.path.abspath(str(package.__file__))) + os.sep for package in (th, stable_baselines3))
"""Where the code is that the updates stand for; a method that a user has put into a class comes from elsewhere."""


def module_is_untouched(module: nn.Module) -> bool:
    """
    Whether a call of the module is the code of PyTorch and SB3, and nothing beside it.

    :param module: any, with all in it
    """
    return not module_registry._has_any_global_hook() and all(
        methods_are_known(part, ("__call__", "forward"))
        and not (_hides_a_method(part) or any(getattr(part, name, None) for name in MODULE_HOOKS))
        for part in module.modules()
    )


def optimizer_is_untouched(optimizer: th.optim.Optimizer) -> bool:
    """
    Whether a step is PyTorch's or SB3's code, and nothing beside it.

    :param optimizer: any
    """
    global_hooks = any(getattr(optimizer_registry, name, None) for name in GLOBAL_OPTIMIZER_HOOKS)
    own_hooks = any(getattr(optimizer, name, None) for name in OPTIMIZER_HOOKS)
    usual = methods_are_known(optimizer, ("step", "zero_grad")) and not _hides_a_method(optimizer)
    return usual and not (global_hooks or own_hooks)


def tensors_are_untouched(tensors: Iterable[th.Tensor]) -> bool:
    """
    Whether gradients are written into the tensors and nothing else happens.

    :param tensors: parameters
    """
    return all(
        type(tensor) in (nn.Parameter, th.Tensor) and not any(getattr(tensor, name, None) for name in TENSOR_HOOKS)
        for tensor in tensors
    )


def no_mode_is_on() -> bool:
    """Whether no mode sees or changes what is computed or kept for the backward pass: not anomaly detection, nor autocast."""
    return not (
        th._C._len_torch_function_stack()
        or th._C._len_torch_dispatch_stack()
        or th._C._autograd._top_saved_tensors_default_hooks(True)
        or th.is_anomaly_enabled()
        or th.is_autocast_enabled("cpu")
        or th.is_autocast_enabled("cuda")
    )


def methods_are_known(thing: Any, names: Iterable[str]) -> bool:
    """
    Whether methods are code of PyTorch or SB3, and no attribute of the object hides one.

    :param thing: module, optimiser or distribution
    :param names: of the methods
    """
    return all(name not in vars(thing) and _is_known(getattr(type(thing), name)) for name in names)


def _hides_a_method(thing: Any) -> bool:
    return any(callable(getattr(type(thing), name, None)) for name in vars(thing))


def _is_known(method: Any) -> bool:
    code = getattr(method, "__code__", None)
    return code is not None and _is_known_file(code.co_filename)


@cache
def _is_known_file(path: str) -> bool:
    return os.path.abspath(path).startswith(KNOWN)
