"""
Whether files can hold what a plug learns. Checked when it is built and at the end of each model phase: what a file could not
bring back is otherwise found when it is loaded.
"""

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch as th
from torch import nn

from sb3_tom.checkpoint.fits import outline_of
from sb3_tom.checks.guards import has_extra_state
from sb3_tom.contracts.plug import Plug, growing_of, rows_fit


class PlugState:
    """
    What a plug's files hold, as it was when the plug was built.

    :param plug: built
    :raises ValueError: naming an attribute that files cannot hold
    """

    def __init__(self, plug: Plug) -> None:
        self._plug, self._name = plug, type(plug).__name__
        _check_optimizers(plug)
        # Without memory: of the tensors the shapes and types are compared
        self._made = {name: value.to("meta") for name, value in _tensors_of(plug).items()}
        self._optimizers = set(plug.optimizers())
        self._numbers = {name: copy.deepcopy(value) for name, value in _plain_numbers(plug)}

    def check(self) -> None:
        """
        Compare with the plug as it is now. Warns of public attributes with numbers that have changed: files lack them.

        :raises ValueError: naming what has changed so that a new agent could not load it
        """
        _check_optimizers(self._plug)
        now, growing = _tensors_of(self._plug), growing_of(self._plug)
        names, made = now.keys() | self._plug.optimizers().keys(), self._made.keys() | self._optimizers
        for name in names ^ made:
            what = "is gone since" if name in made else "was made after"
            self._refuse(name, f"{what} build()", "the parameters, buffers and optimisers that build() makes")
        for name, value in now.items():
            before = self._made[name]
            if name in growing:
                fits, allowed = rows_fit(value, before), "rows of the same size and type"
            else:
                fits = (value.shape, value.dtype) == (before.shape, before.dtype)
                allowed = "the same shape and type, or its name in growing if only the number of rows changes"
            if not fits:
                self._refuse(name, f"is {outline_of(value)} and was {outline_of(before)} in build()", allowed)
        self._warn_of_numbers()

    def _warn_of_numbers(self) -> None:
        for name, value in _plain_numbers(self._plug):
            if name in self._numbers and not _are_equal(self._numbers[name], value):
                del self._numbers[name]
                warnings.warn(
                    f"{self._name}.{name} changes while the agent learns, and no file holds it: keep it in a buffer "
                    "(register_buffer) or in get_extra_state, or begin its name with '_' if it may be lost",
                    stacklevel=2,
                )

    def _refuse(self, name: str, what: str, allowed: str) -> None:
        raise ValueError(f"{self._name}.{name} {what}: files of the agent could not be loaded; allowed: {allowed}")


def _tensors_of(plug: Plug) -> dict[str, th.Tensor]:
    return {name: value for name, value in plug.state_dict().items() if isinstance(value, th.Tensor)}


def _plain_numbers(plug: Plug) -> Iterator[tuple[str, Any]]:
    """
    Public attributes that are numbers, arrays or tensors, but neither parameters nor buffers, those of nested modules
    included. Of a module with ``get_extra_state`` there are none: it may hold them.
    """
    for path, part in plug.named_modules():
        if has_extra_state(part):
            continue
        for name, value in vars(part).items():
            place = f"{path}.{name}" if path else name
            if name[0] == "_" or name == "training" or (isinstance(value, np.ndarray) and value.dtype.hasobject):
                continue
            if isinstance(value, th.Tensor):
                yield place, value.detach().cpu()
            elif isinstance(value, int | float | np.ndarray):
                yield place, value


def _are_equal(before: Any, now: Any) -> bool:
    """Whether two values are equal; NaN is equal to NaN."""
    if type(before) is not type(now) or getattr(before, "shape", ()) != getattr(now, "shape", ()):
        return False
    same = (before == now) | ((before != before) & (now != now))
    return bool(same.all()) if hasattr(same, "all") else bool(same)


def _check_optimizers(plug: Plug) -> None:
    """
    Refuse optimisers that :meth:`Plug.optimizers` does not find; in private attributes only those of the plug's parameters: a
    policy update may keep the policy's.
    """
    own = set(plug.parameters())
    for path, part in plug.named_modules():
        for name, value in vars(part).items():
            inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
            if (part is plug and name == "optimizers") or any(
                _steps(one, own) if name[0] == "_" else isinstance(one, th.optim.Optimizer) for one in inside
            ):
                raise ValueError(
                    f"{type(plug).__name__}.{path}{'.' if path else ''}{name} of {type(value).__name__} is not allowed: its "
                    "optimisers would not be saved; allowed: an attribute for each optimiser, of any other name than "
                    "'optimizers'"
                )


def _steps(thing: Any, parameters: set[nn.Parameter]) -> bool:
    """Whether it is an optimiser of some of the parameters."""
    return isinstance(thing, th.optim.Optimizer) and any(
        parameter in parameters for group in thing.param_groups for parameter in group["params"]
    )
