"""The base class of all plugs, which are built late and saved in the zip."""

from abc import ABC
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import Any

import numpy as np
import torch as th
from torch import nn


class GrowingBuffers(nn.Module):
    """A module with buffers whose number of rows changes: loading a state adopts the saved shapes."""

    growing: tuple[str, ...] = ()
    """
    Names of such buffers. Make them with no rows of the final size and type, or of size 0 if that is not known yet, and assign
    new tensors (``self.name = tensor``); do not write into the old ones.
    """

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in self.growing:
            if prefix + name in state_dict:
                setattr(self, name, getattr(self, name).new_zeros(state_dict[prefix + name].shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


def growing_of(module: nn.Module) -> set[str]:
    """
    Names of buffers whose number of rows changes, those of nested modules included.

    :param module: any
    """
    parts = [(f"{path}." if path else "", getattr(part, "growing", ())) for path, part in module.named_modules()]
    return {prefix + name for prefix, names in parts for name in names}


def rows_fit(new: th.Tensor, made: th.Tensor) -> bool:
    """
    Whether a growing buffer may become another tensor.

    :param new: what it becomes
    :param made: as :meth:`Plug.build` has made it; a row of size 0 stands for any
    """
    return new.dtype == made.dtype and new.dim() == made.dim() and (new.shape[1:] == made.shape[1:] or 0 in made.shape[1:])


class Plug(GrowingBuffers, ABC):
    """
    A part of the agent that a user can replace. ``__init__`` takes hyperparameters only (and checks them); sizes come with
    :meth:`build`. Whatever a plug learns is a parameter or buffer, so that ``state_dict`` is complete and loads with
    ``weights_only``: made in :meth:`build`, with its final type and row size (buffers whose number of rows changes are named
    in :attr:`growing`). Other plain values are saved through PyTorch's ``get_extra_state`` and ``set_extra_state``. Optimisers
    are saved if each is an attribute of its own; those in a list or dict, and learning-rate schedulers, are not. Other
    attributes are neither saved nor restored. Modules are in training mode: a plug with dropout or batch normalisation
    switches them itself, also at the end of :meth:`build`, since no file holds the mode.
    """

    recordable = False
    """
    Whether a training step of this dynamics model or objective can be captured as a CUDA graph (no host reads, no random
    numbers, Adam). The model's fit is captured if both can.
    """

    rollout_recordable = False
    """
    Whether an imagined step through this plug can be captured as part of a CUDA graph: of the context it uses the generator
    alone, it reads nothing on the host, and leaves no gradients in the plug. Holds for classes of this package only: others,
    also their subclasses, are not captured.
    """

    in_use = False
    """Whether an agent was made with this object, or with the one it is a copy of: a second agent would reset it."""

    def build(self, observation_dim: int, action_dim: int) -> None:
        """
        Create what depends on the sizes. Called once before any training, and on load.

        :param observation_dim: size O of an observation
        :param action_dim: size A of an action
        """

    def optimizers(self) -> dict[str, th.optim.Optimizer]:
        """The optimisers to save, those of nested modules included, by dotted attribute name."""
        found: dict[str, th.optim.Optimizer] = {}
        for path, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, th.optim.Optimizer):
                    found[f"{path}.{name}" if path else name] = value
        return found


@contextmanager
def only_reads(plug: Plug, rows: Mapping[str, th.Tensor]) -> Iterator[None]:
    """
    Check that a plug does not write into tensors within the block: they may be the replay buffer's own memory, or are stored.

    :param plug: for the message
    :param rows: tensors that the plug gets, by name
    :raises ValueError: naming the plug and the tensor that it has written into
    """
    versions = {name: tensor._version for name, tensor in rows.items() if not tensor.is_inference()}
    yield
    for name, version in versions.items():
        if rows[name]._version != version:
            raise ValueError(
                f"{type(plug).__name__} has written into the {name} that it was given, which the agent learns from and which "
                f"are changed now; allowed: to read them (copy first: {name}.clone())"
            )


def figures_of(plug: Plug, returned: Any, verb: str = "fit") -> dict[str, float]:
    """
    Check the figures that a plug returned.

    :param plug: for the message
    :param returned: what its method returned; None means no figures
    :param verb: name of the method, for the message
    :raises ValueError: if it is not a mapping from names to numbers
    """
    if returned is None:
        return {}
    if isinstance(returned, Mapping) and all(isinstance(name, str) and _is_number(it) for name, it in returned.items()):
        return {name: it.item() if hasattr(it, "item") else float(it) for name, it in returned.items()}
    raise ValueError(
        f"{type(plug).__name__}.{verb} returned {returned!r}; allowed: a dict of numbers by name, or None for none"
    )


def outline(said: Any) -> str:
    """
    What a plug or a function of the user's returned, for messages.

    :param said: anything
    """
    if isinstance(said, th.Tensor):
        return f"a {said.dtype} tensor of shape {tuple(said.shape)}"
    if isinstance(said, tuple | list) and any(isinstance(one, th.Tensor) for one in said):
        return f"{type(said).__name__} ({', '.join(outline(one) for one in said)})"
    return repr(said)


def _is_number(value: Any) -> bool:
    if isinstance(value, th.Tensor):
        return value.numel() == 1 and not value.is_complex()
    if isinstance(value, np.ndarray):
        return value.size == 1 and value.dtype.kind in "fiub"
    return isinstance(value, Real | np.bool_)
