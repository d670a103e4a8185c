"""The base class of all plugs, which are built late and saved in the zip."""

from abc import ABC
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch as th
from torch import nn

from sb3_tom.contracts.types import Transitions


class GrowingBuffers(nn.Module):
    """A module with buffers whose number of rows changes: loading a state adopts the saved shapes."""

    growing: tuple[str, ...] = ()
    """Names of such buffers. Assign a new tensor (``self.name = tensor``); do not write into the old one."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in self.growing:
            if prefix + name in state_dict:
                setattr(self, name, getattr(self, name).new_zeros(state_dict[prefix + name].shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


class Plug(GrowingBuffers, ABC):
    """
    A part of the agent that a user can replace. ``__init__`` takes hyperparameters only (and checks them); sizes come with
    :meth:`build`. Whatever a plug learns is a parameter or buffer, so that ``state_dict`` is complete and loads with
    ``weights_only`` (buffers whose size changes are named in :attr:`growing`); an attribute that holds an optimiser has
    "optim" in its name.
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
def only_reads(plug: Plug, data: Transitions) -> Iterator[None]:
    """
    Check that a plug does not write into rows within the block: they may be the replay buffer's own memory.

    :param plug: for the message
    :param data: rows that the plug gets
    :raises ValueError: naming the plug and the field that it has written into
    """
    versions = {name: tensor._version for name, tensor in data._asdict().items()}
    yield
    for name, version in versions.items():
        if getattr(data, name)._version != version:
            raise ValueError(
                f"{type(plug).__name__} has written into the {name} that it was given, which the agent learns from; "
                f"allowed: to read them (copy first: {name}.clone())"
            )


def figures_of(plug: Plug, returned: Any, verb: str = "fit") -> dict[str, float]:
    """
    Check the figures that a plug returned.

    :param plug: for the message
    :param returned: what its method returned; None means no figures
    :param verb: name of the method, for the message
    :raises ValueError: if it is not a mapping from names
    """
    if returned is None:
        return {}
    if isinstance(returned, Mapping) and all(isinstance(name, str) for name in returned):
        return dict(returned)
    raise ValueError(
        f"{type(plug).__name__}.{verb} returned {returned!r}; allowed: a dict of numbers by name, or None for none"
    )
