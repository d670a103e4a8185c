"""
Values that training cannot go on with. A number is usable if it is finite and its square does not overflow float32: losses are
squares, so that a larger one only delays the NaN and hides its origin. The critics' loss is itself a square, in squared units
of the rewards, and may be as large as usable rewards make it (:mod:`sb3_tom.mbpo.health` checks the scale of these).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch as th

LIMIT = 1e18
"""Largest usable absolute value: its square, summed over tens of entries, is below float32's 3.4e38."""


LARGEST_SQUARE = 1e38
"""Largest usable mean of squares, summed over up to a hundred critics."""

CRITIC_LOSS = "critic_loss"
"""The name that SB3 gives the critics' loss."""


class DivergenceError(ValueError):
    """
    Something is not finite or too large. A ``ValueError``, because the RL Zoo prunes a trial of Optuna on it.

    The agent adds the env step and the last checkpoint to the message (:mod:`sb3_tom.mbpo.guard`).
    """


def magnitude(tensors: Iterable[th.Tensor], order: float = 2.0) -> th.Tensor:
    """
    The largest norm of the tensors, as a scalar on their device: one kernel, no host read. NaN if an entry is NaN.

    :param tensors: float tensors on one device
    :param order: 2.0 for Euclidean norms, infinity for the largest absolute entry
    :return: scalar; the tensors are usable if it is at most :data:`LIMIT`
    """
    norms = th._foreach_norm([tensor.detach() for tensor in tensors], order)
    return th.stack([norm.float() for norm in norms]).max()


def check_magnitudes(what: dict[str, float]) -> None:
    """
    Refuse numbers that training cannot go on with.

    :param what: numbers by the name of a network or of its loss
    :raises DivergenceError: naming the first that is not usable
    """
    for name, value in what.items():
        if not abs(value) <= LIMIT:
            raise DivergenceError(f"{name} {_describe(value)}")


def check_losses(figures: Mapping[str, float], title: Callable[[str], str] = str) -> None:
    """
    Refuse losses and errors that training cannot go on with. The critics' loss may be a square of usable rewards.

    :param figures: by their names in the log; those that are neither loss nor error are ignored
    :param title: turns such a name into that of the message
    :raises DivergenceError: naming the first that is not usable
    """
    for name, value in figures.items():
        if not name.endswith(("loss", "error")):
            continue
        if name != CRITIC_LOSS:
            check_magnitudes({title(name): value})
        elif not abs(value) <= LARGEST_SQUARE:
            allowed = f"finite numbers of at most {LARGEST_SQUARE:g}"
            raise DivergenceError(f"{title(name)} is {value:g}; allowed: {allowed}")


def check_rows(what: str, values: np.ndarray, first_env: int = 0) -> None:
    """
    Check numbers that come from envs; costs one reduction.

    :param what: for the message
    :param values: float array, the envs are the first axis
    :param first_env: number of the first of them
    :raises DivergenceError: naming the first env that gave an unusable value
    """
    values = np.asarray(values)
    if values.dtype == np.float16:
        values = values.astype(np.float32)  # the limit is infinite in float16
    if values.size == 0 or np.abs(values).max() <= LIMIT:  # False for NaN
        return
    place = tuple(np.argwhere(~(np.abs(values) <= LIMIT))[0].tolist())
    entry = f", entry {place[-1]}," if len(place) > 1 else ""
    raise DivergenceError(f"{what} of env {first_env + place[0]}{entry} {_describe(float(values[place]))}")


def _describe(value: float) -> str:
    return f"is {value:g}; allowed: finite numbers of at most {LIMIT:g}, whose squares float32 can hold"


class Backup:
    """
    A copy of networks and optimisers that can be restored.

    :param modules: their parameters, buffers and extra state are copied
    :param optimizers: their state is copied
    :param tensors: other tensors to copy
    """

    def __init__(
        self,
        modules: Iterable[th.nn.Module] = (),
        optimizers: Iterable[th.optim.Optimizer] = (),
        tensors: Iterable[th.Tensor] = (),
    ) -> None:
        self.modules = [*modules]
        self._slots = [*_slots_of(self.modules)]
        originals = [*tensors, *(tensor for *_, tensor in self._slots)]
        self._copies = [(tensor, tensor.detach().clone()) for tensor in originals]
        self._states = [(optimizer, _copied_state(optimizer)) for optimizer in optimizers]
        self._extras = [(part, deepcopy(part.get_extra_state())) for part in _with_extra_state(self.modules)]

    @th.no_grad()
    def restore(self) -> None:
        """Restore everything in place; a module that has replaced one of its tensors gets the old one back."""
        for table, name, tensor in self._slots:
            table[name] = tensor
        for original, copy in self._copies:
            original.copy_(copy)
        for part, extra in self._extras:
            part.set_extra_state(deepcopy(extra))
        for module in self.modules:
            module.load_state_dict(module.state_dict())  # runs its hooks, which recompute derived state
        for optimizer, state in self._states:
            optimizer.state.clear()
            for parameter, entries in state.items():
                optimizer.state[parameter] = {name: _copied(value) for name, value in entries.items()}


def _slots_of(modules: Iterable[th.nn.Module]) -> Iterator[tuple[dict[str, Any], str, th.Tensor]]:
    """Parameters and buffers of modules, with the dictionary and the key that hold them."""
    for module in modules:
        for part in module.modules():
            for table in (part._parameters, part._buffers):
                yield from ((table, name, tensor) for name, tensor in table.items() if tensor is not None)


def has_extra_state(module: th.nn.Module) -> bool:
    """
    Whether a module has state beside its tensors, by PyTorch's ``get_extra_state``.

    :param module: its nested modules are not asked
    """
    return type(module).get_extra_state is not th.nn.Module.get_extra_state


def _with_extra_state(modules: Iterable[th.nn.Module]) -> Iterator[th.nn.Module]:
    """Modules, nested ones included, with state beside their tensors."""
    yield from (part for module in modules for part in module.modules() if has_extra_state(part))


def _copied_state(optimizer: th.optim.Optimizer) -> dict[th.Tensor, dict[str, object]]:
    return {
        parameter: {name: _copied(value) for name, value in entries.items()} for parameter, entries in optimizer.state.items()
    }


def _copied(value: object) -> object:
    return value.detach().clone() if isinstance(value, th.Tensor) else value
