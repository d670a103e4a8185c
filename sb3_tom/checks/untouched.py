"""
Detects user hooks and overrides of forward, backward and step. Hand-written updates and CUDA graphs would skip them, and are
replaced by the general steps, which run them.

Checked are: hooks of a module, an optimiser or a tensor, and global ones; instance attributes that hide methods, and methods
patched into a class; subclasses and parametrisations, whose code is in other files; modes that intercept every operation.
"""

import os
import sys
from collections.abc import Iterable
from functools import cache
from typing import Any

import stable_baselines3  # noqa: F401  # one of PACKAGES
import torch as th
from torch import nn
from torch.nn.modules import module as module_registry
from torch.optim import optimizer as optimizer_registry

MODULE_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
OPTIMIZER_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
TENSOR_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
GLOBAL_OPTIMIZER_HOOKS = ("_global_optimizer_pre_hooks", "_global_optimizer_post_hooks")

PACKAGES = ("torch", "stable_baselines3", "sb3_tom")
"""Whose code the faster updates replace; what a user patches or writes comes from elsewhere."""

MODULE_METHODS = ("__call__", "forward", "extract_features", "get_action_dist_params", "values")
"""Methods of networks that the faster updates replace or record; not every module has all of them."""

KNOWN = tuple(os.path.dirname(os.path.abspath(str(sys.modules[name].__file__))) + os.sep for name in PACKAGES)
"""Their folders."""


def module_is_untouched(module: nn.Module) -> bool:
    """
    Whether a call of the module runs code of PyTorch, SB3 and this package only.

    :param module: any, checked with its submodules
    """
    return not module_registry._has_any_global_hook() and all(
        methods_are_known(part, [name for name in MODULE_METHODS if hasattr(type(part), name)])
        and not (_hides_a_method(part) or any(getattr(part, name, None) for name in MODULE_HOOKS))
        for part in module.modules()
    )


def classes_are_known(module: nn.Module) -> bool:
    """
    Whether all classes are those of :data:`PACKAGES`: any method of another one may be a user's, whatever it inherits.

    :param module: any, checked with its submodules
    """
    return all(type(part).__module__.partition(".")[0] in PACKAGES for part in module.modules())


def optimizer_is_untouched(optimizer: th.optim.Optimizer) -> bool:
    """
    Whether a step runs code of PyTorch, SB3 and this package only.

    :param optimizer: any
    """
    global_hooks = any(getattr(optimizer_registry, name, None) for name in GLOBAL_OPTIMIZER_HOOKS)
    own_hooks = any(getattr(optimizer, name, None) for name in OPTIMIZER_HOOKS)
    usual = methods_are_known(optimizer, ("step", "zero_grad")) and not _hides_a_method(optimizer)
    return usual and not (global_hooks or own_hooks)


def tensors_are_untouched(tensors: Iterable[th.Tensor]) -> bool:
    """
    Whether writing gradients into the tensors has no side effects: no hooks, no tensor subclass.

    :param tensors: parameters
    """
    return all(
        type(tensor) in (nn.Parameter, th.Tensor) and not any(getattr(tensor, name, None) for name in TENSOR_HOOKS)
        for tensor in tensors
    )


def no_mode_is_on() -> bool:
    """Whether no mode intercepts operations or what is saved for backward (among them anomaly detection and autocast)."""
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
    Whether methods are code of PyTorch, SB3 or this package and no instance attribute hides one.

    :param thing: module, optimiser or distribution
    :param names: of the methods
    """
    return all(name not in vars(thing) and _is_known(getattr(type(thing), name)) for name in names)


def _hides_a_method(thing: Any) -> bool:
    return any(callable(getattr(type(thing), name, None)) for name in vars(thing))


def _is_known(method: Any) -> bool:
    code = getattr(method, "__code__", None)
    wrapped = getattr(method, "__wrapped__", None)  # a decorator of PyTorch's around a user's function is not known
    return code is not None and _is_known_file(code.co_filename) and (wrapped is None or _is_known(wrapped))


@cache
def _is_known_file(path: str) -> bool:
    return os.path.abspath(path).startswith(KNOWN)
